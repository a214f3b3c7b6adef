"""How compiled code sees memory, and the cache that keeps it between processes."""
