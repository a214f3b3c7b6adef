"""Bundles: what is stored is what is loaded, and a misfit is explained."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest

from agents.bundle import find_bundle, load_policy, read_bundle
from agents.bundle_facts import facts_sha256
from agents.controller import Agent
from envs.errors import ConfigurationError
from envs.factory import make_simulated


def edit(folder, **changes):
    facts = json.loads((folder / "bundle.json").read_text())
    facts.update(changes)
    facts["sha256"] = facts_sha256(facts)
    (folder / "bundle.json").write_text(json.dumps(facts))


def observations(server, count=5):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (count, *server.observation_space.shape)).astype(np.float32)


def test_a_loaded_policy_acts_as_the_saved_one(bundle, model, server):
    policy = load_policy(bundle, read_bundle(bundle), server.action_space, "cpu")
    seen = observations(server, 200)
    np.testing.assert_array_equal(
        policy.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )


def test_the_weights_hold_no_pickled_code(bundle):
    with zipfile.ZipFile(bundle / "policy.pt") as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        script = archive.read(name)
    import pickletools

    imported = {
        argument for code, argument, _ in pickletools.genops(script) if code.name == "GLOBAL"
    }
    assert imported <= {
        "collections OrderedDict", "torch FloatStorage", "torch._utils _rebuild_tensor_v2",
    }  # fmt: skip


def test_weights_that_run_code_are_refused(bundle):
    class Bomb:
        def __reduce__(self):
            return (open, (str(bundle / "written"), "w"))

    import hashlib

    content = pickle.dumps(Bomb())
    (bundle / "policy.pt").write_bytes(content)
    edit(bundle, weights_sha256=hashlib.sha256(content).hexdigest())
    agent = Agent(bundle=str(bundle))
    with pytest.raises(ConfigurationError, match=r"policy\.pt"):
        agent.bind(make_simulated(duration_s=10.0).context)
    assert not (bundle / "written").exists()


def test_damaged_weights_are_named(bundle, server):
    content = bytearray((bundle / "policy.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "policy.pt").write_bytes(bytes(content))
    with pytest.raises(ConfigurationError, match="SHA-256"):
        Agent(bundle=str(bundle)).bind(server.context)


def test_damaged_facts_are_named(bundle):
    (bundle / "bundle.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"bundle\.json: damaged"):
        Agent(bundle=str(bundle))


def test_another_format_is_named(bundle):
    edit(bundle, format=99)
    with pytest.raises(ConfigurationError, match="format 99"):
        read_bundle(bundle)


def test_a_missing_bundle_is_named_with_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match=r"experiments\.train"):
        find_bundle(str(tmp_path / "nothing"))


def test_a_training_folder_stands_for_its_bundle(bundle):
    assert find_bundle(str(bundle.parent)) == bundle


def test_an_entry_that_is_observed_no_more_is_named(bundle, server):
    entries = read_bundle(bundle).observation
    edit(bundle, observation=[{**entries[0], "name": "moon_phase"}, *entries[1:]])
    with pytest.raises(ConfigurationError, match="moon_phase is not observed any more"):
        Agent(bundle=str(bundle)).bind(server.context)


def test_a_changed_scale_is_named(bundle, server):
    entries = [
        {**entry, "top": 7.0} if entry["name"] == "waiting" else entry
        for entry in read_bundle(bundle).observation
    ]
    edit(bundle, observation=entries)
    with pytest.raises(ConfigurationError, match=r"waiting was scaled as .*top 7\.0"):
        Agent(bundle=str(bundle)).bind(server.context)


def test_other_knobs_are_explained(bundle):
    small = make_simulated(server={"base": "simulated", "max_num_seqs": 16}, duration_s=10.0)
    with pytest.raises(ConfigurationError, match=r"batch limits \[1, 4, 8, 16, 32, 64\]"):
        Agent(bundle=str(bundle)).bind(small.context)
    caps = make_simulated(action={"base": "grid", "power_caps_w": [200, 400]}, duration_s=10.0)
    with pytest.raises(ConfigurationError, match=r"6 power caps and this server has 2"):
        Agent(bundle=str(bundle)).bind(caps.context)


def test_a_changed_calibration_is_only_warned_about(bundle, server):
    edit(bundle, calibrations={"a100_sxm4_80gb": "0" * 16, "gone": "1"})
    with pytest.warns(UserWarning, match="a100_sxm4_80gb, gone"):
        agent = Agent(bundle=str(bundle))
    agent.bind(server.context)


def test_an_algorithm_that_is_not_listed_is_refused(bundle):
    edit(bundle, algorithm="os.system")
    with pytest.raises(ConfigurationError, match=r"bundle\.json: algorithm: must be one of"):
        Agent(bundle=str(bundle))


@pytest.mark.parametrize("device", ["cuda:99", "meta9", "gpu", "meta", "hpu"])
def test_a_device_that_torch_cannot_use_is_named(bundle, server, device):
    with pytest.raises(ConfigurationError, match=f"device: torch cannot use '{device}' here"):
        Agent(bundle=str(bundle), device=device).bind(server.context)


def test_another_time_between_decisions_is_warned_about(bundle, server):
    edit(bundle, configuration={"seed": 1, "interval": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Agent(bundle=str(bundle)).bind(server.context)
    slow = make_simulated(interval_s=2.0, duration_s=30.0)
    with pytest.warns(UserWarning, match=r"trained on decisions every 0\.5 s, .* 2 s apart"):
        Agent(bundle=str(bundle)).bind(slow.context)
