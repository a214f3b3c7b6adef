"""Offline profiles: a server measured at each setting of its knobs."""
