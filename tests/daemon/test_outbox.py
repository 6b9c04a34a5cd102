"""What programs record reaches PostHog as sessions do, and their files go when nobody needs them any more."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.delivering.route import Route
from daemon.parallel.crew import Launch
from daemon.reading.preview import find_logs, preview
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.state.layout import LOCAL, STORE
from daemon.state.receipts import read_receipts
from daemon.state.store import Store
from daemon.system.secret import Secret
from tests.support.capture_server import CaptureServer, Event
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.machine import Machine, a_session, of_lines, times_each_came
from tests.support.outbox import EVERYTHING, line, process, uuid, write
from tests.support.processes import bodies, environment, following, now, session_id, until, verb
from tests.support.workers import in_threads


@pytest.fixture
def quick(machine: Machine) -> Machine:
    """A machine whose daemon looks often."""
    machine.cadence = replace(machine.cadence, tick=0.02, hot_sweep=0.2, gone=0.0, health=0.1)
    return machine


MINE = f"{os.getpid()}-{int(time.time() * 1000)}-1"
"""The name of a file whose writer lives."""


def gone(number: int = 1) -> str:
    """The name of a file whose writer has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return f"{int(ended.stdout)}-{int(time.time() * 1000)}-{number}"


def previewed(machine: Machine, **variables: str) -> dict[str, Event]:
    routing = Routing(machine.settings(**variables), Repositories(), purpose="preview")
    logs = list(find_logs([machine.outbox]))
    return {event.uuid: json.loads(event.body) for event in preview(logs, routing)}


def received(server: CaptureServer) -> dict[str, Event]:
    return {event["uuid"]: event for event in server.events}


def numbers(server: CaptureServer) -> list[str]:
    return [event["uuid"] for event in server.events if event["uuid"].startswith("0190a1b2")]


def counters(machine: Machine) -> dict[str, int]:
    store = Store(machine.state, read_only=True)
    try:
        return dict(store.counters())
    finally:
        store.close()


def fresh(kind: str, number: int, **fields: Any) -> bytes:
    return line(kind, number, at=datetime.now(UTC), **fields)


async def test_lines_are_sent_while_they_are_written_and_the_file_stays_while_its_process_lives(
    quick: Machine, posthog: CaptureServer
) -> None:
    async with quick.following(posthog.url):
        path = write(quick.outbox, process(), fresh("span", 1)[:30], name=MINE)
        write(quick.outbox, fresh("span", 1)[30:], name=MINE)
        await until(lambda: numbers(posthog) == [uuid(1)], "the first line")
        session = a_session("beside", start=now())
        log = quick.projects / session.path
        log.parent.mkdir(parents=True)
        log.write_bytes(of_lines(session, 0))
        write(quick.outbox, fresh("generation", 2), b"no line\n", fresh("dream", 3), name=MINE)
        write(quick.outbox, fresh("metric", 4, metric="m", value=1, colour="red"), fresh("span", 1), name=MINE)
        await until(lambda: numbers(posthog) == [uuid(1), uuid(2), uuid(4)], "the other lines")
        await until(lambda: "msg_beside" in json.dumps(posthog.events), "the session beside it")
        assert path.exists()
    assert received(posthog).items() >= previewed(quick).items()
    assert times_each_came(posthog) == {1}
    found = counters(quick)
    assert (found["bad_lines"], found["unknown_lines"], found["ignored_fields"]) == (1, 1, 1)

    assert await quick.once(posthog.url), "what was counted is not counted again"
    assert {**counters(quick), "sent": 0} == {**found, "sent": 0}


async def test_what_was_written_without_a_daemon_is_sent_and_its_file_removed(
    quick: Machine, posthog: CaptureServer
) -> None:
    first, second = gone(), gone(2)
    write(quick.outbox, EVERYTHING, b'{"v": 1, "type": "span", "uu', name=first)
    # One line was recorded a second time, in the folder of a command.
    again = EVERYTHING.splitlines(keepends=True)[1]
    write(quick.outbox / "command", process(), line("span", 20), again, name=second)
    odd = write(quick.outbox, line("span", 30), name="notes")
    expected = previewed(quick)
    assert len(expected) == 10

    async with quick.following(posthog.url):
        await until(lambda: len(numbers(posthog)) == 10, "all lines")
        await until(lambda: [path.name for path in quick.outbox.iterdir()] == ["notes.jsonl"], "the removal")

    assert received(posthog) == expected
    assert times_each_came(posthog) == {1}
    assert counters(quick)["bad_lines"] == 1
    assert odd.exists()


