"""Errors of calibrations on rows they were not fitted to."""
