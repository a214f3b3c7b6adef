"""A measured row in the simulator's terms, whatever file it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.workloads.base import RequestChunk
from experiments.calibration.data.timed_load import TimedLoad


@dataclass(frozen=True)
class StepKind:
    """One kind of engine step that a run consists of, per data-parallel replica.

    Attributes:
        decode_seqs: Sequences that decode.
        context_tokens: Tokens they have cached, in all.
        prefill_tokens: Prompt tokens computed in the step.
        prefill_pairs: Sum over these of the tokens each attends to.
        weight: Such steps per output token of a sequence.
        median_weight: Weight in the median step (the middle fifth of all steps).
    """

    decode_seqs: float
    context_tokens: float
    prefill_tokens: float
    prefill_pairs: float
    weight: float
    median_weight: float


@dataclass(frozen=True)
class Measurement:
    """What was run and what was measured; quantities that were not are ``None``.

    Attributes:
        dataset: Name of the data set.
        gpu: GPU type.
        model: Model.
        model_id: Model identifier in the data.
        run: Rows that differ in batch size or cap only share this name.
        parallelism: How the model was spread.
        batch: Sequences that ran at once, over all replicas.
        counted_tokens: Tokens that the throughput column counts per output token.
        steps: The steps the run consisted of.
        cap_w: Power cap of each GPU in watts.
        itl_s: Median inter-token latency in seconds.
        tpot_s: Mean time per output token in seconds.
        throughput_tok_s: Tokens per second.
        power_w: Power of all GPUs in watts.
        clock_fraction: Mean SM clock as a fraction of the highest.
        temperature_c: Mean temperature of the chip.
        context_per_seq: Mean tokens cached per sequence.
        digest: Identifies the row's contents.
        has_level: Whether the run's own level is taken from its other caps, so that only its
            response to caps is compared.
        clock_limit: Highest clock that the site allowed, as a fraction of the highest there is.
        weights: Weight of each quantity in a fit, where it is not 1; 0 where the row does not
            tell it.
        host_bound: Whether its server waited for the host longer than the simulated one: the
            energy of its steps is then compared in the time that they took.
        apart: Why the row is kept apart from the fit and the main errors; empty if it is not.
        engine: Version of the engine, as in ``vllm-0.26``; empty for the calibration's own.
    """

    dataset: str
    gpu: GPUSpec
    model: ModelSpec
    model_id: str
    run: str
    parallelism: Parallelism
    batch: float
    counted_tokens: float
    steps: tuple[StepKind, ...]
    cap_w: float
    itl_s: float | None = None
    tpot_s: float | None = None
    throughput_tok_s: float | None = None
    power_w: float | None = None
    clock_fraction: float | None = None
    temperature_c: float | None = None
    context_per_seq: float = 0.0
    digest: str = ""
    has_level: bool = False
    clock_limit: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    host_bound: bool = False
    apart: str = ""
    engine: str = ""


@dataclass(frozen=True)
class IdlePower:
    """Power of a GPU whose server has nothing to do.

    Attributes:
        dataset: Name of the data set.
        gpu: GPU type.
        model: Model that is loaded.
        run: When that was.
        power_w: Power of the GPU in watts.
        temperature_c: Mean temperature of the chip.
    """

    dataset: str
    gpu: GPUSpec
    model: ModelSpec
    run: str
    power_w: float
    temperature_c: float | None


@dataclass(frozen=True)
class RecordedLoad:
    """Requests as they were sent, and what was measured over a stretch of them.

    Attributes:
        dataset: Name of the data set.
        gpu: GPU type; one GPU served.
        model: Model.
        run: When that was.
        requests: The requests; times count from the first one.
        in_flight: Requests that a closed loop kept in flight; ``None`` for open arrivals.
        begin_s: Begin of the stretch, in the time of the requests.
        end_s: Its end.
        running: Mean number of running requests.
        output_tok_s: Output tokens per second.
        prompt_tok_s: Prompt tokens per second.
        itl_s: Mean time between tokens in seconds.
        ttft_mean_s: Mean time to first token in seconds, as the server counts it.
        ttft_p50_s: Median as the client saw it, of requests that came in the stretch;
            ``None`` where no client looked.
        power_w: Mean power in watts.
        clock_fraction: Mean SM clock as a fraction of the highest.
        engine: Version of the engine, as of a :class:`Measurement`.
    """

    dataset: str
    gpu: GPUSpec
    model: ModelSpec
    run: str
    requests: RequestChunk
    in_flight: int | None
    begin_s: float
    end_s: float
    running: float
    output_tok_s: float
    prompt_tok_s: float
    itl_s: float
    ttft_mean_s: float
    ttft_p50_s: float | None
    power_w: float
    clock_fraction: float
    engine: str = ""


@dataclass(frozen=True)
class Skipped:
    """A row that cannot be compared with the simulator.

    Attributes:
        dataset: Name of the data set.
        row: Line number in the file; the header is line 1.
        model: Model identifier in the data.
        reason: Why the row cannot be compared.
    """

    dataset: str
    row: int
    model: str
    reason: str


@dataclass
class MeasuredData:
    """The rows of one or several files.

    Attributes:
        measurements: Rows that can be compared with the simulator.
        skipped: Rows that cannot, with the reason.
        idle: Power of servers that idle; no step tells it, so no fit uses it.
        loads: Recorded loads, to be replayed on a simulated server.
        timed: Loads that were watched in time.
    """

    measurements: list[Measurement] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    idle: list[IdlePower] = field(default_factory=list)
    loads: list[RecordedLoad] = field(default_factory=list)
    timed: list[TimedLoad] = field(default_factory=list)

    def extend(self, other: MeasuredData) -> None:
        """Appends the rows of other files."""
        self.measurements += other.measurements
        self.skipped += other.skipped
        self.idle += other.idle
        self.loads += other.loads
        self.timed += other.timed


def digest(row: Mapping[str, Any]) -> str:
    """Returns a short name for the contents of a row, independent of column order."""
    text = "\x1f".join(f"{key}={_plain(row[key])}" for key in sorted(row))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _plain(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
