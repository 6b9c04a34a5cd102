"""The operating system refuses calls: the daemon logs it once, goes on, loses nothing, and recovers."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shutil
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.following.cadence import Cadence
from daemon.lookout import Lookout
from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Workspace, passed_on, start
from tests.support.faults import HANG, SHORT, Call, Faults
from tests.support.fork_server import ForkServer
from tests.support.logs import LogBuilder, text
from tests.support.machine import Logged, Machine, a_session, of_lines, span_ids, times_each_came
from tests.support.processes import ROOT, append, bodies, environment, log_lines, now, previewed, until, verb


@dataclass
class Stand:
    """A machine whose operating system fails on command, and the daemon on it."""

    workspace: Workspace
    posthog: CaptureServer
    faults: Faults
    forks: ForkServer
    logs: dict[str, tuple[LogBuilder, int]] = field(default_factory=dict)
    runs: int = 0

    @asynccontextmanager
    async def following(self, *, ready: bool = True, **variables: str) -> AsyncIterator[Child]:
        """Run the daemon until the context is left. It must exit with 0."""
        self.runs += 1
        env = environment(self.workspace, self.posthog.url) | self.faults.environment | variables
        command = [sys.executable, "-m", "tests.support.quick", "run", "--log-format", "json"]
        name = f"daemon-{self.runs}"
        async with start(
            command, name=name, environment=env, cwd=ROOT, output=self.workspace.output, forks=self.forks
        ) as child:
            if ready:
                await child.until(lambda: "ready" in events(child))
            yield child
            if child.running:
                child.terminate()
                assert await child.wait() == 0, child.stderr
            assert "Traceback" not in child.stderr

    @property
    def projects(self) -> Path:
        return self.workspace.config / "projects"

    def write(self, name: str, *answers: str) -> Path:
        """Continue the session *name* with an answer `msg_{answer}` for each. Its first answer has its own name."""
        if name not in self.logs:
            self.logs[name] = a_session(name, start=now()), 0
        log, written = self.logs[name]
        for answer in answers:
            log.answer(text(f"{answer} is done"), id=f"msg_{answer}")
            log.prompt("thanks")
        path = self.projects / log.path
        append(path, of_lines(log, written))
        self.logs[name] = log, len(log.lines)
        return path

    async def arrived(self, child: Child, *answers: str) -> None:
        """Wait until these answers have arrived."""
        await child.until(lambda: set(span_ids(self.posthog)) >= {f"msg_{answer}" for answer in answers})

    async def settles(self) -> None:
        """Run a daemon without faults. Then everything that `preview` yields must have arrived."""
        done = await verb(self.workspace, "run", "--once", env=environment(self.workspace, self.posthog.url))
        assert done.status == 0, done.stderr
        said = await verb(self.workspace, "preview", self.workspace.config)
        assert bodies(self.posthog) == previewed(said.stdout)


def events(child: Child) -> list[str]:
    """The log events."""
    return [line["event"] for line in log_lines(child.stderr)]


def lines_of(child: Child, event: str) -> list[dict[str, Any]]:
    return [line for line in log_lines(child.stderr) if line["event"] == event]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults.built(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def faulty(library: Faults) -> Iterator[ForkServer]:
    """A fork server whose daemons have the failing library in front of the C library."""
    environment = passed_on() | {"LD_PRELOAD": str(library.library)}
    with ForkServer(environment, preload=["llma_core", "daemon"]) as server:
        yield server


@pytest.fixture
def stand(workspace: Workspace, posthog: CaptureServer, library: Faults, faulty: ForkServer, tmp_path: Path) -> Stand:
    folder = tmp_path / "faults"
    folder.mkdir()
    stand = Stand(workspace, posthog, Faults(folder, library.library), faulty)
    stand.projects.mkdir(parents=True)
    return stand


# ---------------------------------------------------------------------- folders that do not answer


@pytest.mark.parametrize("call", ["open", "opendir", "lstat", "read"])
async def test_a_folder_that_hangs_keeps_nobody_waiting(stand: Stand, call: Call) -> None:
    stand.logs["bad"] = a_session("bad", start=now(), cwd="/home/ada/hanging"), 0
    async with stand.following(QUICK_PATIENCE="2") as daemon:
        path = stand.write("bad")
        stand.write("good")
        await stand.arrived(daemon, "bad", "good")
        stand.faults.inject(call, HANG, path.parent.name)
        stand.write("bad", "bad_more")
        # With a new folder in it, everything about the folder is asked anew.
        (path.parent / "made").mkdir()
        await daemon.until(lambda: "folder_hangs" in events(daemon))
        stand.write("good", "good_more")
        await stand.arrived(daemon, "good_more")
        stand.faults.clear(call)
        await stand.arrived(daemon, "bad_more")
    assert times_each_came(stand.posthog) == {1}
    await stand.settles()


async def test_a_folder_that_hangs_from_the_start_is_named_and_lets_the_daemon_end(stand: Stand) -> None:
    stand.logs["bad"] = a_session("bad", start=now(), cwd="/home/ada/hanging"), 0
    async with stand.following(QUICK_PATIENCE="2") as daemon:
        stand.write("bad")
        stand.write("good")
        await stand.arrived(daemon, "bad", "good")
    path = stand.write("bad", "bad_more")
    calls: list[Call] = ["open", "opendir", "lstat", "stat", "read", "pread", "watch"]
    for call in calls:
        stand.faults.inject(call, HANG, path.parent.name)
    async with stand.following(QUICK_PATIENCE="2") as daemon:
        stand.write("good", "good_more")
        await stand.arrived(daemon, "good_more")
        await until_named(stand, path.parent)
    # The context has ended the daemon, which still hangs there.
    for call in calls:
        stand.faults.clear(call)
    await stand.settles()


async def until_named(stand: Stand, folder: Path) -> None:
    """Wait until `status` names the folder."""
    while True:
        said = await verb(stand.workspace, "status", "--json", env=environment(stand.workspace, stand.posthog.url))
        if str(folder) in json.loads(said.stdout)["hanging"]:
            return


# ---------------------------------------------------------------------- logs


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open", errno.EACCES),
        ("open", errno.EIO),
        ("read", errno.EIO),
        ("read", errno.ESTALE),
        ("pread", errno.EIO),
    ],
)
async def test_a_log_that_cannot_be_read_is_logged_once_and_read_later(stand: Stand, call: Call, error: int) -> None:
    async with stand.following() as daemon:
        path = stand.write("bad")
        stand.write("good")
        await stand.arrived(daemon, "bad", "good")
        stand.faults.inject(call, error, path.name)
        stand.write("bad", "bad_more")
        await daemon.until(lambda: stand.faults.hits(call) >= 4)
        stand.write("good", "good_more")
        await stand.arrived(daemon, "good_more")
        [line] = lines_of(daemon, "log_unreadable")
        assert line["path"] == str(path)
        assert line["level"] == "warning"
        stand.faults.clear(call)
        await stand.arrived(daemon, "bad_more")
        assert len(lines_of(daemon, "log_readable_again")) == 1
    assert times_each_came(stand.posthog) == {1}
    await stand.settles()


async def test_a_log_that_cannot_be_read_is_not_tried_all_the_time_even_if_something_in_it_is_due(stand: Stand) -> None:
    def write_open(name: str, answer: str) -> Path:
        """Continue a session with an answer that only time makes final."""
        path = stand.write(name)
        log, written = stand.logs[name]
        log.answer(text("well"), id=f"msg_{answer}")
        append(path, of_lines(log, written))
        stand.logs[name] = log, len(log.lines)
        return path

    async with stand.following() as daemon:
        path = write_open("bad", "due")
        await stand.arrived(daemon, "bad")
        stand.faults.inject("open", errno.EACCES, path.name)
        append(path, b"{}\n")
        await daemon.until(lambda: stand.faults.hits("open") >= 3)
        for number in range(2):
            before, began = stand.faults.hits("open"), time.monotonic()
            write_open(f"good{number}", f"later{number}")
            await stand.arrived(daemon, f"later{number}")
        # It looks every fifth of a second for at least a second: only then is an answer final.
        assert stand.faults.hits("open") - before < 40 * (time.monotonic() - began)
        stand.faults.clear("open")
        await stand.arrived(daemon, "due")
    await stand.settles()


async def test_without_descriptors_one_line_is_logged_and_everything_is_read_afterwards(stand: Stand) -> None:
    async with stand.following() as daemon:
        stand.faults.inject("open", errno.EMFILE, ".jsonl")
        names = [f"log{number}" for number in range(5)]
        for name in names:
            stand.write(name)
        await daemon.until(lambda: stand.faults.hits("open") >= 40)
        assert len(lines_of(daemon, "log_unreadable")) == 1
        stand.faults.clear("open")
        await stand.arrived(daemon, *names)
        assert len(lines_of(daemon, "log_readable_again")) == 1
    await stand.settles()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
async def test_a_log_whose_status_cannot_be_read_is_not_gone(stand: Stand, error: int) -> None:
    async with stand.following() as daemon:
        path = stand.write("hidden")
        await stand.arrived(daemon, "hidden")
        stand.faults.inject("lstat", error, path.name)
        stand.write("hidden", "more")
        await daemon.until(lambda: stand.faults.hits("lstat") >= 4)
        stand.faults.clear("lstat")
        await stand.arrived(daemon, "more")
        assert "session_removed" not in events(daemon)
    await stand.settles()


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("folder", ["projects", "-home-ada-orchard"])
async def test_a_folder_that_cannot_be_listed_is_logged_once_and_its_logs_are_not_gone(
    stand: Stand, error: int, folder: str
) -> None:
    async with stand.following() as daemon:
        stand.write("known")
        await stand.arrived(daemon, "known")
        stand.faults.inject("opendir", error, f"/{folder}")
        # The folder has changed, so it has to be listed, and that fails.
        stand.write("fresh")
        await daemon.until(lambda: bool(lines_of(daemon, "folder_unreadable")))
        before = stand.faults.hits("opendir")
        await daemon.until(lambda: stand.faults.hits("opendir") >= before + 4)
        stand.write("known", "more")
        await stand.arrived(daemon, "more")
        assert len(lines_of(daemon, "folder_unreadable")) == 1
        assert "session_removed" not in events(daemon)
        stand.faults.clear("opendir")
        await stand.arrived(daemon, "fresh")
        await daemon.until(lambda: len(lines_of(daemon, "folder_readable_again")) == 1)
    assert times_each_came(stand.posthog) == {1}
    await stand.settles()


async def test_short_reads_make_no_difference(stand: Stand) -> None:
    stand.faults.inject("read", SHORT, ".jsonl")
    stand.faults.inject("pread", SHORT, ".jsonl")
    async with stand.following() as daemon:
        stand.write("short")
        await stand.arrived(daemon, "short")
        stand.write("short", "more", "and_more")
        await stand.arrived(daemon, "more", "and_more")
        assert "file_replaced" not in events(daemon)
    assert stand.faults.hits("read") > 10
    assert stand.faults.hits("pread") > 1
    assert times_each_came(stand.posthog) == {1}
    await stand.settles()


# ---------------------------------------------------------------------- watching


async def test_without_watches_files_are_polled_and_one_line_says_so(stand: Stand) -> None:
    stand.faults.inject("watch", errno.ENOSPC, "/projects")
    async with stand.following() as daemon:
        for name in ("first", "second"):
            stand.write(name)
            await stand.arrived(daemon, name)
        [line] = lines_of(daemon, "watch_limit_reached")
        assert line["reason"] == "ENOSPC"
        assert "max_user_watches" in line["hint"]
        stand.faults.clear("watch")
        await daemon.until(lambda: "watching_again" in events(daemon))
        stand.write("second", "third")
        await stand.arrived(daemon, "third")
    await stand.settles()


@pytest.fixture
def quick(machine: Machine) -> None:
    machine.cadence = Cadence(tick=0.05, hot_sweep=0.2)


@pytest.mark.usefixtures("quick")
async def test_lost_hints_lead_to_a_full_sweep_at_once(
    machine: Machine, posthog: CaptureServer, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue overflows, and its hints are lost."""
    machine.cadence = Cadence(tick=0.05, hot_sweep=3600.0)
    monkeypatch.setattr(Lookout, "hint", lambda _self, _path: None)
    async with machine.following(posthog.url):
        log = a_session("unheard", start=now())
        append(machine.projects / log.path, of_lines(log, 0))
        logging.getLogger("watchdog").warning("queue overflow")
        await until(lambda: span_ids(posthog) == ["msg_unheard"], "what nobody has told of")
    assert [line["event"] for line in logged].count("watch_events_lost") == 1


