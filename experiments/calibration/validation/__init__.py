"""How well calibrations predict what they were not fitted to."""
