"""Figure 2: time spent computing and time spent communicating."""
