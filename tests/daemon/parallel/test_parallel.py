"""Workers read: what comes of it is what one process alone makes of the same logs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.delivering.batcher import BatchLimits
from daemon.delivering.delivery import Delivery, Prepare, Settle
from daemon.delivering.route import Route
from daemon.delivering.sink import AttemptOutcome, Delivered
from daemon.following.cadence import Cadence
from daemon.history.backfill_request import BackfillDesk, BackfillRequest
from daemon.parallel import crew
from daemon.parallel.crew import Launch
from daemon.parallel.wire import LENGTH, Setup, encode_setup
from daemon.service import Service
from daemon.state import layout
from daemon.system.command import same_python
from llma_core.events import CaptureEvent
from tests.support.histories import History, forks, histories, hosted
from tests.support.logs import LogBuilder, text, write_files
from tests.support.machine import Logged, Machine
from tests.support.processes import running_below, session_id, until
from tests.support.waiting import PATIENCE
from tests.support.workers import in_threads, thread_for


@dataclass
class Receiver:
    """Takes every event, and remembers them in order."""

    event_limit: int = 1 << 30
    events: list[tuple[str, bytes]] = field(default_factory=list)

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        self.events += [(event.uuid, event.body) for event in events]
        return Delivered()

    async def aclose(self) -> None:
        """Have nothing to close."""

    def delivery(self, route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        return Delivery(self, prepare=prepare, settle=settle, name=route.name, concurrency=1)


@dataclass
class Counting(Receiver):
    """Takes five events at a time, or any number in bulk, and remembers how many came together."""

    sizes: list[int] = field(default_factory=list)

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        self.sizes.append(len(events))
        return await super().send(events)

    def delivery(self, route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        limits = BatchLimits(count=5, linger=PATIENCE, linger_old=PATIENCE)
        return Delivery(self, batch=limits, prepare=prepare, settle=settle, name=route.name, concurrency=1)


@dataclass
class Gauging(Counting):
    """Asks with each batch how much is still to be read."""

    service: Service | None = None
    progress: list[tuple[int, int]] = field(default_factory=list)

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        assert self.service is not None
        self.progress.append(self.service.progress())
        return await super().send(events)


Told = tuple[list[tuple[str, bytes]], dict[str, list[Any]]]


async def told(files: Mapping[str, bytes], launch: Launch | None, *, slice_bytes: int, grouping: str) -> Told:
    """Return the events that were delivered of *files*, each as it came last, in order, and what the store has then."""
    with tempfile.TemporaryDirectory(prefix="machine-") as folder, capture_logs():
        machine = Machine(Path(folder))
        machine.cadence = Cadence(slice_bytes=slice_bytes)
        write_files(machine.projects, files)
        receiver = Receiver()
        await machine.once(
            "http://127.0.0.1:9",
            make_delivery=receiver.delivery,
            launch=launch,
            POSTHOG_LLMA_TRACE_GROUPING=grouping,
        )
        # Whether a body is sent that a later one of its uuid supersedes depends on how long it had waited by then.
        last: dict[str, bytes] = {}
        for uuid, body in reversed(receiver.events):
            last.setdefault(uuid, body)
        return list(reversed(last.items())), stored(machine, folder)


def stored(machine: Machine, folder: str) -> dict[str, list[Any]]:
    """Return what the store has, but for what differs from one file system to the next."""
    asked = {
        "files": 'SELECT unit, replace(path, ?, ""), "offset", head, tail FROM files',
        "settled": "SELECT identity, units.name, mark, ?='' FROM settled JOIN units ON units.id=unit",
        "owed": "SELECT unit, trace, ending, ?='' FROM owed",
        "routes": "SELECT unit, distinct_id, grouping, host, key, ?='' FROM routes",
        # A line that cannot be read counts again where a session is read again, and a body that was superseded was
        # not sent.
        "counters": "SELECT name, value, ?='' FROM counters WHERE name = 'rejected'",
    }
    with contextlib.closing(sqlite3.connect(machine.state / layout.STORE)) as store:
        return {name: sorted(store.execute(query, (folder,))) for name, query in asked.items()}


@dataclass(frozen=True, slots=True, repr=False)
class Drawn:
    """The files of some sessions."""

    files: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"{len(self.files)} files"


def side_by_side(drawn: Sequence[History]) -> Drawn:
    """Return the files of several histories, each with sessions and projects of its own."""
    files = {}
    for number, history in enumerate(drawn):
        for name, data in {**history.logs, **history.metas}.items():
            folder, _, rest = name.partition("/")
            place = f"{folder}-{number}/{rest.replace('f4d1c52', f'f4d1c5{number}')}"
            files[place] = data.replace(b"f4d1c52", b"f4d1c5%d" % number)
    return Drawn(files)


several = st.lists(
    st.one_of(forks().map(lambda drawn: drawn[0]), hosted().map(lambda drawn: drawn[0]), histories()),
    min_size=2,
    max_size=3,
).map(side_by_side)


@given(
    drawn=several, slice_bytes=st.sampled_from([700, 5_000, 1 << 20]), grouping=st.sampled_from(["session", "message"])
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
async def test_what_workers_read_comes_to_the_same_events_and_the_same_state(
    drawn: Drawn, slice_bytes: int, grouping: str
) -> None:
    alone = await told(drawn.files, None, slice_bytes=slice_bytes, grouping=grouping)
    together = await told(drawn.files, in_threads, slice_bytes=slice_bytes, grouping=grouping)

    assert together[0] == alone[0]
    for table, rows in alone[1].items():
        assert together[1][table] == rows


# ---------------------------------------------------------------------- real processes


def apart(number: int) -> dict[str, bytes]:
    """Return the files of sessions that have nothing in common, not even the time at which they began."""
    files: dict[str, bytes] = {}
    for day in range(1, number + 1):
        log = LogBuilder(session_id(f"apart {day}"), start=f"2026-03-{day:02}T08:00:00.000Z")
        for turn in range(4):
            log.prompt(f"Count the trees of row {turn}")
            log.answer(text(f"{turn} trees on day {day}."), id=f"msg_{day}_{turn}")
        files |= log.files()
    return files


@dataclass
class Launcher:
    """Starts real workers, and knows them."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __call__(self, connections: Sequence[socket.socket]) -> Sequence[subprocess.Popen[bytes]]:
        self.processes += crew.launch(connections)
        return self.processes

    def hitting_one(
        self, number: signal.Signals, connections: Sequence[socket.socket]
    ) -> Sequence[subprocess.Popen[bytes]]:
        """Start workers, and send a signal to one of them before it is told what to read."""
        started = self(connections)
        forkers = {process.pid for process in started} if len(started) < len(connections) else set()
        deadline = time.monotonic() + PATIENCE
        while len(workers := self.running() - forkers) < len(connections):
            assert time.monotonic() < deadline, "not all workers were started"
        os.kill(workers.pop(), number)
        return started

    def running(self) -> set[int]:
        """Return the processes that run: the workers, and what has forked them."""
        return {pid for process in self.processes for pid in running_below(process.pid)} | {
            process.pid for process in self.processes if process.poll() is None
        }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_real_workers_read_everything_and_one_that_is_killed_or_hangs_costs_nothing(
    machine: Machine, logged: Logged, number: signal.Signals
) -> None:
    if number == signal.SIGSTOP:
        machine.patience = 0.2
    write_files(machine.projects, apart(12))
    receiver, launcher = Receiver(), Launcher()

    settled = await machine.once(
        "http://127.0.0.1:9", make_delivery=receiver.delivery, launch=partial(launcher.hitting_one, number)
    )

    assert settled
    assert {uuid: json.loads(body) for uuid, body in receiver.events} == machine.preview()
    assert len(receiver.events) == len(dict(receiver.events)), "no event comes twice"
    # On a busy machine the other one may say nothing for a moment, too.
    assert {line["event"] for line in logged if line["log_level"] != "debug"} == {"worker_lost"}
    await until(lambda: not launcher.running(), "the end of all workers")


