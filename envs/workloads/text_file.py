"""Opens a text file as people save them: packed, in other encodings, with other line ends."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from envs.errors import WorkloadError

_LOG = logging.getLogger(__name__)
_OTHER_FORMATS = {
    b"PK\x03\x04": "a ZIP archive or spreadsheet (.xlsx): save it as CSV",
    b"PAR1": "a Parquet file: write it as CSV or JSON lines",
    b"BZh": "packed with bzip2: unpack it",
    b"\xfd7zXZ": "packed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it",
    b"SQLite": "an SQLite data base: write it as CSV",
    b"ARROW1": "an Arrow file: write it as CSV",
}
_GZIP = b"\x1f\x8b"
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
MOST_LINE = 10_000_000
"""Characters of the longest line; a file of one endless line does not fill the memory."""


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Opens a file of text: plain or gzipped, UTF-8 or UTF-16, with any kind of line end.

    Bytes that are no UTF-8 become a replacement character, so that names in another encoding do
    not matter where only numbers are read.

    Args:
        path: The file.

    Raises:
        WorkloadError: It is of another kind, or damaged.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(8)
            raw.seek(0)
            for magic, what in _OTHER_FORMATS.items():
                if head.startswith(magic):
                    raise WorkloadError(f"{path}: is {what}")
            packed = head.startswith(_GZIP)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
            start = stream.read(4)
            stream.seek(0)
            encoding = next(
                (name for mark, name in _ENCODINGS.items() if start.startswith(mark)), "utf-8"
            )
            with io.TextIOWrapper(
                stream, encoding=encoding, errors="replace", newline=None
            ) as text:
                yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WorkloadError(f"{path}: cannot be unpacked: {error}") from error


def lines(path: Path, text: TextIO, passed: int = 0, *, ended: bool = False) -> Iterator[str]:
    """Yields the lines of an open file.

    Args:
        path: The file, for messages.
        text: The open file.
        passed: Lines that were read already.
        ended: Whether to warn where the last line has no end: it may have been cut.

    Raises:
        WorkloadError: A line holds a NUL byte, so that it is no text, or is endless.
    """
    number = passed
    last = ""
    while line := text.readline(MOST_LINE):
        number += 1
        last = line
        if len(line) >= MOST_LINE:
            raise WorkloadError(f"{path}:{number}: a line of over {MOST_LINE:,} characters")
        if "\0" in line:
            raise WorkloadError(
                f"{path}:{number}: holds a NUL byte; the file is damaged or is not text"
            )
        yield line
    if ended and last.strip() and not last.endswith("\n"):
        _LOG.warning(
            "%s:%d: the last line has no line end: if the file was cut short, its last number "
            "may be, too (%s)",
            path, number, last.strip()[-40:],
        )  # fmt: skip
