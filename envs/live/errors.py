"""What can go wrong with a live server, one type a cause."""

from __future__ import annotations

from envs.errors import DeviceError, ServerError


class ServerNotThereError(ServerError):
    """Nothing answers at the server's address."""


class WrongKeyError(ServerError):
    """The server wants an API key, and ours is missing or wrong."""


class NotVllmError(ServerError):
    """Something answers at the address, but it is no vLLM server."""


class ServerStartError(ServerError):
    """A server that we launched did not become ready."""


class ServerDiedError(ServerError):
    """The server ended, or its engine did, while it was being controlled."""


class ServerHangsError(ServerError):
    """The server takes connections but does not answer, or its engine makes no progress."""


class MetricsError(ServerError):
    """``/metrics`` answers an error, garbage, or lacks what control needs."""


class RequestsRefusedError(ServerError):
    """The server refuses the requests of our load."""


class ClientBehindError(ServerError):
    """The load generator sends later than the workload asks: the load is not the one named."""


class BatchLimitError(ServerError):
    """The batch limit could not be read or changed."""


class NoPluginError(BatchLimitError):
    """The server has no batch-limit plug-in."""


class ServerReplacedError(BatchLimitError):
    """Another process answers at the server's address than the one that was meant."""


class LimitHeldError(BatchLimitError):
    """Another controller controls the server's batch limit."""


class ActuationError(ServerError):
    """A knob could not be set."""


class DeviceNotFoundError(DeviceError):
    """There is no such device, driver or library."""


class DevicePermissionError(DeviceError):
    """The device may be read but not set by this user."""


class DeviceNotSupportedError(DeviceError):
    """The device cannot do this."""


class DeviceLostError(DeviceError):
    """The device fell off the bus or its process ended."""


class DeviceStalledError(DeviceError):
    """The device does not answer, which says nothing about the server."""


class DeviceRangeError(DeviceError):
    """The device refuses the value: it lies outside its limits."""


class DeviceBusyError(DeviceError):
    """Another controller holds the device."""
