"""The whole service on real files against a strict receiver on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import service as service_module
from daemon.delivering.delivery import Delivery, Prepare, Settle
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.retry import RetryPolicy
from daemon.delivering.route import Route
from daemon.delivering.sink import AttemptOutcome
from daemon.following.cadence import Cadence
from daemon.following.log_roots import LogRoot
from daemon.following.sweep import Sweep
from daemon.following.tailer import open_log
from daemon.following.watcher import Watcher
from daemon.reading.reader import Reader, ReadOutcome
from daemon.reading.settlement import Settlement
from daemon.reading.standing import Standing
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.state import layout
from daemon.state.reader import StoreReader
from daemon.state.rows import FrozenRoute
from daemon.state.store import Store
from llma_core.events import CaptureEvent
from tests.support.capture_server import AI_PATH, Answer, CaptureServer, Event, Refusal
from tests.support.logs import LogBuilder, text, tool_use, write_files
from tests.support.machine import YEAR, Logged, Machine, a_session, of_lines, span_ids, times_each_came
from tests.support.processes import SECRET, append, bodies, hosting, many_sessions, now, session_id, tree, until
from tests.support.waiting import PATIENCE

# ---------------------------------------------------------------------- live


async def test_events_arrive_while_the_session_is_still_being_written(machine: Machine, posthog: CaptureServer) -> None:
    async with machine.following(posthog.url):
        log = LogBuilder(session_id("live"), start=now())
        path = machine.projects / log.path
        written = 0

        def write() -> None:
            nonlocal written
            for line in of_lines(log, written).splitlines(keepends=True):
                append(path, line)
            written = len(log.lines)

        log.prompt("Count the trees")
        write()
        log.answer(text("I will look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"), id="msg_1")
        write()
        # Nothing follows, so only time makes the answer final.
        await until(lambda: span_ids(posthog) == ["msg_1"], "the first answer")
        log.tool_result("toolu_ls", "ada\nbob")
        write()
        await until(lambda: span_ids(posthog) == ["msg_1", "toolu_ls"], "the call")
        answer = log.message(id="msg_2")
        answer.add(text("Two."), last=True)
        log.prompt("Thanks")
        write()
        await until(lambda: span_ids(posthog) == ["msg_1", "toolu_ls", "msg_2"], "the second answer")
        log.answer(text("With pleasure."), id="msg_3")
        write()
        await until(lambda: span_ids(posthog) == ["msg_1", "toolu_ls", "msg_2", "msg_3"], "the last answer")

    assert times_each_came(posthog) == {1}
    expected = machine.preview()
    assert {event["uuid"]: event for event in posthog.events}.items() < expected.items()
    assert {event["event"] for uuid, event in expected.items() if uuid not in posthog.events_by_uuid} == {"$ai_trace"}


async def test_a_sessions_route_is_written_before_its_first_event_is_sent(
    machine: Machine, posthog: CaptureServer
) -> None:
    write_files(machine.projects, many_sessions(8, 20))

    strangers = set()

    class Sink(CaptureSink):
        async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
            with contextlib.closing(sqlite3.connect(machine.state / layout.STORE)) as store:
                known = {unit.rpartition("/")[2] for (unit,) in store.execute("SELECT unit FROM routes")}
            sessions = {json.loads(event.body)["properties"]["$ai_session_id"] for event in events}
            strangers.update(sessions - known)
            return await super().send(events)

    def make_delivery(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        return Delivery(Sink(route.host, route.key.reveal()), prepare=prepare, settle=settle)

    assert await machine.once(posthog.url, make_delivery=make_delivery)
    assert bodies(posthog).keys() == machine.preview().keys()
    assert not strangers


async def test_if_a_sessions_route_cannot_be_written_nothing_of_it_is_sent_even_at_the_end(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.cadence = Cadence(store_retry=0.01)
    log = a_session("unwritten", start=now())
    refused = 0

    def refuse(_: Store, routes: Mapping[str, FrozenRoute]) -> None:
        nonlocal refused
        assert len(routes) == 1
        refused += 1
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "freeze", refuse)
        async with machine.service(posthog.url) as service:
            running = asyncio.create_task(service.run())
            append(machine.projects / log.path, of_lines(log, 0))
            await until(lambda: refused > 1, "that it was tried")
            service.stop(drain=0.2)
            await running
    assert not posthog.requests
    assert await machine.once(posthog.url, history="skip")
    assert span_ids(posthog) == ["msg_unwritten", log.session]


async def test_a_session_that_continues_after_a_long_quiet_has_not_ended(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The daemon does not look in between, as if the route had no room for hours.
    machine.cadence = Cadence(tick=YEAR)
    log = a_session("slow", start=now())
    async with machine.following(posthog.url, quiet=600.0):
        path = machine.projects / log.path
        append(path, of_lines(log, 0))
        await until(lambda: span_ids(posthog) == ["msg_slow"], "its answer")
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: time.monotonic() + 700)
        written = len(log.lines)
        log.answer(text("You are welcome."), id="msg_welcome")
        log.prompt("And now?")
        answer = log.message(id="msg_open")
        answer.add(text("Well, "), last=False)
        append(path, of_lines(log, written))
        await until(lambda: "msg_welcome" in span_ids(posthog), "what came after the quiet")
        written = len(log.lines)
        answer.add(text("nothing more."))
        log.prompt("bye")
        append(path, of_lines(log, written))
        await until(lambda: "msg_open" in span_ids(posthog), "the answer that was being written")
    # A request that was under way when the clock went forward is made again.
    assert list(dict.fromkeys(span_ids(posthog))) == ["msg_slow", "msg_welcome", "msg_open"]
    assert posthog.events[-1] == machine.preview()[posthog.events[-1]["uuid"]]


async def test_a_line_written_in_pieces_is_one_line(machine: Machine, posthog: CaptureServer) -> None:
    async with machine.following(posthog.url):
        log = a_session("pieces", start=now())
        data = log.files()[log.path]
        cut = len(data) - 40
        append(machine.projects / log.path, data[:cut])
        other = a_session("other", start=now())
        append(machine.projects / other.path, other.files()[other.path])
        await until(lambda: span_ids(posthog) == ["msg_other"], "the whole one")
        append(machine.projects / log.path, data[cut:])
        await until(lambda: span_ids(posthog) == ["msg_other", "msg_pieces"], "the other one")


async def test_following_live_delivers_the_bodies_of_preview(machine: Machine, posthog: CaptureServer) -> None:
    files = tree()
    copies = {name: data for name, data in files.items() if session_id("fork") in name or session_id("branch") in name}
    originals = {name: data for name, data in files.items() if name not in copies}
    async with machine.following(posthog.url, history="send", quiet=2.0):
        grow(machine.projects, originals)
        expected = machine.preview()
        await until(lambda: posthog.events_by_uuid.keys() >= expected.keys(), "all events of the originals")
        grow(machine.projects, copies)
        expected = machine.preview()
        await until(lambda: posthog.events_by_uuid.keys() >= expected.keys(), "all events")
    assert bodies(posthog).keys() == expected.keys()
    assert {event["uuid"]: event for event in posthog.events} == expected


def grow(projects: Path, files: Mapping[str, bytes]) -> None:
    """Write *files* line by line in turn, so that all of them are open at the same time."""
    left = {name: data.splitlines(keepends=True) for name, data in files.items() if name.endswith(".jsonl")}
    write_files(projects, {name: data for name, data in files.items() if name not in left})
    while left:
        for name, lines in list(left.items()):
            append(projects / name, lines.pop(0))
            if not lines:
                del left[name]


async def test_the_trace_is_sent_when_the_process_is_gone_and_not_before(
    machine: Machine, posthog: CaptureServer
) -> None:
    running = a_session("running", start=now())
    record = machine.registers(running.session)
    async with machine.following(posthog.url):
        machine.moves_in(running.files(), age=3600)
        await until(lambda: span_ids(posthog) == ["msg_running"], "its answer")
        # One that came later had its turn, the other one not, though it is as old.
        later = a_session("later", start=now())
        machine.moves_in(later.files(), age=3600)
        await until(lambda: span_ids(posthog, "trace") == [later.session], "a trace")
        record.unlink()
        await until(lambda: span_ids(posthog, "trace")[1:] == [running.session], "the other one's trace")
    assert times_each_came(posthog) == {1}


def waiting(name: str) -> LogBuilder:
    """A session whose last answer, `msg_{name}_last`, has made a call that has no result yet."""
    log = a_session(name, start=now())
    log.answer(tool_use("Bash", {"command": "make"}, id=f"toolu_{name}"), id=f"msg_{name}_last", stop_reason="tool_use")
    return log


async def test_an_unregistered_session_is_not_over_while_a_call_is_open(
    machine: Machine, posthog: CaptureServer
) -> None:
    """A client in a container, or a teammate in a pane of its own: it is in no registry that can be seen from here."""
    machine.registers("another session")
    async with machine.following(posthog.url, quiet=3000.0):
        busy, silent = waiting("busy"), waiting("silent")
        machine.moves_in(busy.files(), age=2000)
        await until(lambda: "msg_busy_last" in span_ids(posthog), "its last answer")
        machine.moves_in(silent.files(), age=3100)
        await until(lambda: "toolu_silent" in span_ids(posthog, "span"), "a call that is given up")
        assert "toolu_busy" not in span_ids(posthog)
        assert span_ids(posthog, "trace") == [silent.session]


async def test_an_unregistered_session_at_rest_has_its_trace_after_five_minutes(
    machine: Machine, posthog: CaptureServer
) -> None:
    async with machine.following(posthog.url):
        recent, old = a_session("recent", start=now()), a_session("old", start=now())
        machine.moves_in(recent.files(), age=240)
        await until(lambda: span_ids(posthog) == ["msg_recent"], "its answer")
        machine.moves_in(old.files(), age=310)
        await until(lambda: span_ids(posthog, "trace") == [old.session], "the trace of the older one")
        before = len(old.lines)
        old.answer(text("And there is more."), id="msg_old_more")
        append(machine.projects / old.path, of_lines(old, before))
        await until(lambda: "msg_old_more" in span_ids(posthog), "what came later")
        assert span_ids(posthog, "trace") == [old.session]


async def test_the_end_of_a_session_that_an_earlier_run_saw_is_proved(machine: Machine, posthog: CaptureServer) -> None:
    log, other = waiting("seen"), waiting("unseen")
    record = machine.registers(log.session)
    async with machine.following(posthog.url, history="send"):
        machine.moves_in(log.files() | other.files(), age=60)
        await until(lambda: {"msg_seen_last", "msg_unseen_last"} < set(span_ids(posthog)), "their answers")
    record.unlink()
    async with machine.following(posthog.url):
        await until(lambda: span_ids(posthog, "trace") == [log.session], "its trace")
        assert "toolu_seen" in span_ids(posthog)
        assert "toolu_unseen" not in span_ids(posthog)


async def test_the_end_of_a_session_of_a_moment_is_proved(machine: Machine, posthog: CaptureServer) -> None:
    """Its process came and went before the daemon found a line of it."""
    machine.cadence = Cadence(gone=0.2)
    seen, unseen = waiting("seen"), waiting("unseen")
    machine.registers("another session").unlink()
    async with machine.following(posthog.url, history="send"):
        record = machine.registers(seen.session)
        await until(lambda: seen.session in machine.sighted(), "a look at its record")
        record.unlink()
        machine.moves_in(seen.files() | unseen.files(), age=0)
        await until(lambda: span_ids(posthog, "trace") == [seen.session], "its trace")
        assert "toolu_seen" in span_ids(posthog)
        assert "toolu_unseen" not in span_ids(posthog)


async def test_a_proof_says_nothing_about_what_was_written_after_it(machine: Machine, posthog: CaptureServer) -> None:
    """The session was resumed where its client cannot register."""
    machine.cadence = Cadence(gone=0.5)
    log = waiting("resumed")
    record = machine.registers(log.session)
    async with machine.following(posthog.url, history="send"):
        machine.moves_in(log.files(), age=60)
        await until(lambda: "msg_resumed_last" in span_ids(posthog), "its answer")
        record.unlink()
        await until(lambda: span_ids(posthog, "trace") == [log.session], "its trace")
    begun = len(log.lines)
    log.prompt("go on")
    log.answer(tool_use("Bash", {"command": "x"}, id="toolu_more"), id="msg_more", stop_reason="tool_use")
    at = time.time() + 3600
    append(machine.projects / log.path, of_lines(log, begun))
    os.utime(machine.projects / log.path, (at, at))
    async with machine.following(posthog.url):
        await until(lambda: "msg_more" in span_ids(posthog), "its later answer")
        over = waiting("over")
        dead = machine.registers(over.session, pid=dead_pid())
        machine.moves_in(over.files(), age=60)
        await until(lambda: over.session in span_ids(posthog, "trace"), "the trace of one whose process is dead")
        assert dead.exists()
        assert "toolu_more" not in span_ids(posthog)


@pytest.mark.parametrize(
    "fields", [{"procStart": "1"}, {"startedAt": 1_600_000_000_000}, {"pidDomain": "linux:elsewhere:pid:[1]"}]
)
async def test_a_record_of_somebody_elses_process_neither_keeps_a_session_alive_nor_ends_it(
    machine: Machine, posthog: CaptureServer, fields: dict[str, Any]
) -> None:
    silent, busy = waiting("silent"), waiting("busy")
    machine.registers(silent.session, **fields)
    machine.registers(busy.session, pid=os.getppid(), **fields)
    async with machine.following(posthog.url, quiet=3000.0):
        machine.moves_in(busy.files(), age=60)
        await until(lambda: "msg_busy_last" in span_ids(posthog), "its answer")
        machine.moves_in(silent.files(), age=3100)
        await until(lambda: silent.session in span_ids(posthog, "trace"), "the trace of the quiet one")
        assert "toolu_busy" not in span_ids(posthog)
        assert "toolu_silent" in span_ids(posthog)


async def test_a_stale_record_leaves_nothing_to_another_daemon(machine: Machine, posthog: CaptureServer) -> None:
    log = waiting("stale")
    machine.registers(log.session, procStart="1")
    machine.moves_in(log.files(), age=60)
    assert await machine.once(posthog.url)
    assert {"msg_stale_last", "toolu_stale", log.session} < set(span_ids(posthog))


def dead_pid() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


async def test_without_a_registry_the_trace_is_sent_after_the_session_timeout(
    machine: Machine, posthog: CaptureServer
) -> None:
    async with machine.following(posthog.url, quiet=120.0):
        recent, old = a_session("recent", start=now()), a_session("old", start=now())
        machine.moves_in(recent.files(), age=60)
        machine.moves_in(old.files(), age=180)
        await until(lambda: set(span_ids(posthog)) == {"msg_recent", "msg_old", old.session}, "a trace, of one of them")
        assert span_ids(posthog, "trace") == [old.session]


async def test_a_session_that_continues_after_its_trace_gets_another_one(
    machine: Machine, posthog: CaptureServer
) -> None:
    log = a_session("resumed", start=now())
    async with machine.following(posthog.url, quiet=1.0):
        append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: span_ids(posthog, "trace") == [log.session], "the first trace")
        before = len(log.lines)
        log.prompt("one more thing")
        log.answer(text("as you like"), id="msg_more")
        append(machine.projects / log.path, of_lines(log, before))
        await until(lambda: span_ids(posthog, "trace") == [log.session] * 2, "the second trace")
    assert sorted(span_ids(posthog, "generation")) == ["msg_more", "msg_resumed"]
    last = [event for event in posthog.events if event["event"] == "$ai_trace"][-1]
    assert last == machine.preview()[last["uuid"]]
    assert last["properties"]["claude_code_generations"] == 2


async def test_an_owed_trace_is_sent_after_a_restart(machine: Machine, posthog: CaptureServer) -> None:
    log = a_session("owing", start=now())
    record = machine.registers(log.session)
    async with machine.following(posthog.url, history="send"):
        machine.moves_in(log.files(), age=60)
        await until(lambda: span_ids(posthog) == ["msg_owing"], "its answer")
    record.unlink()
    async with machine.following(posthog.url):
        await until(lambda: span_ids(posthog, "trace") == [log.session], "its trace")
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()
    assert times_each_came(posthog) == {1}


# ---------------------------------------------------------------------- history


async def test_logs_that_exist_at_the_first_start_are_history(machine: Machine, posthog: CaptureServer) -> None:
    log = a_session("old")
    log.write(machine.projects)
    async with machine.following(posthog.url, quiet=1.0):
        continued = LogBuilder(log.session, start=now())
        continued.prompt("go on")
        continued.answer(text("here I go"), id="msg_new")
        append(machine.projects / log.path, continued.files()[log.path])
        await until(lambda: len(posthog.without_openings) >= 2, "the new answer and its trace")
    assert span_ids(posthog) == ["msg_new", log.session]

    # The next start is not a first start: nothing is history, and nothing is sent twice.
    async with machine.following(posthog.url, quiet=1.0):
        late = a_session("late", start=now())
        append(machine.projects / late.path, late.files()[late.path])
        await until(lambda: len(posthog.without_openings) >= 4, "another session")
    assert span_ids(posthog)[2:] == ["msg_late", late.session]


async def test_lines_written_while_the_daemon_was_away_are_read_at_its_next_start(
    machine: Machine, posthog: CaptureServer
) -> None:
    async with machine.following(posthog.url):
        log = a_session("one", start=now())
        append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: span_ids(posthog) == ["msg_one"], "the first answer")
    before = len(log.lines)
    log.prompt("more")
    log.answer(text("more"), id="msg_two")
    append(machine.projects / log.path, of_lines(log, before))
    async with machine.following(posthog.url):
        await until(lambda: span_ids(posthog) == ["msg_one", "msg_two"], "the second answer")


async def test_a_later_fork_of_history_sends_only_its_own_lines(machine: Machine, posthog: CaptureServer) -> None:
    log = a_session("original")
    log.write(machine.projects)
    async with machine.following(posthog.url):
        copy = log.fork(session_id("fork"), wait=YEAR)
        copied = len(copy.lines)
        copy.prompt("another way")
        copy.answer(text("another answer"), id="msg_fork")
        for line in copy.lines[copied:]:
            assert isinstance(line, dict)
            line["timestamp"] = (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="milliseconds")
        copy.write(machine.projects)
        await until(lambda: "msg_fork" in span_ids(posthog), "the fork's own answer")
    assert span_ids(posthog) == ["msg_fork"]


async def test_history_can_be_sent_later(machine: Machine, posthog: CaptureServer) -> None:
    write_files(machine.projects, tree())
    async with machine.following(posthog.url):
        fresh = a_session("fresh", start=now())
        append(machine.projects / fresh.path, fresh.files()[fresh.path])
        await until(lambda: span_ids(posthog) == ["msg_fresh"], "what is no history")
    assert await machine.once(posthog.url)
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()
    assert times_each_came(posthog) == {1}


# ---------------------------------------------------------------------- once


async def test_once_delivers_the_events_of_preview_and_nothing_the_second_time(
    machine: Machine, posthog: CaptureServer
) -> None:
    write_files(machine.projects, tree())
    assert await machine.once(posthog.url)
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()
    assert times_each_came(posthog) == {1}
    requests = len(posthog.requests)
    assert await machine.once(posthog.url, history="skip")
    assert len(posthog.requests) == requests


async def test_once_drops_settled_sessions_from_memory(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.cadence = Cadence(open_sessions=4)
    # The next session is read when everything of the previous one is settled.
    defaults = Delivery.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "queue_bytes", 1)
    write_files(machine.projects, many_sessions(20, 1))
    dropped: list[str] = []

    class Watched(Settlement):
        def drop(self, pipeline: Standing) -> None:
            dropped.append(pipeline.files.name)
            super().drop(pipeline)

    monkeypatch.setattr("daemon.service.Settlement", Watched)
    assert await machine.once(posthog.url)
    assert len(dropped) == len(set(dropped)) >= 15
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()


async def test_of_sessions_that_are_read_together_each_counts_as_if_read_alone(
    machine: Machine, posthog: CaptureServer, orchard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones are. Between them, one is held, one is longer than a slice, and forks come after their originals."""
    together: list[int] = []

    class Watched(Reader):
        def read_together(self, *arguments: Any, **options: Any) -> list[ReadOutcome]:
            found = super().read_together(*arguments, **options)
            together.append(len(found))
            return found

    monkeypatch.setattr("daemon.service.Reader", Watched)
    machine.cadence = Cadence(slice_bytes=20_000)
    writes(orchard, POSTHOG_API_KEY="phc_other")
    write_files(machine.projects, tree())
    held = a_session("held", cwd=str(orchard))
    held.write(machine.projects)
    write_files(machine.projects, many_sessions(20, 1))
    long = a_session("long")
    for number in range(40):
        long.answer(text("I dig on. " * 100), id=f"msg_long_{number}")
        long.prompt("go on")
    long.write(machine.projects)
    expected = machine.preview()

    assert not await machine.once(posthog.url)
    (orchard / ".claude" / "settings.local.json").unlink()
    assert await machine.once(posthog.url, history="skip")

    assert max(together) > 1
    assert {event["uuid"]: event for event in posthog.events} == expected | machine.preview()
    assert len(expected) == len(posthog.events) - 3
    assert times_each_came(posthog) == {1}


