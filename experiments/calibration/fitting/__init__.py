"""Coefficients of a GPU type from measured rows."""
