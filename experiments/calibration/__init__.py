"""Fits the simulator's coefficients to measurements and says how far off it is."""
