"""A table of every installed coefficient with its uncertainty and its meaning."""

from __future__ import annotations

import inspect
import re

from envs import catalog
from envs.simulator.calibration import Calibration, coefficient_names
from experiments.reporting.markdown import markdown_table


def coefficient_table(names: tuple[str, ...]) -> str:
    """Returns the coefficients of the named calibrations as a Markdown table."""
    calibrations = [catalog.build("calibration", name) for name in names]
    meaning = meanings()
    rows = [
        [f"`{key}`", *(_cell(calibration, key) for calibration in calibrations), meaning[key]]
        for key in coefficient_names()
    ]
    return markdown_table(["coefficient", *names, "meaning"], rows)


def meanings() -> dict[str, str]:
    """Returns what each coefficient means: the first sentences of its documentation."""
    text = inspect.cleandoc(Calibration.__doc__ or "").partition("Attributes:\n")[2]
    pairs = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE)
    return {name: _plain(meaning) for name, meaning in pairs}


def _plain(text: str) -> str:
    joined = " ".join(text.split()).replace("``", "`").replace("|", "\\|")
    return re.sub(r":attr:`(\w+)`", r"`\1`", joined)


def _cell(calibration: Calibration, key: str) -> str:
    value = f"{getattr(calibration, key):.3g}"
    if key in calibration.uncertainty:
        return f"{value} ± {100.0 * calibration.uncertainty[key]:.0f} %"
    if key in calibration.ranges:
        low, high = calibration.ranges[key]
        return f"{value} [{low:g}, {high:g}]"
    return f"{value} (fixed)"
