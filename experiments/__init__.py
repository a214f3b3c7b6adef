"""Experiments: run, compare, profile, calibrate, validate, train, and the figures."""
