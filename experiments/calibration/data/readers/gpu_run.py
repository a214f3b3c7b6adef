"""Runs of ``python -m experiments.measure_gpu``: ``rows.csv`` with ``board.json`` beside it.

The board says which GPU it was and its limit; the folder's name begins with the model's name in
``conf/model``. Decoding, prompts alone, and the mixture of both are measurements; a server
that idles and the recorded requests of a load are what no steady step tells, and kept as such.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.simulator.parallelism import Parallelism
from experiments.calibration.data.csv_table import RowError, number, optional_number, read_rows
from experiments.calibration.data.measurement import (
    IdlePower,
    MeasuredData,
    Measurement,
    Skipped,
    StepKind,
    digest,
)
from experiments.calibration.data.readers import watched_run
from experiments.calibration.data.readers.gpu_run_folder import RunFolder, open_run
from experiments.calibration.data.readers.recorded_load import read_load
from experiments.calibration.data.steady_state import steady_steps

DATASET = "measure-gpu"
DECODE = ("decode", "load_step")
PREFILL = "prefill"
MIXED = ("saturation", "poisson")
IDLE = ("idle_loaded", "idle_after")
UNUSED = {
    "warm_up": "the server compiled",
    "load_step_pause": "the sensor still fell",
    "limits": "the batch limit changed",
    "compare": "two servers took turns",
}
"""Phases that are no operating point, with what happened in them."""
STEP_TOKENS = 8192
"""Tokens of one step: vLLM's default on this size of GPU, which the recipe leaves alone."""
_PARTS = ("rows.csv", "*/rows.csv")
_COLUMNS = (
    "phase", "batch", "prompt_tokens", "output_tokens", "in_flight", "energy_counter_w",
    "sm_clock_mhz", "gpu_temperature_c", "running", "output_tok_s", "prompt_tok_s",
    "server_itl_ms", "server_ttft_ms", "ttft_p50_ms", "seconds", "begin_s",
)  # fmt: skip


def find(folder: Path) -> list[Path]:
    """Returns the ``rows.csv`` of every run in a folder or one level below it."""
    files = [file for part in _PARTS for file in sorted(folder.glob(part))]
    return [file for file in files if (file.parent / "board.json").is_file()]


def read(file: Path) -> MeasuredData:
    """Reads a run; rows that cannot be used are listed with the reason.

    Args:
        file: Its ``rows.csv``.

    Raises:
        WorkloadError: A file cannot be read, lacks a column or a key; the message names it.
    """
    data = MeasuredData()
    data.timed = watched_run.read(file.parent)
    run: RunFolder | RowError
    try:
        run = open_run(file.parent)
    except RowError as error:
        run = error
    for line, row in read_rows(file, _COLUMNS):
        try:
            if isinstance(run, RowError):
                raise run
            _add(data, file, row, run)
        except RowError as error:
            data.skipped.append(Skipped(DATASET, line, file.parent.name, str(error)))
    return data


def _add(data: MeasuredData, file: Path, row: dict[str, Any], run: RunFolder) -> None:
    """Adds what a row tells.

    Raises:
        RowError: It tells nothing that can be compared with the simulator.
    """
    phase = str(row.get("phase"))
    if phase in IDLE:
        data.idle.append(
            IdlePower(
                dataset=DATASET,
                gpu=run.gpu,
                model=run.model,
                run=f"{run.name} {phase}",
                power_w=number(row, "energy_counter_w"),
                temperature_c=optional_number(row, "gpu_temperature_c"),
            )
        )
    elif phase in DECODE:
        data.measurements.append(_decode(row, run))
    elif phase == PREFILL:
        data.measurements.append(_prefill(row, run))
    elif phase in MIXED:
        data.measurements.append(_mixed(row, run))
        load = read_load(file.parent, phase, row, run, DATASET)
        if load is not None:
            data.loads.append(load)
    else:
        raise RowError(f"phase {phase!r}: {UNUSED.get(phase, 'not known')}")


