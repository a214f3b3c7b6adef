"""Real vLLM servers under control."""
