"""Makes figures of the paper from our own runs: ``python -m experiments.figures figure=fig07``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from envs import catalog
from experiments.app.application import application
from experiments.app.terminal import Progress
from experiments.figures.base import Figure, Result
from experiments.figures.config import FigureConfig, FigureSet, shortened
from experiments.figures.context import FigureContext
from experiments.figures.export import (
    CLAIM_FILES,
    print_claims,
    write_claims,
    write_figure,
    write_provenance,
)
from experiments.figures.page import write_page
from experiments.records.made_files import note_made


@application("figures", FigureConfig)
def main(config: FigureConfig, directory: Path) -> None:
    """Writes data, plot and claims of each figure, and with ``page`` the page about them."""
    chosen = catalog.build("figure", config.figure)
    figures: dict[str, Figure]
    if isinstance(chosen, FigureSet):
        figures = {name: catalog.build("figure", name) for name in chosen.figures}
    else:
        figures = {str(HydraConfig.get().runtime.choices["figure"]): chosen}
    results: dict[str, Result] = {}
    with Progress() as progress:
        context = FigureContext(
            directory, catalog.build("executor", config.executor), progress.update
        )
        progress.update("figures", 0, len(figures))
        for name, figure in figures.items():
            shown = shortened(figure, config.most_seeds, config.longest_s)
            results[name] = shown.make(context.named(name))
            write_figure(name, results[name], directory)
            progress.update("figures", len(results), len(figures))
    claims = [claim for result in results.values() for claim in result.claims]
    write_claims(claims, directory)
    write_provenance(directory)
    note_made(directory, (*(f"{name}.csv" for name in results), *CLAIM_FILES))
    if config.page is not None:
        write_page(Path(config.page), results, directory)
    print_claims(claims, directory)


if __name__ == "__main__":
    main()