async def test_a_process_that_lives_keeps_only_its_last_file(quick: Machine, posthog: CaptureServer) -> None:
    pid, started, _ = MINE.split("-")
    for number in (1, 2, 10):
        write(quick.outbox, process(), line("span", number), name=f"{pid}-{started}-{number}")
    others = [f"{pid}-{int(started) + 1}-3", f"{os.getppid()}-{started}-3"]
    for number, other in enumerate(others, 20):
        write(quick.outbox, process(), line("span", number), name=other)

    async with quick.following(posthog.url):
        await until(lambda: len(numbers(posthog)) == 5, "all lines")
        kept = {f"{pid}-{started}-10.jsonl", *(f"{other}.jsonl" for other in others)}
        await until(lambda: {path.name for path in quick.outbox.iterdir()} == kept, "the removal")
        write(quick.outbox, line("span", 30), name=f"{pid}-{started}-10")
        await until(lambda: uuid(30) in numbers(posthog), "the last file's next line")

    assert times_each_came(posthog) == {1}


async def test_files_wait_for_the_local_file_only_as_long_as_there_is_room(
    quick: Machine, posthog: CaptureServer
) -> None:
    path = write(quick.outbox, process(), line("span", 1), name=gone())
    local = quick.state / LOCAL / STORE
    local.parent.mkdir(mode=0o700, parents=True)
    local.touch()

    assert await quick.once(posthog.url)
    assert path.exists(), "the local file lacks it"
    quick.cadence = replace(quick.cadence, spool_bytes=0)
    assert await quick.once(posthog.url)

    assert not path.exists()
    assert numbers(posthog) == [uuid(1)]


async def test_a_file_stays_until_its_events_are_accepted(quick: Machine, posthog: CaptureServer) -> None:
    path = write(quick.outbox, process(), line("span", 1), name=gone())

    quick.cadence = replace(quick.cadence, once_patience=0.3, drain=0.2)
    assert not await quick.once("http://127.0.0.1:9"), "nobody listens there"
    assert path.exists()
    assert await quick.once(posthog.url)

    assert not path.exists()
    assert [event["uuid"] for event in posthog.events] == [uuid(1)]


async def test_another_process_with_the_same_number_is_not_the_writer(quick: Machine, posthog: CaptureServer) -> None:
    path = write(quick.outbox, process(), line("span", 1), name=f"{os.getpid()}-1000-1")

    assert await quick.once(posthog.url)

    assert not path.exists()


OTHER, ALLOWED = "phc_a_key_of_another_project", "phc_a_key_in_a_table"


def sent_with(server: CaptureServer) -> dict[str, str]:
    """Which key each recorded line was sent with, by the line's uuid."""
    found = {}
    for request in server.requests:
        body = gzip.decompress(request.body) if request.body.startswith(b"\x1f\x8b") else request.body
        payload = json.loads(body)
        for event in payload["batch"]:
            if event["uuid"].startswith("0190a1b2"):
                assert event["uuid"] not in found
                found[event["uuid"]] = payload["api_key"]
    return found