def _decode(row: dict[str, Any], run: RunFolder) -> Measurement:
    """A batch that decodes, at its mean context: the prompt and half of the output."""
    batch = number(row, "batch")
    context = number(row, "prompt_tokens") + 0.5 * number(row, "output_tokens")
    throughput = number(row, "output_tok_s")
    return _measurement(
        row,
        run,
        name=f"decode {number(row, 'prompt_tokens'):g}",
        batch=batch,
        steps=(StepKind(batch, batch * context, 0.0, 0.0, 1.0, 1.0),),
        itl_s=number(row, "server_itl_ms") / 1e3,
        tpot_s=batch / throughput,
        throughput_tok_s=throughput,
        context_per_seq=context,
    )


def _prefill(row: dict[str, Any], run: RunFolder) -> Measurement:
    """Prompts whose one output token ends them, so the time per output token is the TTFT.

    One at a time, that is what the client saw, and the throughput, which then counts the
    client's pauses too, is left out. With many in flight it is the time in which all of these
    are served once.
    """
    prompt, in_flight = number(row, "prompt_tokens"), number(row, "in_flight")
    if in_flight > 1.0:
        throughput: float | None = number(row, "prompt_tok_s")
        seconds = in_flight * prompt / number(row, "prompt_tok_s")
        chunk = min(in_flight, max(1.0, STEP_TOKENS // prompt)) * prompt
        rounds = in_flight * prompt / chunk
        steps = [StepKind(0.0, 0.0, chunk, 0.5 * chunk * (prompt + 1.0), rounds, 0.0)]
    else:
        throughput, seconds = None, number(row, "ttft_p50_ms") / 1e3
        steps = _chunks(prompt)
    return _measurement(
        row,
        run,
        name=f"prefill {in_flight:g} in flight",
        batch=in_flight,
        counted_tokens=prompt,
        steps=tuple(steps),
        tpot_s=seconds,
        throughput_tok_s=throughput,
        context_per_seq=prompt,
    )


def _chunks(prompt: float) -> list[StepKind]:
    """Returns the steps that compute one prompt."""
    steps: list[StepKind] = []
    done = 0.0
    while done < prompt:
        chunk = min(float(STEP_TOKENS), prompt - done)
        pairs = chunk * (done + 0.5 * (chunk + 1.0))
        steps.append(StepKind(0.0, 0.0, chunk, pairs, 1.0, 0.0))
        done += chunk
    return steps


def _mixed(row: dict[str, Any], run: RunFolder) -> Measurement:
    """Decoding with prompts coming in, as many of them as were counted in the stretch.

    The stretch is short, so that its ratio of prompt to output tokens is not quite that of the
    requests; the output length that gives this ratio stands for the mean.
    """
    if run.mixture is None:
        raise RowError("run.jsonl does not say what the mixture of requests was")
    running, throughput = number(row, "running"), number(row, "output_tok_s")
    output = run.mixture.prompt_tokens * throughput / number(row, "prompt_tok_s")
    steps = steady_steps(running, output, run.mixture)
    return _measurement(
        row,
        run,
        name=str(row["phase"]),
        batch=running,
        steps=tuple(steps),
        tpot_s=running / throughput,
        throughput_tok_s=throughput,
        context_per_seq=steps[0].context_tokens / steps[0].decode_seqs,
    )


def _measurement(row: dict[str, Any], run: RunFolder, *, name: str, **values: Any) -> Measurement:
    clock_mhz = optional_number(row, "sm_clock_mhz")
    return Measurement(
        dataset=DATASET,
        gpu=run.gpu,
        model=run.model,
        model_id=run.model.name,
        run=f"{run.name} {name}",
        parallelism=Parallelism(),
        cap_w=run.cap_w,
        power_w=number(row, "energy_counter_w"),
        clock_fraction=None if clock_mhz is None else clock_mhz / run.gpu.sm_clock_max_mhz,
        temperature_c=optional_number(row, "gpu_temperature_c"),
        digest=digest(row),
        engine=run.engine,
        **{"counted_tokens": 1.0, **values},
    )
