"""Several controllers on the same seeds."""
