"""A row of telemetry, by name: what the simulator writes and the control loop reads."""

from __future__ import annotations

from typing import Any

from numba.np.numpy_support import carray

from envs.compiled.jit import inlined
from envs.compiled.records import floats_named, pointer_to
from envs.telemetry import NUMERIC_FIELDS

TELEMETRY = floats_named(NUMERIC_FIELDS)
_telemetry = pointer_to(TELEMETRY)


@inlined
def telemetry_at(address: int) -> Any:
    """Returns the row at an address: a record with a float for each numeric field."""
    return carray(_telemetry(address), (1,), TELEMETRY)[0]
