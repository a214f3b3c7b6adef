"""Errors of a node that runs in another process or on another machine."""

from __future__ import annotations

from envs.errors import ServerError


class NodeDiedError(ServerError):
    """The process or machine that runs a node's server has ended."""


class NodeHangsError(ServerError):
    """A node did not answer in time."""


class NodeStartingError(ServerError):
    """A node is being started again and is not ready yet."""
