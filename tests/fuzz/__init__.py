"""Cases made at random, tried in a process of their own: configurations, bundles, caches."""
