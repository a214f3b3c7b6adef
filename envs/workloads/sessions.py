"""Conversations of several turns: each prompt begins with all that was said before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.compiled.jit import entry_point
from envs.compiled.records import Ints


class Sessions:
    """Spreads requests over conversations that are under way at the same time.

    Each request belongs to one of them, picked at random, so that with Poisson arrivals the time
    between two turns of a conversation is exponential. With every turn it may have been the last;
    then another conversation takes its place.

    Args:
        rng: Source of every draw.
        under_way: Conversations at a time.
        turns: Mean number of turns of a conversation.
        most_tokens: Tokens said before, above which a conversation ends.
        shared_tokens: Tokens with which all prompts begin; each prompt has them once.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        under_way: int,
        turns: float,
        most_tokens: int,
        shared_tokens: int,
    ) -> None:
        self._rng = rng
        self._turns = turns
        self._limits = (most_tokens, shared_tokens)
        self._text = np.arange(under_way)
        self._said = np.zeros(under_way, dtype=np.int64)
        self._texts = under_way

    def follow(
        self, prompts: NDArray[np.int64], outputs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Makes turns of requests.

        Args:
            prompts: Length of what each of them adds, shared tokens included.
            outputs: Length of each answer.

        Returns:
            Length of each prompt with all that was said before, and its conversation.
        """
        count = len(prompts)
        picked = self._rng.integers(0, len(self._text), count)
        last = (self._rng.random(count) < 1.0 / self._turns).astype(np.int64)
        whole, texts = np.empty_like(prompts), np.empty_like(prompts)
        self._texts = take_turns(
            picked, last, prompts, outputs, self._text, self._said, self._texts, *self._limits,
            whole, texts,
        )  # fmt: skip
        return whole, texts


@entry_point()
def take_turns(
    picked: Ints, last: Ints, prompts: Ints, outputs: Ints, text: Ints, said: Ints, next_text: int,
    most_tokens: int, shared_tokens: int, whole: Ints, texts: Ints,
) -> int:  # fmt: skip
    """Walks through requests, each a turn of the conversation that was picked for it.

    Args:
        picked: Conversation of each request.
        last: Whether it is the last turn.
        prompts: Length of what it adds.
        outputs: Length of the answer.
        text: Number of each conversation's text.
        said: Tokens said in it so far, but for the shared ones.
        next_text: Number of the next text.
        most_tokens: Tokens said, above which a conversation ends.
        shared_tokens: Tokens with which all prompts begin.
        whole: Length of each prompt with all that was said before is written here.
        texts: The number of its text is written here.

    Returns:
        The number of the next text.
    """
    for index in range(len(picked)):
        place = picked[index]
        whole[index] = prompts[index] + said[place]
        texts[index] = text[place]
        said[place] = max(0, whole[index] + outputs[index] - shared_tokens)
        if last[index] or said[place] > most_tokens:
            text[place], said[place] = next_text, 0
            next_text += 1
    return next_text
