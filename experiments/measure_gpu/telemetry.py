"""Samples one GPU's sensors into a CSV file, read only.

Runs as a process of its own, so that a busy client does not delay it::

    python -m experiments.measure_gpu.telemetry --output telemetry.csv

It ends at SIGTERM, at SIGINT, or after ``--seconds``. Times are ``time.monotonic()``, which all
processes of one machine share; ``board.json`` beside the output ties them to the wall clock.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLUMNS = {
    "time_s": "time.monotonic() before the reading, s",
    "power_instant_w": "NVML_FI_DEV_POWER_INSTANT, W",
    "power_average_w": "NVML_FI_DEV_POWER_AVERAGE, W",
    "power_usage_w": "nvmlDeviceGetPowerUsage, W",
    "energy_j": "nvmlDeviceGetTotalEnergyConsumption: a counter, J",
    "sm_clock_mhz": "SM clock, MHz",
    "reasons": "nvmlDeviceGetCurrentClocksEventReasons: a bit mask (1 idle, 4 power cap)",
    "read_s": "time that the readings of this row took, s",
    "mem_clock_mhz": "memory clock, MHz (this and what follows: in every tenth row only)",
    "gpu_temperature_c": "temperature of the GPU, degrees Celsius",
    "memory_temperature_c": "temperature of its memory, degrees Celsius",
    "gpu_utilisation_pct": "share of time in which a kernel ran, %",
    "memory_utilisation_pct": "share of time in which memory was read or written, %",
    "memory_used_mib": "memory in use, MiB",
    "pstate": "performance state (0 is the highest)",
    "power_violation_s": "time in which the power limit held clocks down, a counter, s",
}
"""Columns of the CSV file, with their meanings and units. An empty cell was not available."""

_SLOW_EVERY = 10
_PATIENCE = 3


class Gpu:
    """The sensors of one GPU.

    Attributes:
        errors: What NVML answered instead of a value, by the name of the reading.
    """

    def __init__(self, index: int) -> None:
        import pynvml

        self._nvml: Any = pynvml
        pynvml.nvmlInit()
        self._handle: Any = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.errors: dict[str, str] = {}
        self._failures: dict[str, int] = {}

    def close(self) -> None:
        """Lets go of the library."""
        self._nvml.nvmlShutdown()

    def _get(self, name: str, call: Callable[[], Any]) -> Any:
        """Calls; what fails a few times is not asked for again.

        Bindings and driver are of different ages, and what one of them lacks shows in several
        ways. A sensor that is not there must not end the measurement.

        Raises:
            pynvml.NVMLError_GpuIsLost: The GPU is gone.
        """
        if self._failures.get(name, 0) >= _PATIENCE:
            return None
        try:
            return call()
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except Exception as error:
            self._failures[name] = self._failures.get(name, 0) + 1
            self.errors[name] = f"{type(error).__name__}: {error}"
            return None

    def facts(self) -> dict[str, Any]:
        """Returns what does not change: names, limits, modes, and who else uses the GPU."""
        nvml, handle, get = self._nvml, self._handle, self._get
        facts = {
            "name": get("name", lambda: nvml.nvmlDeviceGetName(handle)),
            "driver": get("driver", nvml.nvmlSystemGetDriverVersion),
            "cuda": get("cuda", nvml.nvmlSystemGetCudaDriverVersion_v2),
            "power_limit_mw": get("limit", lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle)),
            "power_limit_default_mw": get(
                "default", lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
            ),
            "power_limit_enforced_mw": get(
                "enforced", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
            ),
            "power_limit_min_max_mw": get(
                "constraints", lambda: nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
            ),
            "persistence_mode": get(
                "persistence", lambda: nvml.nvmlDeviceGetPersistenceMode(handle)
            ),
            "compute_mode": get("compute", lambda: nvml.nvmlDeviceGetComputeMode(handle)),
            "mig_mode": get("mig", lambda: nvml.nvmlDeviceGetMigMode(handle)),
            "ecc_mode": get("ecc", lambda: nvml.nvmlDeviceGetEccMode(handle)),
            "max_sm_clock_mhz": get(
                "max_sm", lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
            ),
            "max_mem_clock_mhz": get(
                "max_mem", lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)
            ),
            "max_customer_sm_clock_mhz": get(
                "customer", lambda: nvml.nvmlDeviceGetMaxCustomerBoostClock(handle, 1)
            ),
            "application_sm_clock_mhz": get(
                "application", lambda: nvml.nvmlDeviceGetApplicationsClock(handle, 1)
            ),
            "memory_mib": get("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20),
            "processes_mib": get(
                "processes",
                lambda: [
                    (process.usedGpuMemory or 0) >> 20
                    for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
                ],
            ),
        }
        return facts | {"errors": dict(self.errors)}

    def read(self, slow: bool) -> list[Any]:
        """Returns one row of the CSV file.

        Args:
            slow: Whether to read the columns that change slowly as well.
        """
        nvml, handle, get = self._nvml, self._handle, self._get
        began = time.monotonic()
        instant, average = self._power_fields()
        usage = get("usage", lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        energy = get("energy", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        clock = get("clock", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        reasons = get("reasons", lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        row = [f"{began:.6f}", _milli(instant), _milli(average), _milli(usage), _milli(energy)]
        row += [clock, reasons, f"{time.monotonic() - began:.6f}"]
        return row + (self._slow() if slow else [None] * (len(COLUMNS) - len(row)))

    def _power_fields(self) -> tuple[int | None, int | None]:
        nvml = self._nvml
        ids = [nvml.NVML_FI_DEV_POWER_INSTANT, nvml.NVML_FI_DEV_POWER_AVERAGE]
        values = self._get("fields", lambda: nvml.nvmlDeviceGetFieldValues(self._handle, ids))
        if values is None:
            return None, None
        found = [
            int(value.value.uiVal) if value.nvmlReturn == nvml.NVML_SUCCESS else None
            for value in values
        ]
        return found[0], found[1]

    def _slow(self) -> list[Any]:
        nvml, handle, get = self._nvml, self._handle, self._get
        load = get("load", lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        field = getattr(nvml, "NVML_FI_DEV_MEMORY_TEMP", 82)
        memory = get("hbm", lambda: nvml.nvmlDeviceGetFieldValues(handle, [field])[0])
        violation = get(
            "violation",
            lambda: nvml.nvmlDeviceGetViolationStatus(handle, nvml.NVML_PERF_POLICY_POWER),
        )
        return [
            get("mem_clock", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            get("temp", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            None if memory is None or memory.nvmlReturn else int(memory.value.uiVal),
            None if load is None else load.gpu,
            None if load is None else load.memory,
            get("used", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used >> 20),
            get("pstate", lambda: nvml.nvmlDeviceGetPerformanceState(handle)),
            None if violation is None else violation.violationTime * 1e-9,
        ]


def _milli(value: int | None) -> str | None:
    return None if value is None else f"{value * 1e-3:.3f}"


def sample(gpu: int, output: Path, period_s: float, seconds: float) -> None:
    """Writes rows until a signal comes or the time is over.

    Args:
        gpu: NVML index of the GPU.
        output: The CSV file; ``board.json`` goes beside it.
        period_s: Time between two rows.
        seconds: Time after which to end in any case.
    """
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    source = Gpu(gpu)
    try:
        clocks = {"monotonic_s": time.monotonic(), "wall_s": time.time()}
        facts = clocks | {"period_s": period_s} | source.facts()
        output.with_name("board.json").write_text(json.dumps(facts, indent=1) + "\n")
        with output.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            due = began = time.monotonic()
            count = 0
            while not ended and due - began < seconds:
                writer.writerow(source.read(slow=count % _SLOW_EVERY == 0))
                if count % _SLOW_EVERY == 0:
                    file.flush()
                count += 1
                # A late row moves all that follow: rows are never bunched to catch up.
                due = max(due + period_s, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
    finally:
        source.close()


def main() -> None:
    """Samples until told to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=0, help="NVML index")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--period", type=float, default=0.02, help="seconds between two rows")
    parser.add_argument("--seconds", type=float, default=900.0)
    options = parser.parse_args()
    sample(options.gpu, options.output, options.period, options.seconds)


if __name__ == "__main__":
    main()
