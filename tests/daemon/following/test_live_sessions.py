from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.following.live_sessions import LiveSessions, Status
from tests.support.processes import start_of

LONG_AGO_MS = 1_600_000_000_000

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions"
    folder.mkdir()
    return folder


def record(registry: Path, pid: int, session: str, **fields: object) -> Path:
    path = registry / f"{pid}.json"
    values = {"pid": pid, "sessionId": session, "startedAt": time.time() * 1000, "status": "idle", **fields}
    path.write_text(json.dumps(values))
    return path


def ticks_of(pid: int) -> int:
    start = start_of(pid)
    assert start is not None
    return int(start)


def test_without_a_registry_no_session_is_known_to_run(tmp_path: Path) -> None:
    sessions = LiveSessions([tmp_path, tmp_path / "absent"])

    assert not sessions.has_registry
    assert sessions.running() == frozenset()


def test_an_empty_registry_still_counts_as_a_registry(tmp_path: Path, registry: Path) -> None:
    sessions = LiveSessions([tmp_path / "absent", tmp_path])

    assert registry.is_dir()
    assert sessions.has_registry
    assert sessions.running() == frozenset()


def test_a_session_runs_while_its_process_lives(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]
) -> None:
    record(registry, process.pid, "one")
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}

    process.kill()
    process.wait()

    assert sessions.running() == frozenset()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "busy"}, Status(word="busy")),
        ({"status": "waiting", "waitingFor": "input needed"}, Status(word="waiting", waits_for="input needed")),
        ({"status": None, "waitingFor": 3}, Status()),
    ],
)
def test_a_record_says_what_its_session_waits_for(
    tmp_path: Path, registry: Path, fields: dict[str, object], status: Status
) -> None:
    record(registry, os.getpid(), "one", **fields)
    assert LiveSessions([tmp_path]).statuses() == {"one": status}


@needs_proc
def test_a_zombie_process_counts_as_dead(tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]) -> None:
    record(registry, process.pid, "one")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert LiveSessions([tmp_path]).running() == frozenset()


def test_a_session_ends_when_its_file_is_removed(tmp_path: Path, registry: Path) -> None:
    path = record(registry, os.getpid(), "one")
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}

    path.unlink()

    assert sessions.running() == frozenset()


def test_a_process_may_begin_another_session(tmp_path: Path, registry: Path) -> None:
    record(registry, os.getpid(), "one")
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}

    record(registry, os.getpid(), "another")

    assert sessions.running() == {"another"}


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path, registry: Path) -> None:
    path = record(registry, os.getpid(), "one")
    before = path.stat()
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}

    # The same file, size and time: nothing shows that it has changed.
    path.write_text(path.read_text().replace("one", "two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sessions.running() == {"one"}

    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert sessions.running() == {"two"}


def test_a_half_written_file_keeps_its_previous_content(tmp_path: Path, registry: Path) -> None:
    path = record(registry, os.getpid(), "one")
    whole = path.read_text()
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}

    for half in ("", whole[:20], whole[:-1]):
        path.write_text(half)
        assert sessions.running() == {"one"}
    path.write_text(whole.replace("one", "other"))

    assert sessions.running() == {"other"}


def test_several_registries_are_combined(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    for name, pid in (("work", os.getpid()), ("home", process.pid)):
        (tmp_path / name / "sessions").mkdir(parents=True)
        record(tmp_path / name / "sessions", pid, name)

    assert LiveSessions([tmp_path / "work", tmp_path / "home"]).running() == {"work", "home"}


def test_foreign_and_malformed_files_name_no_session(tmp_path: Path, registry: Path) -> None:
    pid = os.getpid()
    (registry / "notes.txt").write_text(json.dumps({"pid": pid, "sessionId": "not of the registry"}))
    (registry / "list.json").write_text("[1, 2]")
    (registry / "bytes.json").write_bytes(b"\xff\x00")
    (registry / "deep.json").write_text("[" * 60_000)
    (registry / "large.json").write_text(json.dumps({"pid": pid, "sessionId": "large", "x": " " * 70_000}))
    (registry / "number.json").write_text(json.dumps({"pid": pid, "sessionId": 5}))
    (registry / "nobody.json").write_text(json.dumps({"sessionId": "no pid"}))
    (registry / "zero.json").write_text(json.dumps({"pid": 0, "sessionId": "everybody"}))
    (registry / "minus.json").write_text(json.dumps({"pid": -1, "sessionId": "everybody"}))
    (registry / "huge.json").write_text(json.dumps({"pid": 2**70, "sessionId": "huge"}))
    (registry / "folder.json").mkdir()
    (registry / "dangling.json").symlink_to(registry / "nowhere")
    os.mkfifo(registry / "pipe.json")

    assert LiveSessions([tmp_path]).running() == frozenset()


def test_a_file_in_place_of_the_registry_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "sessions").touch()
    sessions = LiveSessions([tmp_path])

    assert not sessions.has_registry
    assert sessions.running() == frozenset()


@pytest.mark.parametrize("pid", [None, "12", True, 1.5])
def test_the_pid_is_taken_from_the_files_name_if_its_content_has_none(
    tmp_path: Path, registry: Path, pid: object
) -> None:
    (registry / f"{os.getpid()}.json").write_text(json.dumps({"pid": pid, "sessionId": "one"}))

    assert LiveSessions([tmp_path]).running() == {"one"}


@pytest.mark.parametrize(
    "fields",
    [
        {"startedAt": "soon"},
        {"startedAt": None, "procStart": None},
        {"startedAt": True},
        {"startedAt": None, "procStart": "in an unknown form"},
        {"startedAt": None, "procStart": {"ticks": 5}},
    ],
)
def test_a_session_whose_start_cannot_be_read_counts_as_running(
    tmp_path: Path, registry: Path, fields: dict[str, object]
) -> None:
    record(registry, os.getpid(), "one", **fields)

    assert LiveSessions([tmp_path]).running() == {"one"}


@needs_proc
@pytest.mark.parametrize(
    "fields",
    [
        {"startedAt": LONG_AGO_MS},
        {"procStart": "Sun Sep 13 12:26:40 2020"},
        {"startedAt": LONG_AGO_MS, "procStart": "12345678901"},
    ],
)
def test_a_process_younger_than_its_record_did_not_write_it(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes], fields: dict[str, object]
) -> None:
    record(registry, process.pid, "of a dead process", **fields)

    assert LiveSessions([tmp_path]).running() == frozenset()


