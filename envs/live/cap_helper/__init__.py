"""A small process with the right to set power caps, for controllers that have none.

It listens on a Unix socket and knows three messages: what the limits are, a cap between floor and
ceiling, and restore. A cap is a lease: when its holder ends, closes its connection or falls silent,
the helper puts back what was found. ``python -m envs.live.cap_helper --help`` tells its options.
"""
