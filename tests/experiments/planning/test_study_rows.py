"""What a study makes of episodes, and that it runs the episodes that its seeds say."""

from __future__ import annotations

import gymnasium as gym

from envs.factory import make_env
from envs.objectives.qos import QoSConfig
from envs.scenario import Scenario
from envs.serving import episode_seeds
from experiments.evaluation.future import future_of
from experiments.evaluation.statistics import known_mean
from experiments.planning.study import (
    AVERAGED,
    Row,
    StudyConfig,
    _means,
    over_scenarios,
    study_facts,
)


def episode(joules: float, **metrics: float | None) -> dict[str, float | None]:
    absolute = dict.fromkeys(AVERAGED[2:], 0.0)
    return {
        **absolute, "tokens_per_joule": joules, "knob_changes": 30.0, "duration_s": 120.0,
        **metrics,
    }  # fmt: skip


def test_rows_are_means_of_what_applies() -> None:
    rows = [episode(3.0, ttft_p99_s=2.0), episode(4.0, ttft_p99_s=None)]
    own = _means(rows, [episode(2.0), episode(2.0)])
    assert own["tokens_per_joule_relative"] == 1.75
    assert own["knob_changes_per_minute"] == 15.0
    assert own["ttft_p99_s"] == 2.0
    study: list[Row] = [
        {"label": "a", "key": 1.0},
        {"label": "a", "key": None},
        {"label": "b", "key": 9.0},
    ]
    assert over_scenarios(study, "a", "key") == 1.0
    assert known_mean([None, None]) is None


def test_a_future_has_the_seeds_that_a_reset_draws() -> None:
    env = make_env(Scenario(duration_s=30.0))
    generator, _ = gym.utils.seeding.np_random(7)
    requests, _ = episode_seeds(generator)
    assert future_of(env, 7).seed == requests


def test_qos_leaves_out_what_begins_within_the_warm_up() -> None:
    qos = QoSConfig(warmup_s=30.0)
    assert not qos.evaluates(29.5)
    assert qos.evaluates(60 * 0.5)


def test_what_a_study_was_run_on_is_said() -> None:
    suite = {"base": "test", "only": ["steady_70", "bursty_60"]}
    said = study_facts(StudyConfig(suite=suite, seeds=2, duration=120.0))
    assert said == (
        "Means over `steady_70`, `bursty_60`; 2 episodes of 120 s each, from seed 1000000."
    )
