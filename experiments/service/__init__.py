"""Parts of ``python -m experiments.control``: a controller that runs for months."""
