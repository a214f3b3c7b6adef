"""The standing comparison of controllers on suites of scenarios."""
