"""Fetches the public traces that workloads replay, and checks them.

Command: ``python -m experiments.download azure_conv``, or ``mooncake``. A file that is there
already and right is left alone; a download that fails leaves what was there before.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError

from envs.cache import naming, refuse_irregular
from envs.catalog import buildable, load, names
from envs.errors import ConfigurationError, PalsError, WorkloadError
from envs.workloads.public_file import PublicFile
from envs.workloads.recording import head_sha256
from envs.workloads.trace import Trace

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 30.0
_MOST_OTHER_BYTES = 1 << 30
"""Most bytes of a file that is chosen by its hash, whose size is not known."""


def public_traces() -> dict[str, type[Trace]]:
    """Returns the workloads that replay a public file, by name."""
    targets = {
        name: buildable("workload", str(load("workload", name)["_target_"]))
        for name in names("workload")
    }
    return {
        name: cls
        for name, cls in targets.items()
        if issubclass(cls, Trace) and cls.public_file is not None
    }


def download(
    trace: type[Trace],
    *,
    to: Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
) -> tuple[Path, str]:
    """Fetches and checks the public file of a trace.

    Args:
        trace: Workload class with a ``public_file``.
        to: Path of the file; by default where the workload looks for it.
        url: Address to use instead of the publisher's, such as a mirror's.
        sha256: Hash to check instead of the known one.

    Returns:
        The path of the file and its SHA-256.

    Raises:
        WorkloadError: The file cannot be fetched or is not the public one; a file that was
            there before is unchanged.
    """
    public = trace.public_file
    if public is None:
        raise ConfigurationError(f"{trace.__name__}: replays no public file")
    path = to if to is not None else public.download_path
    if path.is_file():
        try:
            return path, check(trace, path, sha256)
        except WorkloadError:
            pass  # an incomplete or foreign file is fetched again
    with naming(path):
        refuse_irregular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: the file is read while it is checked.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=path.suffix)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            most = public.size_bytes if sha256 is None else _MOST_OTHER_BYTES
            _fetch(url or public.url, file, max(most, public.size_bytes))
        digest = check(trace, partial, sha256, source=url or public.url)
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path, digest


def check(
    trace: type[Trace], path: Path, sha256: str | None = None, source: str | None = None
) -> str:
    """Checks that a file is the public one, and returns its SHA-256.

    Where no hash of the whole file is known, its size and the hash of its first requests
    must agree, and every row must be readable.

    Args:
        trace: Workload class with a ``public_file``.
        path: The file.
        sha256: Hash to check instead of the known one.
        source: What error messages call the file; by default its path.

    Raises:
        WorkloadError: It is not.
    """
    public = trace.public_file
    if public is None:
        raise ConfigurationError(f"{trace.__name__}: replays no public file")
    name = source or str(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wanted = sha256 or public.sha256
    if wanted is not None:
        if digest != wanted.lower():
            raise WorkloadError(f"{name}: SHA-256 is {digest}, not {wanted}: not the public file")
    else:
        _check_content(trace, public, path, name)
    return digest


def _check_content(trace: type[Trace], public: PublicFile, path: Path, name: str) -> None:
    size = path.stat().st_size
    if size != public.size_bytes:
        raise WorkloadError(
            f"{name}: {size} bytes, not {public.size_bytes}: incomplete, or not the public file"
        )
    recording = trace.read(path)
    if head_sha256(recording, public.head_rows) != public.head_sha256:
        raise WorkloadError(
            f"{name}: the first {public.head_rows} requests are not those of the public file"
        )


def _fetch(url: str, file: BinaryIO, most_bytes: int) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            announced = response.headers.get("Content-Length")
            received = 0
            while chunk := response.read(_CHUNK_BYTES):
                received += file.write(chunk)
                if received > most_bytes:
                    raise WorkloadError(
                        f"{url}: more than the {most_bytes} bytes of the public file: another one"
                    )
    except HTTPError as error:
        raise WorkloadError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise WorkloadError(
            f"{url}: cannot be fetched: {reason}; fetch it by other means and give its path as "
            "workload.path, or give another address with --url"
        ) from error
    if announced is not None and received < int(announced):
        raise WorkloadError(f"{url}: broke off after {received} of {announced} bytes; try again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches a file and says where it lies; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.download", description=__doc__)
    parser.add_argument("workload", help="the workload that replays the file: azure_conv, mooncake")
    parser.add_argument("--to", type=Path, help="path of the file (default: the cache folder)")
    parser.add_argument("--url", help="another address, such as a mirror's")
    parser.add_argument("--sha256", help="the hash to check, instead of the known one")
    options = parser.parse_args(arguments)
    try:
        traces = public_traces()
        if options.workload not in traces:
            raise ConfigurationError(
                f"workload: {options.workload!r} replays no public file; "
                f"these do: {', '.join(traces)}"
            )
        trace = traces[options.workload]
        path, digest = download(trace, to=options.to, url=options.url, sha256=options.sha256)
    except (PalsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    public = trace.public_file
    assert public is not None
    sys.stdout.write(
        f"{path}\nSHA-256 {digest}\nlicence {public.licence}; cite {public.cite}\n"
        f"use it with: python -m experiments.run workload={options.workload}"
        + (f" workload.path={path}\n" if options.to else "\n")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
