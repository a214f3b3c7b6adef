"""The numbers in ``conf/workload`` are those that the fits give."""

from pathlib import Path

import numpy as np
import pytest

from envs.catalog import build
from envs.workloads.azure_conv import AzureConv
from envs.workloads.mooncake import Mooncake
from envs.workloads.recording import Recording
from experiments.fit_workload import PROBABILITIES, dispersion, fit_bursty, fit_quantiles, main

AZURE = Path("azure-llm-2023/AzureLLMInferenceTrace_conv.csv")
MOONCAKE = Path("mooncake/conversation_trace_head.jsonl")


@pytest.fixture
def azure(data_dir: Path) -> Recording:
    return AzureConv.read(data_dir / AZURE)


def test_bursty_is_the_fit_to_the_azure_trace(azure: Recording) -> None:
    fit = fit_bursty(azure.time_s)
    workload = build("workload", "bursty")
    assert workload.burst_ratio == pytest.approx(fit.burst_ratio, rel=0.01)
    assert workload.burst_fraction == pytest.approx(fit.burst_fraction, rel=0.01)
    assert workload.burst_duration_s == pytest.approx(fit.burst_duration_s, rel=0.01)


def test_the_fit_explains_bursts_up_to_a_minute(azure: Recording) -> None:
    fit = fit_bursty(azure.time_s)
    assert fit.log_likelihood_gain > 100.0
    for window_s in (1.0, 5.0, 10.0, 30.0, 60.0):
        assert fit.dispersion(window_s) == pytest.approx(
            dispersion(azure.time_s, window_s), rel=0.4
        )


def test_azure_lengths_are_the_quantiles_of_the_trace(azure: Recording) -> None:
    lengths = build("workload/lengths", "azure_conv")
    for part, tokens in (("prompt", azure.prompt_tokens), ("output", azure.output_tokens)):
        distribution = getattr(lengths, part)
        assert distribution.probabilities == list(PROBABILITIES)
        assert distribution.tokens == fit_quantiles(tokens)
        table = distribution.table()
        assert table.mean() == pytest.approx(tokens.mean(), rel=0.01)
        assert table.std() == pytest.approx(tokens.std(), rel=0.02)


def test_mooncake_lengths_are_the_quantiles_of_the_trace(data_dir: Path) -> None:
    recording = Mooncake.read(data_dir / MOONCAKE)
    lengths = build("workload/lengths", "mooncake")
    for part, tokens in (
        ("prompt", recording.prompt_tokens),
        ("output", recording.output_tokens),
    ):
        assert getattr(lengths, part).tokens == fit_quantiles(tokens)
        assert getattr(lengths, part).table().mean() == pytest.approx(tokens.mean(), rel=0.02)


def test_the_command_prints_what_the_configuration_holds(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mooncake", "--path", str(data_dir / MOONCAKE)]) == 0
    printed = capsys.readouterr().out
    prompt = build("workload/lengths", "mooncake").prompt
    assert f"tokens: {[int(tokens) for tokens in prompt.tokens]}" in printed
    assert "no burstiness" in printed  # the clock of the trace has steps of 3 s


def test_the_command_refuses_what_it_cannot_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["poisson_gsm8k"]) == 1
    assert "replays no trace" in capsys.readouterr().err
    assert main(["azure_conv", "--path", "/nowhere/at/all.csv"]) == 1
    assert "/nowhere/at/all.csv" in capsys.readouterr().err


def test_dispersion_of_counts_by_hand() -> None:
    time_s = np.array([0.0, 0.5, 0.6, 1.2, 3.1, 3.9, 4.0])  # 3, 1, 0, 2 in whole seconds
    assert dispersion(time_s, 1.0) == pytest.approx(np.var([3, 1, 0, 2], ddof=1) / 1.5)


@pytest.mark.parametrize("requests", [1, 3, 99])
def test_too_few_requests_tell_no_bursts(
    requests: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "short.csv"
    rows = [f"2023-11-16 18:00:{0.5 * index:04.1f},10,5" for index in range(requests)]
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    assert main(["azure_conv", "--path", str(trace)]) == 0
    printed = capsys.readouterr().out
    assert f"{requests} requests in" in printed
    assert "burst_ratio" not in printed
