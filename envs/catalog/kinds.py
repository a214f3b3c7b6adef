"""What a configuration may name, by kind: a base type, or a written list of library classes.

The types are import paths, because most of them live in packages that ``envs`` must not import;
one is imported when a class of its kind is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

BASES: Mapping[str, tuple[str, ...]] = {
    "action": ("envs.actions.base.ActionEncoding",),
    "agent": ("agents.recipe.Recipe",),
    "allocator": ("envs.cluster.allocators.Allocator",),
    "asked": ("agents.asked.Asked",),
    "budget": ("envs.cluster.cluster.ClusterBudget", "envs.objectives.signals.Signal"),
    "calibration": ("envs.simulator.calibration.Calibration",),
    "constraints": ("agents.constraints.Constraint",),
    "controller": ("baselines.base.Controller",),
    "cost": ("experiments.imitation.prices.LessonCost",),
    "debug": ("experiments.app.settings.Debug",),
    "device": ("envs.live.devices.base.PowerDevice",),
    "env": (
        "experiments.app.settings.SingleServer",
        "envs.cluster.config.ServerCluster",
    ),
    "executor": ("experiments.app.executors.Executor",),
    "figure": ("experiments.figures.base.Figure", "experiments.figures.config.FigureSet"),
    "gpu": ("envs.simulator.gpus.GPUSpec",),
    "length": ("envs.workloads.lengths.LengthDistribution",),
    "mixture": ("experiments.training.mixture.Mixture",),
    "model": ("envs.simulator.models.ModelSpec",),
    "objective": ("envs.objectives.objective.Objective",),
    "profile": ("experiments.profiling.sweep.ProfileConfig",),
    "reward": ("envs.rewards.Reward",),
    "reward term": ("envs.rewards.RewardTerm",),
    "search": ("experiments.tuning.space.SearchSpace",),
    "shift": ("experiments.planning.shifts.Shift",),
    "server": (
        "envs.simulator.config.SimulatedServerConfig",
        "envs.live.config.VllmServerConfig",
        "envs.cluster.ray_config.RayServerConfig",
    ),
    "service": ("experiments.service.config.ServiceConfig",),
    "signal": ("envs.objectives.signals.Signal",),
    "study": ("experiments.imitation.student.Study",),
    "suite": ("experiments.evaluation.suites.Suite",),
    "test_suite": ("experiments.evaluation.suites.Suite",),
    "tracker": ("experiments.records.tracking.Tracker",),
    "workload": ("envs.workloads.base.Workload",),
    "workload/lengths": ("envs.workloads.lengths.Lengths",),
}
"""Base types by kind; a class may be built if it is a dataclass derived from one of them (or,
where the type is a protocol, has its methods). Most kinds are groups of ``conf``."""

_SCHEDULES = "stable_baselines3.common.utils"
_NOISE = "stable_baselines3.common.noise"
LIBRARY: Mapping[str, frozenset[str]] = {
    "algorithm": frozenset(
        [f"stable_baselines3.{name}" for name in ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")]
        + [
            f"sb3_contrib.{name}"
            for name in ("CrossQ", "MaskablePPO", "QRDQN", "RecurrentPPO", "TQC", "TRPO")
        ]
    ),
    "algorithm argument": frozenset(
        (
            f"{_SCHEDULES}.ConstantSchedule",
            f"{_SCHEDULES}.LinearSchedule",
            f"{_NOISE}.NormalActionNoise",
            f"{_NOISE}.OrnsteinUhlenbeckActionNoise",
        )
    ),
}
"""Classes of Stable-Baselines3 and sb3-contrib by kind; nothing else of these packages is built."""
