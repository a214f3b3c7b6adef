"""Files that may be anything: read whole, as they were written, or refused with their name."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from envs.safe_files import read_regular, read_sealed, sealed

ROOT = Path(__file__).resolve().parents[2]
CONTENT = bytes(range(256)) * 20


def test_a_sealed_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_bytes(sealed(CONTENT))
    assert read_sealed(file, 10_000) == CONTENT


@pytest.mark.parametrize("place", [0, 20, 60, 4000, -1])
def test_a_bit_that_is_another_is_told(tmp_path: Path, place: int) -> None:
    file = tmp_path / "state"
    content = bytearray(sealed(CONTENT))
    content[place] ^= 4
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{file}: not as it was written"):
        read_sealed(file, 10_000)


@pytest.mark.parametrize("content", [b"", b"PK", CONTENT, sealed(CONTENT)[:-1]])
def test_what_was_never_sealed_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "state"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not as it was written"):
        read_sealed(file, 10_000)


def test_a_file_larger_than_it_may_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(3 << 20))
    assert len(read_regular(file, 3 << 20)) == 3 << 20
    with pytest.raises(ConfigurationError, match="larger than"):
        read_regular(file, (3 << 20) - 1)


def test_a_bound_of_many_bytes_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_bytes(b"x")
    limit = 2 << 30
    code = (
        "import sys; from pathlib import Path; from envs.safe_files import read_regular; "
        "sys.exit(read_regular(Path(sys.argv[1]), 1 << 40) != b'x')"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