@pytest.mark.parametrize("fault", ["disk", "store"])
async def test_what_cannot_be_read_costs_nothing_of_what_is_read_with_it(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    write_files(machine.projects, many_sessions(8, 1))
    broken, asked = session_id("many/3"), list[int]()

    def failing(path: str, **options: Any) -> Any:
        if broken in path:
            raise OSError(errno.EIO, "the disk is broken", path)
        return open_log(path, **options)

    def refusing(reader: StoreReader, units: Sequence[str]) -> set[str]:
        asked.append(len(units))
        # The first time is before they are read.
        if len(asked) == 2:
            raise sqlite3.OperationalError("disk I/O error")
        return stored_of(reader, units)

    stored_of = StoreReader.stored_of
    with monkeypatch.context() as patch:
        if fault == "disk":
            for module in ("tailer", "kept_open"):
                patch.setattr(f"daemon.following.{module}.open_log", failing)
        else:
            patch.setattr(StoreReader, "stored_of", refusing)
        assert not await machine.once(posthog.url)
    expected = machine.preview()
    assert len(posthog.events) == len(expected) * 7 // 8
    assert await machine.once(posthog.url, history="skip")
    assert {event["uuid"]: event for event in posthog.events} == expected
    assert times_each_came(posthog) == {1}


async def test_once_leaves_open_what_is_open_in_a_running_session(machine: Machine, posthog: CaptureServer) -> None:
    log = LogBuilder(session_id("running"))
    log.prompt("Count")
    log.answer(text("I will look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"), id="msg_1")
    log.tool_result("toolu_ls", "ada")
    log.answer(text("Two of them."), id="msg_2")
    log.prompt("And now?")
    log.message(id="msg_open").add(text("Well, "))
    log.write(machine.projects)
    record = machine.registers(log.session)
    assert await machine.once(posthog.url)
    assert span_ids(posthog) == ["msg_1", "toolu_ls", "msg_2"]
    record.unlink()
    assert await machine.once(posthog.url, history="skip")
    assert span_ids(posthog) == ["msg_1", "toolu_ls", "msg_2", "msg_open", log.session]


async def test_privacy_mode_sends_no_content(machine: Machine, posthog: CaptureServer) -> None:
    write_files(machine.projects, tree())
    assert await machine.once(posthog.url, POSTHOG_LLMA_PRIVACY_MODE="true")
    assert len(posthog.events) == len(machine.preview())
    sent = json.dumps(posthog.events)
    assert SECRET not in sent
    assert "path-marker" not in sent
    assert "Overloaded" not in sent
    assert "Exit code" not in sent


async def test_grouping_by_prompt_sends_a_trace_for_each_prompt(machine: Machine, posthog: CaptureServer) -> None:
    write_files(machine.projects, tree())
    grouped: dict[str, Any] = {"POSTHOG_LLMA_TRACE_GROUPING": "message"}
    assert await machine.once(posthog.url, **grouped)
    assert {event["uuid"]: event for event in posthog.events} == machine.preview(**grouped)
    traces = [event["properties"]["$ai_trace_id"] for event in posthog.events if event["event"] == "$ai_trace"]
    assert len(traces) == len(set(traces)) > len({event["properties"]["$ai_session_id"] for event in posthog.events})


# ---------------------------------------------------------------------- projects


@pytest.fixture
async def there() -> AsyncIterator[CaptureServer]:
    """Another receiver."""
    async with CaptureServer() as server:
        yield server
    assert server.violations == []


@pytest.fixture
def orchard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in a git work tree."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    folder = tmp_path / "orchard"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True, timeout=PATIENCE)
    subprocess.run(["git", "-C", str(folder), "config", "user.email", "eve@example.com"], check=True, timeout=PATIENCE)
    return folder


@pytest.fixture
def brisk(machine: Machine) -> None:
    """Look often at everything that is looked at from time to time."""
    machine.cadence = Cadence(tick=0.05, hot_sweep=0.2)


def writes(folder: Path, name: str = "settings.local.json", **env: object) -> None:
    """Write a settings file of a project atomically."""
    path = folder / ".claude" / name
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name("beside")
    beside.write_text(json.dumps({"env": env}))
    beside.replace(path)


def a_table(folder: Path | str, server: CaptureServer, key: str = "phc_there") -> str:
    return f'[[project]]\npath = "{folder}"\nhost = "{server.url}"\napi_key = "{key}"\n'


def keys(server: CaptureServer) -> set[str]:
    return {json.loads(gzip.decompress(request.body))["api_key"] for request in server.requests}


def content_of(event: Event) -> bool:
    return "$ai_output_choices" in event["properties"]


async def test_each_route_gets_its_own_events_and_ids_do_not_depend_on_it(
    machine: Machine, posthog: CaptureServer, there: CaptureServer
) -> None:
    files = tree()
    write_files(machine.projects, files)
    machine.writes_config(a_table("garden-*", there))
    assert await machine.once(posthog.url)

    expected = machine.preview()
    machine.config_file.unlink()
    assert machine.preview().keys() == expected.keys()
    gardens = {uuid for uuid, event in expected.items() if event["properties"]["$ai_project_name"].startswith("garden")}
    assert 0 < len(gardens) < len(expected)
    assert there.events_by_uuid.keys() == gardens
    assert posthog.events_by_uuid.keys() == expected.keys() - gardens
    assert (keys(posthog), keys(there)) == ({"phc_test"}, {"phc_there"})
    assert times_each_came(posthog) == times_each_came(there) == {1}


async def test_a_refused_route_stops_alone(
    machine: Machine, posthog: CaptureServer, there: CaptureServer, logged: Logged
) -> None:
    there.fault = lambda _: Answer(status=401)
    machine.writes_config(a_table("garden", there))
    async with machine.following(posthog.url):
        refused = a_session("refused", start=now(), cwd="/home/ada/garden")
        append(machine.projects / refused.path, refused.files()[refused.path])
        await until(lambda: any(line["event"] == "delivery_stopped" for line in logged), "the stop")
        for number in range(3):
            log = a_session(f"fine-{number}", start=now())
            append(machine.projects / log.path, log.files()[log.path])
            expected = [f"msg_fine-{earlier}" for earlier in range(number + 1)]
            await until(partial(lambda ids: span_ids(posthog) == ids, expected), "the next answer")
    assert there.events == []
    there.fault = None
    async with machine.following(posthog.url):
        await until(lambda: span_ids(there) == ["msg_refused"], "what was refused")
    assert span_ids(posthog) == ["msg_fine-0", "msg_fine-1", "msg_fine-2"]


async def test_a_stopped_route_heals_by_itself_and_reading_goes_on(
    machine: Machine, posthog: CaptureServer, logged: Logged
) -> None:
    def make_delivery(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        retry = RetryPolicy(stop_base=0.01, stop_cap=0.05)
        return Delivery(CaptureSink(route.host, route.key.reveal()), prepare=prepare, settle=settle, retry=retry)

    posthog.fault = lambda _: Answer(status=403)
    async with machine.following(posthog.url, make_delivery=make_delivery):
        for name in ("first", "second"):
            log = a_session(name, start=now())
            append(machine.projects / log.path, log.files()[log.path])
        await posthog.wait_requests(5)
        assert posthog.events == []
        posthog.fault = None
        await until(lambda: sorted(span_ids(posthog)) == ["msg_first", "msg_second"], "both answers")
    assert times_each_came(posthog) == {1}
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["delivery_stopped"]


async def test_a_stopped_route_does_not_block_a_folders_new_sessions_on_another(
    machine: Machine, posthog: CaptureServer, there: CaptureServer, logged: Logged
) -> None:
    old = a_session("old", start=now())
    async with machine.following(posthog.url):
        append(machine.projects / old.path, old.files()[old.path])
        await until(lambda: span_ids(posthog) == ["msg_old"], "the first answer")
    posthog.fault = lambda _: Answer(status=401)
    machine.writes_config(a_table("orchard", there))
    before = len(old.lines)
    for number in range(2):
        old.answer(text("more"), id=f"msg_more_{number}")
        old.prompt("and more")
    whole = of_lines(old, before).splitlines(keepends=True)
    append(machine.projects / old.path, b"".join(whole[:-2]))
    async with machine.following(posthog.url):
        await until(lambda: any(line["event"] == "delivery_stopped" for line in logged), "the stop")
        append(machine.projects / old.path, b"".join(whole[-2:]))
        new = a_session("new", start=now())
        append(machine.projects / new.path, new.files()[new.path])
        await until(lambda: span_ids(there) == ["msg_new"], "the new session's answer")
    assert span_ids(posthog) == ["msg_old"]


async def test_projects_can_have_different_settings_at_the_same_time(machine: Machine, posthog: CaptureServer) -> None:
    machine.writes_config(
        '[[project]]\npath = "full"\ninput = "full"\n[[project]]\npath = "quiet"\nprivacy_mode = true\n'
    )
    for name in ("full", "quiet", "plain"):
        a_session(name, cwd=f"/home/ada/{name}").write(machine.projects)
    assert await machine.once(posthog.url)
    generations = {event["properties"]["$ai_span_id"]: event["properties"] for event in posthog.events}
    assert "$ai_input" not in generations["msg_quiet"]
    assert "claude_code_input_exact" in generations["msg_full"]
    assert "claude_code_input_exact" not in generations["msg_plain"]
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()


async def test_once_ends_although_a_stopped_route_leaves_events(
    machine: Machine, posthog: CaptureServer, there: CaptureServer
) -> None:
    there.fault = lambda _: Answer(status=401)
    machine.writes_config(a_table("garden-*", there))
    write_files(machine.projects, tree())
    assert not await machine.once(posthog.url)
    assert posthog.events
    there.fault = None
    assert await machine.once(posthog.url, history="skip")
    assert posthog.events_by_uuid.keys() | there.events_by_uuid.keys() == machine.preview().keys()
    assert times_each_came(posthog) == times_each_came(there) == {1}


@pytest.mark.usefixtures("brisk")
async def test_a_log_where_none_is_followed_is_logged_once(
    machine: Machine, posthog: CaptureServer, logged: Logged
) -> None:
    machine.cadence = Cadence(full_sweep=0.05)
    first, second = (machine.projects / name for name in ("top.jsonl", "orchard/s/elsewhere/agent-a.jsonl"))
    append(first, b'{"type":"user","sessionId":"s"}\n')

    def told() -> list[tuple[int, str]]:
        return [(line["count"], line["path"]) for line in logged if line["event"] == "logs_not_followed"]

    async with machine.following(posthog.url):
        await until(lambda: told() == [(1, str(first))], "a word of the first")
        append(second, b'{"type":"user","sessionId":"s"}\n')
        await until(lambda: len(told()) > 1, "a word of the second")
    assert told() == [(1, str(first)), (1, str(second))]


async def test_a_held_session_loses_nothing(
    machine: Machine, posthog: CaptureServer, there: CaptureServer, orchard: Path, logged: Logged
) -> None:
    writes(orchard, POSTHOG_HOST=there.url, POSTHOG_API_KEY="phc_there")
    begin = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    waiting = a_session("waiting", start=begin, cwd=str(orchard))
    async with machine.following(posthog.url):
        append(machine.projects / waiting.path, waiting.files()[waiting.path])
        other = a_session("other", start=now())
        append(machine.projects / other.path, other.files()[other.path])
        await until(lambda: span_ids(posthog) == ["msg_other"], "the other session's answer")
        await until(lambda: any(line["event"] == "session_held" for line in logged), "a word of it")
    assert machine.offsets()[Path(waiting.path).name] == 0
    [told] = [line for line in logged if line["event"] == "session_held"]
    assert "config allow" in told["reason"]
    assert "phc_there" not in str(told)

    # A restart changes nothing. Lines written meanwhile wait, too.
    before = len(waiting.lines)
    waiting.answer(text("still here"), id="msg_later")
    waiting.prompt("good")
    append(machine.projects / waiting.path, of_lines(waiting, before))
    async with machine.following(posthog.url):
        await until(lambda: len(held_in(machine)) == 1, "the note that it waits")
        assert machine.offsets()[Path(waiting.path).name] == 0
        own = {"POSTHOG_HOST": posthog.url, "POSTHOG_API_KEY": "phc_test", "POSTHOG_LLMA_CC_ENABLED": "true"}
        Routing(machine.settings(**own), Repositories()).allow(str(orchard))
        await until(lambda: span_ids(there) == ["msg_waiting", "msg_later"], "all of it")
        await until(lambda: held_in(machine) == [], "the note to be gone")
    assert keys(there) == {"phc_there"}
    assert span_ids(posthog) == ["msg_other"]
    assert times_each_came(there) == {1}


def held_in(machine: Machine) -> list[str]:
    store = Store(machine.state)
    try:
        return [row.session for row in store.held()]
    finally:
        store.close()


async def test_once_reports_that_not_everything_is_settled_while_a_session_is_held(
    machine: Machine, posthog: CaptureServer, orchard: Path
) -> None:
    writes(orchard, POSTHOG_API_KEY="phc_other")
    a_session("waiting", cwd=str(orchard)).write(machine.projects)
    a_session("other").write(machine.projects)
    assert not await machine.once(posthog.url)
    assert "msg_other" in span_ids(posthog)
    assert "msg_waiting" not in span_ids(posthog)
    (orchard / ".claude" / "settings.local.json").unlink()
    assert await machine.once(posthog.url, history="skip")
    assert "msg_waiting" in span_ids(posthog)
    assert times_each_came(posthog) == {1}


async def test_settings_written_while_a_session_runs_do_not_redirect_it(
    machine: Machine, posthog: CaptureServer, there: CaptureServer, orchard: Path
) -> None:
    # Even if the host and the key are the user's own.
    machine.writes_config(a_table("/elsewhere", there))
    log = a_session("steady", start=now(), cwd=str(orchard))
    async with machine.following(posthog.url):
        append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: span_ids(posthog) == ["msg_steady"], "the first answer")
        writes(orchard, POSTHOG_HOST=there.url, POSTHOG_API_KEY="phc_there")
        before = len(log.lines)
        log.answer(text("more"), id="msg_more")
        log.prompt("and more")
        append(machine.projects / log.path, of_lines(log, before))
        await until(lambda: span_ids(posthog) == ["msg_steady", "msg_more"], "the second answer")
    before = len(log.lines)
    log.answer(text("after a restart"), id="msg_restart")
    log.prompt("and after that")
    append(machine.projects / log.path, of_lines(log, before))
    async with machine.following(posthog.url):
        await until(lambda: span_ids(posthog) == ["msg_steady", "msg_more", "msg_restart"], "the third answer")
    assert there.requests == []


async def test_a_stricter_project_setting_applies_at_once_and_stays_for_the_session(
    machine: Machine, posthog: CaptureServer, orchard: Path
) -> None:
    log = a_session("private", start=now(), cwd=str(orchard))

    def goes_on(name: str) -> None:
        before = len(log.lines)
        log.answer(text(f"{name} is done"), id=f"msg_{name}")
        log.prompt("thanks")
        append(machine.projects / log.path, of_lines(log, before))

    async with machine.following(posthog.url):
        append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: len(posthog.without_openings) == 1, "the first answer")
        writes(orchard, "settings.json", POSTHOG_LLMA_CONTENT="metadata")
        goes_on("strict")
        await until(lambda: len(posthog.without_openings) == 2, "the second answer")
        # The agent removes the file that restrains it.
        (orchard / ".claude" / "settings.json").unlink()
        goes_on("loose")
        await until(lambda: len(posthog.without_openings) == 3, "the third answer")
    goes_on("restart")
    async with machine.following(posthog.url):
        await until(lambda: len(posthog.without_openings) == 4, "the fourth answer")
        fresh = a_session("fresh", start=now(), cwd=str(orchard))
        append(machine.projects / fresh.path, fresh.files()[fresh.path])
        await until(lambda: len(posthog.without_openings) == 5, "the answer of a new session")
    assert span_ids(posthog) == ["msg_private", "msg_strict", "msg_loose", "msg_restart", "msg_fresh"]
    assert [content_of(event) for event in posthog.without_openings] == [True, False, False, False, True]


