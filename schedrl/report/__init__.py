"""Tables, figures and pages, of benchmarks and of the papers' experiments."""
