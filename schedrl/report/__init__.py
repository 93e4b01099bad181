"""Tables, figures and pages for people, of comparisons and of experiments."""
