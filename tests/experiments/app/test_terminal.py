"""What is printed is shown as it is: no name of a folder is taken for a style."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.profile import Profile, ProfileRow
from experiments.app.terminal import print_comparison, print_profile


@pytest.mark.parametrize("name", ["a [x] b", "out[/x]", "[bold]", "[red]a[/red]"])
def test_a_folder_with_brackets_is_printed_whole(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("/results") / name
    print_comparison({"controllers": {}, "seeds": [1]}, folder)
    assert f"Files: {folder}\n" in capsys.readouterr().out


def test_a_profile_is_printed_without_marks(capsys: pytest.CaptureFixture[str]) -> None:
    row = ProfileRow(
        power_cap_w=300.0,
        max_num_seqs=64,
        tensor_parallel=1,
        expert_parallel=1,
        data_parallel=1,
        throughput_tok_s=1000.0,
        prompt_tok_s=10.0,
        power_w=250.0,
        tpot_s=0.1,
        ttft_s=0.1,
        running=64.0,
        context_tokens=100.0,
        sm_clock_mhz=1000.0,
    )
    print_profile(Profile((row,), 1, 1, 1, "key"), Path("/results"), Path("/cache/[x].json"))
    shown = capsys.readouterr().out
    assert "1,000" in shown
    assert "dim" not in shown
    assert "Cached: /cache/[x].json" in shown
