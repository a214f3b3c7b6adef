"""Profiles a server at every cap, batch limit and size: ``python -m experiments.profile``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.app.settings import RunConfig
from experiments.app.terminal import Progress, print_profile
from experiments.profiling.store import cached_file, make_profile, write_profile


@application("profile", RunConfig)
def main(config: RunConfig, directory: Path) -> None:
    """Sweeps the server, caches the profile and writes it into the folder."""
    with Progress() as progress:
        profile = make_profile(
            config.scenario,
            config.profile,
            lambda done, total: progress.update("profile", done, total),
        )
    write_profile(profile, directory)
    print_profile(profile, directory, cached_file(profile.key))


if __name__ == "__main__":
    main()
