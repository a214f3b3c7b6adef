from __future__ import annotations

import dataclasses
import http.server
import json
import sys
import threading
from itertools import pairwise

import pandas
import pytest

from envs import kept_files
from envs.errors import ConfigurationError, InfeasibleModelError, ServerError
from envs.live.engine_version import engine_version
from experiments.profiling import store as profiles
from experiments.profiling.store import find_profile, profile_key, write_profile


def found(config):
    return find_profile(config.scenario, config.profile)


class Served:
    """A server that tells its version, and nothing else."""

    def __init__(self):
        self.version = ""
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"version": told.version}).encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __call__(self, version):
        self.version = version
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def served():
    served = Served()
    yield served
    served.server.shutdown()
    served.thread.join()
    served.server.server_close()


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


def edited(file, factor):
    content = json.loads(file.read_text())
    content["rows"][0]["throughput_tok_s"] *= factor
    file.write_text(json.dumps(content))


def test_a_named_profile_whose_numbers_were_edited_is_refused(compose, profile, tmp_path):
    write_profile(profile, tmp_path)
    file = tmp_path / "profile.json"
    edited(file, 7.0)
    named = compose("server.tensor_parallel=4", f"profile.path={file}")
    with pytest.raises(ConfigurationError, match=r"profile\.json: its numbers were edited"):
        found(named)
    content = json.loads(file.read_text())
    del content["sha256"]  # they are meant
    file.write_text(json.dumps(content))
    assert found(named).rows[0].throughput_tok_s == 7.0 * profile.rows[0].throughput_tok_s


@pytest.mark.parametrize("damage", ["edited", "[]", "cut", "another", "unsealed"])
def test_a_cached_profile_that_is_not_as_written_is_made_again(
    olmoe, profile, monkeypatch, caplog, damage
):
    file = profiles.cached_file(key_of(olmoe))
    whole = file.read_text()
    if damage == "edited":
        edited(file, 7.0)
    elif damage == "unsealed":
        file.write_text(whole.replace(f'"sha256": "{profile.sha256}",', ""))
    elif damage == "another":
        other = dataclasses.replace(profile, key="another")
        file.write_text(profiles._as_json(other))
    else:
        file.write_text(whole[: len(whole) // 2] if damage == "cut" else damage)
    monkeypatch.setattr(profiles, "sweep", lambda *_: list(profile.rows))
    kept_files._said.clear()
    assert found(olmoe) == profile
    assert file.read_text() == whole
    assert "the profile is made again" in caplog.text
    assert str(file) in caplog.text


def test_a_live_profile_that_was_edited_is_not_used(compose, profile, empty_cache, served):
    config = compose("server=vllm", f"server.url={served('0.33.0')}")
    file = profiles.cached_file(key_of(config))
    file.parent.mkdir()
    file.write_text(profiles._as_json(profile))
    with pytest.raises(ConfigurationError, match="not profiled again"):
        found(config)


def test_a_live_server_is_never_profiled_by_a_run(compose, empty_cache, monkeypatch, served):
    monkeypatch.setattr(profiles, "sweep", lambda *_: pytest.fail("profiled a live server"))
    with pytest.raises(ConfigurationError, match=r"python -m experiments\.profile"):
        found(compose("server=vllm", f"server.url={served('0.33.0')}"))


def test_a_live_profile_is_of_one_release_of_the_engine(compose, served):
    url = served("0.33.0")
    before = key_of(compose("server=vllm", f"server.url={url}"))
    assert key_of(compose("server=vllm", f"server.url={url}")) == before
    served.version = "0.34.0"
    assert key_of(compose("server=vllm", f"server.url={url}")) != before
    with pytest.raises(ServerError, match="nothing answers"):
        key_of(compose("server=vllm", "server.url=http://127.0.0.1:9"))


def test_the_release_of_a_server_that_is_launched_is_that_of_its_environment(compose, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o700)
    config = compose("server=vllm", "server.launch.model=m", f"server.launch.python={python}")
    (tmp_path / "vllm.dist-info").mkdir()
    keys = set()
    for version in ("0.33.0", "0.34.0"):
        stated = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
        (tmp_path / "vllm.dist-info" / "METADATA").write_text(stated)
        assert engine_version(config.scenario.server_config) == version
        keys.add(key_of(config))
    assert len(keys) == 2
    missing = compose("server=vllm", "server.launch.model=m", "server.launch.python=no-such-python")
    with pytest.raises(ConfigurationError, match=r"server\.launch\.python: .* no-such-python"):
        key_of(missing)
