"""Makes figures of the paper: ``python -m experiments.figures figure=fig07``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from envs import catalog
from envs.cache import atomic_write_text
from experiments.application import application
from experiments.figures.base import Made, PaperFigure
from experiments.figures.page import write_page
from experiments.figures.settings import Gallery
from experiments.figures.study import Study
from experiments.report import Progress
from experiments.summary import write_json


@application("figures")
def main(config: DictConfig, directory: Path) -> None:
    """Writes data, picture and claims of each figure, and where asked the page."""
    chosen = catalog.build("figure", config.figure)
    own = str(HydraConfig.get().runtime.choices["figure"])
    names = list(chosen.figures) if isinstance(chosen, Gallery) else [own]
    made: dict[str, tuple[PaperFigure, Made]] = {}
    pictures: dict[str, Path] = {}
    with Progress() as progress:
        study = Study(
            directory / "runs",
            seeds=config.seeds,
            duration_s=config.duration,
            cluster_duration_s=config.cluster_duration,
            executor=catalog.build("executor", config.executor),
            tell=progress.update,
        )
        for done, name in enumerate(names):
            progress.update("figures", done, len(names))
            figure: PaperFigure = (
                catalog.build("figure", name) if isinstance(chosen, Gallery) else chosen
            )
            result = figure.make(study)
            made[name] = (figure, result)
            atomic_write_text(directory / f"{name}.csv", result.data.to_csv(index=False))
            if result.draw is not None:
                result.draw(directory / f"{name}.png")
                pictures[name] = directory / f"{name}.png"
        progress.update("figures", len(names), len(names))
    claims = [claim.record() for _, result in made.values() for claim in result.claims]
    write_json(directory / "claims.json", claims)
    if config.page is not None:
        write_page(Path(config.page), made, pictures)
    for claim in claims:
        Console().print(
            f"{claim['figure']:>4}  {claim['claim']}: paper {claim['paper']}, ours "
            f"{claim['ours']:.3g} ({claim['low']:.3g} … {claim['high']:.3g}): {claim['verdict']}"
        )
    Console().print(f"Files: {directory}", soft_wrap=True)


if __name__ == "__main__":
    main()
