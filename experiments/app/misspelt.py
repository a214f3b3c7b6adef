"""Says what a misspelt choice or key was probably meant to be."""

from __future__ import annotations

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from envs import catalog
from envs.nearest import did_you_mean


def misspelt(error: BaseException) -> str | None:
    """Returns the message for a choice or key that is not there.

    Args:
        error: What Hydra or OmegaConf raised.

    Returns:
        One message that names the key and the nearest right word; ``None`` where the error is
        about something else.
    """
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group:
            meant = did_you_mean(name, error.options)
            return f"{group}: no choice named {name!r}{meant} (one of {', '.join(error.options)})"
    cause = error.__cause__ if isinstance(error, HydraException) else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(cause)
    return None


def _unknown_key(error: OmegaConfBaseException) -> str | None:
    """Returns the message for a key that a configuration does not have."""
    name, parent = str(error.key), error.parent_node
    if not isinstance(parent, DictConfig):
        return None
    keys = [str(key) for key in parent if key != "_target_"]
    if name in keys:
        return None  # it is there: something else is wrong with it
    full = str(error.full_key or name)
    outer = full.rpartition(".")[0]
    if not outer and name in catalog.groups():
        return f"{name}: this command takes no choice of that group (--help lists those it takes)"
    place = f" ({outer} has {', '.join(keys)})" if outer else ""
    options = keys if outer else [*keys, *catalog.groups()]
    return f"{full}: no such key{did_you_mean(name, options)}{place}"
