"""Tables and plots of calibrations and their validation."""
