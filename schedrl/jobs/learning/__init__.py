"""A training schedule for one's own images: learned on a small proxy of them, compared on images held out."""
