"""What a measurement was taken on: processor, cores, load, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Returns facts of the machine as it is now."""
    return {
        "processor": _processor(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "numba_threads": os.environ.get("NUMBA_NUM_THREADS"),
        "python": platform.python_version(),
    }


def machine_line() -> str:
    """Returns the facts that a reader needs beside numbers, in one line."""
    facts = machine()
    loads = ", ".join(f"{load:g}" for load in facts["load_average"])
    busy = facts["load_average"][0] > 0.5 * facts["cores"]
    note = "; busy, so trust CPU time and ratios" if busy else ""
    return (
        f"{facts['processor']}, {facts['usable_cores']} of {facts['cores']} cores, load {loads}"
        f"{note}; Python {facts['python']}"
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
