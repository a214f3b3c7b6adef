"""What short runs compute has not changed by one bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.caches import own_cache

from .cases import CASES, RENEW, changes, read_golden, run_case


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of these runs' own: what another run left there decides nothing."""
    with pytest.MonkeyPatch.context() as patch:
        folder = own_cache(tmp_path_factory.mktemp("golden") / "cache")
        patch.setenv("PALS_CACHE", str(folder))
        yield


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_that_are_kept(case: str, tmp_path: Path) -> None:
    kept, exact = read_golden()
    lines = changes(case, kept.get(case, {}), run_case(case, tmp_path), exact=exact)
    if lines:
        listed = "\n".join(lines)
        pytest.fail(f"{len(lines)} metrics changed; if that is meant: {RENEW}\n{listed}", False)


def test_no_case_is_kept_that_is_not_run() -> None:
    assert set(read_golden()[0]) == set(CASES)


@pytest.mark.parametrize(("exact", "off"), [(True, 2**-52), (False, 1e-8)])
def test_a_change_is_named_with_its_case_and_metric(exact: bool, off: float) -> None:
    kept = read_golden()[0]["pals"]
    value = kept["tokens_per_joule"]
    found = {**kept, "tokens_per_joule": value * (1 + off)}
    (line,) = changes("pals", kept, found, exact=exact)
    assert line == f"pals: tokens_per_joule: {value} -> {value * (1 + off)}"
    assert changes("pals", kept, kept, exact=exact) == []
    assert changes("pals", kept, {}, exact=exact)


def test_on_another_kind_of_cpu_the_last_bits_may_differ() -> None:
    kept = {"tokens_per_joule": 5.0, "hash of power_w": "a", "sum of power_w": 300.0}
    found = {"tokens_per_joule": 5.0 + 1e-12, "hash of power_w": "b", "sum of power_w": 300.0}
    assert len(changes("pals", kept, found, exact=True)) == 2
    assert changes("pals", kept, found, exact=False) == []