async def test_nothing_that_a_fork_copied_from_a_session_under_a_stricter_restraint_leaves(
    machine: Machine, posthog: CaptureServer, orchard: Path, tmp_path: Path
) -> None:
    """Neither as events of its own, nor as name, prompt, input, or summary of the fork's."""
    strict = tmp_path / "strict"
    strict.mkdir()
    writes(orchard, "settings.json", POSTHOG_LLMA_CC_ENABLED="false")
    writes(strict, "settings.json", POSTHOG_LLMA_CONTENT="metadata")
    originals = []
    for folder in (orchard, strict):
        for version in ("1.0.128", "2.1.200", "2.1.329"):
            name = f"{folder.name}-{version}"
            log = LogBuilder(session_id(name), start=now(), cwd=str(folder), version=version)
            log.prompt("hidden plan")
            log.title("hidden title")
            log.answer(text("hidden answer"), tool_use("Bash", {"command": "hidden"}, id=f"toolu_{name}"))
            log.tool_result(f"toolu_{name}", "hidden result")
            log.answer(text("hidden end"), id=f"msg_{name}")
            log.prompt("hidden rest")
            originals.append((name, folder, log))
    # In the same folders and younger, so that they are read last.
    later = datetime.fromisoformat(now()) + timedelta(hours=1)
    behind = {folder: a_session(f"behind-{folder.name}", start=later.isoformat()) for folder in (orchard, strict)}
    async with machine.following(posthog.url, POSTHOG_LLMA_INPUT="full"):
        for _, _, log in originals:
            write_files(machine.projects, log.files())
        for folder, log in behind.items():
            beside = next(Path(each.path).parent for _, place, each in originals if place == folder)
            write_files(machine.projects, {str(beside / f"{log.session}.jsonl"): log.files()[log.path]})
        await until(lambda: {f"msg_behind-{folder.name}" for folder in behind} <= {*span_ids(posthog)}, "all is read")
        assert [span for span in span_ids(posthog) if span.startswith("msg_orchard")] == []
        for folder in (orchard, strict):
            (folder / ".claude" / "settings.json").unlink()
        for name, _, log in originals:
            fork = log.fork(session_id(f"fork-{name}"), wait=1)
            fork.title("hidden title")
            fork.prompt(f"open prompt of {name}")
            fork.answer(text(f"open answer of {name}"), id=f"msg_fork-{name}")
            fork.compaction("hidden plan")
            fork.prompt("open, too")
            write_files(machine.projects, fork.files())
        forks = {f"msg_fork-{name}" for name, _, _ in originals}
        await until(lambda: forks <= {*span_ids(posthog)}, "what the forks wrote themselves")
    sent = json.dumps(posthog.events)
    assert "hidden" not in sent
    assert all(f"open prompt of {name}" in sent and f"open answer of {name}" in sent for name, _, _ in originals)
    titles = {each["properties"].get("$ai_trace_name") for each in posthog.events if each["event"] == "$ai_trace"}
    assert {f"open prompt of {name}" for name, _, _ in originals} <= titles
    assert times_each_came(posthog) == {1}


