"""HTML pages of results, and the style of plots."""
