"""Figures 4 and 5: efficiency and throughput over several nodes."""
