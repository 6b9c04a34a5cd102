from __future__ import annotations

from pathlib import Path

from daemon.reading.executions import Notice
from daemon.state import layout
from daemon.state.layout import events_path, remove_state
from daemon.state.lock import StateLock, prepare_state_dir
from daemon.state.store import Store


def used(folder: Path) -> None:
    prepare_state_dir(folder)
    with StateLock(folder):
        Store(folder).close()


def test_nothing_is_left_of_a_state_directory(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    used(folder)
    used(events_path(folder).parent)
    events_path(folder).touch()
    (folder / "status.json").touch()
    (folder / ".status.json.half").touch()
    with Notice(folder, {}):
        (folder / layout.EXECUTIONS / ".1.json.half").touch()
    assert remove_state(folder) == []
    assert not folder.exists()
    assert remove_state(folder) == []


def test_what_is_not_the_daemons_stays(tmp_path: Path) -> None:
    used(tmp_path)
    (tmp_path / "thesis.txt").touch()
    (tmp_path / "state.d").mkdir()
    (tmp_path / "local").symlink_to(tmp_path / "state.d")
    (tmp_path / "state.d" / "state.db").touch()
    assert remove_state(tmp_path) == [tmp_path / name for name in ("local", "state.d", "thesis.txt")]
    assert (tmp_path / "state.d" / "state.db").exists()
