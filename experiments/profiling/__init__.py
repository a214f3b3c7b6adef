"""Offline profiles: a server measured at all knobs of its grid."""
