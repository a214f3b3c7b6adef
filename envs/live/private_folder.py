"""The folder for locks and for notes of what was found: ours alone, so that it can be trusted."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from envs.live.errors import DevicePermissionError

_NAME = "pals-gym"


def directory() -> Path:
    """Returns the folder of this user; it lasts until the machine is started again.

    ``PALS_RUN_DIR`` names another. Root's is in ``/run``. Other users cannot set a GPU's cap,
    and two of them at one server are kept apart by the server's own lease, so theirs may differ.
    """
    if named := os.environ.get("PALS_RUN_DIR"):
        return Path(named)
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run") / _NAME
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK) and Path(runtime).stat().st_uid == os.geteuid():
        return Path(runtime) / _NAME
    return Path(tempfile.gettempdir()) / f"{_NAME}-{os.geteuid()}"


def private(folder: Path) -> Path:
    """Makes a folder that nobody else may enter, or checks that it is one.

    Raises:
        DevicePermissionError: It is a link, another user's, or open to others: what lies there
            could have been put there by anybody.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise DevicePermissionError(f"{folder}: cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise DevicePermissionError(
            f"{folder}: must be a folder of your own that nobody else may enter (mode 700); "
            "locks in it could be anybody's. Look who made it, and take it away"
        )
    return folder


def note_file(key: str, kind: str) -> Path:
    """Returns the place of the note of a device or server; its name may be anything."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return directory() / f"{digest}.{kind}.json"


def write_note(file: Path, text: str) -> None:
    """Writes a note, as a whole or not at all.

    Raises:
        DevicePermissionError: The folder is not ours alone.
        OSError: It cannot be written.
    """
    new = private(directory()) / f"{file.name}-{os.getpid()}.new"
    new.write_text(text)
    new.replace(file)


def open_own(file: Path) -> int:
    """Opens a file of ours for reading and writing, and makes it if it is not there.

    Returns:
        Its file descriptor.

    Raises:
        DevicePermissionError: It is a link, a pipe, another user's, or has a second name.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(file, flags, 0o600)
    except OSError as error:
        raise DevicePermissionError(f"{file}: cannot be opened ({error.strerror})") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        os.close(descriptor)
        raise DevicePermissionError(f"{file}: is no file of our own; take it away")
    return descriptor
