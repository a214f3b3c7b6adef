"""Figure 11: a moving throughput target, followed by cap and batch."""