@pytest.mark.parametrize("launch", [None, in_threads])
async def test_what_is_still_to_be_read_becomes_what_was_read(machine: Machine, launch: Launch | None) -> None:
    machine.cadence = Cadence(slice_bytes=512)
    files = apart(3)
    write_files(machine.projects, files)
    receiver = Gauging()
    async with machine.service(
        "http://127.0.0.1:9", history="send", make_delivery=receiver.delivery, launch=launch
    ) as service:
        receiver.service = service
        assert await service.run_once()
        size = sum(map(len, files.values()))
        assert service.progress() == (size, 0)
    assert {read + unread for read, unread in receiver.progress} == {size}
    # What workers have read of so little comes at once.
    assert len(set(receiver.progress)) > 1 or launch is not None
    assert receiver.progress == sorted(receiver.progress)
    assert receiver.progress[0] > (0, 0)


async def test_workers_end_with_the_run_that_is_interrupted(machine: Machine) -> None:
    write_files(machine.projects, apart(12))
    launcher, sending = Launcher(), asyncio.Event()

    class Silent(Receiver):
        async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
            del events
            sending.set()
            await asyncio.Event().wait()
            raise AssertionError

    machine.cadence = Cadence(drain=0.0)
    async with machine.service(
        "http://127.0.0.1:9", history="send", make_delivery=Silent().delivery, launch=launcher
    ) as service:
        run = asyncio.create_task(service.run_once())
        await asyncio.wait_for(sending.wait(), PATIENCE)
        run.cancel()
        await asyncio.wait({run}, timeout=PATIENCE)

    assert run.cancelled()
    assert launcher.processes
    await until(lambda: not launcher.running(), "the end of all workers")


def test_the_workers_end_although_one_ended_just_when_they_were_told_to() -> None:
    """What has forked them has waited for that one by then."""
    pairs = [socket.socketpair() for _ in range(2)]
    descriptors = [there.fileno() for _, there in pairs]
    code = f"""import os, signal
from daemon.parallel import worker
wait = os.wait
def wait_until_told():
    ended = wait()
    os.kill(os.getpid(), signal.SIGTERM)
    return ended
os.wait = wait_until_told
worker.main({descriptors})
"""
    process = subprocess.Popen(same_python(code), pass_fds=descriptors, stderr=subprocess.DEVNULL)
    (ending, _), (waiting, _) = pairs
    with waiting:
        for _, there in pairs:
            there.close()
        ending.close()
        assert process.wait(PATIENCE) == 0


