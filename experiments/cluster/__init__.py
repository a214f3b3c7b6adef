"""Runs of several servers under one power budget."""
