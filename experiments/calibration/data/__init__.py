"""Reads measured data sets as rows of one type."""
