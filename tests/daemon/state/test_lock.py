from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.state import layout
from daemon.state.lock import (
    AlreadyRunning,
    Holder,
    StateDirError,
    StateLock,
    holder,
    is_locked,
    locked_since,
    look,
    prepare_state_dir,
)

ROOT = Path(__file__).parents[3]

HOLD = """
import sys
from pathlib import Path
from daemon.state.lock import StateLock
with StateLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def start_holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_names_its_process_and_is_for_its_owner_only(tmp_path: Path) -> None:
    with StateLock(tmp_path):
        assert (tmp_path / layout.LOCK).read_text() == f"{os.getpid()}\n"
        assert mode(tmp_path / layout.LOCK) == 0o600
        assert is_locked(tmp_path)
        assert holder(tmp_path) == os.getpid()

    assert not is_locked(tmp_path)
    assert holder(tmp_path) is None


def test_a_second_instance_learns_the_pid_of_the_first(tmp_path: Path) -> None:
    with start_holder(tmp_path) as other:
        with pytest.raises(AlreadyRunning) as caught, StateLock(tmp_path, patience=0):
            pytest.fail("took a lock that is held")
        other.communicate()

    assert caught.value.holder == Holder(other.pid)
    assert f"(pid {other.pid})" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("written", "found", "shown"),
    [
        ("7\n", Holder(7), "a daemon (pid 7)"),
        ("7\nstarts\n", Holder(7, "starts"), "a daemon (pid 7)"),
        ("7\nends usage\n", Holder(7, "ends", "usage"), "`usage` (pid 7)"),
        ("7\nstarts run --local\n", Holder(7, "starts", "run --local"), "`run --local` (pid 7)"),
        ("7\nsleeps\n", Holder(7), "a daemon (pid 7)"),
        ("", Holder(None, "ends"), "a daemon"),
        ("\udcff", Holder(None, "ends"), "a daemon"),
    ],
)
def test_the_file_says_who_holds_the_lock_and_for_how_long(written: str, found: Holder, shown: str) -> None:
    assert Holder.read(written) == found
    assert str(found) == shown
    assert found.pid is None or Holder.read(found.written()) == found


def test_who_follows_tells_when_it_has_caught_up_and_keeps_the_time_of_its_start(tmp_path: Path) -> None:
    with StateLock(tmp_path, stage="starts", verb="view") as lock:
        os.utime(tmp_path / layout.LOCK, (1000.0, 1000.0))
        assert look(tmp_path) == Holder(os.getpid(), "starts", "view")
        lock.note_current()
        assert look(tmp_path) == Holder(os.getpid(), "follows", "view")
        assert locked_since(tmp_path) == 1000.0
    assert look(tmp_path) is None


def test_a_verb_that_ends_by_itself_is_not_called_a_daemon(tmp_path: Path) -> None:
    with StateLock(tmp_path, stage="ends", verb="usage"), pytest.raises(AlreadyRunning) as caught:
        StateLock(tmp_path, patience=0).acquire()
    assert str(caught.value).startswith(f"`usage` (pid {os.getpid()}) uses the state in {tmp_path} until it has ended")


def test_the_lock_of_a_killed_process_is_free_whatever_its_file_says(tmp_path: Path) -> None:
    with start_holder(tmp_path) as other:
        assert holder(tmp_path) == other.pid
        other.kill()
        other.communicate()

    assert (tmp_path / layout.LOCK).read_text() == f"{other.pid}\n"
    assert not is_locked(tmp_path)
    with StateLock(tmp_path, patience=0):
        assert holder(tmp_path) == os.getpid()


def test_two_locks_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with StateLock(tmp_path) as lock:
        with pytest.raises(AlreadyRunning):
            StateLock(tmp_path, patience=0).acquire()
        with pytest.raises(AlreadyRunning):
            lock.acquire()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()

    with lock:
        assert is_locked(tmp_path)


def test_looking_does_not_make_the_file(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_a_start_waits_while_a_command_checks_the_lock(tmp_path: Path) -> None:
    """The lock is released while a start waits for it, as by is_locked() or an instance that is about to end."""
    with start_holder(tmp_path) as other:
        assert other.stdin is not None
        other.stdin.close()
        with StateLock(tmp_path, patience=30):
            assert holder(tmp_path) == os.getpid()


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    (tmp_path / layout.LOCK).symlink_to(target)

    with pytest.raises(StateDirError, match="cannot contain a lock file"):
        StateLock(tmp_path).acquire()
    assert target.read_text() == "keep"


def test_the_state_directory_is_made_with_its_parents_and_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "posthog"

    prepare_state_dir(folder)
    prepare_state_dir(folder)

    assert mode(folder) == 0o700
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("held", [[], [layout.LOCK, "state.db"]])
def test_an_open_directory_of_its_own_is_closed(tmp_path: Path, held: list[str]) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o755)
    for name in held:
        (folder / name).touch()

    prepare_state_dir(folder)

    assert mode(folder) == 0o700


def test_an_open_directory_of_other_things_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "notes.txt").touch()

    with pytest.raises(StateDirError, match=r"is open to other users and contains other files; .*_STATE_DIR"):
        prepare_state_dir(folder)
    assert mode(folder) == 0o755


def test_a_file_in_the_directorys_place_is_one_clear_error(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.touch()

    with pytest.raises(StateDirError, match="is not a folder") as caught:
        prepare_state_dir(place)
    assert caught.value.path == place
    with pytest.raises(StateDirError, match=r"cannot be used \(not a directory\)"):
        prepare_state_dir(place / "below")


def test_a_directory_that_cannot_be_written_to_is_one_clear_error() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder that nobody, root neither, can write to")

    with pytest.raises(StateDirError, match=r"^state directory /proc/self/state cannot be used"):
        prepare_state_dir(Path("/proc/self/state"))


def test_it_is_known_since_when_the_lock_is_held(tmp_path: Path) -> None:
    assert locked_since(tmp_path) is None
    with StateLock(tmp_path):
        since = locked_since(tmp_path)
        assert since is not None
        assert abs(time.time() - since) < 5
        os.utime(tmp_path / layout.LOCK, (1000.0, 1000.0))
        assert locked_since(tmp_path) == 1000.0, "looking changes nothing"
    assert locked_since(tmp_path) is None


def test_on_a_disk_that_has_become_read_only_the_lock_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _length: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    lock = StateLock(tmp_path)
    lock.acquire()
    monkeypatch.setattr(os, "ftruncate", refuse)
    lock.release()
    assert not lock.is_held
    assert look(tmp_path) is None
