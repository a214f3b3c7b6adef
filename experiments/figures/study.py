"""Runs that figures are made of: each made once, kept, and found again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from hydra import compose

from experiments.benchmark_runs import SettingRuns
from experiments.comparison import PlannedRun, plan, run_all
from experiments.executors import Executor
from experiments.profiles import find_profile
from experiments.suites import SuiteSetting
from experiments.summary import Summary

Tell = Callable[[str, int, int], None]


class Study:
    """The runs behind the figures.

    Args:
        directory: Where runs are kept.
        seeds: Number of seeds.
        duration_s: Length of the episodes on one server, in seconds.
        cluster_duration_s: Length of the cluster's episodes.
        executor: How runs are spread over processes.
        tell: Called with what is being done, how much is done and how much there is.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seeds: int,
        duration_s: float,
        cluster_duration_s: float,
        executor: Executor,
        tell: Tell,
    ) -> None:
        self.directory = directory
        self.seeds = list(range(seeds))
        self.duration_s = duration_s
        self.cluster_duration_s = cluster_duration_s
        self._executor = executor
        self._tell = tell

    def profile(self, *overrides: str) -> pd.DataFrame:
        """Returns throughput and power at saturation of every setting of a lattice.

        Args:
            *overrides: Changes to ``conf/profile.yaml``.

        Returns:
            One row a setting: the fields of :class:`~baselines.pals.profile.ProfileRow`,
            ``tokens_per_joule`` (prompt and output tokens over the GPUs' energy),
            ``output_tokens_per_joule`` and ``tokens_per_joule_system``.
        """
        config = compose("profile", overrides=list(overrides))
        label = ", ".join(text.partition("=")[2] for text in overrides[:1]) or "profile"
        profile = find_profile(config, lambda done, total: self._tell(label, done, total))
        frame = pd.DataFrame(profile.rows)
        gpus = frame["tensor_parallel"] * frame["data_parallel"]
        nodes = -(-gpus // int(config.server.gpus_per_node))
        system_w = config.server.system_alpha * frame["power_w"]
        system_w += config.server.system_beta_w * nodes
        tokens = frame["throughput_tok_s"] + frame["prompt_tok_s"]
        frame["tokens_per_joule"] = tokens / frame["power_w"]
        frame["output_tokens_per_joule"] = frame["throughput_tok_s"] / frame["power_w"]
        frame["tokens_per_joule_system"] = tokens / system_w
        return frame

    def episodes(
        self, name: str, setting: SuiteSetting, controllers: Sequence[str]
    ) -> pd.DataFrame:
        """Runs controllers on the same episodes of one server.

        Returns:
            One row a controller and seed with the figures of a summary.
        """
        config = compose("compare", overrides=[f"duration={self.duration_s}"])
        runs = SettingRuns(config, name, setting, self.seeds, self.directory / "episodes")
        rows: list[Summary] = []
        for done, controller in enumerate(controllers, start=1):
            rows += runs.run(controller, controller)
            self._tell(name, done, len(controllers))
        return pd.DataFrame(rows)

    def clusters(self, name: str, controllers: Sequence[str], *overrides: str) -> list[PlannedRun]:
        """Runs controllers on a cluster; returns the runs, whose folders hold their files."""
        given = [
            f"controllers=[{','.join(controllers)}]",
            f"seeds={len(self.seeds)}",
            f"duration={self.cluster_duration_s}",
            *overrides,
        ]
        config = compose("compare", overrides=given)
        runs = plan(config, self.directory / name, "compare", given)
        run_all(runs, self._executor, lambda done, total: self._tell(name, done, total))
        return runs
