"""Writes the card of a trained agent: ``python -m experiments.card DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from agents.bundle import find_bundle, read_bundle
from envs.cache import atomic_write_text
from experiments.app.errors import errors_told
from experiments.app.terminal_text import plain
from experiments.training.card import CARD_FILE, model_card


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes ``card.md`` beside the bundle's facts."""
    parser = argparse.ArgumentParser(prog="pals card", description=plain(__doc__))
    parser.add_argument("bundle", help="folder of a bundle or a training, or a shipped name")
    given = parser.parse_args(arguments)
    with errors_told():
        folder = find_bundle(given.bundle, "bundle")
        atomic_write_text(folder / CARD_FILE, model_card(read_bundle(folder)))
    sys.stdout.write(f"Written to {folder / CARD_FILE}\n")


if __name__ == "__main__":
    main()
