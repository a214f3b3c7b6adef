"""Golden numbers: what short runs computed when they were last looked at and found right."""
