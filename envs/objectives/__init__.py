"""Demands on a server: targets, budgets, latency SLOs, and the definitions of QoS."""