@needs_proc
def test_a_process_as_old_as_its_record_wrote_it(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]
) -> None:
    began = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime())
    sessions = LiveSessions([tmp_path])

    record(registry, process.pid, "by date", procStart=began, startedAt=LONG_AGO_MS)
    assert sessions.running() == {"by date"}
    record(registry, process.pid, "by ticks", procStart=str(ticks_of(process.pid)), startedAt=LONG_AGO_MS)
    assert sessions.running() == {"by ticks"}
    record(registry, process.pid, "by number of ticks", procStart=ticks_of(process.pid), startedAt=LONG_AGO_MS)
    assert sessions.running() == {"by number of ticks"}


@needs_proc
def test_a_process_named_like_the_client_counts_whatever_the_clock_says(tmp_path: Path, registry: Path) -> None:
    """The clock may step, as after a virtual machine was suspended; the name of a process stays."""
    program = tmp_path / "claude (dev) x"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE) as child:
        record(registry, child.pid, "one", startedAt=LONG_AGO_MS)

        assert LiveSessions([tmp_path]).running() == {"one"}
        child.kill()


# ---------------------------------------------------------------------- proofs of an end


def test_that_nobody_registered_proves_no_end(tmp_path: Path, registry: Path) -> None:
    record(registry, os.getpid(), "one")
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}

    assert sessions.ending("one") is None
    assert sessions.ending("another") is None


def test_a_record_that_is_gone_proves_an_end_until_it_is_back(tmp_path: Path, registry: Path) -> None:
    path = record(registry, os.getpid(), "one")
    sessions = LiveSessions([tmp_path])
    sessions.running()
    path.unlink()
    sessions.running()
    proof = sessions.ending("one")
    assert proof is not None
    assert proof.certain
    assert abs(proof.at - time.time()) < 60

    record(registry, os.getpid(), "one")
    sessions.running()

    assert sessions.ending("one") is None


def test_a_dead_process_proves_an_end_though_nobody_saw_it_alive(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]
) -> None:
    record(registry, process.pid, "one")
    process.kill()
    process.wait()
    sessions = LiveSessions([tmp_path])
    sessions.running()

    assert sessions.ending("one") is not None


def test_what_one_run_saw_the_next_one_knows(tmp_path: Path, registry: Path) -> None:
    path = record(registry, os.getpid(), "one")
    earlier = LiveSessions([tmp_path])
    earlier.running()
    path.unlink()
    seen = earlier.unsaved()
    assert [(sighting.session, sighting.gone_at) for sighting in seen] == [("one", None)]
    assert earlier.unsaved() == seen, "it is not saved yet"
    earlier.saved(seen)
    assert earlier.unsaved() == []

    later = LiveSessions([tmp_path], seen)
    assert later.ending("one") is None
    later.running()

    assert later.ending("one") is not None