async def test_a_line_goes_elsewhere_only_where_the_user_wants_it(
    quick: Machine, posthog: CaptureServer, logged: list[dict[str, Any]]
) -> None:
    quick.writes_config(f'[[project]]\npath = "{quick.root}/tabled"\napi_key = "{ALLOWED}"\n')
    path = write(
        quick.outbox,
        process(str(quick.root)),
        line("span", 1, api_key=OTHER, host=posthog.url),
        line("span", 2),
        line("span", 3, api_key=ALLOWED),
        line("span", 4, host="http://127.0.0.1:9"),
        line("span", 5, api_key="phc_test", host=posthog.url + "/"),
        name=gone(),
    )
    write(quick.outbox, process(f"{quick.root}/tabled"), line("span", 6), name=gone(2))
    own = {uuid(2): "phc_test", uuid(3): ALLOWED, uuid(5): "phc_test", uuid(6): ALLOWED}

    assert not await quick.once(posthog.url)
    assert sent_with(posthog) == own
    assert path.exists()
    [reasons] = quick.held()
    assert f"config allow --host {posthog.url} --key-stdin" in reasons
    assert "config allow --host http://127.0.0.1:9 --key-stdin" in reasons

    async with quick.following(posthog.url, history="skip"):
        write(quick.outbox, line("span", 7), name=path.stem)
        await until(lambda: uuid(7) in sent_with(posthog), "a line behind those that wait")
        assert sent_with(posthog) == {**own, uuid(7): "phc_test"}
        allow(quick, posthog.url)
        await until(lambda: uuid(1) in sent_with(posthog), "the line that was allowed")
    assert sent_with(posthog) == {**own, uuid(7): "phc_test", uuid(1): OTHER}
    assert OTHER not in json.dumps([*logged, quick.held()], default=str)
    assert posthog.url not in "".join(quick.held()), "the other line still waits"
    assert path.exists()


def allow(machine: Machine, url: str) -> None:
    route = Route(host=url, key=Secret(OTHER))
    Routing(machine.settings(POSTHOG_API_KEY="phc_test"), Repositories(), purpose="send").allow_pair(route)


def test_preview_tells_which_lines_would_wait(quick: Machine) -> None:
    write(quick.outbox, process(), line("span", 1, api_key=OTHER), line("span", 2), line("span", 3, api_key=OTHER))
    told: list[str] = []
    routing = Routing(quick.settings(POSTHOG_API_KEY="phc_test"), Repositories(), purpose="preview")

    found = list(preview(list(find_logs([quick.outbox])), routing, lambda _session, reason: told.append(reason)))

    assert [event.uuid for event in found] == [uuid(2)]
    assert [OTHER in reason for reason in told] == [False]
    local = Routing(quick.settings(), Repositories(), purpose="local")
    assert len(list(preview(list(find_logs([quick.outbox])), local))) == 3


RECORDING = """
import json, os, sys, time, uuid
number, fields = sys.argv[1], json.loads(sys.argv[2])
name = f"{os.getpid()}-{int(time.time() * 1000)}-1.jsonl"
with open(os.path.join(os.environ["POSTHOG_LLMA_OUTBOX"], name), "a") as file:
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    uuid = f"0190a1b2-c3d4-7000-8000-{int(number):012x}"
    print(json.dumps({"v": 1, "type": "span", "uuid": uuid, "at": at, **fields}), file=file)
"""
"""A program that records one call, in any language."""


async def test_exec_delivers_what_its_command_records(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url)
    record = [sys.executable, "-c", RECORDING]

    alone = await verb(workspace, "exec", "--property", "team=a", "--", *record, "1", '{"name": "alone"}', env=env)
    assert (alone.status, alone.stderr) == (0, "")
    assert numbers(posthog) == [uuid(1)]
    outbox = workspace.state / "outbox"
    assert list(outbox.iterdir()) == []

    async with following(workspace, env=env):
        beside = await verb(workspace, "exec", "--property", "team=b", "--", *record, "2", "{}", env=env)
    assert (beside.status, beside.stderr) == (0, "")
    assert numbers(posthog) == [uuid(1), uuid(2)]
    assert list(outbox.iterdir()) == []
    assert [event["properties"]["team"] for event in posthog.events] == ["a", "b"]
    assert stat.S_IMODE(outbox.stat().st_mode) == 0o700


