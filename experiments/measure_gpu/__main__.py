"""Runs the phases against one vLLM server and writes everything down.

::

    python -m experiments.measure_gpu --url http://127.0.0.1:8000 --output results

It sends requests to that address and reads NVML; it never sets a power cap or a clock. With the
plug-in in the server, the phase ``limits`` changes the batch limit and puts it back. It ends within
``--budget`` seconds. ``COLUMNS.md`` in the output says what the files hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from experiments.measure_gpu import summary, telemetry
from experiments.measure_gpu.client import Server, watch
from experiments.measure_gpu.phases import PHASES, Bench, Plan

_LOG = logging.getLogger("measure_gpu")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REQUEST_TIMEOUT_S = 120.0
_WATCH_PERIOD_S = 0.25
_KEEPALIVE_S = 2.0
_GRACE_S = 10.0
_LEAST_S, _MOST_S = 0.001, 1e6
_MOST = 1e7
"""No number of a plan is larger, whatever it counts."""


class Writer:
    """Appends rows to files of JSON lines in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[str, Any] = {}

    def __call__(self, name: str, row: dict[str, Any]) -> None:
        """Appends a row to the file ``name``."""
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.jsonl").open("a", buffering=1)
        self._files[name].write(json.dumps(row) + "\n")
        if name == "windows":
            _LOG.info("%s", {key: value for key, value in row.items() if not key.endswith("_s")})

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()


@contextlib.contextmanager
def sampling(options: argparse.Namespace) -> Iterator[None]:
    """Samples the GPU in a process of its own while the body runs."""
    if options.telemetry == "off":
        yield
        return
    command = [sys.executable, "-m", "experiments.measure_gpu.telemetry"]
    command += ["--gpu", str(options.gpu), "--period", str(options.period)]
    command += ["--output", str(options.output / "telemetry.csv")]
    command += ["--seconds", str(options.budget + 2 * _GRACE_S)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def measure(options: argparse.Namespace, write: Writer) -> None:
    """Runs the phases that the options name."""
    plan: Plan = options.plan
    end = time.monotonic() + options.budget
    # vLLM closes connections that were idle for five seconds; ours end before they can meet that.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
    timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        ids = (options.token_ids[0], options.token_ids[1])
        servers = [
            Server(session, url, options.model or await _model(session, url), ids)
            for url in (options.url, options.other_url)
            if url
        ]
        write(
            "run",
            {
                "time_s": time.monotonic(),
                "wall_s": time.time(),
                "vllm": await servers[0].version(),
                "urls": [server.url for server in servers],
                "plan": dataclasses.asdict(plan),
                "note": options.note,
            },
        )
        watchers = [
            asyncio.create_task(watch(server, lambda row: write("metrics", row), _WATCH_PERIOD_S))
            for server in servers
        ]
        bench = Bench(
            server=servers[0],
            plan=plan,
            write=write,
            end_s=end,
            other=servers[1] if len(servers) > 1 else None,
        )
        try:
            async with asyncio.timeout(options.budget + _GRACE_S):
                for name in options.phases:
                    began = time.monotonic()
                    await PHASES[name](bench)
                    _LOG.info("%s took %.1f s", name, time.monotonic() - began)
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)


async def _model(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url.rstrip('/')}/v1/models") as response:
        return str((await response.json())["data"][0]["id"])


def _seconds(text: str) -> float:
    """Reads a time in seconds.

    Raises:
        ArgumentTypeError: It is none.
    """
    with contextlib.suppress(ValueError):
        if _LEAST_S <= float(text) <= _MOST_S:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be {_LEAST_S:g} to {_MOST_S:g} seconds, got {text!r}")


def _plan(text: str) -> Plan:
    """Reads changes to the plan.

    Raises:
        ArgumentTypeError: They are none, or name what the plan does not have.
    """
    usual = dataclasses.asdict(Plan())
    try:
        changes: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"is not JSON ({error})") from error
    if not isinstance(changes, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    for key, value in changes.items():
        if key not in usual:
            raise argparse.ArgumentTypeError(f"{key}: there is no such key; {', '.join(usual)}")
        if not _alike(value, usual[key]):
            raise argparse.ArgumentTypeError(
                f"{key}: must be like {json.dumps(usual[key])}, of numbers above 0, "
                f"got {json.dumps(value)}"
            )
    return dataclasses.replace(Plan(), **changes)


def _alike(value: Any, usual: Any) -> bool:
    """Returns whether a value has the form of another one, and numbers that can be meant."""
    if isinstance(usual, list | tuple):
        return isinstance(value, list) and all(_alike(one, usual[0]) for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (isinstance(usual, float) or isinstance(value, int)) and 0 < value <= _MOST


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the server, on this machine")
    parser.add_argument("--other-url", help="a second one, for the phase compare")
    parser.add_argument("--model", help="served name (default: the first the server tells)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--phases", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument(
        "--plan", type=_plan, default="{}", help="JSON object of changes to the plan"
    )
    parser.add_argument("--budget", type=_seconds, default=540.0, help="seconds for everything")
    parser.add_argument("--gpu", type=int, default=0, help="NVML index")
    parser.add_argument("--period", type=_seconds, default=0.02, help="seconds between two samples")
    parser.add_argument("--telemetry", choices=["on", "off"], default="on")
    parser.add_argument(
        "--token-ids", type=int, nargs=2, default=(1000, 100_000), help="prompts are drawn from it"
    )
    parser.add_argument("--note", default="", help="kept with the results")
    options = parser.parse_args(arguments)
    for url in filter(None, (options.url, options.other_url)):
        if "@" in urlsplit(url).netloc:
            parser.error("--url: leave user and password out, the address stands in the results")
        if urlsplit(url).hostname not in _LOOPBACK:
            parser.error(f"{url}: only a server on this machine is measured")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measures, then writes the summary."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = parse(arguments)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "COLUMNS.md").write_text(summary.describe(telemetry.COLUMNS))
        write = Writer(options.output)
        try:
            with sampling(options):
                asyncio.run(measure(options, write))
        finally:
            write.close()
            summary.write(options.output)
    except (aiohttp.ClientError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
