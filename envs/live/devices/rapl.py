"""Reads the CPU packages' energy counters (Intel RAPL), where the kernel shows them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/class/powercap")


class Rapl:
    """Energy of all CPU packages of this machine, other processes' work included.

    Args:
        root: Where the kernel lists power-capping zones.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._zones = sorted(root.glob("intel-rapl:[0-9]*"))
        self._zones = [zone for zone in self._zones if zone.name.count(":") == 1]
        self._last = [self._counter(zone) for zone in self._zones]
        self._total_uj = 0

    @classmethod
    def find(cls, root: Path = ROOT) -> Rapl | None:
        """Returns a reader, or ``None`` where there is no counter or it may not be read."""
        try:
            rapl = cls(root)
        except OSError:
            return None
        return rapl if rapl._zones else None

    @staticmethod
    def _counter(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())

    def energy_j(self) -> float:
        """Returns the energy since this reader was made, in joules.

        The counters wrap round after minutes to hours; read at least that often.
        """
        for index, zone in enumerate(self._zones):
            now = self._counter(zone)
            step = now - self._last[index]
            if step < 0:
                step += int((zone / "max_energy_range_uj").read_text())
            self._total_uj += step
            self._last[index] = now
        return self._total_uj * 1e-6
