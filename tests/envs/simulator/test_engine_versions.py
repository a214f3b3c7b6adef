"""What comes from the engine's version: host time beside the GPU's, launches, the front end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.server_specs import make_server_spec

from envs import catalog
from envs.errors import ConfigurationError
from envs.simulator.calibration import Calibration, for_engine
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_model import compile_step_model, resolve_step

NO_CAP_W = 1e9
LATER = {"vllm-0.14": {"host_overlap": 1.0, "sequence_s": 0.0}, "vllm-0.30": {"step_s": 1e-4}}


def step_s(k: Calibration, model: str, decoding: float, prompt: float = 0.0) -> float:
    c = compile_step_model(
        catalog.build("gpu", "h100_sxm"), catalog.build("model", model), Parallelism(), k
    )
    pairs = 0.5 * prompt * prompt
    return resolve_step(c, decoding, 300.0 * decoding, prompt, pairs, NO_CAP_W, 1.0)[0]


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("", 0.0), ("vllm-0.11", 0.0), ("vllm-0.14", 1.0), ("vllm-0.26.1", 1.0), ("sglang-0.5", 0.0)],
)
def test_the_latest_version_up_to_the_one_asked_for_counts(engine: str, expected: float) -> None:
    known = Calibration(engines=LATER)
    assert for_engine(known, engine).host_overlap == expected
    assert for_engine(known, "vllm-0.31").step_s == 1e-4


def test_a_version_without_a_number_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigurationError, match=r"server\.engine_version.*'vllm'"):
        for_engine(Calibration(engines=LATER), "vllm")


def test_an_unknown_coefficient_of_a_version_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"engines\.vllm-0\.14\.steps_s"):
        Calibration(engines={"vllm-0.14": {"steps_s": 1.0}})


def test_a_host_beside_the_gpu_costs_only_what_it_takes_longer() -> None:
    k = Calibration(step_s=1e-3, sequence_s=0.0)
    in_turn, beside = (step_s(replace(k, host_overlap=o), "llama31_8b", 8.0) for o in (0.0, 1.0))
    assert in_turn - beside == pytest.approx(1e-3, rel=1e-6)
    slow = replace(k, host_overlap=1.0, step_s=0.2)
    assert step_s(slow, "llama31_8b", 8.0) == pytest.approx(0.2)


def test_a_step_beyond_the_cuda_graphs_takes_at_least_its_launches() -> None:
    k = Calibration(eager_layer_s=1e-3, eager_moe_layer_s=1e-3, graph_tokens=512.0, mixed_step_s=0)
    inside, beyond, long = (step_s(k, "qwen3_30b_a3b", 0.0, p) for p in (512.0, 513.0, 8192.0))
    launches = 48 * 2e-3 + k.step_s
    assert inside < 0.6 * launches
    assert beyond == pytest.approx(launches)
    assert long > 1.2 * launches, "a long prompt keeps the GPU busy for longer than the host"


def test_the_server_takes_the_times_of_its_version() -> None:
    spec = make_server_spec({"base": "poisson_gsm8k", "load": 0.5})
    later = replace(spec, server=replace(spec.server, engine_version="vllm-0.26"))
    assert spec.coefficients.host_overlap == 0.0
    assert later.coefficients.host_overlap > 0.5
    assert later.spec.step_model.sequence_s < spec.spec.step_model.sequence_s
