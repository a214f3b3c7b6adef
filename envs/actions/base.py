"""The contract of an action encoding, and the grid of knobs that it works on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.errors import ActionError, ConfigurationError
from envs.fields import Checked, Range
from envs.finite import real_array
from envs.knobs import KnobLimits, Knobs
from envs.quantities import Batch, Watts

PAPER_BATCHES = (1, 4, 8, 16, 32, 64)
"""Batch sizes of arXiv:2605.21427 Table 1."""
_MOST_CHOICES = 4096
"""Choices of knobs that an encoding remembers."""
_FAR = 2.0**53
"""Beyond every index; whole numbers up to here are floats and integers alike."""


def as_numbers(action: Any) -> NDArray[np.float64]:
    """Returns an action as numbers.

    Raises:
        ActionError: It holds something else.
    """
    try:
        return real_array(action).astype(np.float64)
    except ValueError as error:
        raise ActionError(f"action: must be numbers ({error}), got {action!r}") from error


@dataclass(frozen=True)
class KnobGrid:
    """The knobs that discrete encodings and configuration searches choose from.

    Attributes:
        power_caps_w: Power caps per GPU in watts, ascending.
        max_num_seqs: Batch limits, ascending.
        sm_clocks_mhz: Clock limits in MHz, ascending; the last one means a free clock.
            Empty when the clock is not a knob.
    """

    power_caps_w: tuple[float, ...]
    max_num_seqs: tuple[int, ...]
    sm_clocks_mhz: tuple[float, ...] = ()

    @property
    def choices(self) -> list[Knobs]:
        """All knobs of the grid; the cap varies slowest, the clock fastest."""
        clocks: tuple[float | None, ...] = (None,)
        if self.sm_clocks_mhz:
            clocks = (*self.sm_clocks_mhz[:-1], None)
        return [
            Knobs(cap, seqs, clock)
            for cap in self.power_caps_w
            for seqs in self.max_num_seqs
            for clock in clocks
        ]


def finite(key: str, values: Any) -> NDArray[np.float64]:
    """Returns the values of a knob as numbers; no level is near to one that is not finite.

    Raises:
        ActionError: One is NaN, infinite or no number.
    """
    try:
        given = real_array(values).astype(np.float64)
    except ValueError:
        given = np.array(np.nan)
    if not np.isfinite(given).all():
        raise ActionError(f"knobs: {key} must be finite, got {values}")
    return given


def nearest(levels: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the index of the level nearest to each value, which is finite."""
    inside = np.minimum(np.maximum(values, levels[0]), levels[-1])  # 1e308 - 400 is 1e308
    distance = np.abs(inside[..., None] - levels)
    return np.asarray(np.argmin(distance, axis=-1), dtype=np.int64)


