"""Bundles from elsewhere: nothing in them runs, and whatever is wrong is named by file and key."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
import re
import zipfile

import pytest
from support.odd_files import ODD, put_odd

from agents.bundle import load_policy, read_bundle
from agents.bundle_facts import facts_sha256
from agents.controller import Agent
from envs.errors import ConfigurationError
from envs.factory import make_simulated


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return (open, (self.file, "w"))


def write(folder, facts, *, sealed=True):
    if sealed:
        facts["sha256"] = facts_sha256(facts)
    (folder / "bundle.json").write_text(json.dumps(facts))


def read(folder):
    return json.loads((folder / "bundle.json").read_text())


def test_an_action_cannot_name_a_function(bundle, tmp_path):
    """The case that was found: a base64 pickle handed to a function of the library."""
    code = base64.b64encode(pickle.dumps(Bomb(tmp_path / "ran"))).decode()
    action = {
        "_target_": "stable_baselines3.common.save_util.json_to_data",
        "json_string": json.dumps({"x": {":type:": "x", ":serialized:": code}}),
    }
    write(bundle, {**read(bundle), "action": action})
    with pytest.raises(ConfigurationError, match=r"bundle\.json: action"):
        Agent(bundle=str(bundle)).bind(make_simulated(duration=10.0).context)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "subprocess.run", "builtins.eval", "stable_baselines3.PPO",
        "stable_baselines3.common.save_util.load_from_pkl", "envs.catalog.allow_package",
        "envs.live.guard.open_device", "envs.live.process.end_process",
        "envs.actions.base.ActionEncoding", "envs.actions.base.KnobGrid",
        "envs.workloads.poisson.Poisson", "envs.actions.grid.ActionEncoding",
        "envs.actions.grid.np.load", "envs.safe_files.os.system", "", "grid", "...", 7, None, {},
    ],
)  # fmt: skip
def test_an_action_names_encodings_only(bundle, target):
    write(bundle, {**read(bundle), "action": {"_target_": target}})
    with pytest.raises(ConfigurationError, match=r"bundle\.json: action"):
        read_bundle(bundle)


def test_an_action_cannot_read_the_environment(bundle, monkeypatch):
    monkeypatch.setenv("SECRET", "7")
    action = {"_target_": "envs.actions.grid.Grid", "sm_clock_levels": "${oc.env:SECRET}"}
    write(bundle, {**read(bundle), "action": action})
    with pytest.raises(ConfigurationError, match=r"action\.sm_clock_levels: must be a plain value"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm", "stable_baselines3.common.save_util.load_from_pkl"),
        ("algorithm", "sb3_contrib.common.maskable.policies.os"),
        ("algorithm", ["stable_baselines3.PPO"]),
        ("policy", "CnnPolicy"),
        ("policy", None),
        ("policy_arguments", {"net_arch": [10**9]}),
        ("policy_arguments", {"net_arch": [64] * 1000}),
        ("policy_arguments", {"net_arch": "[64]"}),
        ("policy_arguments", {"net_arch": {"pi": {"pi": [1]}}}),
        ("policy_arguments", {"features_extractor_class": "os.system"}),
        ("policy_arguments", {"optimizer_kwargs": {}}),
        ("policy_arguments", []),
        ("observation", []),
        ("observation", [7]),
        ("observation", [{"name": "x", "high": "4", "unbounded": False}]),
        ("observation", [{"name": "x", "high": 1.0, "unbounded": False, "code": "1"}]),
        ("observation", [{"name": "x"}]),
        ("action", []),
        ("grid", {"power_caps": 6}),
        ("grid", {"power_caps": -1, "max_num_seqs": [1], "sm_clocks": 0}),
        ("grid", {"power_caps": True, "max_num_seqs": [1], "sm_clocks": 0}),
        ("shield", "yes"),
        ("shield", 1),
        ("calibrations", {"a100_sxm4_80gb": 5}),
        ("configuration", "x"),
        ("evaluation", {}),
        ("evaluation", {"steps": "many"}),
        ("provenance", None),
        ("weights_sha256", 3),
    ],
)
def test_wrong_facts_name_file_and_key(bundle, key, value):
    write(bundle, {**read(bundle), key: value})
    with pytest.raises(ConfigurationError) as caught:
        read_bundle(bundle)
    assert str(caught.value).startswith(f"{bundle / 'bundle.json'}: {key}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["shield", "action", "observation", "grid", "evaluation"])
def test_the_hash_covers_every_fact(bundle, key):
    facts = read(bundle)
    changed = not facts["shield"] if key == "shield" else facts[key]
    if key == "action":
        changed = {**facts["action"], "sm_clock_levels": 4}
    elif key == "observation":
        changed = list(reversed(facts["observation"]))
    elif key == "grid":
        changed = {**facts["grid"], "power_caps": 5}
    elif key == "evaluation":
        changed = {"steps": 1}
    write(bundle, {**facts, key: changed}, sealed=False)
    with pytest.raises(ConfigurationError, match="changed since it was written"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 100_000, "damaged"),
        ('{"a":' * 50_000, "damaged"),
        ("[]", "no JSON object"),
        ("", "damaged"),
        ("NaN", "damaged"),
        ("{}", "format None"),
        ('{"format": 2}', "algorithm: missing"),
        ("\x00\xff", "damaged"),
    ],
)
def test_facts_of_any_shape_are_one_message(bundle, content, words):
    (bundle / "bundle.json").write_text(content, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_bundle(bundle)
    assert str(bundle / "bundle.json") in str(caught.value)


def test_a_fact_that_is_nested_deep_is_one_message(bundle):
    deep = 1
    for _ in range(300):
        deep = {"net_arch": deep}
    write(bundle, {**read(bundle), "policy_arguments": deep}, sealed=False)
    with pytest.raises(ConfigurationError, match=r"bundle\.json: policy_arguments"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["policy.pt", "bundle.json"])
@pytest.mark.parametrize("kind", [*ODD, "dangling link"])
def test_only_regular_files_are_read(bundle, server, name, kind):
    agent_facts = read_bundle(bundle) if name == "policy.pt" else None
    file = bundle / name
    file.unlink()
    if kind in ODD:
        put_odd(file, kind)
    else:
        file.symlink_to(bundle / "nowhere")
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        load_policy(bundle, agent_facts or read_bundle(bundle), server.action_space, "cpu")


def test_huge_files_are_refused(bundle, server):
    facts = read_bundle(bundle)
    for name in ("policy.pt", "bundle.json"):
        with (bundle / name).open("r+b") as file:
            file.truncate(10 << 30)  # sparse
    with pytest.raises(ConfigurationError, match=r"policy\.pt: larger than"):
        load_policy(bundle, facts, server.action_space, "cpu")
    with pytest.raises(ConfigurationError, match=r"bundle\.json: larger than"):
        read_bundle(bundle)


def weights_replaced(bundle, content):
    (bundle / "policy.pt").write_bytes(content)
    write(bundle, {**read(bundle), "weights_sha256": hashlib.sha256(content).hexdigest()})
    return read_bundle(bundle)


def test_weights_that_unpack_to_more_are_refused(bundle, server, tmp_path):
    file = tmp_path / "bomb.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(300 << 20))
    facts = weights_replaced(bundle, file.read_bytes())
    with pytest.raises(ConfigurationError, match="unpack to"):
        load_policy(bundle, facts, server.action_space, "cpu")


def test_weights_that_are_no_numbers_are_refused(bundle, server, tmp_path):
    import torch

    weights = torch.load(bundle / "policy.pt", weights_only=True)
    next(iter(weights.values())).fill_(float("nan"))
    for content in (weights, [1, 2], {"a": 1}):
        torch.save(content, tmp_path / "w.pt")
        facts = weights_replaced(bundle, (tmp_path / "w.pt").read_bytes())
        with pytest.raises(ConfigurationError, match=r"policy\.pt: not the weights"):
            load_policy(bundle, facts, server.action_space, "cpu")
