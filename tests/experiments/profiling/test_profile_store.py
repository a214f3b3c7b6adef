from __future__ import annotations

import json
from itertools import pairwise

import pandas
import pytest

from envs.errors import ConfigurationError, InfeasibleModelError
from experiments.profiling import store as profiles
from experiments.profiling.store import find_profile, profile_key, write_profile


def found(config):
    return find_profile(config.scenario, config.profile)


def key_of(config):
    return profile_key(config.scenario, config.profile)


@pytest.fixture(scope="module")
def olmoe(compose):
    return compose("model=olmoe_1b_7b", "server.tensor_parallel=2")


@pytest.fixture(scope="module")
def profile(olmoe):
    return found(olmoe)


def by_setting(profile, size):
    rows = [row for row in profile.rows if row.tensor_parallel == size]
    return {(row.power_cap_w, row.max_num_seqs): row for row in rows}


def test_every_cap_batch_and_size_is_measured(profile):
    assert len(profile.rows) == 6 * 6 * 3
    assert {row.tensor_parallel for row in profile.rows} == {1, 2, 4}
    assert (profile.tensor_parallel, profile.expert_parallel, profile.data_parallel) == (2, 1, 1)


def test_more_power_and_more_sequences_never_give_less(profile):
    rows = by_setting(profile, 2)
    caps, batches = sorted({c for c, _ in rows}), sorted({b for _, b in rows})
    for batch in batches:
        for low, high in pairwise(caps):
            slower, faster = rows[low, batch], rows[high, batch]
            assert faster.throughput_tok_s >= 0.98 * slower.throughput_tok_s
            assert faster.power_w >= 0.99 * slower.power_w
            assert slower.power_w <= 2 * low * 1.01
    for few, many in pairwise(batches):
        assert rows[400.0, many].throughput_tok_s > rows[400.0, few].throughput_tok_s


def test_the_batch_is_full_while_measured(profile):
    for (_, batch), row in by_setting(profile, 2).items():
        assert row.running == pytest.approx(batch, rel=0.1)
        assert row.context_tokens > 100


def test_it_is_made_once(olmoe, profile, monkeypatch):
    monkeypatch.setattr(profiles, "sweep", lambda *_: pytest.fail("measured again"))
    assert found(olmoe) == profile


def test_it_depends_on_the_server_but_not_on_the_load(compose):
    key = key_of(compose())
    for same in ("workload.load=0.4", "seed=9", "objective=efficiency", "controller=static",
                 "duration=9", "workload.rate=3"):  # fmt: skip
        assert key_of(compose(same)) == key, same
    for other in ("workload=poisson_hellaswag", "gpu=h100_sxm", "model=gpt2",
                  "server.max_num_seqs=32", "action.max_num_seqs=[8,16]",
                  "profile.measure_s=9"):  # fmt: skip
        assert key_of(compose(other)) != key, other


def test_sizes_that_do_not_fit_are_left_out(compose):
    config = compose("action.power_caps_w=[400]", "action.max_num_seqs=[64]")
    assert {row.tensor_parallel for row in found(config).rows} == {2, 4}


def test_a_server_that_does_not_fit_is_an_error(compose):
    with pytest.raises(InfeasibleModelError, match="mixtral_8x7b"):
        found(compose("server.tensor_parallel=1"))


def test_files_say_the_same_and_can_be_named(compose, profile, tmp_path):
    write_profile(profile, tmp_path)
    frame = pandas.read_parquet(tmp_path / "profile.parquet")
    pandas.testing.assert_frame_equal(frame, pandas.read_csv(tmp_path / "profile.csv"))
    assert frame["throughput_tok_s"].tolist() == [row.throughput_tok_s for row in profile.rows]
    named = compose("server.tensor_parallel=4", f"profile.path={tmp_path / 'profile.json'}")
    read = found(named)
    assert read.rows == profile.rows
    assert read.tensor_parallel == 4


def test_a_profile_of_another_size_is_refused(compose, profile, tmp_path):
    write_profile(profile, tmp_path)
    with pytest.raises(ConfigurationError, match="parallel sizes"):
        found(compose("server.tensor_parallel=8", f"profile.path={tmp_path / 'profile.json'}"))


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"key": "k", "rows": [{"x": 1}]})])
def test_a_damaged_file_is_named(compose, tmp_path, content):
    file = tmp_path / "profile.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"profile\.json: not a profile"):
        found(compose(f"profile.path={file}"))


def test_a_live_server_is_never_profiled_by_a_run(compose, empty_cache, monkeypatch):
    monkeypatch.setattr(profiles, "sweep", lambda *_: pytest.fail("profiled a live server"))
    with pytest.raises(ConfigurationError, match=r"python -m experiments\.profile"):
        found(compose("server=vllm", "server.url=http://127.0.0.1:9"))
