"""Recipes: the library's own classes, from YAML, and mistakes that are named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.utils import LinearSchedule

from agents.recipe import Recipe
from agents.vec_env import make_vec_env
from envs import catalog
from envs.errors import ConfigurationError

CLASSES = {"ppo_clock": PPO, "ppo": PPO, "sac": SAC, "recurrent_ppo": RecurrentPPO}


@pytest.mark.parametrize("name", catalog.names("agent"))
def test_every_recipe_learns_a_little(name):
    """Two rollouts (or some gradient steps) through the real class change its weights."""
    small = {
        "ppo": {"n_steps": 8, "batch_size": 16},
        "ppo_clock": {"n_steps": 8, "batch_size": 16},
        "recurrent_ppo": {"n_steps": 8, "batch_size": 16},
        "sac": {"learning_starts": 8, "batch_size": 16, "buffer_size": 500},
    }[name]
    node = catalog.load("agent", name)
    node.arguments.update(small)
    recipe: Recipe = catalog.build("agent", node)
    env = make_vec_env(2, seed=0, action=recipe.action, max_episode_steps=30)
    model = recipe.make(env, seed=0, device="cpu")
    assert type(model) is CLASSES[name]
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    model.learn(48)
    after = list(model.policy.parameters())
    assert any(not np.array_equal(a.detach(), b) for a, b in zip(after, before, strict=True))


def test_an_unknown_argument_is_named(servers):
    recipe = Recipe(arguments={"policy": "MlpPolicy", "n_stepz": 8})
    with pytest.raises(ConfigurationError, match="n_stepz"):
        recipe.make(servers, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", float("nan")), ("gamma", 1.5), ("gae_lambda", -0.1), ("gae_lambda", [[]]),
        ("n_epochs", ["x"]), ("n_epochs", 1.5), ("n_steps", -1), ("ent_coef", float("inf")),
        ("vf_coef", "x"), ("max_grad_norm", None), ("learning_rate", float("nan")),
        ("policy_kwargs", 1e300),
    ],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_named(servers, name, value):
    recipe = Recipe(arguments={"policy": "MlpPolicy", name: value})
    with pytest.raises(ConfigurationError, match=r"agent\.arguments"):
        recipe.make(servers, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        (PPO, "n_epochs", 0), (PPO, "n_steps", 0), (PPO, "batch_size", 0), (PPO, "batch_size", -4),
        (PPO, "learning_rate", 0.0), (PPO, "learning_rate", -1e-3), (PPO, "max_grad_norm", 0.0),
        (PPO, "clip_range", 0.0), (PPO, "clip_range_vf", float("nan")), (PPO, "ent_coef", -1.0),
        (PPO, "target_kl", float("nan")), (PPO, "target_kl", 0.0), (PPO, "target_kl", True),
        (PPO, "stats_window_size", 0), (PPO, "learning_rate", LinearSchedule(math.nan, 1e-3, 1.0)),
        (PPO, "learning_rate", LinearSchedule(1e-3, -1e-3, 1.0)), (SAC, "buffer_size", 0),
        (PPO, "clip_range", LinearSchedule(2.0, 0.1, 1.0)), (SAC, "train_freq", 0),
        (SAC, "train_freq", [4, "step"]), (SAC, "gradient_steps", 0), (SAC, "tau", 0.0),
        (SAC, "gradient_steps", -2), (SAC, "target_update_interval", 0),
        (SAC, "ent_coef", float("nan")), (SAC, "target_entropy", float("nan")),
    ],
)  # fmt: skip
def test_a_number_with_which_nothing_is_learned_is_refused(servers, algorithm, name, value):
    path = f"stable_baselines3.{algorithm.__name__}"
    recipe = Recipe(algorithm=path, arguments={"policy": "MlpPolicy", name: value})
    with pytest.raises(ConfigurationError, match=rf"^agent\.arguments\.{name}: must be"):
        recipe.make(servers, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("name", "value"), [("n_steps", 10**14), ("policy_kwargs", {"net_arch": [-1]})]
)
def test_what_cannot_be_built_is_told_with_the_librarys_words(servers, name, value):
    recipe = Recipe(arguments={"policy": "MlpPolicy", name: value})
    with pytest.raises(ConfigurationError, match=r"agent\.arguments"):
        recipe.make(servers, seed=0, device="cpu")


def test_usual_ways_to_write_arguments_are_taken(servers):
    schedule = LinearSchedule(1e-3, 0.0, 1.0)
    given = {"learning_rate": schedule, "clip_range_vf": 0.2, "target_kl": 0.01, "ent_coef": 0}
    Recipe(arguments={"policy": "MlpPolicy", **given}).make(servers, seed=0, device="cpu")


def test_a_class_that_is_no_algorithm_is_refused():
    with pytest.raises(ConfigurationError, match="no algorithm"):
        _ = Recipe(algorithm="envs.actions.grid.Grid").algorithm_class


def test_numbers_have_to_be_positive():
    with pytest.raises(ConfigurationError, match=r"agent\.steps"):
        Recipe(steps=0)


def test_the_optimizer_of_ppo_is_the_librarys_in_one_call():
    env = make_vec_env(2, seed=0)
    recipe = Recipe(arguments={"policy": "MlpPolicy"})
    own = recipe.make(env, seed=0, device="cpu").policy.optimizer
    library = PPO("MlpPolicy", env, device="cpu").policy.optimizer
    assert own.defaults == {**library.defaults, "lr": own.defaults["lr"], "fused": True}


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("seed", 5, "seed: cannot be given"), 
        ("device", "cpu", "device: cannot be given, .*; set torch_device"),
        ("env", "x", "env: cannot"), ("_init_setup_model", False, "_init_setup_model: cannot"),
        ("policy", None, "policy: must be MlpPolicy"), ("policy", "nonsense", "policy: must be"),
        ("policy", "CnnPolicy", "policy: must be"), ("policy", "MultiInputPolicy", "policy: must"),
        ("policy", ["MlpPolicy"], "policy: must"), ("target_kl", "x", "target_kl: must be a"),
        ("normalize_advantage", math.nan, "normalize_advantage: must be true or false"),
        ("normalize_advantage", "no", "normalize_advantage: must be true or false"),
        ("rollout_buffer_class", "x", "rollout_buffer_class: cannot be text"),
        ("learning_rate", LinearSchedule(1e-3, 1e-4, 0.0), "learning_rate.end_fraction: must"),
        ("learning_rate", LinearSchedule(1e-3, 1e-4, -1.0), "learning_rate.end_fraction: must"),
        ("learning_rate", LinearSchedule("x", 1e-4, 1.0), "learning_rate: gives no number"),  # type: ignore[arg-type]
        ("policy_kwargs", 5, "policy_kwargs: must be a mapping"),
        ("policy_kwargs", {"net_arch": [0]}, "policy_kwargs.net_arch: must be at most 8 layers"),
        ("policy_kwargs", {"net_arch": None}, "policy_kwargs.net_arch: must be a list"),
        ("policy_kwargs", {"ortho_init": "no"}, "policy_kwargs.ortho_init: must be true or false"),
        ("policy_kwargs", {"log_std_init": math.nan}, "policy_kwargs.log_std_init: must be"),
        ("policy_kwargs", {"activation_fn": "x"}, "policy_kwargs.activation_fn: no policy has"),
        ("policy_kwargs", {"optimizer_kwargs": {"eps": math.nan}}, "optimizer_kwargs.eps: must"),
    ],
)  # fmt: skip
def test_what_would_be_refused_after_the_training_is_refused_before(servers, name, value, key):
    recipe = Recipe(arguments={"policy": "MlpPolicy", name: value})
    with pytest.raises(ConfigurationError, match=rf"agent\.arguments\.(policy_kwargs\.)?{key}"):
        recipe.make(servers, seed=0, device="cpu")


def test_an_algorithm_that_is_none_is_told_by_its_key():
    with pytest.raises(ConfigurationError, match=r"^agent\.algorithm: .*'nonsense' is no"):
        _ = Recipe(algorithm="nonsense").algorithm_class


def test_the_library_changes_no_recipe(servers):
    """A2C adds a class to the policy's arguments, which no bundle could hold."""
    given = {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-4}}
    recipe = Recipe(
        algorithm="stable_baselines3.A2C",
        arguments={"policy": "MlpPolicy", "policy_kwargs": given},
    )
    recipe.make(servers, seed=0, device="cpu")
    assert given == {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-4}}
    assert recipe.policy_arguments == {"net_arch": [8]}


@pytest.mark.parametrize("device", ["nonsense", "meta", "", "cuda:99"])
def test_a_device_that_is_not_there_is_named(servers, device):
    recipe = Recipe(arguments={"policy": "MlpPolicy"})
    with pytest.raises(ConfigurationError, match=f"^torch_device: '{device}' cannot be used"):
        recipe.make(servers, seed=0, device=device)
