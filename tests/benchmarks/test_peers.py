"""The comparison of simulators: all requests are served, and who is not there says why."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.blis import Blis
from benchmarks.peers.load import Server, batch, poisson
from benchmarks.peers.own import Own
from benchmarks.peers.vidur import Vidur

SERVER = Server("openai-community/gpt2", "gpt2", "a100_sxm4_80gb", 1, 16)
LLAMA = Server("meta-llama/Llama-2-7b-hf", "llama2_7b", "a100_sxm4_80gb", 1, 256)
PROFILES = "data/profiling/compute/a100/meta-llama/Llama-2-7b-hf"
VIDUR = '''
"""Each request takes 0.01 s a token; this writes what Vidur writes, where it writes it."""
import csv, os, pathlib, sys

if __name__ == "__main__":
    assert os.environ["WANDB_MODE"] == "disabled"
    said = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
    assert said["replica_config_model_name"] == "meta-llama/Llama-2-7b-hf"
    assert said["vllm_scheduler_config_batch_size_cap"] == "256"
    rows = list(csv.DictReader(open(said["trace_request_generator_config_trace_file"])))
    arrived = [float(row["arrived_at"]) for row in rows]
    assert arrived == sorted(arrived)
    out = pathlib.Path(said["metrics_config_output_dir"], "2026-01-01_00-00-00-000000")
    out.mkdir(parents=True)
    with open(out / "request_metrics.csv", "w") as file:
        file.write("Request Id,request_e2e_time\\n")
        for index, row in enumerate(rows):
            file.write(f"{index},{0.01 * int(row['num_decode_tokens'])}\\n")
    [index * index for index in range(2_000 * len(rows))]  # work that grows with the requests
'''


@pytest.fixture
def vidur(tmp_path: Path) -> Path:
    """A folder like a clone of Vidur's repository."""
    (tmp_path / "vidur").mkdir()
    (tmp_path / "vidur" / "main.py").write_text(VIDUR)
    (tmp_path / PROFILES).mkdir(parents=True)
    for name in ("mlp.csv", "attention.csv"):
        (tmp_path / PROFILES / name).write_text("num_tensor_parallel_workers\n1\n2\n")
    return tmp_path


def test_all_requests_are_served_and_the_longest_is_no_shorter_than_one_alone() -> None:
    alone = Own().run(SERVER, batch(1, 64))
    together = Own().run(SERVER, batch(16, 64))
    assert (alone.finished, together.finished) == (1, 16)
    assert 0.0 < alone.longest_s < together.longest_s
    assert Own().run(SERVER, poisson(50, 4.0)).finished == 50


def test_own_settings_change_what_is_simulated() -> None:
    requests = poisson(300, 40.0)
    longest_s = {
        settings: Own(settings).run(SERVER, requests).longest_s
        for settings in ("", "server.prefix_caching=true", "server.data_parallel=2")
    }
    assert longest_s["server.prefix_caching=true"] < longest_s[""]
    assert longest_s["server.data_parallel=2"] < longest_s[""]


def test_own_settings_that_there_are_not_are_named() -> None:
    assert Own("server.data_parallel=2").missing(SERVER) is None
    assert "prefix_cachin" in (Own("server.prefix_cachin=true").missing(SERVER) or "")
    assert "servr" in (Own("servr.data_parallel=2").missing(SERVER) or "")


def test_a_simulator_that_is_not_there_says_why(tmp_path: Path) -> None:
    assert "--blis" in (Blis(None).missing(SERVER) or "")
    assert "--blis" in (Blis(tmp_path).missing(SERVER) or "")
    (tmp_path / "blis").touch()
    assert Blis(tmp_path).missing(SERVER) == "it has no gpt2"
    assert "--vidur" in (Vidur(None).missing(SERVER) or "")
    assert "--vidur" in (Vidur(tmp_path).missing(SERVER) or "")


def test_vidur_without_profiles_or_packages_says_which(vidur: Path) -> None:
    assert Vidur(vidur).missing(LLAMA) is None
    assert Vidur(vidur).missing(LLAMA._replace(gpu="b200_sxm")) == "it has no b200_sxm"
    assert "openai-community/gpt2/mlp.csv is not there" in (Vidur(vidur).missing(SERVER) or "")
    links = Vidur(vidur).missing(LLAMA._replace(gpus=2)) or ""
    assert "network/a100_dgx/all_reduce.csv is not there" in links
    no_rows = Vidur(vidur).missing(LLAMA._replace(gpus=4))
    assert "mlp.csv has no rows of 4 GPUs" in (no_rows or "")
    nobody = Vidur(vidur, vidur / "python").missing(LLAMA)
    assert "--vidur-python" in (nobody or "")


def test_vidur_with_pointers_of_git_lfs_for_profiles_says_so(vidur: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4e3d\nsize 10680357\n"
    (vidur / PROFILES / "attention.csv").write_text(pointer)
    assert "git lfs pull" in (Vidur(vidur).missing(LLAMA) or "")


def test_vidur_whose_python_lacks_a_package_names_it(vidur: Path) -> None:
    (vidur / "vidur" / "main.py").write_text("import a_package_that_is_not_there\n")
    assert "a_package_that_is_not_there" in (Vidur(vidur).missing(LLAMA) or "")


def test_vidur_replays_the_same_requests_and_its_start_is_taken_off(vidur: Path) -> None:
    simulator = Vidur(vidur, Path(sys.executable))
    few, requests = simulator.run(LLAMA, poisson(2, 8.0)), poisson(2_000, 8.0)
    many = simulator.run(LLAMA, requests)
    assert many.finished == 2_000
    assert many.longest_s == pytest.approx(0.01 * requests.output_tokens.max())
    assert few.cpu_s < 0.5 * many.cpu_s
    assert simulator.longest_s(LLAMA, [batch(3, 20), batch(1, 64)]) == pytest.approx([0.2, 0.64])


def test_vidur_that_fails_ends_with_what_it_said(vidur: Path) -> None:
    (vidur / "vidur" / "main.py").write_text("if __name__ == '__main__': raise KeyError('x')\n")
    with pytest.raises(SystemExit, match=r"(?s)Vidur ended with 1:.*KeyError: 'x'"):
        Vidur(vidur).run(LLAMA, poisson(2, 8.0))


def test_errors_are_those_of_the_rows_that_a_simulator_knows_with_ours_on_the_same(
    vidur: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency\n"
    row = "Nvidia A100 GPU,{},vLLM,meta-llama/Llama-2-7b-hf,128,{},{}\n"
    (vidur / "rows.csv").write_text(
        head + row.format(1, 1, 1.6) + row.format(4, 1, 1.2) + row.format(1, 16, 2.56)
    )
    command = (
        f"peers --vidur {vidur} --rows {vidur / 'rows.csv'} --requests 50 --repeats 1 "
        f"--own server.data_parallel=2 --own servr.gpus=2 --json {vidur / 'peers.json'}"
    )
    monkeypatch.setattr(sys, "argv", command.split())
    main()
    facts = json.loads((vidur / "peers.json").read_text())
    fit, others = facts["Vidur"]["errors"]
    assert fit == pytest.approx([0.2, 0.5])
    assert others == []
    assert len(facts["pals-gym"]["errors"][0]) == 2
    assert len(facts["pals-gym, server.data_parallel=2"]["cpu_s"]) == 1
    told = capsys.readouterr().out
    assert "BLIS is left out" in told
    assert "servr" in told
