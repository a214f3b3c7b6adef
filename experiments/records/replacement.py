"""Files of a folder that belong together and are replaced together, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from envs.cache import naming


@contextmanager
def replaced_together(
    folder: Path, names: Sequence[str], write: Callable[[Path], None], *, private: bool
) -> Iterator[Callable[[], None]]:
    """Replaces files of a folder once all of the new ones are on the disk.

    A disk that is full while they are written leaves the old ones as they were. The last file says
    that the others are whole: the old one goes first, and the new one comes when the body calls
    what it is given.

    Args:
        folder: The folder.
        names: Names of the files; one that ``write`` does not write is taken away.
        write: Writes the new files into another folder.
        private: Whether only their owner may read them.

    Yields:
        What puts the last file in its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    *others, last = names
    for left in folder.glob(".new-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with naming(folder):
        new = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
    try:
        write(new)
        for file in new.iterdir() if private else ():
            file.chmod(0o600)
        (folder / last).unlink(missing_ok=True)
        for name in others:
            if (new / name).exists():
                (new / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)

        def put_last() -> None:
            (new / last).replace(folder / last)

        yield put_last
    finally:
        shutil.rmtree(new, ignore_errors=True)
