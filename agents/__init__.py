"""Learned controllers: training with Stable-Baselines3, and bundles that carry the result."""
