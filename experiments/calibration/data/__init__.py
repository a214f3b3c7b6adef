"""Measured data sets as one kind of rows."""
