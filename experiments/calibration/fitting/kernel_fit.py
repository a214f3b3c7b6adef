"""Fits what prices single kernels to tables of measured ones, family by family.

What comes out is of the GPU type, none of a model; the fit to whole servers then only finds what
no kernel tells (host, launches, popularity of experts), with these values all but fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.optimize import least_squares

from envs.simulator import kernel_times as times
from envs.simulator.calibration import Calibration, with_values
from envs.simulator.gpus import GPUSpec
from envs.simulator.interconnect import all_reduce_s
from envs.simulator.joining import joined
from envs.simulator.models import WEIGHT_BYTES
from experiments.calibration.data.kernel_rows import (
    DecodeRows,
    ExpertRows,
    Floats,
    KernelRows,
    KernelTables,
    ProductRows,
    PromptRows,
    ReduceRows,
)
from experiments.calibration.fitting.priors import KERNEL, Prior, kernel_centres

Rows = TypeVar("Rows", bound=KernelRows)
_OUTLIER = 0.1
_WEIGHT_OF_PRIOR = 1.0
_ERROR = 0.5
"""Standard deviation of a row's logarithm that the priors are weighed against: kernels of one
table share their errors, so that thousands of them are not thousands of witnesses."""
_OUT_OF_FLOOR = 4.0
"""Block-scaled products are used where they take this many times the shortest: the table's short
ones show the launches of the benchmark, which a server's CUDA graphs do not have."""
_PRODUCTS_FIRST = ("bf16", "fp8", "fp8_block")
_EXPERTS_FIRST = ("bf16", "fp8_block", "fp8")
"""In which order precisions determine coefficients. Block-scaled products come last for their
floor, experts scaled by tensor because their kernels differ most between versions."""


@dataclass(frozen=True)
class Family(Generic[Rows]):
    """Kernels that are fitted together.

    Attributes:
        name: Name in reports.
        rows: What was measured.
        seconds: Prices the rows with a calibration.
        names: Coefficients that the rows determine.
    """

    name: str
    rows: Rows
    seconds: Callable[[Calibration, GPUSpec, Rows], Floats]
    names: tuple[str, ...]

    def errors(self, gpu: GPUSpec, calibration: Calibration, chosen: Rows) -> Floats:
        """Returns simulated over measured times less 1."""
        return self.seconds(calibration, gpu, chosen) / chosen.seconds - 1.0


@dataclass(frozen=True)
class KernelFit:
    """Coefficients fitted to kernels.

    Attributes:
        values: Coefficients by name.
        deviations: Relative standard deviation of each.
    """

    values: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)


NO_KERNELS = KernelFit()
"""Nothing measured."""


def families(tables: KernelTables) -> list[Family[Any]]:
    """Returns the families of kernels that a table holds, in the order they are fitted in."""
    found: list[Family[Any]] = []
    for rows in sorted(tables.products, key=lambda part: _PRODUCTS_FIRST.index(part.precision)):
        if rows.precision == "fp8_block":
            rows = rows.taken(rows.seconds > _OUT_OF_FLOOR * np.quantile(rows.seconds, 0.02))
        names: tuple[str, ...] = _PRODUCT if rows.precision == "bf16" else _FP8_PRODUCT
        found.append(Family(f"products, {rows.precision}", rows, products_s, names))
    for part in sorted(tables.experts, key=lambda part: _EXPERTS_FIRST.index(part.precision)):
        names = _EXPERTS if part.precision == "bf16" else _FP8_EXPERTS
        found.append(Family(f"routed experts, {part.precision}", part, routed_experts_s, names))
    if tables.decode is not None:
        found.append(Family("attention, decode", tables.decode, decode_s, _DECODE))
    if tables.prompts is not None:
        found.append(Family("attention, prompts", tables.prompts, prompts_s, _PROMPTS))
    if tables.reduces is not None:
        found.append(Family("all-reduce", tables.reduces, reduces_s, _REDUCES))
    return found


def fit_kernels(tables: KernelTables | None) -> KernelFit:
    """Fits every family of a table.

    Args:
        tables: Measured kernels; ``None`` where there are none.
    """
    if tables is None:
        return NO_KERNELS
    start = with_values(Calibration(), kernel_centres())
    values: dict[str, float] = {}
    deviations: dict[str, float] = {}
    for family in families(tables):
        if any(name in values for name in family.names):
            continue  # of FP8 the first precision counts
        found = fit_family(family, tables.gpu, with_values(start, values), family.rows)
        values |= found.values
        deviations |= found.deviations
    return KernelFit(values, deviations)


