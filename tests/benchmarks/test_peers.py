"""The comparison of simulators: all requests are served, and who is not there says why."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.blis import Blis
from benchmarks.peers.load import Server, batch, poisson
from benchmarks.peers.own import Own

SERVER = Server("openai-community/gpt2", "gpt2", "a100_sxm4_80gb", 1, 16)


def test_all_requests_are_served_and_the_longest_is_no_shorter_than_one_alone() -> None:
    alone = Own().run(SERVER, batch(1, 64))
    together = Own().run(SERVER, batch(16, 64))
    assert (alone.finished, together.finished) == (1, 16)
    assert 0.0 < alone.longest_s < together.longest_s
    assert Own().run(SERVER, poisson(50, 4.0)).finished == 50


def test_a_simulator_that_is_not_there_says_why(tmp_path: Path) -> None:
    assert "--blis" in (Blis(None).missing(SERVER) or "")
    assert "--blis" in (Blis(tmp_path).missing(SERVER) or "")
    (tmp_path / "blis").touch()
    assert Blis(tmp_path).missing(SERVER) == "it has no gpt2"
