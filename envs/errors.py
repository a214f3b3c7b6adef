"""Errors that users meet: each names what is wrong and what to do about it."""

from __future__ import annotations


class PalsError(Exception):
    """Base of all errors whose cause lies outside the code: configuration, files, devices, servers.

    Entry points print such an error as one message and exit with a code other than 0.
    """


class ConfigurationError(PalsError):
    """A configuration value is missing, unknown or impossible; the message names its key."""


class ActionError(PalsError, ValueError):
    """An action is outside its space: no whole number, no such index, or NaN."""


class InfeasibleModelError(ConfigurationError):
    """The model does not fit into the memory of the GPUs it is to run on."""


class WorkloadError(PalsError):
    """A trace or workload cannot be read; the message names file and line."""


class ServerError(PalsError):
    """A live server failed; subclasses tell how."""


class NotRestoredError(ServerError):
    """What was found before control began could not be put back."""


class DeviceError(PalsError):
    """A power device could not be read or set; subclasses tell how."""