def fit_family(
    family: Family[Any], gpu: GPUSpec, start: Calibration, rows: KernelRows
) -> KernelFit:
    """Fits the coefficients of one family to some of its rows."""
    priors: Sequence[Prior] = [KERNEL[name] for name in family.names]
    centre = np.log([prior.centre for prior in priors])
    deviation = np.array([prior.deviation for prior in priors])
    measured = np.log(rows.seconds)

    def residuals(x: Floats) -> Floats:
        k = with_values(start, dict(zip(family.names, np.exp(x), strict=True)))
        error = np.log(family.seconds(k, gpu, rows)) - measured
        scale = np.sqrt(2.0 * (np.sqrt(1.0 + (error / _OUTLIER) ** 2) - 1.0))
        robust: Floats = _OUTLIER * np.sign(error) * scale / _ERROR
        return np.concatenate([robust, _WEIGHT_OF_PRIOR * (x - centre) / deviation])

    solution = least_squares(residuals, centre, x_scale=deviation, ftol=1e-7, xtol=1e-7)
    spread = np.sqrt(np.diag(np.linalg.pinv(solution.jac.T @ solution.jac)))
    found = with_values(start, dict(zip(family.names, np.exp(solution.x), strict=True)))
    return KernelFit(
        {name: float(getattr(found, name)) for name in family.names},
        dict(zip(family.names, map(float, spread), strict=True)),
    )


def products_s(k: Calibration, gpu: GPUSpec, rows: ProductRows) -> Floats:
    """Returns the times of matrix products."""
    precision, tokens, depth = rows.precision, rows.tokens, rows.depth
    moved = rows.width * depth * WEIGHT_BYTES[precision]
    moved = moved + tokens * times.product_bytes(rows.width, depth)
    work = tokens * times.product_flops(rows.width, depth) + times.wasted_flops(k, depth)
    memory = moved / times.product_bandwidth(k, gpu, precision)
    compute = work / times.product_rate(k, gpu, precision)
    quantising = tokens * times.quantising_s(k, gpu, precision, depth)
    longer = times.column_slowdown(k, precision, rows.width)
    working = longer * joined(memory, compute, k.overlap)
    return times.product_fixed_s(k, depth) + quantising + working


def routed_experts_s(k: Calibration, gpu: GPUSpec, rows: ExpertRows) -> Floats:
    """Returns the times of routed experts."""
    return times.experts_s(
        k, gpu, rows.precision, rows.weights, rows.touched, rows.routed, rows.tokens
    )


def decode_s(k: Calibration, gpu: GPUSpec, rows: DecodeRows) -> Floats:
    """Returns the times of decode attention."""
    cached = 2.0 * times.ACTIVATION_BYTES * rows.kv_heads * rows.head_dim * rows.length
    per_sequence = cached / times.kv_bandwidth(k, gpu)
    per_sequence = per_sequence + times.decode_rows_s(k, rows.heads, rows.head_dim)
    return times.decode_fixed_s(k, rows.length) + rows.sequences * per_sequence


def prompts_s(k: Calibration, gpu: GPUSpec, rows: PromptRows) -> Floats:
    """Returns the times of attention over prompts."""
    pairs = rows.prompts * rows.length * (0.5 * rows.length + k.attention_start_tokens)
    heads_pairs = rows.heads * pairs + k.attention_wave_rows * rows.length
    flops = times.prompt_flops(k, 2.0 * rows.head_dim) * heads_pairs
    return times.decode_fixed_s(k, rows.length) + flops / times.prompt_rate(k, gpu)


def reduces_s(k: Calibration, gpu: GPUSpec, rows: ReduceRows) -> Floats:
    """Returns the times of all-reduces within a node."""
    pairs = zip(rows.ranks, rows.message_bytes, strict=True)
    return np.array([all_reduce_s(gpu, k, int(ranks), sent) for ranks, sent in pairs])


_PRODUCT = (
    "product_s", "product_depth_s", "bandwidth_efficiency", "flops_efficiency", "overlap",
    "wave_outputs",
)  # fmt: skip
_FP8_PRODUCT = (
    "fp8_bandwidth_factor", "fp8_flops_factor", "fp8_activation_bytes", "fp8_columns",
)  # fmt: skip
_EXPERTS = (
    "moe_layer_s", "moe_token_s", "expert_bandwidth_efficiency", "expert_flops_efficiency",
    "expert_overlap", "expert_padding_tokens",
)  # fmt: skip
_FP8_EXPERTS = ("fp8_expert_bandwidth_factor", "fp8_expert_flops_factor")
_DECODE = (
    "attention_layer_s", "attention_row_s", "attention_length_s", "kv_bandwidth_efficiency",
)  # fmt: skip
_PROMPTS = (
    "attention_flops_efficiency", "attention_width", "attention_start_tokens",
    "attention_wave_rows",
)  # fmt: skip
_REDUCES = ("all_reduce_s", "link_efficiency")
