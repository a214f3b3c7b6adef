"""Figure 1: energy efficiency against the power cap and against the batch size."""
