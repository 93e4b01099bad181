"""Jobs that a person starts and waits for: the demo, learning a schedule for own images, cost estimates."""
