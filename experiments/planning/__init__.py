"""Studies of planning: how much is possible, and what a wrong model costs."""
