"""Makes tables and plots of ``docs/validation.md``: ``python -m experiments.physics data=DIR``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from baselines.pals.predictor import FitReport, ForestConfig, Predictor
from envs.cache import atomic_write_text
from experiments.app.application import application
from experiments.app.composition import composed
from experiments.app.settings import RunConfig
from experiments.calibration.config import PhysicsConfig, data_folders
from experiments.calibration.reports.coefficients import coefficient_table
from experiments.calibration.reports.forests import forest_table
from experiments.calibration.reports.plots import draw_all
from experiments.calibration.reports.tables import (
    cap_table,
    error_table,
    host_table,
    skip_table,
    write_validation,
)
from experiments.calibration.reports.terminal import print_stage
from experiments.calibration.reports.time_plots import draw_time_series
from experiments.calibration.validation.ablation_study import ablation_table
from experiments.calibration.validation.accuracy_targets import accuracy_targets, target_table
from experiments.calibration.validation.behaviour import behaviour_table, draw_behaviour
from experiments.calibration.validation.cap_response import cap_losses, clock_records, interior
from experiments.calibration.validation.first_tokens import first_token_table
from experiments.calibration.validation.host_time import host_records
from experiments.calibration.validation.kernel_errors import kernel_table
from experiments.calibration.validation.kernel_power import kernel_power_table, study_kernels
from experiments.calibration.validation.time_series import series_table
from experiments.calibration.validation.training_caps import study_training, training_table
from experiments.calibration.validation.validate import Validation, validate
from experiments.profiling.store import find_profile
from experiments.reporting.docs_page import copy_plots, fill

CALIBRATIONS = (
    "h100_sxm", "h200_sxm", "b200", "a100_sxm4_80gb", "a100_sxm4_40gb", "rtx_pro_6000",
)  # fmt: skip
Blocks = dict[str, str]


@application("physics", PhysicsConfig)
def main(config: PhysicsConfig, directory: Path) -> None:
    """Writes every table and plot into the folder and, with ``page``, into the docs."""
    folder, *further = data_folders(config.data)
    validation = validate(
        folder,
        further=further,
        held_out=True,
        processes=config.processes,
        ablations=config.ablations,
        on_stage=print_stage,
    )
    errors = write_validation(validation, directory)
    plots = draw_all(validation.evaluated, directory)
    plots.append(draw_behaviour(directory / "behaviour.png"))
    plots += draw_time_series(validation.played, directory)
    blocks = validation_blocks(validation, error_table(errors))
    blocks["series"] = series_table(validation.played)
    blocks["kernel_power"] = kernel_power_table(study_kernels(folder / "aiconfigurator"))
    blocks["training"] = training_table(study_training(folder / "zeus-nsdi23"))
    blocks["behaviour"] = behaviour_table()
    blocks["forests"] = forest_table(_forests(config.forest_models))
    atomic_write_text(directory / "report.md", as_page(blocks))
    written = [directory / "report.md", *plots]
    if config.page != "none":
        fill(Path(config.page), blocks)
        copy_plots(plots, Path(config.images))
        written.append(Path(config.page))
    for file in written:
        Console(markup=False).print(f"Wrote {file}", soft_wrap=True)


def validation_blocks(validation: Validation, errors: str) -> Blocks:
    """Returns the tables of a validation by block name."""
    caps = {
        "clock": clock_records(validation.evaluated),
        "tok_s_held_out": interior(validation.evaluated),
        "loss_from_best_to_lowest_cap": cap_losses(validation.evaluated),
    }
    blocks = {
        "coefficients": coefficient_table(CALIBRATIONS),
        "targets": target_table(accuracy_targets(validation)),
        "errors": errors,
        "caps": cap_table(caps),
        "host": host_table(host_records(validation.evaluated)),
        "skipped": skip_table(validation.skipped),
        "kernels": kernel_table(validation.kernels),
        "first_tokens": first_token_table(validation.first_tokens),
    }
    if validation.ablations:
        blocks["ablations"] = ablation_table(validation.ablations)
    return blocks


def as_page(blocks: Mapping[str, str]) -> str:
    """Returns all tables as one Markdown page."""
    return "\n".join(f"## {name}\n\n{body}\n" for name, body in blocks.items())


def _forests(models: Sequence[str]) -> dict[str, FitReport]:
    reports = {}
    for model in models:
        print_stage(f"forests: {model}")
        config = composed(RunConfig, "profile", f"model={model}")
        profile = find_profile(config.scenario, config.profile)
        reports[f"{model}, 4×A100"] = Predictor.fit(profile, ForestConfig()).report
    return reports


if __name__ == "__main__":
    main()
