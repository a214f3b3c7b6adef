"""A misspelt word gets the one that was meant, or none."""

from __future__ import annotations

import pytest

from envs.nearest import did_you_mean, nearest

MODELS = ("olmoe_1b_7b", "mixtral_8x7b", "mixtral_8x22b", "llama2_7b")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("mixtrl_8x7b", "mixtral_8x7b"),
        ("olmo", "olmoe_1b_7b"),  # too short to be alike, but one alone begins with it
        ("OLMO", "olmoe_1b_7b"),
        ("mix", None),  # two begin with it
        ("o", None),
        ("qwen", None),
    ],
)
def test_the_nearest_word_is_found(word: str, meant: str | None) -> None:
    assert nearest(word, MODELS) == meant
    assert did_you_mean(word, MODELS) == (f"; did you mean {meant!r}?" if meant else "")
