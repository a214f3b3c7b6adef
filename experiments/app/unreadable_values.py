"""Says which key has a value that nothing can be made of, where Hydra's own words name none."""

from __future__ import annotations

import re

from hydra.errors import HydraException
from omegaconf.errors import InterpolationResolutionError

_MERGED = re.compile(r"Error merging override \+*([^=]+)=(.*)", re.DOTALL)
_RESOLVERS = re.compile(r"^\w+ raised while resolving interpolation: (\S*<lambda>\(\) )?")


def unresolved(key: str, error: InterpolationResolutionError) -> str:
    """Returns the message for a value that refers to what is not there.

    Args:
        key: The key whose value it is.
        error: What OmegaConf raised.
    """
    what = _RESOLVERS.sub("", str(error).splitlines()[0]).strip('"')
    return (
        f"{key}: its reference (${{...}}) cannot be resolved: {what}; mend it, or write the value "
        "itself"
    )


def wrong_kind(error: HydraException) -> str | None:
    """Returns the message for a list in place of keys and values, or the other way round.

    Args:
        error: What Hydra raised.

    Returns:
        One message that names the key; ``None`` where the error is about something else.
    """
    found = _MERGED.match(str(error))
    if found is None or "Cannot merge DictConfig with ListConfig" not in str(error.__cause__):
        return None
    key, value = found[1], found[2].partition("\n")[0]
    if value.startswith("["):
        return f"{key}: must be keys and values (set one by {key}.NAME=VALUE), got the list {value}"
    return f"{key}: must be a list (as in {key}=[VALUE]), got keys and values {value}"