@pytest.mark.usefixtures("quick")
async def test_a_config_folder_that_is_created_later_is_followed(machine: Machine, posthog: CaptureServer) -> None:
    shutil.rmtree(machine.config)
    async with machine.following(posthog.url):
        log = a_session("first", start=now())
        append(machine.projects / log.path, of_lines(log, 0))
        await until(lambda: span_ids(posthog) == ["msg_first"], "the first session ever")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("moved", [False, True])
async def test_a_root_that_is_deleted_or_moved_and_created_again_is_followed(
    machine: Machine, posthog: CaptureServer, *, moved: bool
) -> None:
    before, after = a_session("before", start=now()), a_session("after", start=now())
    async with machine.following(posthog.url) as running:
        append(machine.projects / before.path, of_lines(before, 0))
        await until(lambda: span_ids(posthog) == ["msg_before"], "the session before")
        if moved:
            machine.projects.rename(machine.root / "away")
        else:
            shutil.rmtree(machine.projects)
        append(machine.projects / after.path, of_lines(after, 0))
        await until(lambda: "msg_after" in span_ids(posthog), "the session after")
        assert not running.done()
    assert span_ids(posthog, "generation") == ["msg_before", "msg_after"]


# ---------------------------------------------------------------------- the store


@pytest.mark.parametrize(
    ("call", "error"),
    [("write", errno.ENOSPC), ("write", errno.EIO), ("write", errno.EROFS), ("fsync", errno.EIO)],
)
async def test_a_store_that_cannot_be_written_is_logged_once_and_written_later(
    stand: Stand, call: Call, error: int
) -> None:
    async with stand.following() as daemon:
        stand.write("first")
        await stand.arrived(daemon, "first")
        stand.faults.inject(call, error, "/state.db")
        # A new session: the store refuses its route, too, which must be written before its first event.
        stand.write("second")
        stand.write("first", "more")
        await daemon.until(lambda: stand.faults.hits(call) >= 4)
        told = [line for line in log_lines(daemon.stderr) if line["level"] == "error"]
        assert {line["event"] for line in told} == {"store_unwritable"}
        # One line for each of the two writes that wait, however often they are tried: a route, and a commit.
        assert len(told) <= 2
        stand.faults.clear(call)
        await stand.arrived(daemon, "second", "more")
        # The second of the two may have been refused only after the look above.
        await daemon.until(
            lambda: len(lines_of(daemon, "store_writable_again")) == len(lines_of(daemon, "store_unwritable"))
        )
    assert times_each_came(stand.posthog) == {1}
    await stand.settles()


