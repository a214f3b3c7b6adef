"""Figure 3: Pareto frontiers of throughput and efficiency, by the knobs that may move."""
