"""Known bugs of programs that follow logs, one test each: the name says what the daemon does, the docstring what other
programs do.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.following import sweep as sweep_module
from daemon.following import tailer
from daemon.following.log_roots import roots_at
from daemon.following.sweep import HOT_SECONDS, Sweep
from daemon.following.tailer import Tail
from daemon.state.store import Store
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.machine import Machine, a_session, of_lines, span_ids, times_each_came
from tests.support.processes import append, environment, following, now, session_id, until, verb


def answers(server: CaptureServer) -> list[str]:
    """The answers that were received, in order."""
    return span_ids(server, "generation")


def write(machine: Machine, log: LogBuilder, start: int = 0) -> Path:
    """Append the lines of the main log from number *start* on."""
    path = machine.projects / log.path
    append(path, of_lines(log, start))
    return path


def goes_on(log: LogBuilder, *names: str) -> int:
    """Continue a session with an answer `msg_{name}` for each name. Return the number of the first new line."""
    before = len(log.lines)
    for name in names:
        log.answer(text(f"{name} is done"), id=f"msg_{name}")
        log.prompt("and thanks")
    return before


async def runs_once(machine: Machine, posthog: CaptureServer) -> None:
    """Run the daemon once, on the existing state."""
    assert await machine.once(posthog.url, history="skip" if (machine.state / "state.db").exists() else "send")


# ---------------------------------------------------------------------- which file it is


def deleted_and_created(old: Path, new: Path, data: bytes) -> None:
    old.unlink()
    new.write_bytes(data)


def moved_and_written_anew(old: Path, new: Path, data: bytes) -> None:
    old.rename(new)
    new.write_bytes(data)


@pytest.mark.parametrize("put", [deleted_and_created, moved_and_written_anew])
async def test_a_new_log_on_the_inode_of_another_is_read_from_its_beginning(
    machine: Machine, posthog: CaptureServer, put: Callable[[Path, Path, bytes], None]
) -> None:
    """A program that identifies a file by its inode reads the new one from where the old one ended."""
    old, new = a_session("old"), a_session("new")
    goes_on(new, "later")
    path = write(machine, old)
    await runs_once(machine, posthog)
    status = path.stat()
    assert machine.offsets()[path.name] == status.st_size
    put(path, machine.projects / new.path, of_lines(new, 0))
    if (machine.projects / new.path).stat().st_ino != status.st_ino:
        pytest.skip("this file system does not give an inode out again at once")
    assert status.st_size < len(of_lines(new, 0))
    await runs_once(machine, posthog)
    assert answers(posthog) == ["msg_old", "msg_new", "msg_later"]
    assert times_each_came(posthog) == {1}


async def test_logs_with_the_same_beginning_are_told_apart(machine: Machine, posthog: CaptureServer) -> None:
    """A program that identifies a file by a hash of its head never reads the second."""
    logs = [LogBuilder(session_id(name)) for name in ("left", "right")]
    for log in logs:
        log.raw({"type": "file-history-snapshot", "snapshot": "x" * 10_000})
        name = "left" if log is logs[0] else "right"
        log.prompt("go")
        goes_on(log, name)
        write(machine, log)
    await runs_once(machine, posthog)
    for log, name in zip(logs, ("left_more", "right_more"), strict=True):
        write(machine, log, goes_on(log, name))
    await runs_once(machine, posthog)
    assert sorted(answers(posthog)) == ["msg_left", "msg_left_more", "msg_right", "msg_right_more"]


async def test_a_log_of_one_short_line_is_read(machine: Machine, posthog: CaptureServer) -> None:
    """A program that identifies a file by its first kilobyte does not read a shorter one at all."""
    log = LogBuilder(session_id("short"), version="2.1.200")
    log.answer(text("yes"), id="msg_short")
    path = write(machine, log)
    assert path.stat().st_size < 1024
    assert path.read_bytes().count(b"\n") == 1
    await runs_once(machine, posthog)
    assert answers(posthog) == ["msg_short"]


# ---------------------------------------------------------------------- how far it was read


async def test_a_log_truncated_while_the_daemon_was_away_is_read_again_only_once(
    machine: Machine, posthog: CaptureServer
) -> None:
    """In other programs, the offset stays behind the end, or the file is sent again at every start."""
    log, other = a_session("whole"), a_session("x")
    goes_on(log, "second", "third")
    path = write(machine, log)
    await runs_once(machine, posthog)
    path.write_bytes(of_lines(other, 0))
    assert path.stat().st_size < len(of_lines(log, 0))
    await runs_once(machine, posthog)
    sent = answers(posthog)
    assert sent == ["msg_whole", "msg_second", "msg_third", "msg_x"]
    assert machine.offsets()[path.name] == path.stat().st_size
    requests = len(posthog.requests)
    await runs_once(machine, posthog)
    assert len(posthog.requests) == requests
    assert times_each_came(posthog) == {1}


async def test_a_log_truncated_and_grown_past_its_offset_while_the_daemon_was_away_is_read_from_its_beginning(
    machine: Machine, posthog: CaptureServer
) -> None:
    """By its size it looks like a file that only grew, so other programs go on in the middle of a line."""
    log, other = a_session("before"), a_session("after", cwd="/home/ada/orchard")
    path = write(machine, log)
    await runs_once(machine, posthog)
    settled = path.stat().st_size
    goes_on(other, "second", "third")
    path.write_bytes(of_lines(other, 0))
    assert path.stat().st_size > settled
    await runs_once(machine, posthog)
    assert answers(posthog) == ["msg_before", "msg_after", "msg_second", "msg_third"]
    assert times_each_came(posthog) == {1}


async def test_lines_written_while_the_daemon_was_away_are_not_history(
    machine: Machine, posthog: CaptureServer
) -> None:
    """Other programs, told to start at the end of the files, do so at every start."""
    log = a_session("followed", start=now())
    async with machine.following(posthog.url):
        path = write(machine, log)
        await until(lambda: answers(posthog) == ["msg_followed"], "the first answer")
    write(machine, log, goes_on(log, "away"))
    fresh = a_session("fresh", start=now())
    write(machine, fresh)
    async with machine.following(posthog.url):
        await until(lambda: len(answers(posthog)) == 3, "what was written meanwhile")
    assert sorted(answers(posthog)) == ["msg_away", "msg_followed", "msg_fresh"]
    assert machine.offsets()[path.name] == path.stat().st_size


async def test_a_line_that_was_half_written_when_the_daemon_stopped_is_read_at_its_next_start(
    machine: Machine, posthog: CaptureServer
) -> None:
    """If the offset moves when bytes are read, the first half is lost with the process."""
    log = LogBuilder(session_id("half"), start=now(), version="2.1.200")
    log.prompt("begin")
    log.answer(text("here I go"), id="msg_whole")
    log.prompt("more")
    log.answer(text("as you like"), id="msg_half")
    data = of_lines(log, 0)
    path = machine.projects / log.path
    async with machine.following(posthog.url):
        append(path, data[:-100])
        await until(lambda: answers(posthog) == ["msg_whole"], "what is whole")
    assert machine.offsets()[path.name] <= data[:-100].rfind(b"\n") + 1
    append(path, data[-100:])
    await runs_once(machine, posthog)
    assert answers(posthog) == ["msg_whole", "msg_half"]


def test_a_line_that_is_written_slowly_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs read an unfinished line from its beginning each time it grows."""
    path = tmp_path / "long.jsonl"
    path.write_bytes(b"{}\n")
    read = 0

    class Counted(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read
            data = super().read(size) or b""
            read += len(data)
            return data

    def counted(name: str, *, buffered: bool = False) -> io.FileIO:
        assert not buffered
        return Counted(name, "rb")

    monkeypatch.setattr(tailer, "open_log", counted)
    tail = Tail(str(path))
    tail.open()
    for _ in range(200):
        append(path, b"x" * 5000)
        chunk = tail.read(1 << 30)
        assert chunk is not None
    append(path, b"\n")
    chunk = tail.read(1 << 30)
    assert chunk is not None
    [line] = chunk.lines
    assert line.data == b"x" * 1_000_000
    assert read == path.stat().st_size


# ---------------------------------------------------------------------- where that is kept


def nothing_in_it(data: bytes) -> bytes:
    del data
    return b""


def zeros(data: bytes) -> bytes:
    return bytes(len(data))


def its_first_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeros_at_the_end(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


@pytest.mark.parametrize("damage", [nothing_in_it, zeros, its_first_half, zeros_at_the_end])
async def test_a_store_damaged_by_a_power_loss_does_not_stop_the_daemon_and_loses_no_event(
    machine: Machine, posthog: CaptureServer, damage: Callable[[bytes], bytes]
) -> None:
    """Other programs refuse to start until somebody deletes the registry, or treat all files as new."""
    recent, old = a_session("recent", start=now()), a_session("old")
    machine.moves_in(recent.files(), age=60)
    machine.moves_in(old.files(), age=30 * 86400)
    await runs_once(machine, posthog)
    path = machine.state / "state.db"
    path.write_bytes(damage(path.read_bytes()))
    write(machine, recent, goes_on(recent, "more"))
    await runs_once(machine, posthog)
    assert answers(posthog).count("msg_more") == 1
    assert answers(posthog).count("msg_old") == 1, "what is older than a week is not sent again"
    # Events that are sent again have the same ids, so they count once.
    assert posthog.events_by_uuid.keys() == machine.preview().keys()
    requests = len(posthog.requests)
    await runs_once(machine, posthog)
    assert len(posthog.requests) == requests


@pytest.mark.parametrize("left", [(), ("state.db-wal",), ("state.db-wal", "state.db-shm")])
async def test_after_a_crash_while_a_damaged_store_is_set_aside_the_daemon_starts(
    machine: Machine, posthog: CaptureServer, left: tuple[str, ...]
) -> None:
    """If the registry is renamed in two steps, a crash in between leaves none, and everything is sent again."""
    log = a_session("kept", start=now())
    write(machine, log)
    store = Store(machine.state)
    store.begin(0, [])
    # The state after a kill: the newest pages are in the write-ahead log next to it.
    beside = {name: (machine.state / name).read_bytes() for name in ("state.db", "state.db-wal", "state.db-shm")}
    store.close()
    (machine.state / "state.db").rename(machine.state / "state.db.corrupt-1")
    for name in left:
        (machine.state / name).write_bytes(beside[name])
    await runs_once(machine, posthog)
    store = Store(machine.state)
    assert store.first_start == 0
    store.close()
    connection = sqlite3.connect(machine.state / "state.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert answers(posthog) == ["msg_kept"]


async def test_a_second_daemon_on_the_same_state_refuses_to_start_and_the_first_goes_on(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    """In other programs, both write to one registry, and neither works any more."""
    projects = workspace.config / "projects"
    projects.mkdir(parents=True)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as first:
        second = await verb(workspace, "run", env=env)
        assert second.status == 1
        [error] = second.errors
        assert str(first.pid) in error
        log = a_session("first", start=now())
        append(projects / log.path, of_lines(log, 0))
        await first.until(lambda: answers(posthog) == ["msg_first"])


async def test_logs_that_are_missing_at_a_start_are_not_forgotten(machine: Machine, posthog: CaptureServer) -> None:
    """Other programs forget at a start all files that are missing then, for example on another disk.

    Here a trace could be lost, too: it is owed from the first event on.
    """
    log = a_session("elsewhere", start=now())
    record = machine.registers(log.session)
    machine.moves_in(log.files(), age=60)
    await runs_once(machine, posthog)
    assert span_ids(posthog) == ["msg_elsewhere"]
    record.unlink()

    here = machine.projects
    machine.config = machine.root / "another"
    machine.projects = machine.config / "projects"
    machine.projects.mkdir(parents=True)
    write(machine, a_session("another", start=now()))
    await runs_once(machine, posthog)
    assert "msg_another" in span_ids(posthog)

    machine.config, machine.projects = here.parent, here
    # If a disk is not mounted, its folder is empty or missing.
    here.rename(machine.root / "unmounted")
    await runs_once(machine, posthog)
    (machine.root / "unmounted").rename(here)
    await runs_once(machine, posthog)
    assert answers(posthog).count("msg_elsewhere") == 1
    assert span_ids(posthog, "trace").count(log.session) == 1


async def test_a_config_folder_that_moved_sends_nothing_again(machine: Machine, posthog: CaptureServer) -> None:
    """If a registry belongs to a configuration, another spelling of the path is another registry."""
    for name in ("one", "two"):
        write(machine, a_session(name))
    await runs_once(machine, posthog)
    moved = machine.root / "moved"
    machine.config.rename(moved)
    machine.config = machine.root / "link"
    machine.config.symlink_to(moved)
    machine.projects = machine.config / "projects"
    requests = len(posthog.requests)
    await runs_once(machine, posthog)
    # Neither do copies of the files, as after restoring a backup.
    for path in sorted(moved.rglob("*.jsonl")):
        beside = path.with_suffix(".copy")
        shutil.copy(path, beside)
        beside.replace(path)
    await runs_once(machine, posthog)
    assert len(posthog.requests) == requests


# ---------------------------------------------------------------------- looking at many


def test_files_at_rest_cost_no_system_call_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other programs, the processor time while idle grows with the number of files."""
    looked: list[str] = []

    class Counted:
        @staticmethod
        def lstat(path: str) -> os.stat_result:
            looked.append(path)
            return os.lstat(path)

        @staticmethod
        def stat(folder: str) -> os.stat_result:
            assert Path(folder).is_dir()
            return Path(folder).stat()

    for project in range(5):
        folder = tmp_path / f"p{project}"
        folder.mkdir()
        for session in range(100):
            path = folder / f"s{session}.jsonl"
            path.write_bytes(b"{}\n")
            os.utime(path, (1.0, 1.0))
    sweep = Sweep(roots_at(tmp_path))
    assert len(sweep.full()[0]) == 500
    monkeypatch.setattr(sweep_module, "os", Counted)
    assert sweep.hot(HOT_SECONDS * 10.0) == ([], [])
    assert looked == []


async def test_a_log_that_is_replaced_several_times_between_two_looks_is_read_as_it_is_then(
    machine: Machine, posthog: CaptureServer
) -> None:
    """Other programs look for a file that was replaced twice between two looks where it no longer is."""
    log = a_session("first")
    path = write(machine, log)
    await runs_once(machine, posthog)
    for name in ("second", "third", "fourth"):
        goes_on(log, name)
        beside = machine.root / "beside"
        beside.write_bytes(of_lines(log, 0))
        beside.replace(path)
    await runs_once(machine, posthog)
    assert answers(posthog) == ["msg_first", "msg_second", "msg_third", "msg_fourth"]
    assert machine.offsets()[path.name] == path.stat().st_size
