"""What a report of a sampling comparison shows."""
