"""``python -m envs.live.cap_helper``: starts the helper; it needs the right to set caps."""

from __future__ import annotations

import argparse
import logging
import pwd
import signal
import sys
from pathlib import Path

from envs.errors import PalsError
from envs.live.cap_helper.leases import Leases
from envs.live.cap_helper.protocol import SOCKET, Refused
from envs.live.cap_helper.service import CapHelper


def main(arguments: list[str] | None = None) -> int:
    """Runs the helper until SIGTERM or Ctrl-C; returns its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        leases = Leases(
            options.gpus.split(","), options.floor_w, options.ceiling_w, options.lease_s
        )
        helper = CapHelper(options.socket, frozenset({0, *map(_number_of, options.user)}), leases)
    except (PalsError, Refused) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: helper.stop())
    logging.getLogger(__name__).info("listening at %s", options.socket)
    helper.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m envs.live.cap_helper",
        description="Sets the power caps of NVIDIA GPUs for controllers without that right.",
    )
    parser.add_argument("--socket", type=Path, default=Path(SOCKET))
    parser.add_argument("--gpus", default="0", help="nvidia-smi numbers or UUIDs, commas between")
    parser.add_argument(
        "--user", action="append", default=[], help="may call, beside root; name or number"
    )
    parser.add_argument("--floor-w", type=_watts, help="no cap below; default: the GPU's lowest")
    parser.add_argument("--ceiling-w", type=_watts, help="no cap above; default: the cap found")
    parser.add_argument(
        "--lease-s", type=_lease, default=30.0, help="a holder that is silent for so long loses it"
    )
    return parser


def _watts(text: str) -> float:
    value = float(text)
    if not 1.0 <= value <= 10_000.0:
        raise argparse.ArgumentTypeError(f"{text} W is outside 1..10000 W")
    return value


def _lease(text: str) -> float:
    value = float(text)
    if not 2.0 <= value <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text} s is outside 2..3600 s")
    return value


def _number_of(user: str) -> int:
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SystemExit(f"error: --user: there is no user {user}") from None


if __name__ == "__main__":
    sys.exit(main())
