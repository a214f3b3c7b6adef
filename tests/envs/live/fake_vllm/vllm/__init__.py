"""Stands in for vLLM in tests: the same command line, routes, metrics and processes."""

__version__ = "0.32.0"
