"""Compares a live server with its simulation: ``python -m experiments.transfer server=vllm``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from envs.cache import atomic_write_text
from experiments.app.application import application
from experiments.app.terminal import Progress
from experiments.evaluation.metrics import write_json
from experiments.records.provenance import provenance
from experiments.reporting.docs_page import fill
from experiments.runs.options import check_times, run_record
from experiments.sim_to_live.comparison import TransferConfig, transfer
from experiments.sim_to_live.report import as_markdown, print_transfer


@application("transfer", TransferConfig)
def main(config: TransferConfig, directory: Path) -> None:
    """Runs all, writes ``transfer.json``, ``transfer.csv`` and ``transfer.md``, prints a table."""
    import pandas

    check_times(config.scenario, config.seed)
    with Progress() as progress:
        result = transfer(config, lambda where, done, total: progress.update("runs", done, total))
    live, simulated = result.rankings()
    rows = result.rows()
    atomic_write_text(directory / "transfer.csv", pandas.DataFrame(rows).to_csv(index=False))
    text = as_markdown(result)
    atomic_write_text(directory / "transfer.md", text)
    if config.page != "none":
        facts = f"{config.duration:g} s a controller on each side, one seed."
        fill(Path(config.page), {"transfer": f"{facts}\n\n{text.rstrip()}"})
    write_json(
        directory / "transfer.json",
        {
            "rows": rows,
            "ranking_live": live,
            "ranking_simulated": simulated,
            "same_ranking": result.same_ranking,
            "power_source": result.power_source,
            "calibration": asdict(result.fit.calibration),
            "fit": {
                "throughput_error": result.fit.throughput_error,
                "power_error": result.fit.power_error,
                "rows": result.fit.rows,
            },
            "provenance": provenance(run_record(config.scenario, config.options(""))),
        },
    )
    print_transfer(result, directory)


if __name__ == "__main__":
    main()
