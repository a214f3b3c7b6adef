"""Power devices: what sets a cap and reads power on a real machine."""
