"""Several servers under one power budget."""
