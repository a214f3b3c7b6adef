"""Tuning of controllers: a search for the front of efficiency against violations."""
