"""What brings back a claim that is not reproduced: mechanisms tried one by one."""
