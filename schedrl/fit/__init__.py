"""``schedrl fit``: one network trained to the end, watched, and resumed exactly."""
