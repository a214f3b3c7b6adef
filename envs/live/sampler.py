"""Reads the power device many times an interval, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from typing import NamedTuple

from envs.errors import DeviceError
from envs.live.devices.base import PowerDevice, Reading
from envs.live.errors import DeviceStalledError

_LOG = logging.getLogger(__name__)
TOLERANCE = 0.05
"""A cap has taken effect once power exceeds it by no more than this share."""


COMPARED_S = 10.0
"""Energy counter and power sensor are compared over this time, once."""

COUNTER_GAP = 0.05
"""They may differ by this much of each other before it is said."""


class IntervalPower(NamedTuple):
    """What a device did over one interval.

    Attributes:
        power_w: Mean power per GPU, by its sensor.
        energy_j: Energy of all GPUs: from the counters, or the sensor's integral.
        sm_clock_mhz: Mean SM clock.
        cap_binding: Fraction of the interval in which the cap held the clock down.
        cap_w: Cap in force per GPU at the end, the lowest of all GPUs.
        stalled: Whether the device did not answer: all values are those of the interval before,
            energy is power times time, and is made up for when the device answers again.
    """

    power_w: tuple[float, ...]
    energy_j: float
    sm_clock_mhz: float
    cap_binding: float
    cap_w: float
    stalled: bool = False


class PowerSampler:
    """Samples a device and sums up over intervals.

    Only its thread talks to the device, so that a device that hangs is an error here, not a
    program that hangs with it.

    Args:
        device: An open device.
        period_s: Time between two readings.
        timeout_s: Longest time for a reading.
        patience: Intervals in a row without a reading after which the device counts as failed.
    """

    def __init__(
        self, device: PowerDevice, period_s: float, timeout_s: float = 5.0, patience: int = 3
    ) -> None:
        self._device = device
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._patience = patience
        self._stalls = 0
        self._last: IntervalPower | None = None
        self._told_s = time.monotonic()
        self._advance_j = 0.0
        self._compared_s = self._counted_j = self._integrated_j = 0.0
        self._readings: list[Reading] = []
        self._error: DeviceError | None = None
        self._awaited: tuple[float, float] | None = None
        self._effect_s: float | None = None
        self._paused = False
        self._ended = False
        self._count = 0
        self._hurry = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="power-sampler", daemon=True)
        self._thread.start()

    def collect(self) -> IntervalPower:
        """Returns what happened since the last call.

        Raises:
            DeviceStalledError: There was no reading for several intervals.
            DeviceError: A reading failed.
        """
        with self._change:
            seen = self._count
            self._hurry = True
            self._change.notify_all()
            # A stalled device has had its time; the intervals that follow do not wait for it.
            limit = self._timeout_s if self._stalls == 0 else self._period_s
            fresh = self._change.wait_for(
                lambda: self._error is not None or self._count > seen, limit
            )
            if self._error is not None:
                raise self._error
            if fresh:
                readings, self._readings = self._readings, self._readings[-1:]
        return self._told(readings) if fresh else self._stalled()

    def _told(self, readings: list[Reading]) -> IntervalPower:
        power = summarise(readings)
        self._compare(readings, power)
        # What was told ahead while the device stalled is part of what it counts now.
        energy = max(0.0, power.energy_j - self._advance_j)
        self._stalls, self._advance_j = 0, 0.0
        self._last, self._told_s = power, time.monotonic()
        return power._replace(energy_j=energy)

    def _compare(self, readings: list[Reading], power: IntervalPower) -> None:
        """Compares energy counter and sensor over the first seconds; says so if they differ."""
        span_s = readings[-1].time_s - readings[0].time_s
        if readings[-1].energy_j is None or self._compared_s > COMPARED_S or span_s <= 0:
            return
        self._compared_s += span_s
        self._counted_j += power.energy_j
        self._integrated_j += sum(power.power_w) * span_s
        if self._compared_s > COMPARED_S and self._integrated_j > 0:
            gap = self._counted_j / self._integrated_j - 1.0
            if abs(gap) > COUNTER_GAP:
                _LOG.warning(
                    "the energy counter tells %.0f %% %s than the power sensor over %.0f s; energy "
                    "is taken from the counter", abs(gap) * 100.0,
                    "more" if gap > 0 else "less", self._compared_s,
                )  # fmt: skip

    def _stalled(self) -> IntervalPower:
        self._stalls += 1
        if self._last is None or self._stalls > self._patience:
            raise DeviceStalledError(
                f"the device did not answer within {self._timeout_s:g} s, and in "
                f"{self._stalls} intervals; the driver may hang (nvidia-smi tells)"
            )
        _LOG.warning("the device does not answer; its last readings are used for this interval")
        now = time.monotonic()
        energy = sum(self._last.power_w) * (now - self._told_s)
        self._advance_j, self._told_s = self._advance_j + energy, now
        return self._last._replace(energy_j=energy, stalled=True)

    def expect(self, cap_w: float) -> None:
        """Starts to watch for the moment when power keeps to a new cap."""
        with self._change:
            self._awaited = (cap_w, time.monotonic())
            self._effect_s = None

    def take_effect_s(self) -> float | None:
        """Returns how long a cap took to take effect, once; ``None`` if there is no news."""
        with self._change:
            effect, self._effect_s = self._effect_s, None
            return effect

    def pause(self) -> None:
        """Stops reading, while the device is being replaced."""
        with self._change:
            self._paused = True

    def resume(self) -> None:
        """Reads again, and forgets errors of the time before."""
        with self._change:
            self._paused = False
            self._error = None
            self._awaited = None

    def close(self) -> None:
        """Ends the thread."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        self._thread.join(self._timeout_s)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ended or self._hurry, self._period_s)
                self._hurry = False
                if self._ended:
                    return
                if self._paused or self._error is not None:
                    continue
            self._sample()

    def _sample(self) -> None:
        error: DeviceError | None = None
        try:
            reading = self._device.read()
        except DeviceError as problem:
            error = problem
        except Exception as problem:  # a thread that ends unheard would leave stale readings
            error = DeviceError(f"the device could not be read: {problem!r}")
        with self._change:
            if error is None:
                self._readings.append(reading)
                self._count += 1
                if self._awaited is not None and reading.time_s > self._awaited[1]:
                    self._evaluate(reading, *self._awaited)
            elif not self._paused:
                self._error = error
            self._change.notify_all()

    def _evaluate(self, reading: Reading, cap_w: float, since: float) -> None:
        in_force = all(abs(cap - cap_w) <= 1.0 for cap in reading.cap_w)
        kept = all(power <= cap_w * (1.0 + TOLERANCE) for power in reading.power_w)
        if in_force and kept:
            self._effect_s = reading.time_s - since
            self._awaited = None


