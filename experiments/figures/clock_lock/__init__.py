"""Beyond the paper: a power cap against a locked clock, over the load."""
