"""The simulator held against a live server."""