async def test_a_session_that_an_earlier_version_read_while_it_was_off_stays_hidden_in_its_forks(
    machine: Machine, posthog: CaptureServer, orchard: Path
) -> None:
    """That version settled nothing of it, and clients from 2.1.100 to 2.1.300 do not mark copies."""
    log = LogBuilder(session_id("hidden"), start=now(), cwd=str(orchard), version="2.1.200")
    log.prompt("hidden plan")
    log.answer(text("hidden answer"), id="msg_hidden")
    writes(orchard, "settings.json", POSTHOG_LLMA_CC_ENABLED="false")
    write_files(machine.projects, log.files())
    assert await machine.once(posthog.url)
    with closing(sqlite3.connect(machine.state / "state.db")) as store, store:
        assert store.execute("DELETE FROM settled").rowcount > 0
        store.execute("PRAGMA user_version=6")
    (orchard / ".claude" / "settings.json").unlink()
    fork = log.fork(session_id("fork"), wait=1)
    fork.prompt("open prompt")
    fork.answer(text("open answer"), id="msg_open")
    write_files(machine.projects, fork.files())
    assert await machine.once(posthog.url)
    assert span_ids(posthog, "generation") == ["msg_open"]
    assert "hidden" not in json.dumps(posthog.events)


async def test_what_an_earlier_version_left_out_of_a_session_stays_hidden_in_its_forks(
    machine: Machine, posthog: CaptureServer, orchard: Path
) -> None:
    """That version settled nothing of what it left out. What it has sent is not sent again."""
    log = LogBuilder(session_id("hidden"), start=now(), cwd=str(orchard), version="2.1.200")
    log.prompt("open prompt")
    log.answer(text("open answer"), id="msg_open")
    writes(orchard, "settings.json", POSTHOG_LLMA_EXCLUDE=str(orchard / "secret"))
    write_files(machine.projects, log.files())
    assert await machine.once(posthog.url)
    with closing(sqlite3.connect(machine.state / "state.db")) as store:
        sent = store.execute("SELECT identity FROM settled").fetchall()
    log.cd(str(orchard / "secret"))
    log.prompt("hidden plan")
    log.answer(text("hidden answer"), id="msg_hidden")
    write_files(machine.projects, log.files())
    assert await machine.once(posthog.url)
    with closing(sqlite3.connect(machine.state / "state.db")) as store, store:
        store.execute("CREATE TEMP TABLE sent (identity BLOB)")
        store.executemany("INSERT INTO sent VALUES (?)", sent)
        assert store.execute("DELETE FROM settled WHERE identity NOT IN (SELECT * FROM sent)").rowcount > 0
        store.execute("PRAGMA user_version=7")
    (orchard / ".claude" / "settings.json").unlink()
    fork = log.fork(session_id("fork"), wait=1)
    fork.cd(str(orchard))
    fork.prompt("last prompt")
    fork.answer(text("last answer"), id="msg_last")
    write_files(machine.projects, fork.files())
    assert await machine.once(posthog.url)
    assert sorted(span_ids(posthog, "generation")) == ["msg_last", "msg_open"]
    assert "hidden" not in json.dumps(posthog.events)
    assert times_each_came(posthog) == {1}


