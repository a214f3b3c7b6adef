"""Agents that are taught by planning: forks of their servers say what each action leads to."""
