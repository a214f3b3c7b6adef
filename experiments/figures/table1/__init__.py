"""Table 1: the knobs, and the offline model fitted over them."""
