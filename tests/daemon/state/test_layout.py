from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.history.backfill_request import BackfillDesk, BackfillRequest
from daemon.reading.executions import Notice
from daemon.state import layout
from daemon.state.layout import events_path, remove_state
from daemon.state.lock import StateLock, prepare_state_dir
from daemon.state.store import Store
from daemon.system.private_file import write_private


def used(folder: Path) -> None:
    prepare_state_dir(folder)
    with StateLock(folder):
        Store(folder).close()


def test_nothing_is_left_of_a_state_directory(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    used(folder)
    used(events_path(folder).parent)
    events_path(folder).touch()
    layout.prices_path(folder).touch()
    (folder / "status.json").touch()
    (folder / ".status.json.half").touch()
    (folder / layout.corrupt_store(1_795_000_000)).touch()
    for suffix in layout.SQLITE_SUFFIXES:
        events_path(folder).with_name(layout.EVENTS + suffix).touch()
    with Notice(folder, {}):
        (folder / layout.EXECUTIONS / ".1.json.half").touch()
    assert remove_state(folder) == []
    assert not folder.exists()
    assert remove_state(folder) == []


def test_files_that_a_crash_left_half_written_are_the_daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    prepare_state_dir(folder)
    written: set[str] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        written.update(path.name for path in folder.iterdir())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    BackfillDesk(folder).ask(BackfillRequest(id="a" * 32, units={"-work/first": 10}))
    write_private(folder / layout.HEALTH, b"{}")
    assert len(written) == 3, "a temporary file for each, and the finished request"
    for name in written:
        (folder / name).touch()
    assert remove_state(folder) == []


def test_other_files_stay(tmp_path: Path) -> None:
    used(tmp_path)
    (tmp_path / "thesis.txt").touch()
    (tmp_path / "state.d").mkdir()
    (tmp_path / "local").symlink_to(tmp_path / "state.d")
    (tmp_path / "state.d" / "state.db").touch()
    assert remove_state(tmp_path) == [tmp_path / name for name in ("local", "state.d", "thesis.txt")]
    assert (tmp_path / "state.d" / "state.db").exists()