async def test_without_sockets_for_workers_everything_is_read_without_them(
    machine: Machine, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(machine.projects, apart(4))
    receiver, made = Receiver(), [socket.socketpair()]
    unused = iter(made)

    def make() -> tuple[socket.socket, socket.socket]:
        pair = next(unused, None)
        if pair is None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pair

    monkeypatch.setattr(socket, "socketpair", make)
    assert await machine.once("http://127.0.0.1:9", make_delivery=receiver.delivery, launch=in_threads)

    assert {uuid: json.loads(body) for uuid, body in receiver.events} == machine.preview()
    assert [line["event"] for line in logged if line["log_level"] != "debug"] == ["workers_not_started"]
    assert [each.fileno() for pair in made for each in pair] == [-1, -1]


async def test_only_what_workers_have_read_goes_in_large_batches(tmp_path: Path) -> None:
    """What is read here keeps its session in memory until it is settled."""
    alone, together = Counting(), Counting()
    for receiver, launch, name in ((alone, None, "alone"), (together, in_threads, "together")):
        machine = Machine(tmp_path / name)
        machine.moves_in(apart(6), age=3_600)
        assert await machine.once("http://127.0.0.1:9", make_delivery=receiver.delivery, launch=launch)
        assert {uuid: json.loads(body) for uuid, body in receiver.events} == machine.preview()

    assert max(alone.sizes) == 5
    assert max(together.sizes) > 5


def everything_of(machine: Machine, *, jobs: int) -> BackfillRequest:
    """Return what asks for all sessions."""
    logs = {path.stem: path.stat().st_size for path in machine.projects.glob("*/*.jsonl")}
    return BackfillRequest(
        id="a" * 32, units={f"claude-code/{session}": size for session, size in logs.items()}, jobs=jobs
    )


async def test_workers_read_for_a_running_daemon_what_a_backfill_asks_for(machine: Machine) -> None:
    machine.moves_in(apart(12), age=3_600)
    machine.cadence = Cadence(tick=0.01)
    receiver, desk, threads = Receiver(), BackfillDesk(machine.state), list[threading.Thread]()

    def launch(connections: Sequence[socket.socket]) -> tuple[()]:
        for connection in connections:
            threads.append(thread_for(connection))
            threads[-1].start()
        return ()

    request = everything_of(machine, jobs=3)
    async with machine.following(
        "http://127.0.0.1:9", quiet=60, make_delivery=receiver.delivery, launch=launch, desk=desk
    ):
        desk.ask(request)
        await until(lambda: (report := desk.report(request)) is not None and report.done, "the end of the backfill")
        headway = desk.report(request)
        await until(lambda: not any(thread.is_alive() for thread in threads), "the end of the workers")

    assert headway is not None
    assert headway.headway.is_whole
    assert headway.headway.bytes_done == headway.headway.bytes
    assert len(threads) == 3, "as many as the request says"
    assert {uuid: json.loads(body) for uuid, body in receiver.events} == machine.preview()
    assert len(receiver.events) == len(dict(receiver.events)), "no event comes twice"


async def test_a_backfill_beside_following_does_not_wait_for_a_worker_that_hangs(
    machine: Machine, logged: Logged
) -> None:
    machine.moves_in(apart(6), age=3_600)
    machine.cadence = Cadence(tick=0.01)
    machine.patience = 0.1
    receiver, desk, silent = Receiver(), BackfillDesk(machine.state), list[socket.socket]()

    def launch(connections: Sequence[socket.socket]) -> tuple[()]:
        silent.append(connections[0].dup())
        return in_threads(connections[1:])

    request = everything_of(machine, jobs=2)
    async with machine.following(
        "http://127.0.0.1:9", quiet=60, make_delivery=receiver.delivery, launch=launch, desk=desk
    ):
        desk.ask(request)
        await until(lambda: (report := desk.report(request)) is not None and report.done, "the end of the backfill")

    silent[0].close()
    assert {uuid: json.loads(body) for uuid, body in receiver.events} == machine.preview()
    assert len(receiver.events) == len(dict(receiver.events)), "no event comes twice"
    assert "worker_lost" in {line["event"] for line in logged}


def test_a_worker_of_another_version_reads_nothing(machine: Machine) -> None:
    here, there = socket.socketpair()
    with there:
        thread = thread_for(there)
    thread.start()
    setup = Setup(settings=machine.settings(), purpose="send", line_bytes=1 << 20, version="0.0.1")
    body = encode_setup(setup)

    with here:
        here.sendall(LENGTH.pack(len(body)) + body)
        answer = here.recv(1)

    assert answer == b""
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_worker_ends_when_nobody_listens_any_more() -> None:
    here, there = socket.socketpair()
    with there:
        thread = thread_for(there)
    thread.start()

    here.close()

    thread.join(PATIENCE)
    assert not thread.is_alive()