@dataclass(kw_only=True)
class ActionEncoding(Checked, ABC):
    """Turns actions into knobs and back; works on one action or a batch of them.

    Attributes:
        power_caps_w: Power caps of the grid in watts; ``None`` takes the GPU's own list.
        max_num_seqs: Batch limits of the grid; limits above the server's are dropped.
        sm_clock: Whether the SM clock limit is a third knob.
        sm_clock_levels: Number of clock limits of the grid.
    """

    config_key: ClassVar[str] = "action"

    power_caps_w: list[Watts] | None = None
    max_num_seqs: list[Batch] = field(default_factory=lambda: list(PAPER_BATCHES))
    sm_clock: bool = False
    sm_clock_levels: Annotated[int, Range(least=2, most=10_000)] = 6

    def bind(self, limits: KnobLimits, default_caps_w: list[float]) -> None:
        """Fixes the grid for a server.

        Args:
            limits: The range of each knob.
            default_caps_w: Power caps to use when the configuration names none.

        Raises:
            ConfigurationError: No level is left within the server's limits.
        """
        caps = self.power_caps_w if self.power_caps_w is not None else default_caps_w
        caps_in = sorted(
            {float(c) for c in caps if limits.power_cap_min_w <= c <= limits.power_cap_max_w}
        )
        seqs_in = sorted({int(b) for b in self.max_num_seqs if 1 <= b <= limits.max_num_seqs})
        if not caps_in:
            raise ConfigurationError(
                f"action.power_caps_w: none of {list(caps)} is within "
                f"{limits.power_cap_min_w:g}-{limits.power_cap_max_w:g} W"
            )
        if not seqs_in:
            raise ConfigurationError(
                f"action.max_num_seqs: none of {self.max_num_seqs} is within "
                f"1-{limits.max_num_seqs}"
            )
        clocks: tuple[float, ...] = ()
        if self.sm_clock:
            clocks = tuple(
                np.linspace(
                    limits.sm_clock_min_mhz, limits.sm_clock_max_mhz, self.sm_clock_levels
                ).tolist()
            )
        self.limits = limits
        self.grid = KnobGrid(tuple(caps_in), tuple(seqs_in), clocks)
        self._caps = np.array(caps_in)
        self._seqs = np.array(seqs_in, dtype=np.int64)
        self._log2_seqs = np.log2(self._seqs)
        self._clocks = np.array(clocks)
        self._bounds = np.array(self._sizes())
        self._choices: dict[tuple[int, ...], Knobs] = {}
        self._levels: list[list[Any]] = [caps_in, seqs_in]
        if self.sm_clock:
            self._levels.append([*clocks[:-1], None])

    @property
    @abstractmethod
    def space(self) -> gym.Space[Any]:
        """Space of one action."""

    @abstractmethod
    def decode(self, action: Any, current: Knobs) -> Knobs:
        """Turns an action into knobs.

        Args:
            action: One action, or a batch with a leading axis.
            current: Knobs requested by the previous action (a batch of them likewise).

        Returns:
            Knobs whose fields are arrays of the batch's shape; a free clock is ``inf``
            when the clock is a knob and ``None`` when it is not.
        """

    def decode_one(self, action: Any, current: Knobs) -> Knobs:
        """Turns one action into knobs that are plain numbers; a free clock is ``None``.

        The knobs are those of :meth:`decode`; encodings that need no NumPy for a single action
        save most of its time.

        Raises:
            ActionError: It is outside the space, or no single action.
        """
        try:
            knobs = self.decode(action, current)
            cap_w, seqs = float(knobs.power_cap_w), int(knobs.max_num_seqs)
        except (TypeError, IndexError) as error:  # a batch of actions, or too few numbers
            raise ActionError(
                f"action: must be a single one of {self.space}, got {action!r}"
            ) from error
        clock_mhz = None
        if knobs.sm_clock_mhz is not None and math.isfinite(knobs.sm_clock_mhz):
            clock_mhz = float(knobs.sm_clock_mhz)
        return Knobs(cap_w, seqs, clock_mhz)

    @abstractmethod
    def encode(self, knobs: Knobs, current: Knobs) -> Any:
        """Turns knobs into the action that comes nearest to them; inverse of :meth:`decode`.

        Raises:
            ActionError: A knob is not finite; only a clock may be infinite, which is free.
        """

    def masks(self, cap_limit_w: float, current: Knobs) -> NDArray[np.bool_]:
        """Marks actions whose cap stays within ``cap_limit_w`` per GPU.

        The lowest cap is always allowed. Continuous actions cannot be masked; they have an
        empty mask.

        Args:
            cap_limit_w: Highest cap per GPU in watts that the power budget allows.
            current: Knobs requested by the previous action.

        Returns:
            Flat boolean array in the form sb3-contrib's MaskablePPO takes.
        """
        return np.ones(0, dtype=np.bool_)

    def _cap_allowed(self, cap_limit_w: float) -> NDArray[np.bool_]:
        allowed = self._caps <= cap_limit_w + 1e-9
        allowed[0] = True
        return allowed

    def _real(self, action: Any) -> NDArray[Any]:
        """Returns an action as an array.

        Raises:
            ActionError: It holds something other than numbers; the message names the space.
        """
        try:
            return real_array(action)
        except ValueError as error:
            raise ActionError(
                f"action: must be numbers in {self.space} ({error}), got {action!r}"
            ) from error

    def _whole(self, action: Any, sizes: Any) -> NDArray[np.int64]:
        """Returns an action of indices, each from 0 up to its size.

        Raises:
            ActionError: One is no whole number, or outside; an index of -1 would wrap round.
        """
        given = self._real(action)
        if given.dtype.kind not in "iu":
            numbers = given.astype(np.float64)
            if not np.array_equal(numbers, np.rint(numbers)):  # NaN is not equal to itself
                raise ActionError(f"action: must be whole numbers, got {action}")
            given = np.clip(numbers, -_FAR, _FAR)  # what is beyond is no index, and no int64
        index = given.astype(np.int64)
        if np.ndim(sizes) and index.shape[-1:] != np.shape(sizes):
            raise ActionError(f"action: must be {len(sizes)} indices, got {action}")
        if not ((index >= 0) & (index < sizes)).all():
            below = np.asarray(sizes).tolist()
            raise ActionError(f"action: must be indices below {below}, 0 or above, got {action}")
        return index

    def _choice(self, index: tuple[int, ...]) -> Knobs | None:
        """Returns the knobs at one choice of grid indices; ``None`` where one is outside."""
        knobs = self._choices.get(index)
        if knobs is None:
            picked = [
                level[place]
                for level, place in zip(self._levels, index, strict=True)
                if 0 <= place < len(level)
            ]
            if len(picked) < len(index):
                return None
            knobs = Knobs(*picked)
            if len(self._choices) < _MOST_CHOICES:
                self._choices[index] = knobs
        return knobs

    def _sizes(self) -> list[int]:
        sizes = [len(self._caps), len(self._seqs)]
        return [*sizes, len(self._clocks)] if self.sm_clock else sizes

    def _at(self, cap: Any, seqs: Any, clock: Any) -> Knobs:
        """Returns the knobs at grid indices."""
        if not self.sm_clock:
            return Knobs(self._caps[cap], self._seqs[seqs], None)
        free = clock >= len(self._clocks) - 1
        return Knobs(self._caps[cap], self._seqs[seqs], np.where(free, np.inf, self._clocks[clock]))

    def _indices(self, knobs: Knobs) -> list[NDArray[np.int64]]:
        """Returns the grid indices nearest to knobs (batches on a log scale)."""
        levels = [self._caps, self._log2_seqs, self._clocks]
        return [nearest(*pair) for pair in zip(levels, self._placed(knobs), strict=False)]

    def _placed(self, knobs: Knobs) -> list[NDArray[np.float64]]:
        """Returns the cap, the logarithm of the batch limit, and the clock where it is a knob.

        Raises:
            ActionError: A knob is not finite; a free clock is the highest one.
        """
        cap_w = finite("power_cap_w", knobs.power_cap_w)
        log2_seqs = np.log2(np.maximum(finite("max_num_seqs", knobs.max_num_seqs), 1))
        if not self.sm_clock:
            return [cap_w, log2_seqs]
        wanted = np.inf if knobs.sm_clock_mhz is None else as_numbers(knobs.sm_clock_mhz)
        clock_mhz = finite("sm_clock_mhz", np.minimum(wanted, self._clocks[-1]))
        return [cap_w, log2_seqs, clock_mhz]


def group_by_grid(
    encodings: Sequence[ActionEncoding],
) -> list[tuple[ActionEncoding, NDArray[np.int64] | slice]]:
    """Groups servers that have the same kind of encoding and the same grid.

    Args:
        encodings: The encoding of each server; a single one stands for any number of servers.

    Returns:
        For each group one encoding that is valid for all its servers, and the servers' indices.
    """
    if len(encodings) == 1:
        return [(encodings[0], slice(None))]
    members: dict[tuple[type[ActionEncoding], KnobGrid], list[int]] = {}
    for index, encoding in enumerate(encodings):
        members.setdefault((type(encoding), encoding.grid), []).append(index)
    return [(encodings[group[0]], np.array(group)) for group in members.values()]
