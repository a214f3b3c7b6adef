"""Figure 7: efficiency of the strategies, normalised to Baseline."""
