"""Table 2: the served models."""
