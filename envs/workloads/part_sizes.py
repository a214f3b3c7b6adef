"""Whether the ids that a recording gives for prompts fit parts of the size that they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass

PART_TOKENS = 512
"""Tokens of a prompt for each id that a recording gives (Mooncake's ``hash_ids``)."""


@dataclass
class _Unfit:
    """The first request whose ids do not fit its prompt in one way, and how many there are."""

    count: int = 0
    line: int = 0
    prompt_tokens: int = 0
    ids: int = 0

    def add(self, line: int, prompt_tokens: int, ids: int) -> None:
        if not self.count:
            self.line, self.prompt_tokens, self.ids = line, prompt_tokens, ids
        self.count += 1


class PartSizes:
    """Looks at one request after the other for ids that seem to stand for parts of another size.

    More ids than a prompt has parts are wrong in any case. Fewer are how a recording leaves out
    what no other prompt shares, or a last part that is not full; only if parts of one larger size
    would explain the ids of every request are they probably meant for that size.
    """

    def __init__(self) -> None:
        self._requests = 0
        self._more, self._fewer = _Unfit(), _Unfit()
        # Sizes that explain all ids so far, if a last part that is not full has an id or not.
        self._with_rest = (1.0, math.inf)
        self._without_rest = (1.0, math.inf)

    def add(self, line: int, prompt_tokens: int, ids: int) -> None:
        """Takes a request.

        Args:
            line: Its line of the file.
            prompt_tokens: Its prompt length.
            ids: How many ids it has; those without any say nothing.
        """
        self._requests += 1
        if not ids:
            return
        if ids > parts_of(prompt_tokens):
            self._more.add(line, prompt_tokens, ids)
        elif ids < prompt_tokens // PART_TOKENS:
            self._fewer.add(line, prompt_tokens, ids)
        most = (prompt_tokens - 1) // (ids - 1) if ids > 1 else math.inf
        self._with_rest = _both(self._with_rest, (-(-prompt_tokens // ids), most))
        self._without_rest = _both(
            self._without_rest, (prompt_tokens // (ids + 1) + 1, prompt_tokens // ids)
        )

    def doubt(self) -> tuple[int, str] | None:
        """Returns the line of the first request in doubt, and why; ``None`` if there is none."""
        size = self._other_size()
        unfit = self._more if self._more.count or size is None else self._fewer
        if not unfit.count:
            return None
        parts = parts_of(unfit.prompt_tokens)
        meant = "" if size is None else f"; parts of {size} tokens would explain all"
        return unfit.line, (
            f"hash_ids are {unfit.ids} for a prompt of {unfit.prompt_tokens} tokens, which has "
            f"{parts} part{'s' * (parts > 1)} of {PART_TOKENS} tokens ({unfit.count} requests of "
            f"{self._requests} are so{meant}); parts of another size would be shared wrongly"
        )

    def _other_size(self) -> str | None:
        for least, most in (self._with_rest, self._without_rest):
            if least <= most:
                if most == math.inf:
                    return f"{least:.0f} or more"
                return f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}"
        return None


def parts_of(prompt_tokens: int) -> int:
    """Returns how many parts a prompt has, the last of which may not be full."""
    return -(-prompt_tokens // PART_TOKENS)


def _both(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return max(first[0], second[0]), min(first[1], second[1])
