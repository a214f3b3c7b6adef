"""Requests of large recordings: read once, kept in the cache folder, and never held in memory."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.catalog.targets import OWN_PACKAGES, allowed_packages
from envs.errors import ConfigurationError
from envs.kept_files import forget_oldest, keeping, map_kept, say_once
from envs.safe_files import open_regular
from envs.sources import computation_hash, short_hash

LARGE_BYTES = 16_000_000
"""Size of a file from which on its requests are kept: smaller ones are read faster than they are
hashed and mapped, and their memory does not matter."""
REQUEST = np.dtype([("time_s", "<f8"), ("prompt_tokens", "<i8"), ("output_tokens", "<i8")])
MOST_BYTES = 10_000_000_000
"""What the kept requests of all recordings may take; those unused for longest go first."""
_FOLDER = "recordings"
_in_use: set[str] = set()
"""Files that this process has mapped."""
_PIECE = 65_536
"""Requests that are in memory at a time."""


def kept_name(reader: Any, path: Path, options: Iterable[object]) -> str | None:
    """Returns the name of the file in the cache folder that holds a recording's requests.

    Args:
        reader: Reads the rows: a method of a class.
        path: The file that is read.
        options: What else the requests depend on.

    Returns:
        The name, with a hash of all that its content depends on; ``None`` if the reader's code is
        not known to be the same next time.
    """
    owner = getattr(reader, "__self__", None)
    if not isinstance(owner, type):
        return None
    if owner.__module__.partition(".")[0] not in OWN_PACKAGES | allowed_packages():
        return None
    with open_regular(path) as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    parts = (owner.__module__, owner.__qualname__, *options, content, computation_hash())
    return short_hash(repr(parts).encode())


def kept_requests(
    name: str, read: Callable[[], Iterator[tuple[float, int, int]]]
) -> NDArray[Any] | None:
    """Returns requests from the cache folder; they are read and put there if need be.

    Args:
        name: Their file in the cache folder.
        read: Reads them: time, prompt and output tokens of each.

    Returns:
        Requests (:data:`REQUEST`), whose memory is the file's; ``None`` where the folder cannot
        be written.
    """
    found = map_kept(_FOLDER, name)
    if found is None:
        try:
            _keep(name, read())
        except (ConfigurationError, OSError) as error:
            say_once(f"the requests of a large recording stay in memory: {error}")
            return None
        forget_oldest(_FOLDER, MOST_BYTES, _in_use | {name})
        found = map_kept(_FOLDER, name)
    if found is None:
        return None
    _in_use.add(name)
    mapped, begin = found
    return np.frombuffer(mapped, REQUEST, offset=begin)


def _keep(name: str, requests: Iterator[tuple[float, int, int]]) -> None:
    with keeping(_FOLDER, name) as write:
        while len(piece := np.fromiter(islice(requests, _PIECE), REQUEST)):
            write(piece.tobytes())


def pieces(column: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yields a column of requests in pieces, of which one is in memory at a time."""
    for begin in range(0, len(column), _PIECE):
        yield column[begin : begin + _PIECE]
        release(column)


def release(column: NDArray[Any]) -> None:
    """Gives back the memory of a column of requests that lies in a file, until it is read again."""
    base: Any = column
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = getattr(base, "obj", None)  # of the memory view that NumPy holds
    if isinstance(mapped, mmap.mmap):
        mapped.madvise(mmap.MADV_DONTNEED)
