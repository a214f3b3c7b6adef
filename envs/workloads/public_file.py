"""Public files that workloads read: their source and their place on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from envs.cache import cache_dir
from envs.errors import WorkloadError


@dataclass(frozen=True, kw_only=True)
class PublicFile:
    """A file that users fetch from its publisher with ``python -m experiments.download``.

    Attributes:
        workload: Name of the workload that reads it.
        url: Address, pinned to one version.
        location: Path below the folder of downloaded traces, and below ``$PALS_DATA``.
        size_bytes: Size of the file.
        sha256: Hash of the file in hexadecimal; ``None`` where only ``head_sha256`` is known.
        head_rows: Number of requests that ``head_sha256`` covers.
        head_sha256: Hash of the first requests, see :func:`~envs.workloads.recording.head_sha256`.
        licence: Licence of the data.
        cite: What to cite when it is used.
    """

    workload: str
    url: str
    location: str
    size_bytes: int
    licence: str
    cite: str
    sha256: str | None = None
    head_rows: int = 0
    head_sha256: str | None = None

    @property
    def download_path(self) -> Path:
        """Where ``python -m experiments.download`` puts the file."""
        return cache_dir() / "traces" / self.location

    def find(self) -> Path:
        """Returns the path of the file.

        Raises:
            WorkloadError: The file is in none of the searched folders.
        """
        places = [self.download_path]
        if "PALS_DATA" in os.environ:
            places.append(Path(os.environ["PALS_DATA"]) / self.location)
        for place in places:
            if place.is_file():
                return place
        raise WorkloadError(
            f"workload.path: no file given, and none at {' or '.join(map(str, places))}; fetch "
            f"it with: python -m experiments.download {self.workload}"
        )
