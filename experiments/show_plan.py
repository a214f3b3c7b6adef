"""Draws plans as they unfold: ``python -m experiments.show_plan controller=mpc``."""

from __future__ import annotations

import shutil
from pathlib import Path

from envs.factory import make_env
from experiments.app.application import application
from experiments.planning.unfolding import ShowPlanConfig, draw_plans, unfolded
from experiments.runs.options import check_times


@application("show_plan", ShowPlanConfig)
def main(config: ShowPlanConfig, directory: Path) -> None:
    """Runs an episode and writes ``plans.png``, and a copy of it for the docs."""
    check_times(config.scenario, config.seed)
    env = make_env(config.scenario)
    try:
        plans, happened = unfolded(env, config)
    finally:
        env.close()
    draw_plans(plans, happened, directory / "plans.png")
    if config.images != "none" and (directory / "plans.png").exists():
        folder = Path(config.images)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / "plans.png", folder / "twin_plan.png")


if __name__ == "__main__":
    main()