async def test_a_store_that_cannot_be_read_is_logged_once_and_asked_again(stand: Stand) -> None:
    async with stand.following() as daemon:
        # The connection for lookups is opened when it is first needed.
        stand.faults.inject("open", errno.EMFILE, "/state.db")
        for number in range(3):
            stand.write(f"log{number}")
        await daemon.until(lambda: stand.faults.hits("open") >= 6)
        assert len(lines_of(daemon, "store_unreadable")) == 1
        stand.faults.clear("open")
        await stand.arrived(daemon, "log0", "log1", "log2")
        assert len(lines_of(daemon, "store_readable_again")) == 1
    await stand.settles()


async def test_a_store_that_another_process_writes_to_is_waited_for(stand: Stand) -> None:
    async with stand.following() as daemon:
        stand.write("first")
        await stand.arrived(daemon, "first")
        with contextlib.closing(sqlite3.connect(stand.workspace.state / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            stand.write("first", "second")
            await stand.arrived(daemon, "second")
            other.execute("ROLLBACK")
        stand.write("first", "third")
        await stand.arrived(daemon, "third")
        assert not [line for line in log_lines(daemon.stderr) if line["level"] in ("warning", "error")]
    assert times_each_came(stand.posthog) == {1}
    await stand.settles()


async def test_a_store_damaged_while_in_use_ends_the_daemon_and_the_next_one_starts(stand: Stand) -> None:
    path = stand.workspace.state / "state.db"
    async with stand.following() as daemon:
        stand.write("first")
        await stand.arrived(daemon, "first")
        for name in ("state.db", "state.db-wal"):
            beside = path.with_name(name)
            beside.write_bytes(b"\xff" * max(beside.stat().st_size, 8192))
        path.with_name("state.db-shm").write_bytes(b"\xff" * 32768)
        for number in range(3):
            stand.write(f"log{number}")
        assert await daemon.wait() == 1, daemon.stderr
        [error] = [line for line in daemon.stderr.splitlines() if line.startswith("error: ")]
        assert "damaged" in error
    async with stand.following() as daemon:
        assert len(lines_of(daemon, "store_corrupt")) == 1
        await stand.arrived(daemon, "first", "log0", "log1", "log2")
    await stand.settles()


@pytest.mark.parametrize(("call", "error"), [("open", errno.EROFS), ("write", errno.ENOSPC), ("open", errno.EACCES)])
async def test_a_state_folder_that_cannot_be_written_at_the_start_is_reported_in_one_line(
    stand: Stand, call: Call, error: int
) -> None:
    stand.faults.inject(call, error, f"{stand.workspace.state}/")
    async with stand.following(ready=False) as daemon:
        assert await daemon.wait() == 1
        errors = [line for line in daemon.stderr.splitlines() if not line.startswith("{")]
        assert len(errors) == 1, daemon.stderr
        assert errors[0].startswith("error: ")
        assert str(stand.workspace.state) in errors[0]
    stand.faults.clear(call)
    async with stand.following() as daemon:
        stand.write("first")
        await stand.arrived(daemon, "first")
    await stand.settles()
