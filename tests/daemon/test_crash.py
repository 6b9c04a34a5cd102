"""The daemon as a process that is killed, terminated and started again: no event is lost or duplicated."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.support.cadence import cadence_variables
from tests.support.capture_server import Accept, Behaviour, CaptureServer, Drop, Hold, Request
from tests.support.client import Child, Workspace
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import (
    append,
    bodies,
    environment,
    expected,
    following,
    kill,
    log_lines,
    many_sessions,
    now,
    put_logs,
    session_id,
    tree,
    until,
    verb,
)

SLOWNESS = 0.05
"""Seconds a slow receiver takes, so that the daemon dies with requests under way."""


def in_trouble(server: CaptureServer, seed: int) -> None:
    """Make the receiver answer late, sometimes with an error, and lose some answers."""
    server.fail_at_random(0.3, seed=seed, delay=SLOWNESS)


async def settled(workspace: Workspace, url: str) -> None:
    """Run a last daemon that sends the rest."""
    ended = await verb(workspace, "run", "--once", env=environment(workspace, url))
    assert ended.status == 0, ended.stderr


def offsets(workspace: Workspace) -> dict[str, int]:
    """How far each file is settled, by name. Works while the daemon runs."""
    uri = f"file:{workspace.state / 'state.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        return {Path(path).name: offset for path, offset in connection.execute('SELECT path, "offset" FROM files')}


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_again_and_again_it_delivers_what_preview_says(
    workspace: Workspace, posthog: CaptureServer, seed: int
) -> None:
    put_logs(workspace, tree() | many_sessions(20, 20))
    everything = await expected(workspace)
    env = environment(workspace, posthog.url, POSTHOG_LLMA_SESSION_TIMEOUT="1")
    in_trouble(posthog, seed)
    draws = random.Random(seed)
    for turn in range(5):
        wanted = len(posthog.requests) + draws.choice([2, 3, 4])
        async with following(workspace, *(["--from-start"] if turn == 0 else []), env=env, ready=False) as daemon:
            # Once everything is delivered, the daemon sends no more requests and is killed while idle.
            await daemon.until(
                lambda wanted=wanted: (  # type: ignore[misc]
                    len(posthog.requests) >= wanted or posthog.events_by_uuid.keys() >= everything.keys()
                )
            )
            await asyncio.sleep(draws.random() * 2 * SLOWNESS)
            await kill(daemon)
    posthog.fault = None
    await settled(workspace, posthog.url)
    assert bodies(posthog) == everything


async def test_killed_while_sessions_are_written_it_delivers_what_preview_says(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    projects = workspace.config / "projects"
    projects.mkdir(parents=True)
    env = environment(workspace, posthog.url)
    in_trouble(posthog, 3)
    async with following(workspace, env=env) as daemon:
        await kill(daemon)
    logs = [LogBuilder(session_id(f"writing/{number}"), start=now()) for number in range(3)]
    for number, log in enumerate(logs):
        for turn in range(12):
            log.prompt(f"turn {turn}")
            log.answer(text("and so on"), id=f"msg_01w{number}t{turn}")
    left = {log.path: log.files()[log.path].splitlines(keepends=True) for log in logs}
    rounds = 4
    for turn in range(rounds):
        arrived = len(posthog.requests)
        async with following(workspace, env=env) as daemon:
            for path, lines in left.items():
                # The crash of a round cuts its last line in two.
                share = len(lines) if turn == rounds - 1 else len(lines) // 2
                data = b"".join(lines[:share])
                append(projects / path, data[:-20])
                await daemon.until(lambda arrived=arrived: len(posthog.requests) > arrived)  # type: ignore[misc]
                append(projects / path, data[-20:])
                del lines[:share]
            await kill(daemon)
    posthog.fault = None
    await settled(workspace, posthog.url)
    assert bodies(posthog) == await expected(workspace)


async def test_killed_while_a_message_and_a_call_are_open_it_sends_them_when_they_are_complete(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    projects = workspace.config / "projects"
    projects.mkdir(parents=True)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        await kill(daemon)
    message, call = (LogBuilder(session_id(name), start=now()) for name in ("message", "call"))
    for log in (message, call):
        log.prompt("begin")
        log.answer(text("I begin."), id=f"msg_{log.session}")
        log.prompt("go on")
    # Without a stop reason, only a following line can end the message.
    message.message(id="msg_open", stop_reason=None).add(text("Well, "))
    call.answer(text("Let me see."), tool_use("Bash", {"command": "ls"}, id="toolu_open"), id="msg_call")
    written = {log.path: len(log.lines) for log in (message, call)}
    async with following(workspace, env=env) as daemon:
        for log in (message, call):
            append(projects / log.path, log.files()[log.path])
        # What is complete has arrived and is settled, with the lines before the open ones.
        await daemon.until(lambda: len(posthog.without_openings) == 3)
        names = {Path(path).name for path in written}
        await daemon.until(lambda: {name for name, offset in offsets(workspace).items() if offset} >= names)
        await kill(daemon)
    message.prompt("never mind")
    call.tool_result("toolu_open", "ada\nbob")
    call.answer(text("Two."), id="msg_last")
    async with following(workspace, env=env) as daemon:
        for log in (message, call):
            append(projects / log.path, b"".join(log.files()[log.path].splitlines(True)[written[log.path] :]))
        await daemon.until(lambda: len(posthog.without_openings) == 6)
        await kill(daemon)
    await settled(workspace, posthog.url)
    assert bodies(posthog) == await expected(workspace)
    assert {"msg_open", "toolu_open"} <= {event["properties"]["$ai_span_id"] for event in posthog.events}


async def test_killed_while_most_answers_are_lost_it_loses_no_event(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, many_sessions(6, 60))
    env = environment(workspace, posthog.url)
    for turn in range(3):
        arrived = len(posthog.requests)
        # One answer arrives, so that some events are settled. All later answers are lost.
        posthog.script(Accept())
        posthog.fault = lambda _: Drop()
        async with following(workspace, *(["--from-start"] if turn == 0 else []), env=env, ready=False) as daemon:
            await daemon.until(lambda arrived=arrived: len(posthog.requests) >= arrived + 3)  # type: ignore[misc]
            await kill(daemon)
    posthog.fault = None
    await settled(workspace, posthog.url)
    assert bodies(posthog) == await expected(workspace)


async def test_terminated_it_delivers_what_it_has_read_and_sends_nothing_twice(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree() | many_sessions(20, 20))

    def slowly(_: Request) -> Behaviour:
        release = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, release.set)
        return Hold(release)

    posthog.fault = slowly
    env = environment(workspace, posthog.url)
    async with following(workspace, "--from-start", env=env) as daemon:
        await until(lambda: len(posthog.requests) >= 2, "requests under way")
        daemon.terminate()
        assert await daemon.wait() == 0, daemon.stderr
        names = [line["event"] for line in log_lines(daemon.stderr)]
        assert "stopping" in names
        assert "delivery_stopped" not in names
    posthog.fault = None
    await settled(workspace, posthog.url)
    assert bodies(posthog) == await expected(workspace)
    assert {len(times) for times in posthog.events_by_uuid.values()} == {1}


async def test_terminated_while_the_receiver_does_not_answer_it_ends_within_the_deadline(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree())
    posthog.fault = lambda _: Hold(asyncio.Event())
    env = environment(workspace, posthog.url, **cadence_variables(drain=1.0))
    async with following(workspace, "--from-start", env=env) as daemon:
        await until(lambda: len(posthog.requests) >= 1, "a request under way")
        daemon.terminate()
        assert await daemon.wait() == 0, daemon.stderr
    posthog.fault = None
    await settled(workspace, posthog.url)
    assert bodies(posthog) == await expected(workspace)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(
    workspace: Workspace, posthog: CaptureServer, number: signal.Signals
) -> None:
    put_logs(workspace, tree())
    posthog.fault = lambda _: Hold(asyncio.Event())
    env = environment(workspace, posthog.url)
    async with following(workspace, "--from-start", env=env) as daemon:
        await until(lambda: len(posthog.requests) >= 1, "a request under way")
        os.kill(daemon.pid, number)
        await daemon.until(lambda: any(line["event"] == "stopping" for line in log_lines(daemon.stderr)))
        os.kill(daemon.pid, number)
        assert await daemon.wait() == 1
        assert "Traceback" not in daemon.stderr
    posthog.fault = None
    await settled(workspace, posthog.url)
    assert bodies(posthog) == await expected(workspace)


def spoken(words: str) -> LogBuilder:
    """A session that begins now, with one prompt and its answer."""
    log = LogBuilder(session_id(words), start=now())
    log.prompt(words)
    log.answer(text("I am."))
    return log


def put(workspace: Workspace, log: LogBuilder) -> None:
    append(workspace.config / "projects" / log.path, log.files()[log.path])


def told(daemon: Child, event: str) -> int:
    return sum(line["event"] == event for line in log_lines(daemon.stderr))


async def test_sighup_reloads_the_settings(workspace: Workspace, posthog: CaptureServer) -> None:
    (workspace.config / "projects").mkdir(parents=True)
    settings = workspace.config / "settings.json"
    async with following(workspace, env=environment(workspace, posthog.url)) as daemon:
        put(workspace, spoken("before"))
        await daemon.until(lambda: len(posthog.without_openings) == 1)

        settings.write_text(json.dumps({"env": {"POSTHOG_LLMA_PRIVACY_MODE": "true"}}))
        os.kill(daemon.pid, signal.SIGHUP)
        await daemon.until(lambda: told(daemon, "ready") == 2)
        put(workspace, spoken("private"))
        await daemon.until(lambda: len(posthog.without_openings) == 2)
        assert "$ai_input" in posthog.without_openings[0]["properties"]
        assert "$ai_input" not in posthog.without_openings[1]["properties"]
        daemon.terminate()
        assert await daemon.wait() == 0
    assert len(posthog.events_by_uuid) == len(posthog.events)


async def test_invalid_settings_leave_the_old_ones_in_force(workspace: Workspace, posthog: CaptureServer) -> None:
    (workspace.config / "projects").mkdir(parents=True)
    async with following(workspace, env=environment(workspace, posthog.url)) as daemon:
        (workspace.config / "settings.json").write_text('{"env": {"POSTHOG_LLMA_CONTENT": "some"}}')
        os.kill(daemon.pid, signal.SIGHUP)
        await daemon.until(lambda: told(daemon, "settings_refused") == 1)
        put(workspace, spoken("after"))
        await daemon.until(lambda: len(posthog.without_openings) == 1)
        refused = next(line for line in log_lines(daemon.stderr) if line["event"] == "settings_refused")
        assert "POSTHOG_LLMA_CONTENT" in refused["problems"][0]
        assert told(daemon, "ready") == 1


async def test_ctrl_c_ends_once_without_a_traceback(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    release = asyncio.Event()
    posthog.fault = lambda _: Hold(release)
    env = environment(workspace, posthog.url)
    async with following(workspace, "--once", env=env, ready=False) as daemon:
        await daemon.until(lambda: len(posthog.requests) >= 1)
        os.kill(daemon.pid, signal.SIGINT)
        release.set()
        assert await daemon.wait() == 1
        assert "Traceback" not in daemon.stderr
        assert "never retrieved" not in daemon.stderr
