"""Figure 10: demand response; power follows a signal while throughput is kept."""
