"""Figure 8: the efficiency that a fixed tensor-parallel size leaves, against the cap."""
