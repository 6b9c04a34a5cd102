from __future__ import annotations

import stat
from pathlib import Path

import pytest

from daemon.running.log_file import LogFile


def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "daemon.log"
    for line in ("one\n", "zwei\udcff ü\n"):
        with LogFile(path) as file:
            assert file.write(line) == len(line)
    assert path.read_text() == "one\nzwei? ü\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_becomes_too_large_is_renamed_between_lines(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    with LogFile(path, largest=20) as file:
        for number in range(9):
            print(f"line {number}", file=file)
    kept = (tmp_path / "daemon.log.1").read_text() + path.read_text()
    # Each line has seven bytes, so the third one makes the file too large.
    assert kept.splitlines() == [f"line {number}" for number in range(3, 9)]
    assert {entry.name for entry in tmp_path.iterdir()} == {"daemon.log", "daemon.log.1"}


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        LogFile(tmp_path / "file" / "daemon.log")
