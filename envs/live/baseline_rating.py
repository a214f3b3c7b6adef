"""What the Baseline strategy delivers on a live server: configured, or from a profile."""

from __future__ import annotations

import math
from pathlib import Path

from envs.errors import ConfigurationError
from envs.knobs import KnobLimits
from envs.live.config import VllmServerConfig
from envs.safe_files import read_regular
from envs.strict_json import read_json
from envs.user_paths import user_path

_MOST_BYTES = 256 << 20


def configured(config: VllmServerConfig) -> tuple[float, float | None]:
    """Returns the same as :func:`rating` as far as it is known without the server.

    Raises:
        ConfigurationError: The profile cannot be read, or holds no row of this server.
    """
    capacity, rated = config.capacity_tok_s, config.rated_power_w
    if config.profile_path is not None and (capacity is None or rated is None):
        row = _highest_row(user_path(config.profile_path, "server.profile_path"), config)
        capacity = float(row["throughput_tok_s"]) if capacity is None else capacity
        rated = float(row["power_w"]) if rated is None else rated
    return math.nan if capacity is None else capacity, rated


def rating(config: VllmServerConfig, limits: KnobLimits, num_gpus: int) -> tuple[float, float]:
    """Returns Baseline's saturated output tokens/s and the power of all GPUs then, in watts.

    An unknown throughput is NaN: a profile is measured without it. Unknown power is what all
    GPUs draw at their highest cap.

    Raises:
        ConfigurationError: The profile cannot be read, or holds no row of this server.
    """
    capacity, rated = configured(config)
    return capacity, num_gpus * limits.power_cap_max_w if rated is None else rated


def _highest_row(file: Path, config: VllmServerConfig) -> dict[str, float]:
    """Returns the profile's row with the highest cap and batch limit of this parallelism."""
    own = (config.tensor_parallel, config.expert_parallel, config.data_parallel)
    keys = ("tensor_parallel", "expert_parallel", "data_parallel")
    try:
        rows = read_json(read_regular(file, _MOST_BYTES))["rows"]
        mine = [row for row in rows if tuple(row[key] for key in keys) == own]
        if not mine:
            raise ConfigurationError(
                f"server.profile_path: {file} has no row with tensor, expert and data parallel "
                f"sizes {own}"
            )
        best: dict[str, float] = max(
            mine, key=lambda row: (row["power_cap_w"], row["max_num_seqs"])
        )
        if not all(0 < best[key] < math.inf for key in ("throughput_tok_s", "power_w")):
            raise ConfigurationError(
                f"server.profile_path: {file} has no throughput and power above 0"
            )
        return best
    except ConfigurationError as error:
        own_words = str(error).startswith("server.profile_path")
        raise error if own_words else ConfigurationError(f"server.profile_path: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"server.profile_path: {file} is no profile ({error!r})"
        ) from error
