"""Vidur (MLSys 2024), an event simulator in Python: its process, less what its start takes."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from benchmarks.peers.load import Answer, Peer, Server
from benchmarks.peers.process import Spent, last_line, spent
from envs.workloads.base import RequestChunk

_GPUS = {"a100_sxm4_40gb": "a100", "a100_sxm4_80gb": "a100", "h100_sxm": "h100"}
_PROFILES = ("compute/{gpu}/{model}/mlp.csv", "compute/{gpu}/{model}/attention.csv")
_LINKS = "network/{gpu}_dgx/all_reduce.csv"
_POINTER = b"version https://git-lfs"
_OFF = {"WANDB_MODE": "disabled"}
_APART_S = 1e6
_PREDICTOR = (
    "num_estimators=250", "max_depth=32", "min_samples_split=2", "k_fold_cv_splits=2",
    "num_training_job_threads=1",
)  # fmt: skip
"""One of the 27 forests that it would search for each kernel, which takes hours."""
_UNWANTED = (
    "store_plots", "enable_chrome_trace", "store_batch_metrics", "store_utilization_metrics",
)  # fmt: skip


class Vidur(Peer):
    """Vidur's command in a clone of its repository.

    Its forests are trained once and kept where it keeps them, in ``cache`` in that folder.

    Args:
        folder: The clone; ``None`` where there is none.
        python: Interpreter that has the packages it needs; ``None`` takes this one.
    """

    name = "Vidur"

    def __init__(self, folder: Path | None, python: Path | None = None) -> None:
        self._folder = folder
        self._python = Path(sys.executable) if python is None else python
        self._starts: dict[Server, Spent] = {}

    def missing(self, server: Server) -> str | None:
        """Returns what it lacks: the clone, a profile of the server, or a package."""
        if self._folder is None or not (self._folder / "vidur" / "main.py").is_file():
            return "no clone of its repository was given (--vidur FOLDER)"
        if server.gpu not in _GPUS:
            return f"it has no {server.gpu}"
        names = {"gpu": _GPUS[server.gpu], "model": server.model_id}
        profiles = [*_PROFILES, _LINKS] if server.gpus > 1 else _PROFILES
        for profile in profiles:
            file = self._folder / "data" / "profiling" / profile.format(**names)
            column = "num_workers" if profile is _LINKS else "num_tensor_parallel_workers"
            reason = _profile_lacks(file, column, server.gpus)
            if reason is not None:
                return reason
        return _python_lacks(self._folder, self._python)

    def run(self, server: Server, requests: RequestChunk) -> Answer:
        """Replays the requests as a trace."""
        if server not in self._starts:
            times_s, prompts, outputs, _ = requests
            first = RequestChunk(times_s[:2], prompts[:2], outputs[:2])
            self._replay(server, first)  # trains what is not in its cache yet
            _, self._starts[server] = self._replay(server, first)
        e2e_s, whole = self._replay(server, requests)
        start = self._starts[server]
        return Answer(
            len(e2e_s), max(e2e_s), whole.cpu_s - start.cpu_s, whole.wall_s - start.wall_s
        )

    def longest_s(self, server: Server, batches: Sequence[RequestChunk]) -> list[float]:
        """Returns the time of each batch, one process for all: they come far apart."""
        together = RequestChunk.joined(
            [
                RequestChunk(_APART_S * index + requests.arrival_time_s, *requests[1:3])
                for index, requests in enumerate(batches)
            ]
        )
        e2e_s, _ = self._replay(server, together)
        ends = accumulate((len(requests.prompt_tokens) for requests in batches), initial=0)
        return [max(e2e_s[first:end]) for first, end in pairwise(ends)]

    def _replay(self, server: Server, requests: RequestChunk) -> tuple[list[float], Spent]:
        assert self._folder is not None
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            _write_trace(folder / "trace.csv", requests)
            took = spent(self.name, self._command(server, folder), self._folder, _OFF)
            (file,) = folder.glob("out/*/request_metrics.csv")
            with file.open(encoding="utf-8", newline="") as rows:
                e2e_s = [float(row["request_e2e_time"]) for row in csv.DictReader(rows)]
        return e2e_s, took

    def _command(self, server: Server, folder: Path) -> list[str | Path]:
        gpu, batch = _GPUS[server.gpu], server.max_num_seqs
        predictor = "random_forrest_execution_time_predictor_config"  # its spelling
        settings = [
            f"replica_config_model_name={server.model_id}",
            f"replica_config_device={gpu}",
            f"replica_config_network_device={gpu}_dgx",
            f"replica_config_tensor_parallel_size={server.gpus}",
            "replica_scheduler_config_type=vllm",
            f"vllm_scheduler_config_batch_size_cap={batch}",
            "request_generator_config_type=trace_replay",
            f"trace_request_generator_config_trace_file={folder / 'trace.csv'}",
            f"metrics_config_output_dir={folder / 'out'}",
            *(f"{predictor}_{setting}" for setting in _PREDICTOR),
            f"{predictor}_prediction_max_batch_size={batch}",
        ]
        return [
            self._python, "-m", "vidur.main", *(f"--{setting}" for setting in settings),
            *(f"--no-metrics_config_{what}" for what in _UNWANTED),
        ]  # fmt: skip


def _write_trace(file: Path, requests: RequestChunk) -> None:
    np.savetxt(
        file, np.column_stack(requests[:3]), ("%.9f", "%d", "%d"), ",", comments="",
        header="arrived_at,num_prefill_tokens,num_decode_tokens",
    )  # fmt: skip


@cache
def _profile_lacks(file: Path, column: str, gpus: int) -> str | None:
    shown = "/".join(file.parts[file.parts.index("profiling") :])
    if not file.is_file():
        return f"its profile {shown} is not there"
    with file.open("rb") as start:
        if start.read(len(_POINTER)) == _POINTER:
            return f"its profile {shown} is a pointer of Git LFS (git lfs pull brings the file)"
    with file.open(encoding="utf-8", newline="") as rows:
        known = any(float(row[column]) == gpus for row in csv.DictReader(rows))
    return None if known else f"its profile {shown} has no rows of {gpus} GPUs"


@cache
def _python_lacks(folder: Path, python: Path) -> str | None:
    command: list[str | Path] = [python, "-c", "import vidur.main"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"its Python cannot be run (--vidur-python): {error}"
    if done.returncode:
        return f"its Python lacks something (--vidur-python): {last_line(done.stderr)}"
    return None
