"""Results without the times that the wall clock told, which differ from run to run."""

from __future__ import annotations

from typing import Any


def without_clock_times(result: Any) -> Any:
    """Returns nested results without decision times, and the hash of a summary that has them."""
    if isinstance(result, dict):
        return {
            key: without_clock_times(value)
            for key, value in result.items()
            if not key.startswith("decision_p") and key != "content_hash"
        }
    return [without_clock_times(item) for item in result] if isinstance(result, list) else result
