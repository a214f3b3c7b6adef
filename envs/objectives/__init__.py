"""What is demanded of a server: targets, budgets, latency SLOs, and how QoS is defined."""