def summarise(readings: list[Reading]) -> IntervalPower:
    """Sums readings up over the time from the first to the last, each holding until the next."""
    first, last = readings[0], readings[-1]
    span = last.time_s - first.time_s
    later = readings[1:] or readings
    widths = [b.time_s - a.time_s for a, b in zip(readings, later, strict=False)]
    if span <= 0.0:
        span, widths = 1.0, [1.0]
    gpus = range(len(last.power_w))
    weighted = list(zip(widths, later, strict=False))
    power = tuple(sum(w * r.power_w[g] for w, r in weighted) / span for g in gpus)
    clock = sum(w * sum(r.sm_clock_mhz) for w, r in weighted) / span / len(gpus)
    if first.cap_bound_s is not None and last.cap_bound_s is not None:
        pairs = zip(last.cap_bound_s, first.cap_bound_s, strict=True)
        bound = sum(end - start for end, start in pairs) / span
    else:
        bound = sum(w * sum(r.cap_binds) for w, r in weighted) / span
    if first.energy_j is not None and last.energy_j is not None:
        energy = sum(last.energy_j) - sum(first.energy_j)
    else:
        energy = sum(power) * (last.time_s - first.time_s)
    return IntervalPower(
        power_w=power,
        energy_j=energy,
        sm_clock_mhz=clock,
        cap_binding=min(1.0, max(0.0, bound / len(gpus))),
        cap_w=min(last.cap_w),
    )