async def test_lines_whose_restraint_cannot_be_written_end_the_service_and_are_read_again(
    machine: Machine, posthog: CaptureServer, orchard: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    writes(orchard, "settings.json", POSTHOG_LLMA_CONTENT="metadata")
    log = a_session("strict", start=now(), cwd=str(orchard))
    write_files(machine.projects, log.files())

    def refuse(_: Store, restraints: Mapping[str, str]) -> None:
        assert len(restraints) == 1
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "restrain", refuse)
        async with machine.service(posthog.url, history="send") as service:
            # The service waits for the disk only until it is told to stop.
            service.stop()
            with pytest.raises(sqlite3.OperationalError, match="disk is full"):
                await service.run_once()
    assert not posthog.events
    assert "store_unreadable" not in [line["event"] for line in logged]
    assert await machine.once(posthog.url)
    assert span_ids(posthog) == ["msg_strict", log.session]


async def test_a_settings_file_that_becomes_invalid_leaves_the_previous_settings(
    machine: Machine, posthog: CaptureServer, orchard: Path, logged: Logged
) -> None:
    writes(orchard, "settings.json", POSTHOG_LLMA_CONTENT="metadata")
    log = a_session("broken", start=now(), cwd=str(orchard))
    async with machine.following(posthog.url):
        append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: len(posthog.without_openings) == 1, "the first answer")
        (orchard / ".claude" / "settings.json").write_text("{")
        before = len(log.lines)
        log.answer(text("more"), id="msg_more")
        log.prompt("and more")
        append(machine.projects / log.path, of_lines(log, before))
        await until(lambda: len(posthog.without_openings) == 2, "the second answer")
    assert [content_of(event) for event in posthog.without_openings] == [False, False]
    [told] = [line for line in logged if line["event"] == "project_setting_ignored"]
    assert "settings.json: is not valid JSON" in told["reason"]


async def test_an_excluded_project_is_never_sent(machine: Machine, posthog: CaptureServer, orchard: Path) -> None:
    excluded = a_session("excluded", start=now(), cwd="/home/ada/secret")
    switched_off = a_session("off", start=now(), cwd=str(orchard))
    writes(orchard, "settings.json", POSTHOG_LLMA_CC_ENABLED="false")
    logs = (excluded, switched_off)
    async with machine.following(posthog.url, POSTHOG_LLMA_EXCLUDE="secret"):
        for log in logs:
            append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: all(machine.offsets().get(Path(log.path).name) for log in logs), "both to be read")
    writes(orchard, "settings.json")
    before = len(switched_off.lines)
    switched_off.answer(text("more"), id="msg_more")
    switched_off.prompt("and more")
    append(machine.projects / switched_off.path, of_lines(switched_off, before))
    async with machine.following(posthog.url):
        other = a_session("other", start=now(), cwd=str(orchard))
        append(machine.projects / other.path, other.files()[other.path])
        await until(lambda: span_ids(posthog) == ["msg_other"], "what may be sent")
    assert span_ids(posthog) == ["msg_other"]


async def test_projects_that_opt_in_are_sent_if_only_these_are_followed(
    machine: Machine, posthog: CaptureServer, orchard: Path
) -> None:
    machine.writes_config('enabled = "projects"\n')
    writes(orchard, "settings.json", POSTHOG_LLMA_CC_ENABLED="true")
    a_session("one", cwd=str(orchard)).write(machine.projects)
    a_session("other").write(machine.projects)
    assert await machine.once(posthog.url, POSTHOG_LLMA_CC_ENABLED="")
    assert set(span_ids(posthog, "generation")) == {"msg_one"}


async def test_a_session_belongs_to_the_person_of_its_repository(
    machine: Machine, posthog: CaptureServer, orchard: Path
) -> None:
    a_session("one", cwd=str(orchard)).write(machine.projects)
    a_session("other", cwd="/no/such/folder").write(machine.projects)
    assert await machine.once(posthog.url, POSTHOG_LLMA_DISTINCT_ID="")
    people = {event["properties"]["$ai_session_id"]: event["distinct_id"] for event in posthog.events}
    other = session_id("other")
    assert people == {session_id("one"): "eve@example.com", other: f"claude-code:{other}"}


# ---------------------------------------------------------------------- a receiver in trouble


def an_unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_receiver_that_is_unreachable_at_first_gets_everything(machine: Machine, logged: Logged) -> None:
    write_files(machine.projects, tree())
    port = an_unused_port()
    async with machine.following(f"http://127.0.0.1:{port}", history="send", quiet=1.0):
        await until(lambda: any(line["event"] == "delivery_failing" for line in logged), "a failed attempt")
        async with CaptureServer(port=port) as posthog:
            expected = machine.preview()
            await until(lambda: len(posthog.events_by_uuid) >= len(expected), "all events")
    assert {event["uuid"]: event for event in posthog.events} == expected
    assert times_each_came(posthog) == {1}
    assert any(line["event"] == "delivery_recovered" for line in logged)


async def test_errors_and_lost_answers_lose_nothing(machine: Machine, posthog: CaptureServer) -> None:
    write_files(machine.projects, many_sessions(8, 20) | tree())
    posthog.script(Answer(status=503), Answer(status=503), Answer(status=429))
    draws = iter(range(10_000))
    posthog.fault = lambda _: Answer(status=503) if next(draws) % 2 else None
    assert await machine.once(posthog.url)
    assert bodies(posthog).keys() == machine.preview().keys()