async def test_recorded_traces_are_shown_also_when_their_files_are_sent(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    env = environment(workspace, posthog.url)
    outbox = workspace.state / "outbox"
    workspace.state.mkdir(mode=0o700)
    first = write(outbox, EVERYTHING, name=gone())

    shown = await verb(workspace, "traces", env=env)
    assert shown.status == 0, shown.stderr
    lines = [line.strip(" │├└─") for line in shown.stdout.splitlines()]
    [review] = [number for number, line in enumerate(lines) if line.startswith("review-1")]
    tree = lines[review + 1 :]
    assert "1 generation  1 embedding  1 tool call" in tree[0]
    assert "$0.04" in tree[0]
    wanted = ("retrieve", "text-embedding-3-small  embedding", "claude-opus-5-5", "count", "feedback", "gpt-5 failed")
    assert all(any(line.startswith(each) for line in tree) for each in wanted), shown.stdout
    assert any(line.startswith("tests_added  4") for line in tree)
    assert tree.index(next(line for line in tree if line.startswith("text-embedding"))) == 1 + tree.index(
        next(line for line in tree if line.startswith("retrieve"))
    ), "what is inside a span is drawn below it"

    second = write(outbox, process(), fresh("embedding", 50, model="m", cost={"total_usd": 2}), name=gone(2))
    os.utime(first, (1e9, 1e9))
    os.utime(second, (time.time() - 60, time.time() - 60))
    ran = await verb(workspace, "run", "--once", env=env)
    assert ran.status == 0, ran.stderr
    assert [path.name for path in outbox.iterdir()] == [second.name], "the local file lacks it"
    used = await verb(workspace, "usage", "--json", "--by", "model", env=env)
    assert used.status == 0, used.stderr
    [group] = [each for each in json.loads(used.stdout)["groups"] if each["model"] == "m"]
    assert group["cost_usd"] == 2
    ran = await verb(workspace, "run", "--once", env=env)
    assert (ran.status, list(outbox.iterdir())) == (0, [])
    assert times_each_came(posthog) == {1}


async def test_what_may_not_leave_the_machine_is_kept_here_once_and_never_sent(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    env = environment(workspace, posthog.url)
    outbox = workspace.state / "outbox"
    workspace.state.mkdir(mode=0o700)
    session = a_session("beside", start=now())
    lines = [
        fresh("span", 1, name="shared"),
        fresh("span", 2, name="kept", local=True),
        fresh("span", 3, name="kept_too", local="yes", host="https://eu.i.posthog.com", api_key="phc_unknown"),
        fresh("span", 4, name="shared_too", local=False),
        facts(session, 5, "start", local=True, distinct_id="bea"),
    ]
    path = write(outbox, process(), *lines, name=gone())
    os.utime(path, (time.time() - 60, time.time() - 60))
    previewed = await verb(workspace, "preview", outbox, env=env)
    assert [uuid(number) in previewed.stdout for number in (1, 2, 3, 4)] == [True, False, False, True], previewed.stderr

    for _ in range(2):
        ran = await verb(workspace, "run", "--once", env=env)
        assert (ran.status, path.exists()) == (0, False), ran.stderr
        assert numbers(posthog) == [uuid(1), uuid(4)]

    status = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
    assert (status["recordings"]["kept_local"], status["sent"]) == (2, 2)
    assert [each.uuid for each in read_receipts(workspace.state)] == [uuid(1), uuid(4)]
    shown = await verb(workspace, "traces", env=env)
    assert [shown.stdout.count(f"── {name}\n") for name in ("kept", "kept_too", "shared")] == [1, 1, 0], shown.stdout


def facts(session: LogBuilder, number: int, phase: str, **fields: Any) -> bytes:
    return fresh("session", number, agent="claude-code", session_id=session.session, phase=phase, **fields)


def log_of(machine: Machine, session: LogBuilder) -> Path:
    path = machine.projects / session.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(of_lines(session, 0))
    return path


async def test_what_a_caller_knows_holds_for_a_session_that_a_worker_has_read(
    quick: Machine, posthog: CaptureServer
) -> None:
    private, open_ = a_session("private"), a_session("open")
    for session in (private, open_):
        log_of(quick, session)
    write(quick.outbox, process(), facts(private, 1, "start", privacy_mode=True), name=gone())

    assert await quick.once(posthog.url, launch=in_threads)

    sent = " ".join(bodies(posthog).values())
    assert ("private is done" in sent, "open is done" in sent) == (False, True)


@pytest.mark.parametrize("launch", [None, in_threads])
async def test_a_fork_says_nothing_that_its_original_may_not_say_although_both_are_read_together(
    quick: Machine, posthog: CaptureServer, launch: Launch | None
) -> None:
    """Its caller knows of the original alone that it is private."""
    original = LogBuilder(session_id("original"), version="2.1.329")
    original.prompt("hidden plan")
    original.answer(text("hidden answer"))
    fork = original.fork(session_id("fork"))
    fork.prompt("open prompt")
    fork.answer(text("open answer"), id="msg_open")
    for session in (original, fork):
        log_of(quick, session)
    write(quick.outbox, process(), facts(original, 1, "start", privacy_mode=True), name=gone())
    logs = list(find_logs([quick.outbox, quick.config]))
    routing = Routing(quick.settings(POSTHOG_LLMA_INPUT="full"), Repositories(), purpose="preview")
    previewed = {event.uuid: json.loads(event.body) for event in preview(logs, routing)}

    assert await quick.once(posthog.url, launch=launch, POSTHOG_LLMA_INPUT="full")

    assert "hidden" not in json.dumps(posthog.events)
    assert "open answer" in json.dumps(posthog.events)
    assert received(posthog) == previewed


async def test_what_a_caller_knows_of_a_session_is_said_with_its_events(quick: Machine, posthog: CaptureServer) -> None:
    session, private = a_session("sdk", start=now()), a_session("private", start=now())
    said: dict[str, Any] = {"distinct_id": "bea", "properties": {"ticket": 7, "$ai_model": "x"}, "name": "Ticket 7"}
    path = write(
        quick.outbox,
        process(),
        facts(session, 1, "start", groups={"company": "orchard"}, **said),
        facts(session, 2, "end", num_turns=3, duration_api_ms=1500, cost={"total_usd": 0.5}, subtype="success"),
        facts(private, 3, "start", privacy_mode=True),
        name=gone(),
    )
    log_of(quick, session)
    log_of(quick, private)
    quick.cadence = replace(quick.cadence, rest=0.2)

    async with quick.following(posthog.url, history="send", quiet=0.2):
        await until(lambda: len(finals(posthog)) == 2, "the traces of both sessions")
        await until(lambda: not path.exists(), "the removal of what is needed no more")

    mine = [event for event in posthog.events if event["properties"]["$ai_session_id"] == session.session]
    assert {event["distinct_id"] for event in mine} == {"bea"}
    assert {event["properties"]["ticket"] for event in mine} == {7}
    assert {event["properties"]["$groups"]["company"] for event in mine} == {"orchard"}
    assert {event["properties"]["$ai_trace_name"] for event in mine} == {"Ticket 7"}
    assert "x" not in {event["properties"].get("$ai_model") for event in mine}
    [trace] = [event["properties"] for event in finals(posthog) if event in mine]
    ending = ("turns", "api_seconds", "caller_cost_usd", "result")
    assert [trace[f"claude_code_{name}"] for name in ending] == [3, 1.5, 0.5, "success"]
    theirs = [event for event in posthog.events if event not in mine]
    assert {event["distinct_id"] for event in theirs} == {"ada@example.com"}
    assert "private is done" not in json.dumps(theirs)
    assert times_each_came(posthog) == {1}


def finals(server: CaptureServer) -> list[Event]:
    return [event for event in server.events if event["properties"].get("claude_code_trace") == "final"]


async def test_what_a_caller_knows_is_known_after_a_restart_and_said_to_be_late_once(
    quick: Machine, posthog: CaptureServer, logged: list[dict[str, Any]]
) -> None:
    session = a_session("sdk", start=now())
    log = log_of(quick, session)
    assert await quick.once(posthog.url)
    path = write(
        quick.outbox, process(), facts(session, 1, "start", distinct_id="bea", properties={"ticket": 7}), name=MINE
    )
    assert await quick.once(posthog.url)

    session.answer(text("more"), id="msg_more")
    session.prompt("and then?")
    log.write_bytes(of_lines(session, 0))
    async with quick.following(posthog.url, history="skip"):
        await until(lambda: "msg_more" in json.dumps(posthog.events), "the answer")

    [more] = [event for event in posthog.events if event["properties"].get("$ai_span_id") == "msg_more"]
    assert (more["distinct_id"], more["properties"]["ticket"]) == ("ada@example.com", 7)
    assert [line["event"] for line in logged].count("session_facts_late") == 1
    assert path.exists(), "its session may go on"
