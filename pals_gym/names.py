"""Makes sure that the top-level packages Python finds are this project's own.

Names such as ``agents`` and ``envs`` are common. Where another package of such a name comes first
on Python's path, nothing here can work, and the first import says so, or the command in one line.
This module imports nothing of the project: it has to work where the project is hidden.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("envs", "baselines", "agents", "experiments")


def check_names() -> None:
    """Checks that no other package hides one of this project's.

    Raises:
        ImportError: One does; the message names its path and what to do.
        SystemExit: The same, of a command (``python -m``).
    """
    wrong = _wrong()
    if wrong is None:
        return
    if sys.argv[:1] == ["-m"]:  # which Python has there while it looks for the command
        sys.exit(f"error: {wrong}")
    raise ImportError(wrong)


def _wrong() -> str | None:
    """Returns what is wrong with the packages that Python finds."""
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        place = _place(name)
        own = home / name
        if place is None:
            return f"pals-gym: its package {name!r} is missing; it belongs in {own}"
        if place != own:
            return (
                f"pals-gym: Python finds another package {name!r} before this project's own: "
                f"{place} hides {own}. Start Python in another folder, take that place off "
                "PYTHONPATH, or give this project a virtual environment of its own."
            )
    return None


def _place(name: str) -> Path | None:
    """Returns the file or folder that importing ``name`` would take."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a spec, put in place by hand
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