async def test_while_the_receiver_is_unreachable_busy_sessions_wait_in_their_logs(
    machine: Machine, posthog: CaptureServer
) -> None:
    machine.cadence = Cadence(slice_bytes=64 * 1024)
    queue_bytes = 256 * 1024
    made: list[Delivery] = []

    def make_delivery(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        sink = CaptureSink(route.host, route.key.reveal())
        retry = RetryPolicy(base=0.01, cap=0.02)
        made.append(Delivery(sink, prepare=prepare, settle=settle, retry=retry, queue_bytes=queue_bytes))
        return made[-1]

    posthog.fault = lambda _: Answer(status=503)
    sessions = [LogBuilder(session_id(f"busy {number}"), start=now()) for number in range(8)]
    most = 0

    def look() -> bool:
        nonlocal most
        most = max([most, *(delivery.queued_bytes for delivery in made)])
        return len(posthog.requests) >= attempts

    async with machine.following(posthog.url, make_delivery=make_delivery):
        for turn in range(12):
            for log in sessions:
                written = len(log.files().get(log.path, b""))
                log.prompt(f"turn {turn}")
                log.answer(text(f"{turn} " + "x" * 20_000), id=f"msg_{log.session[:8]}_{turn}")
                append(machine.projects / log.path, log.files()[log.path][written:])
            attempts = len(posthog.requests) + 3
            await until(look, "some attempts")
        for log in sessions:
            written = len(log.files()[log.path])
            log.prompt("thanks")
            append(machine.projects / log.path, log.files()[log.path][written:])
        # The queue may exceed its limit by the events of one slice.
        assert queue_bytes <= most <= queue_bytes + 2 * 64 * 1024
        posthog.fault = None
        await until(lambda: len(posthog.without_openings) == 8 * 12, "everything")
    for log in sessions:
        own = [span for span in span_ids(posthog, "generation") if span.startswith(f"msg_{log.session[:8]}_")]
        # Two requests at a time may arrive in either order.
        assert sorted(own) == sorted(f"msg_{log.session[:8]}_{turn}" for turn in range(12))


async def test_after_a_suspend_all_files_are_looked_at(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Watcher):
        """Gives no hints, because nothing was watched while the machine was suspended."""

        def __init__(self, roots: Sequence[LogRoot], *_: object, **_options: object) -> None:
            super().__init__(roots, lambda _path: None, lambda: None)

    monkeypatch.setattr(service_module, "Watcher", Silent)
    machine.cadence = Cadence(hot_sweep=600.0)
    clock, slept = time.time, 0

    def arrived() -> bool:
        # The machine is suspended again and again: the first time may be before the daemon first looks at the clock.
        nonlocal slept
        slept += 60
        return "msg_slept" in span_ids(posthog)

    async with machine.following(posthog.url):
        a_session("slept", start=now(), cwd="/home/ada/another").write(machine.projects)
        monkeypatch.setattr(time, "time", lambda: clock() + slept)
        await until(arrived, "what was written meanwhile")


async def test_an_answer_is_not_final_because_its_client_and_the_daemon_were_frozen(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steady clock goes on while a container is frozen, and the daemon awakes before the client."""
    machine.cadence = Cadence(tick=0.05)
    log = a_session("before", start=now(), version="2.1.72")
    async with machine.following(posthog.url):
        path = machine.projects / log.path
        append(path, of_lines(log, 0))
        await until(lambda: span_ids(posthog) == ["msg_before"], "the answer before")
        written = len(log.lines)
        answer = log.message(id="msg_torn", stop_reason="tool_use")
        answer.add(tool_use("Bash", {"command": "ls"}, id="toolu_1"), late=True)
        append(path, of_lines(log, written))
        looked = asyncio.Event()
        monkeypatch.setattr(Reader, "tend", noting(Reader.tend, looked))
        await looked.wait()
        looked.clear()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + 36_000)
        await looked.wait()
        written = len(log.lines)
        answer.add(tool_use("Bash", {"command": "pwd"}, id="toolu_2"), late=True)
        log.tool_result("toolu_1", "ada")
        log.tool_result("toolu_2", "/")
        log.answer(text("Done."), id="msg_after")
        log.prompt("thanks")
        append(path, of_lines(log, written))
        await until(lambda: "msg_after" in span_ids(posthog), "the answer after")
    sent, preview = {event["uuid"]: event for event in posthog.events}, machine.preview()
    assert sent == {uuid: preview[uuid] for uuid in sent}
    assert {"msg_torn", "toolu_1", "toolu_2"} < set(span_ids(posthog))


async def test_a_call_is_not_given_up_because_the_machine_was_suspended(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers a question over night, the lid is closed, and no registry names the session."""
    machine.cadence = Cadence(tick=0.1)
    log = a_session("evening", start=now())
    log.answer(tool_use("Bash", {"command": "rm x"}, id="toolu_asked"), id="msg_asked", stop_reason="tool_use")
    wall = time.time
    async with machine.following(posthog.url, quiet=3600.0):
        path = machine.projects / log.path
        append(path, of_lines(log, 0))
        await until(lambda: "msg_asked" in span_ids(posthog), "the call's answer")
        looked = asyncio.Event()
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: wall() + 36_000)
            patched.setattr(Reader, "tend", noting(Reader.tend, looked))
            # What the first look finds is read before the third.
            for _ in range(3):
                await looked.wait()
                looked.clear()
        written = len(log.lines)
        log.tool_result("toolu_asked", "removed")
        log.answer(text("Done."), id="msg_morning")
        log.prompt("thanks")
        append(path, of_lines(log, written))
        await until(lambda: "msg_morning" in span_ids(posthog), "the answer of the next morning")
    assert span_ids(posthog, "trace") == []
    sent, preview = {event["uuid"]: event for event in posthog.events}, machine.preview()
    assert sent == {uuid: preview[uuid] for uuid in sent}
    assert "toolu_asked" in span_ids(posthog)


def noting(work: Callable[..., Any], done: asyncio.Event) -> Callable[..., Any]:
    """Return *work*, which sets an event whenever it is done."""

    def noted(*arguments: Any, **options: Any) -> Any:
        result = work(*arguments, **options)
        done.set()
        return result

    return noted


async def test_a_part_that_hangs_is_named_and_one_that_waits_is_not(machine: Machine, posthog: CaptureServer) -> None:
    machine.cadence = Cadence(work=1.5)
    a_session("one", start=now()).write(machine.projects)
    posthog.fault = lambda _: Answer(status=503)
    async with machine.service(posthog.url, history="send") as service:
        running = asyncio.create_task(service.run())
        await until(lambda: len(posthog.requests) >= 2, "a second attempt")
        assert service.overdue() is None
        # Another process has locked the store, and the commit waits for it.
        with contextlib.closing(sqlite3.connect(machine.state / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            posthog.fault = None
            await until(lambda: service.overdue() == "the store", "that the store is overdue")
            other.execute("ROLLBACK")
        await until(lambda: service.overdue() is None, "that it goes on")
        service.stop()
        await running
    assert times_each_came(posthog) == {1}


async def test_a_wrong_key_stops_delivery_with_one_line_and_loses_nothing(
    machine: Machine, posthog: CaptureServer, logged: Logged
) -> None:
    write_files(machine.projects, tree())
    posthog.fault = lambda _: Answer(status=401, body=b"API key is not valid")
    async with machine.following(posthog.url, history="send"):
        await until(lambda: any(line["event"] == "delivery_stopped" for line in logged), "the stop")
    [stopped] = [line for line in logged if line["event"] == "delivery_stopped"]
    assert stopped["log_level"] == "error"
    assert "401" in stopped["reason"]
    assert "POSTHOG_API_KEY" in stopped["hint"]
    # At most the requests that were on their way at the same time.
    assert len(posthog.requests) <= 2
    sizes = {path.name: path.stat().st_size for path in machine.projects.rglob("*.jsonl")}
    assert all(offset < sizes[name] for name, offset in machine.offsets().items())
    posthog.fault = None
    assert await machine.once(posthog.url, history="skip")
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()


async def test_once_with_a_wrong_key_ends_soon_however_much_there_is(machine: Machine, posthog: CaptureServer) -> None:
    big = LogBuilder(session_id("big"))
    for turn in range(30):
        big.prompt(f"turn {turn}")
        big.answer(text("x" * 1_000_000), id=f"msg_big{turn}")
    big.write(machine.projects)
    posthog.fault = lambda _: Answer(status=401)
    assert not await machine.once(posthog.url)


class Picky(CaptureServer):
    """Refuses every request with an event that contains a certain word."""

    def __init__(self, word: str, status: int) -> None:
        super().__init__()
        self._word = word
        self._status = status

    def _judge_event(self, event: Event, path: str) -> None:
        if self._word in json.dumps(event):
            raise Refusal(self._status, "this one is not wanted")
        super()._judge_event(event, path)


@pytest.mark.parametrize("status", [400, 413])
async def test_a_refused_event_is_set_aside_and_the_others_are_delivered(machine: Machine, status: int) -> None:
    write_files(machine.projects, many_sessions(3, 20))
    log = a_session("poison", start="2026-03-02T08:00:00+00:00")
    log.write(machine.projects)
    refused = "poison is done"
    async with Picky(refused, status) as posthog:
        assert await machine.once(posthog.url)
    expected = machine.preview()
    wanted = {uuid: event for uuid, event in expected.items() if refused not in json.dumps(event)}
    assert len(expected) - len(wanted) == 2  # the answer, and the trace, which repeats it
    assert {event["uuid"]: event for event in posthog.events} == wanted
    assert {request.path for request in posthog.requests} == {AI_PATH}

    store = Store(machine.state)
    rejected = {row.uuid: row for row in store.rejected()}
    store.close()
    assert rejected.keys() == expected.keys() - wanted.keys()
    answer = next(row for row in rejected.values() if row.name == "$ai_generation")
    assert answer.path == str(machine.projects / log.path)
    assert answer.reason == f"{status} this one is not wanted"
    data = log.files()[log.path]
    assert answer.start is not None
    assert b"poison is done" in data[answer.start : answer.end]
    assert machine.offsets()[Path(log.path).name] == len(data)


# ---------------------------------------------------------------------- files that are not as they should be


async def test_bad_lines_are_skipped_and_logged_once_for_each_file(
    machine: Machine, posthog: CaptureServer, logged: Logged
) -> None:
    log = LogBuilder(session_id("bad"))
    log.raw(f'{{"type": "user", "{SECRET}'.encode())
    log.prompt("Count")
    log.raw(b"[1, 2]")
    log.raw(b"\xff\xfe " + SECRET.encode())
    log.answer(text("Two."), id="msg_1")
    log.raw({"type": "assistant", "message": SECRET, "uuid": 7})
    log.raw({"type": "user", "message": {"role": 5, "content": {SECRET: 1}}})
    log.raw(b"")
    log.raw(b"null")
    log.prompt("Again")
    log.answer(text("Still two."), id="msg_2")
    log.write(machine.projects)
    assert await machine.once(posthog.url)
    assert span_ids(posthog, "generation") == ["msg_1", "msg_2"]
    [line] = [line for line in logged if line["event"] == "bad_line"]
    assert line["path"] == str(machine.projects / log.path)
    assert (line["start"], line["end"]) == (0, len(SECRET) + 19)
    assert line["reason"]
    assert SECRET not in json.dumps(logged, default=str)
    store = Store(machine.state)
    assert store.counters()["bad_lines"] >= 4
    store.close()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


ODD_THINGS = [a_pipe, a_folder, a_dangling_link]


@pytest.mark.parametrize("make", ODD_THINGS)
async def test_a_file_that_only_looks_like_a_log_is_left_alone(
    machine: Machine, posthog: CaptureServer, make: Callable[[Path], None]
) -> None:
    log = a_session("real")
    log.write(machine.projects)
    make(machine.projects / log.path.replace(log.session, session_id("odd")))
    assert await machine.once(posthog.url)
    assert set(span_ids(posthog)) == {"msg_real", log.session}


async def test_a_new_file_that_only_looks_like_a_log_does_not_stop_the_others(
    machine: Machine, posthog: CaptureServer
) -> None:
    elsewhere, real = a_session("elsewhere", start=now()), a_session("real", start=now())
    elsewhere.write(machine.root / "elsewhere")
    folder = (machine.projects / real.path).parent
    folder.mkdir()
    async with machine.following(posthog.url):
        for number, make in enumerate(ODD_THINGS):
            make(folder / f"{session_id(f'odd/{number}')}.jsonl")
        # Links are not followed either, because they can point anywhere.
        (folder / f"{elsewhere.session}.jsonl").symlink_to(machine.root / "elsewhere" / elsewhere.path)
        append(machine.projects / real.path, real.files()[real.path])
        await until(lambda: bool(posthog.events), "the real session")
    assert span_ids(posthog) == ["msg_real"]


async def test_a_fork_is_never_read_before_the_session_it_copies(machine: Machine, posthog: CaptureServer) -> None:
    machine.cadence = Cadence(slice_bytes=20_000)
    log = LogBuilder(session_id("long"), version="2.1.200")
    log.prompt("Count the trees")
    for number in range(4):
        for _ in range(20):
            log.raw({"type": "file-history-snapshot", "snapshot": "x" * 1000})
        log.answer(text(str(number)))
    fork = log.fork(session_id("fork"))
    fork.prompt("Again")
    fork.answer(text("Still"))
    log.write(machine.projects)
    fork.write(machine.projects)
    async with machine.following(posthog.url, history="send"):
        await until(lambda: len(posthog.without_openings) >= 5, "all answers")
    owners = [event["properties"]["$ai_session_id"] for event in posthog.events if event["event"] == "$ai_generation"]
    assert (owners.count(log.session), owners.count(fork.session)) == (4, 1)


async def test_a_fork_that_grows_while_the_daemon_starts_is_read_after_its_original(
    machine: Machine, posthog: CaptureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine.following(posthog.url):
        pass
    log = LogBuilder("ffffffff-0000-4000-8000-000000000000", version="2.1.200", start=now())
    log.prompt("Count the trees")
    log.answer(text("One"))
    fork = log.fork("00000000-0000-4000-8000-000000000000", wait=1)
    fork.prompt("Again")
    fork.answer(text("Two"))
    log.write(machine.projects)
    full = Sweep.full

    def after_a_hint(sweep: Sweep) -> tuple[list[str], list[str]]:
        """Sweep after a hint about the fork and about nothing else."""
        fork.write(machine.projects)
        deadline = time.monotonic() + PATIENCE
        while str((machine.projects / fork.path).resolve()) not in sweep.files:
            assert time.monotonic() < deadline
        return full(sweep)

    monkeypatch.setattr(Sweep, "full", after_a_hint)
    async with machine.following(posthog.url):
        await until(lambda: len(posthog.without_openings) >= 2, "both answers")
    assert sorted(event["properties"]["$ai_session_id"] for event in posthog.without_openings) == [
        fork.session,
        log.session,
    ]


@pytest.mark.parametrize("appearing", ["projects", "project"])
async def test_a_fork_that_is_found_together_with_its_original_is_read_after_it(
    machine: Machine, posthog: CaptureServer, appearing: str
) -> None:
    machine.cadence = Cadence(hot_sweep=0.1)
    log = LogBuilder("ffffffff-0000-4000-8000-000000000000", version="2.1.200", start=now())
    log.prompt("Count the trees")
    log.answer(text("One"), id="msg_original")
    fork = log.fork("00000000-0000-4000-8000-000000000000", wait=1)
    fork.prompt("Again")
    fork.answer(text("Two"), id="msg_fork")
    for each in (log, fork):
        each.write(machine.root / "elsewhere")
    folder = (machine.projects / log.path).parent
    if appearing == "projects":
        machine.projects.rmdir()
    async with machine.following(posthog.url):
        if appearing == "projects":
            (machine.root / "elsewhere").replace(machine.projects)
        else:
            (machine.root / "elsewhere" / folder.name).replace(folder)
        await until(lambda: {"msg_original", "msg_fork"} <= set(span_ids(posthog)), "both answers")
    owners = {event["properties"]["$ai_span_id"]: event["properties"]["$ai_session_id"] for event in posthog.events}
    assert owners["msg_original"] == log.session
    assert owners["msg_fork"] == fork.session
    assert times_each_came(posthog) == {1}


async def test_a_replaced_log_is_read_again_and_only_new_events_are_sent(
    machine: Machine, posthog: CaptureServer
) -> None:
    async with machine.following(posthog.url):
        log = a_session("replaced", start=now())
        path = machine.projects / log.path
        append(path, log.files()[log.path])
        await until(lambda: span_ids(posthog) == ["msg_replaced"], "the first answer")
        log.lines.insert(0, {"type": "ai-title", "aiTitle": "Another head", "sessionId": log.session})
        log.prompt("more")
        log.answer(text("more"), id="msg_more")
        beside = machine.root / "beside"
        beside.write_bytes(log.files()[log.path])
        beside.replace(path)
        await until(lambda: span_ids(posthog) == ["msg_replaced", "msg_more"], "the second answer")
    assert machine.offsets()[path.name] == path.stat().st_size


async def test_a_log_that_is_truncated_and_rewritten_is_read_from_its_beginning(
    machine: Machine, posthog: CaptureServer
) -> None:
    async with machine.following(posthog.url):
        log = a_session("long", start=now())
        path = machine.projects / log.path
        append(path, log.files()[log.path])
        await until(lambda: span_ids(posthog) == ["msg_long"], "the first answer")
        os.truncate(path, 0)
        anew = a_session("x", start=now())
        append(path, anew.files()[anew.path])
        await until(lambda: span_ids(posthog) == ["msg_long", "msg_x"], "the answer after it")


async def test_deleted_sessions_cause_no_problem(machine: Machine, posthog: CaptureServer) -> None:
    async with machine.following(posthog.url):
        log = a_session("deleted", start=now())
        append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: span_ids(posthog) == ["msg_deleted"], "its answer")
        (machine.projects / log.path).unlink()
        other = a_session("other", start=now())
        append(machine.projects / other.path, other.files()[other.path])
        await until(lambda: span_ids(posthog) == ["msg_deleted", "msg_other"], "another session")
    # Neither is its owed trace.
    assert await machine.once(posthog.url, history="skip")
    assert span_ids(posthog)[2:] == [other.session]
    assert times_each_came(posthog) == {1}


# ---------------------------------------------------------------------- the end


async def test_stopping_delivers_what_was_read(machine: Machine, posthog: CaptureServer) -> None:
    async with machine.following(posthog.url, history="send"):
        write_files(machine.projects, many_sessions(4, 30))
        await posthog.wait_requests(1)
    assert times_each_came(posthog) == {1}
    before = len(posthog.events)
    assert await machine.once(posthog.url)
    assert before < len(posthog.events) <= len(machine.preview())
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()
    assert times_each_came(posthog) == {1}


async def test_after_the_store_is_lost_recent_sessions_are_sent_again_and_older_ones_not(
    machine: Machine, posthog: CaptureServer, logged: Logged
) -> None:
    recent, old = a_session("recent", start=now()), a_session("old")
    machine.moves_in(recent.files(), age=3600)
    machine.moves_in(old.files(), age=30 * 86400)
    assert await machine.once(posthog.url)
    assert set(span_ids(posthog, "generation")) == {"msg_recent", "msg_old"}
    for leftover in machine.state.glob("state.db*"):
        leftover.write_bytes(b"this is no database")
    assert await machine.once(posthog.url, history="skip")
    assert sorted(span_ids(posthog, "generation")) == ["msg_old", "msg_recent", "msg_recent"]
    assert bodies(posthog).keys() == machine.preview().keys()
    assert any(line["event"] == "store_corrupt" for line in logged)


# ---------------------------------------------------------------------- logs that are gone before they are read


def with_a_short_queue(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
    """A delivery whose queue takes a small part of what it usually takes."""
    sink = CaptureSink(route.host, route.key.reveal())
    retry = RetryPolicy(base=0.05, cap=0.2)
    return Delivery(sink, prepare=prepare, settle=settle, retry=retry, queue_bytes=200_000)


def a_big_session(name: str, answers: int = 60) -> LogBuilder:
    """A session with three times the events that fit into a short queue."""
    log = LogBuilder(session_id(name), start=now())
    log.prompt("begin")
    for number in range(answers):
        log.answer(text("x" * 10_000), id=f"msg_{name}_{number}")
        log.prompt("go on")
    return log


def answer_ids(*logs: LogBuilder) -> set[str]:
    lines = [json.loads(line) for log in logs for line in of_lines(log, 0).splitlines()]
    return {line["message"]["id"] for line in lines if line["type"] == "assistant"}


def deleted(path: Path) -> None:
    path.unlink()


def replaced_by_another(path: Path) -> None:
    other = LogBuilder(path.stem, start=now())
    other.title("another log")
    other.prompt("anew")
    other.answer(text("as you wish"), id=f"msg_anew_{path.stem}")
    other.prompt("thanks")
    beside = path.with_name("beside")
    beside.write_bytes(other.files()[other.path])
    beside.replace(path)


def its_folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("leave", [deleted, replaced_by_another, its_folder_deleted])
async def test_lines_written_while_reading_waited_are_delivered_although_their_log_is_deleted(
    machine: Machine, posthog: CaptureServer, leave: Callable[[Path], None]
) -> None:
    """While the receiver is unreachable, reading waits: one session is half read, another not at all."""
    release = asyncio.Event()
    posthog.fault = lambda _: None if release.is_set() else Answer(status=503)
    big, small, late = a_big_session("big"), a_session("small", start=now()), a_session("late", start=now())
    machine.projects.joinpath(big.path).parent.mkdir()
    machine.cadence = Cadence(slice_bytes=25_000)
    async with machine.following(posthog.url, make_delivery=with_a_short_queue) as running:
        append(machine.projects / big.path, big.files()[big.path])
        await posthog.wait_requests(1)
        for log in (small, late):
            append(machine.projects / log.path, log.files()[log.path])
        open_logs = {str(machine.projects / log.path) for log in (big, small, late)}
        await until(lambda: open_logs <= open_below(machine.projects), "that all three are kept open")
        # Reading waits: the rest of the big session does not fit into the queue.
        before = len(late.lines)
        late.answer(text("at last"), id="msg_at_last")
        late.prompt("thanks")
        append(machine.projects / late.path, of_lines(late, before))
        assert not running.done()
        paths = [machine.projects / log.path for log in (big, small, late)]
        leave(paths[0])
        if leave is not its_folder_deleted:
            for path in paths[1:]:
                leave(path)
        release.set()
        wanted = answer_ids(big, small, late)
        if leave is replaced_by_another:
            wanted |= {f"msg_anew_{path.stem}" for path in paths}
        await until(lambda: set(span_ids(posthog, "generation")) >= wanted, "all answers")
        await until(lambda: not open_below(machine.projects), "that nothing is kept open")
    assert set(span_ids(posthog, "generation")) == wanted
    assert len(span_ids(posthog, "generation")) == len(wanted)


def open_below(folder: Path) -> set[str]:
    """The files below *folder* that this process has open. Linux marks deleted ones after their name."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(descriptor.readlink()).removesuffix(" (deleted)"))
    return {name for name in found if name.startswith(f"{folder}/")}


async def test_an_open_message_in_a_deleted_or_replaced_log_is_sent_in_time(
    machine: Machine, posthog: CaptureServer
) -> None:
    gone, other = (LogBuilder(session_id(name), start=now()) for name in ("gone", "other"))
    for log, name in ((gone, "gone"), (other, "other")):
        log.prompt("begin")
        log.answer(text("done"), tool_use("Bash", {"command": "ls"}, id=f"toolu_{name}"), id=f"msg_{name}_first")
        log.tool_result(f"toolu_{name}", "ada")
        # Nothing follows it, so only time makes it final.
        log.answer(text("done"), id=f"msg_{name}_last")
    async with machine.following(posthog.url):
        for log in (gone, other):
            append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: len(posthog.without_openings) == 4, "what is final in both")
        (machine.projects / gone.path).unlink()
        replaced_by_another(machine.projects / other.path)
        await until(lambda: len(posthog.without_openings) >= 7, "the last answers")
    assert {"msg_gone_last", "msg_other_last"} < set(span_ids(posthog))
    assert times_each_came(posthog) == {1}


async def test_a_deleted_session_ends_and_its_trace_is_sent(machine: Machine, posthog: CaptureServer) -> None:
    machine.cadence = Cadence(gone=0.5)
    log = a_session("deleted", start=now())
    async with machine.following(posthog.url):
        path = machine.projects / log.path
        append(path, log.files()[log.path])
        await until(lambda: span_ids(posthog) == ["msg_deleted"], "its answer")
        path.unlink()
        await until(lambda: span_ids(posthog, "trace") == [log.session], "its trace")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not list a process's descriptors")
async def test_logs_at_rest_are_not_kept_open(machine: Machine, posthog: CaptureServer) -> None:
    async with machine.following(posthog.url):
        for number in range(20):
            log = a_session(f"rest{number}", start=now())
            append(machine.projects / log.path, log.files()[log.path])
        await until(lambda: len(posthog.without_openings) == 20, "all of them")
        await until(lambda: not open_below(machine.projects), "that none is open")


async def test_a_deleted_log_that_was_kept_open_is_lost_when_the_daemon_ends(
    machine: Machine, posthog: CaptureServer
) -> None:
    """This is the only loss: a log that was deleted before it was read."""
    posthog.fault = lambda _: Answer(status=401)
    log = a_session("lost", start=now())
    async with machine.following(posthog.url):
        append(machine.projects / log.path, log.files()[log.path])
        await posthog.wait_requests(1)
        (machine.projects / log.path).unlink()
    posthog.fault = None
    other = a_session("other", start=now())
    append(machine.projects / other.path, other.files()[other.path])
    assert await machine.once(posthog.url, history="skip")
    assert set(span_ids(posthog)) == {"msg_other", other.session}


# ---------------------------------------------------------------------- clocks


@pytest.mark.parametrize("behind", [600, 8 * 3600, 2 * 86400])
async def test_what_appears_after_the_first_start_is_sent_whatever_its_clock_says(
    machine: Machine, posthog: CaptureServer, behind: int
) -> None:
    start = (datetime.now(UTC) - timedelta(seconds=behind)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    old = a_session("old", start=start)
    append(machine.projects / old.path, old.files()[old.path])
    with capture_logs() as logs:
        async with machine.following(posthog.url):
            new, known = a_session("new", start=start), len(old.lines)
            old.answer(text("And more."), id="msg_old_more")
            old.prompt("thanks")
            append(machine.projects / old.path, of_lines(old, known))
            append(machine.projects / new.path, new.files()[new.path])
            await until(lambda: {"msg_old_more", "msg_new"} <= set(span_ids(posthog)), "what came later")
    assert "msg_old" not in span_ids(posthog)
    assert [line["session"] for line in logs if line["event"] == "clock_disagrees"] == [new.session]


@pytest.mark.parametrize("version", ["2.1.200", "2.1.329"])
async def test_a_fork_of_history_is_history_whether_or_not_it_is_marked(
    machine: Machine, posthog: CaptureServer, version: str
) -> None:
    log = a_session("original", start="2026-03-02T09:00:00.000Z", version=version)
    append(machine.projects / log.path, log.files()[log.path])
    async with machine.following(posthog.url):
        fork = log.fork(session_id("fork"), wait=3600.0)
        fork.prompt("go on")
        # Its own lines are older than the first start, too.
        fork.answer(text("I do."), id="msg_fork_own")
        fork.prompt("thanks")
        append(machine.projects / fork.path, fork.files()[fork.path])
        await until(lambda: "msg_fork_own" in span_ids(posthog), "its own answer")
    assert span_ids(posthog, "generation") == ["msg_fork_own"]


# ---------------------------------------------------------------------- names that are not UTF-8


async def test_a_session_that_goes_on_in_the_log_of_another_is_sent_while_it_does(
    machine: Machine, posthog: CaptureServer
) -> None:
    guest = LogBuilder(session_id("guest"), start=now())
    guest.prompt("Count the pears")
    guest.answer(text("One."), id="msg_first")
    host = a_session("host", start=now(), cwd="/home/ada/meadow")
    async with machine.following(posthog.url, quiet=0.5):
        append(machine.projects / guest.path, of_lines(guest, 0))
        await until(lambda: trace_of(posthog, guest) == 1, "the first trace of the session")
        begun = len(host.lines)
        append(machine.projects / host.path, of_lines(host, 0))
        with guest.in_the_log_of(host):
            guest.prompt("And the plums")
            guest.answer(text("Two."), id="msg_second")
        append(machine.projects / host.path, of_lines(host, begun))
        await until(lambda: trace_of(posthog, guest) == 2, "its second trace")
        await until(lambda: trace_of(posthog, host) == 1, "the trace of the other session")
    said = {event["uuid"]: event for event in posthog.events}
    assert said == machine.preview()
    assert sorted(span_ids(posthog, "generation")) == ["msg_first", "msg_host", "msg_second"]


@pytest.mark.parametrize("excluded", ["meadow", "orchard"])
async def test_each_sessions_own_project_decides_about_its_lines_in_one_log(
    machine: Machine, posthog: CaptureServer, excluded: str
) -> None:
    write_files(machine.projects, hosting())
    assert await machine.once(posthog.url, POSTHOG_LLMA_EXCLUDE=excluded)
    assert ("and the pears" in str(posthog.events)) == (excluded == "meadow")
    sent = {event["properties"]["$ai_session_id"] for event in posthog.events}
    assert sent == {session_id("guest" if excluded == "meadow" else "host")}
    assert {event["uuid"]: event for event in posthog.events} == machine.preview(POSTHOG_LLMA_EXCLUDE=excluded)


def trace_of(posthog: CaptureServer, log: LogBuilder) -> int | None:
    """Return how many answers the newest trace of a session counts; None if none came."""
    said = [each["properties"] for each in posthog.events if each["properties"].get("claude_code_trace") == "final"]
    counts = [each["claude_code_generations"] for each in said if each["$ai_session_id"] == log.session]
    return counts[-1] if counts else None


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are UTF-8")
@pytest.mark.parametrize("place", ["home", "project", "file"])
async def test_names_that_are_not_utf_8_are_names_like_others(
    tmp_path: Path, posthog: CaptureServer, place: str
) -> None:
    odd = os.fsdecode(b"na\xffme")
    machine = Machine(tmp_path / odd if place == "home" else tmp_path)
    log = a_session("odd", start=now())
    folder = machine.projects / (odd if place == "project" else "orchard")
    path = folder / (f"{odd}.jsonl" if place == "file" else Path(log.path).name)
    folder.mkdir()
    for part in range(2):
        async with machine.following(posthog.url, history="send"):
            known = 0 if part == 0 else len(log.lines)
            if part == 1:
                log.answer(text("More."), id="msg_odd_more")
                log.prompt("thanks")
            append(path, of_lines(log, known))
            wanted = "msg_odd_more" if part else "msg_odd"
            await until(partial(lambda name: name in span_ids(posthog), wanted), "its answer")
    assert machine.offsets() == {path.name: path.stat().st_size}
    assert times_each_came(posthog) == {1}
