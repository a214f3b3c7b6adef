"""A calibrated simulator of an LLM server with power-capped GPUs."""
