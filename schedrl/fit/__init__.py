"""``schedrl fit``: trains one network and resumes exactly where it stopped."""
