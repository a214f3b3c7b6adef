"""Kernels tell the coefficients that price them, and the step model prices them the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from envs import catalog
from envs.simulator import kernel_times as times
from envs.simulator.calibration import Calibration
from envs.simulator.parallelism import Parallelism
from envs.simulator.products import dense_products
from envs.simulator.step_model import compile_step_model
from experiments.calibration.data.kernel_rows import (
    DecodeRows,
    ExpertRows,
    KernelTables,
    ProductRows,
    PromptRows,
)
from experiments.calibration.fitting.kernel_fit import (
    decode_s,
    families,
    fit_kernels,
    products_s,
    prompts_s,
    routed_experts_s,
)
from experiments.calibration.validation.kernel_errors import kernel_errors

GPU = catalog.build("gpu", "h100_sxm")
TRUTH = Calibration(
    bandwidth_efficiency=0.78, flops_efficiency=0.66, product_s=5e-6,
    expert_bandwidth_efficiency=0.80, moe_layer_s=40e-6, expert_flops_efficiency=0.42,
    kv_bandwidth_efficiency=0.72, attention_layer_s=20e-6, attention_flops_efficiency=0.8,
)  # fmt: skip
FOUND = (
    "bandwidth_efficiency", "flops_efficiency", "product_s", "expert_bandwidth_efficiency",
    "moe_layer_s", "kv_bandwidth_efficiency", "attention_layer_s",
)  # fmt: skip


def drawn(low: float, high: float, count: int = 400, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def timed(rows: Any, price: Callable[..., Any]) -> Any:
    return replace(rows, seconds=price(TRUTH, GPU, rows))


@pytest.fixture(scope="module")
def tables() -> KernelTables:
    nothing, shape = np.zeros(400), np.arange(400)
    touched = np.minimum(128.0, drawn(8, 400, seed=3))
    products = ProductRows(
        nothing, shape, "bf16", drawn(1, 8192), drawn(512, 16384, seed=1), drawn(512, 16384, seed=2)
    )
    experts = ExpertRows(
        nothing, shape, "bf16", drawn(1, 8192), drawn(1e6, 2e7, seed=4), touched,
        touched * drawn(1, 300, seed=5),
    )  # fmt: skip
    head_dim = np.full(400, 128.0)
    decode = DecodeRows(
        nothing, shape, drawn(1, 512), drawn(128, 16384, seed=6), 0 * nothing + 32.0,
        0 * nothing + 8.0, head_dim,
    )  # fmt: skip
    prompts = PromptRows(
        nothing, shape, 1.0 + nothing, drawn(64, 16384, seed=7), 0 * nothing + 32.0, head_dim
    )
    return KernelTables(
        gpu=GPU,
        products=(timed(products, products_s),),
        experts=(timed(experts, routed_experts_s),),
        decode=timed(decode, decode_s),
        prompts=timed(prompts, prompts_s),
    )


def test_coefficients_are_found_again_from_the_times_they_cause(tables: KernelTables) -> None:
    found = fit_kernels(tables)
    for name in FOUND:
        assert found.values[name] == pytest.approx(getattr(TRUTH, name), rel=0.05), name
        assert 0.0 < found.deviations[name] < 0.5
    assert fit_kernels(None).values == {}


def test_shapes_left_out_are_priced_well_where_the_form_is_right(tables: KernelTables) -> None:
    errors = kernel_errors(tables, fit_kernels(tables))
    assert {error.family for error in errors} == {family.name for family in families(tables)}
    for error in errors:
        assert error.rows == 400
        assert error.held_out < 0.02, error


def test_the_step_model_prices_products_as_the_fit_does() -> None:
    """Folded into one record, all products of a step cost what they cost one by one."""
    model = catalog.build("model", "llama31_8b")
    k = replace(TRUTH, overlap=0.0, wave_outputs=0.0)
    c = compile_step_model(GPU, model, Parallelism(2), k)
    one_by_one = 0.0
    for product in dense_products(model, 2):
        row = ProductRows(
            np.ones(1), np.zeros(1, dtype=np.int64), "bf16", np.array([64.0]),
            np.array([product.width]), np.array([product.depth]),
        )  # fmt: skip
        fixed = times.product_fixed_s(k, product.depth)
        one_by_one += product.count * float(products_s(k, GPU, row)[0] - fixed)
    folded = max(
        c.dense_memory_s + 64 * c.dense_memory_token_s,
        c.dense_compute_s + 64 * c.dense_compute_token_s,
    )
    assert folded == pytest.approx(one_by_one, rel=1e-9)
