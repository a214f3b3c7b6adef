"""Reads the power device many times an interval, in a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from envs.errors import DeviceError
from envs.live.devices.base import PowerDevice, Reading

TOLERANCE = 0.05
"""A cap has taken effect once power exceeds it by no more than this share."""


class IntervalPower(NamedTuple):
    """What a device did over one interval.

    Attributes:
        power_w: Mean power per GPU, by its sensor.
        energy_j: Energy of all GPUs: from the counters, or the sensor's integral.
        sm_clock_mhz: Mean SM clock.
        cap_binding: Share of the interval in which the cap held the clock down.
        cap_w: Cap in force per GPU at the end, the lowest of all GPUs.
    """

    power_w: tuple[float, ...]
    energy_j: float
    sm_clock_mhz: float
    cap_binding: float
    cap_w: float


class PowerSampler:
    """Samples a device and sums up over intervals.

    Args:
        device: An open device.
        period_s: Time between two readings.
    """

    def __init__(self, device: PowerDevice, period_s: float) -> None:
        self._device = device
        self._period_s = period_s
        self._lock = threading.Lock()
        self._readings: list[Reading] = [device.read()]
        self._error: DeviceError | None = None
        self._awaited: tuple[float, float] | None = None
        self._effect_s: float | None = None
        self._paused = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-sampler", daemon=True)
        self._thread.start()

    def collect(self) -> IntervalPower:
        """Returns what happened since the last call.

        Raises:
            DeviceError: A reading failed.
        """
        self._sample()
        with self._lock:
            if self._error is not None:
                raise self._error
            readings, self._readings = self._readings, self._readings[-1:]
        return summarise(readings)

    def expect(self, cap_w: float) -> None:
        """Starts to watch for the moment when power keeps to a new cap."""
        with self._lock:
            self._awaited = (cap_w, time.monotonic())
            self._effect_s = None

    def take_effect_s(self) -> float | None:
        """Returns how long a cap took to take effect, once; ``None`` if there is no news."""
        with self._lock:
            effect, self._effect_s = self._effect_s, None
            return effect

    def pause(self) -> None:
        """Stops reading, while the device is being replaced."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """Reads again, and forgets errors of the time before."""
        with self._lock:
            self._paused = False
            self._error = None
            self._awaited = None

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._end.wait(self._period_s):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            if self._error is not None or self._paused:
                return
            try:
                reading = self._device.read()
            except DeviceError as error:
                self._error = error
                return
            self._readings.append(reading)
            if self._awaited is not None and reading.time_s > self._awaited[1]:
                self._judge(reading, *self._awaited)

    def _judge(self, reading: Reading, cap_w: float, since: float) -> None:
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
