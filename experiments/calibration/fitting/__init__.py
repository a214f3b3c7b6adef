"""Fits the coefficients of a GPU type to measured rows."""