@needs_proc
def test_a_removed_record_proves_no_end_while_its_process_lives(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]
) -> None:
    """A client in a sandbox cannot see the process, and removes the record."""
    path = record(registry, process.pid, "one", procStart=str(ticks_of(process.pid)))
    sessions = LiveSessions([tmp_path])
    sessions.running()
    path.unlink()
    assert sessions.running() == frozenset()
    assert sessions.ending("one") is None

    # The process goes on with another session. Subagents of this one may still be at work.
    record(registry, process.pid, "another", procStart=str(ticks_of(process.pid)))
    sessions.running()
    proof = sessions.ending("one")
    assert proof is not None
    assert not proof.certain

    process.kill()
    process.wait()
    sessions.running()
    proof = sessions.ending("one")
    assert proof is not None
    assert proof.certain


def test_a_process_of_another_space_is_neither_alive_nor_dead(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]
) -> None:
    space = "linux:another machine:pid:[4026539999]"
    record(registry, os.getpid(), "as if alive", pidDomain=space)
    process.kill()
    process.wait()
    path = record(registry, process.pid, "as if dead", pidDomain=space)
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == frozenset()
    assert sessions.ending("as if dead") is None

    path.unlink()
    sessions.running()
    proof = sessions.ending("as if dead")

    assert proof is not None
    assert not proof.certain, "a client here may have removed it"


@needs_proc
def test_a_process_of_this_space_counts(tmp_path: Path, registry: Path) -> None:
    machine = Path("/etc/machine-id")
    name = machine.read_text().strip() if machine.exists() else ""
    space = f"linux:{name}:{Path('/proc/self/ns/pid').readlink()}"
    record(registry, os.getpid(), "one", pidDomain=space)

    assert LiveSessions([tmp_path]).running() == {"one"}


@needs_proc
def test_another_program_with_the_number_proves_neither_life_nor_an_end(tmp_path: Path, registry: Path) -> None:
    record(registry, os.getpid(), "one", procStart=str(ticks_of(os.getpid()) + 1))
    sessions = LiveSessions([tmp_path])

    assert sessions.running() == frozenset()
    assert sessions.ending("one") is None


@pytest.mark.parametrize("value", ["9" * 400, "1e400", "-1", "1e999999", "0.5", f'"{"9" * 400}"'])
@pytest.mark.parametrize("field", ["pid", "startedAt", "procStart"])
def test_absurd_values_end_nothing(tmp_path: Path, registry: Path, field: str, value: str) -> None:
    (registry / "x.json").write_text(f'{{"sessionId": "one", "{field}": {value}}}')
    (registry / f"{os.getpid()}.json").write_text(f'{{"sessionId": "two", "{field}": {value}}}')
    sessions = LiveSessions([tmp_path])
    sessions.running()

    assert sessions.ending("one") is None
    assert sessions.ending("two") is None


@pytest.mark.parametrize("where", ["sessions", "other/sessions"])
def test_two_processes_with_one_session_are_remembered_once_and_it_runs_while_one_lives(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes], where: str
) -> None:
    second = tmp_path / where
    second.mkdir(parents=True, exist_ok=True)
    record(registry, process.pid, "one")
    last = record(second, os.getpid(), "one")
    sessions = LiveSessions([tmp_path, tmp_path / "other"])
    assert sessions.running() == {"one"}
    [seen] = sessions.unsaved()
    sessions.saved([seen])
    assert sessions.running() == {"one"}
    assert sessions.unsaved() == [], "nothing is new"

    process.kill()
    process.wait()
    assert sessions.running() == {"one"}
    assert sessions.ending("one") is None
    last.unlink()
    assert sessions.running() == frozenset()
    proof = sessions.ending("one")
    assert proof is not None
    assert proof.certain


@needs_proc
def test_after_a_process_here_one_of_another_space_leaves_the_end_uncertain(
    tmp_path: Path, registry: Path, process: subprocess.Popen[bytes]
) -> None:
    """A container goes on with the session that was begun outside of it."""
    record(registry, process.pid, "one", procStart=str(ticks_of(process.pid)))
    sessions = LiveSessions([tmp_path])
    assert sessions.running() == {"one"}
    inside = tmp_path / "sessions" / "7.json"
    inside.write_text(json.dumps({"pid": 7, "sessionId": "one", "pidDomain": "linux:elsewhere:pid:[1]"}))
    sessions.running()
    process.kill()
    process.wait()
    (registry / f"{process.pid}.json").unlink()
    sessions.running()
    assert sessions.ending("one") is None
    inside.unlink()
    sessions.running()
    proof = sessions.ending("one")
    assert proof is not None
    assert not proof.certain, "its process may live on in there"
