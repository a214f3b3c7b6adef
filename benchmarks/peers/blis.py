"""BLIS, a discrete-event simulator in Go: its whole process, whose start takes 0.01 s."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.load import Answer, Peer, Server
from benchmarks.peers.process import spent
from envs.workloads.base import RequestChunk

_HEADER = (
    "trace_version: 3\ntime_unit: microseconds\nmode: generated\nwarm_up_requests: 0\n"
    "workload_seed: 0\n"
)
_COLUMNS = (
    "request_id,client_id,tenant_id,slo_class,session_id,round_index,prefix_group,prefix_length,"
    "streaming,input_tokens,output_tokens,text_tokens,image_tokens,audio_tokens,video_tokens,"
    "reason_ratio,model,deadline_us,server_input_tokens,arrival_time_us,send_time_us,"
    "first_chunk_time_us,last_chunk_time_us,num_chunks,status,error_message,finish_reason\n"
)
_GPUS = {"a100_sxm4_40gb": "A100-40", "a100_sxm4_80gb": "A100-SXM", "h100_sxm": "H100"}


_OF_40_GB = {"BwPeakTBs": 1.555, "MemoryGiB": 40.0}
"""What its A100 of 80 GB lacks to be one of 40 GB (Nvidia's data sheet)."""


class Blis(Peer):
    """The binary ``blis`` in a folder.

    Args:
        folder: Where it lies, beside its own files; ``None`` where it is not to be had.
    """

    name = "BLIS"

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def missing(self, server: Server) -> str | None:
        """Returns what it lacks: the binary, the GPU or the model."""
        if self._folder is None or not (self._folder / "blis").is_file():
            return "no folder with the binary blis was given (--blis FOLDER)"
        if server.gpu not in _GPUS:
            return f"it has no {server.gpu}"
        name = server.model_id.rpartition("/")[2].lower()
        if not (self._folder / "model_configs" / name).is_dir():
            return f"it has no {name}"
        return None

    def run(self, server: Server, requests: RequestChunk) -> Answer:
        """Replays the requests as a trace."""
        assert self._folder is not None
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / "head.yaml").write_text(_HEADER, encoding="utf-8")
            (folder / "data.csv").write_text(_trace(requests), encoding="utf-8")
            hardware = json.loads((self._folder / "hardware_config.json").read_text())
            hardware["A100-40"] = hardware["A100-SXM"] | _OF_40_GB
            (folder / "hardware.json").write_text(json.dumps(hardware), encoding="utf-8")
            command: list[str | Path] = [
                "./blis", "replay", "--trace-header", folder / "head.yaml",
                "--trace-data", folder / "data.csv", "--model", server.model_id.lower(),
                "--hardware", _GPUS[server.gpu], "--hardware-config", folder / "hardware.json",
                "--tp", str(server.gpus),
                "--max-num-seqs", str(server.max_num_seqs),
                "--horizon", str(10**15), "--results-path", folder / "results.json",
            ]  # fmt: skip
            cpu_s, wall_s = spent(self.name, command, self._folder)
            results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
        longest_s = max(float(row["e2e_us"]) for row in results) / 1e6
        return Answer(len(results), longest_s, cpu_s, wall_s)


def _trace(requests: RequestChunk) -> str:
    rows = zip(
        (1e6 * requests.arrival_time_s).astype(int).tolist(),
        requests.prompt_tokens.tolist(),
        requests.output_tokens.tolist(),
        strict=True,
    )
    lines = [
        f"{index},c,,,,0,,0,false,{prompt},{output},0,0,0,0,0,,0,0,{at},{at},0,0,0,ok,,\n"
        for index, (at, prompt, output) in enumerate(rows)
    ]
    return _COLUMNS + "".join(lines)
