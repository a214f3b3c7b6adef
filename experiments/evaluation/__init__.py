"""Rolling out controllers, and metrics of what came of it."""
