"""`run` as a process: what it delivers, what it logs, and its exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys

import pytest

from daemon.state.layout import events_path
from tests.support.capture_server import Answer, CaptureServer, Hold
from tests.support.client import Workspace, start
from tests.support.fleet import runner_sessions
from tests.support.logs import LogBuilder, text
from tests.support.processes import (
    KEY,
    ROOT,
    SECRET,
    append,
    are_running,
    bodies,
    environment,
    expected,
    following,
    log_lines,
    now,
    previewed,
    put_logs,
    running_below,
    session_id,
    tree,
    until,
    verb,
)


async def test_once_on_a_fresh_state_directory_sends_everything_and_then_nothing(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url)
    first = await verb(workspace, "run", "--once", env=env)
    assert (first.status, first.stdout) == (0, "")
    said = await verb(workspace, "preview", workspace.config, env=env)
    assert bodies(posthog) == previewed(said.stdout)
    requests = len(posthog.requests)
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert len(posthog.requests) == requests


async def test_ctrl_c_ends_once_and_its_workers(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, runner_sessions(1, 6))
    answered = asyncio.Event()
    posthog.script(Hold(answered), Hold(answered), Hold(answered))
    command = [sys.executable, "-m", "tests.support.quick", "run", "--once", "--jobs=2"]
    env = environment(workspace, posthog.url)
    workers: set[int] = set()
    async with start(
        command, name="once", environment=env, cwd=ROOT, output=workspace.output, forks=workspace.forks
    ) as once:

        def have_begun() -> bool:
            # They end once everything is read, which does not take long.
            workers.update(running_below(once.pid))
            return bool(workers)

        await once.until(have_begun)
        os.killpg(once.pid, signal.SIGINT)
        assert await once.wait() == 1
        await until(lambda: not are_running(workers), "the workers end")

    # Nothing has waited for an answer.
    assert not answered.is_set()
    assert once.stderr.split() == ["Aborted!"]

    answered.set()
    assert (await verb(workspace, "run", "--once", "--jobs=1", env=env)).status == 0
    assert bodies(posthog) == await expected(workspace)


async def test_existing_sessions_are_sent_only_with_from_start(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree())
    env = environment(workspace, posthog.url, POSTHOG_LLMA_SESSION_TIMEOUT="1")
    async with following(workspace, env=env) as daemon:
        log = LogBuilder(session_id("new"), start=now())
        log.prompt("hello")
        log.answer(text("hello"), id="msg_new")
        append(projects / log.path, log.files()[log.path])
        await daemon.until(lambda: len(posthog.without_openings) >= 2)
        daemon.terminate()
        assert await daemon.wait() == 0
    assert {event["properties"]["$ai_session_id"] for event in posthog.events} == {log.session}
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert len(posthog.without_openings) == 2

    async with following(workspace, "--from-start", env=env) as daemon:
        said = await verb(workspace, "preview", workspace.config, env=env)
        everything = previewed(said.stdout)
        await daemon.until(lambda: len(posthog.events) >= len(everything))
    assert bodies(posthog) == everything
    assert len(posthog.events) == len(everything)


async def test_once_logs_what_it_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url)
    ended = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
    done = log_lines(ended.stderr)[-1]
    assert (done["event"], done["sent"], done["set_aside"]) == ("everything_settled", len(posthog.events), 0)
    ended = await verb(workspace, "run", "--once", "--local", "--log-format", "json", env=env)
    done = log_lines(ended.stderr)[-1]
    assert (done["sent"], done["see"]) == (len(posthog.events), "posthog-llma-daemon traces")
    ended = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
    assert log_lines(ended.stderr)[-1]["sent"] == 0


async def test_the_state_directory_is_its_owners_alone(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    elsewhere = workspace.root / "elsewhere"
    env = environment(workspace, posthog.url)
    assert (await verb(workspace, "run", "--once", "--state-dir", elsewhere, env=env)).status == 0
    assert not workspace.state.exists()
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in elsewhere.iterdir()} == {0}


async def test_once_with_a_wrong_key_exits_with_1_and_one_clear_line(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree())
    posthog.fault = lambda _: Answer(status=401, body=f"API key {KEY} is not valid".encode())
    env = environment(workspace, posthog.url)
    ended = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
    assert ended.status == 1
    lines = log_lines(ended.stderr)
    [stopped] = [line for line in lines if line["event"] == "delivery_stopped"]
    assert "POSTHOG_API_KEY" in stopped["hint"]
    assert [line["event"] for line in lines if line["level"] == "error"] == [
        "delivery_stopped",
        "once_incomplete",
    ]
    assert KEY not in ended.stderr
    posthog.fault = None
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    said = await verb(workspace, "preview", workspace.config, env=env)
    assert bodies(posthog) == previewed(said.stdout)


@pytest.mark.parametrize("format_", ["json", "console"])
async def test_no_content_appears_in_any_output(workspace: Workspace, posthog: CaptureServer, format_: str) -> None:
    log = LogBuilder(session_id("bad"))
    log.raw(f'{{"type": "user", "{SECRET}'.encode())
    log.prompt(SECRET)
    for line in (
        b"[1]",
        b"\xff\xfe " + SECRET.encode(),
        f'"{SECRET}"'.encode(),
        f'{{"type": "a {SECRET}", "{SECRET}": 1}}'.encode(),
        f'{{"type": "system", "subtype": "{SECRET}", "content": ["{SECRET}"]}}'.encode(),
        f'{{"type": "user", "uuid": ["{SECRET}"], "message": "{SECRET}"}}'.encode(),
        b'{"type": "user", "message": ' + b"[" * 5000 + SECRET.encode(),
    ):
        log.raw(line)
    log.answer(text(SECRET), id="msg_1")
    files = tree() | log.files()
    projects = put_logs(workspace, files)
    env = environment(workspace, posthog.url)
    posthog.script(Answer(status=503, body=SECRET.encode()), Answer(status=400, body=f'no "{SECRET}"'.encode()))
    options = ("--log-level", "debug", "--log-format", format_)
    ended = await verb(workspace, "run", "--once", *options, env=env)
    assert ended.status == 0, ended.stderr
    assert SECRET not in ended.stderr + ended.stdout
    assert KEY not in ended.stderr + ended.stdout
    told = [line for line in ended.stderr.splitlines() if "bad_line" in line]
    assert len(told) == 1
    assert str(projects / log.path) in told[0]
    if format_ == "json":
        line = json.loads(told[0])
        assert (line["start"], line["end"]) == (0, len(SECRET) + 19)
        assert line["reason"]
    said = await verb(workspace, "preview", workspace.config, *options, env=env)
    assert SECRET not in said.stderr
    assert bodies(posthog) == previewed(said.stdout)
    status = await verb(workspace, "status", "--json", env=env)
    assert json.loads(status.stdout)["bad_lines"] >= 4
    assert SECRET not in status.stdout


async def test_local_needs_no_account_and_marks_nothing_as_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    ended = await verb(workspace, "run", "--local", "--once")
    assert ended.status == 0, ended.stderr
    said = await verb(workspace, "preview", workspace.config)
    with contextlib.closing(sqlite3.connect(events_path(workspace.state))) as connection:
        rows = connection.execute("SELECT uuid, body FROM events").fetchall()
    kept = {uuid: json.loads(body) for uuid, body in rows}
    assert kept == {uuid: json.loads(body) for uuid, body in previewed(said.stdout).items()}

    assert (await verb(workspace, "run", "--once", env=environment(workspace, posthog.url))).status == 0
    assert bodies(posthog) == previewed(said.stdout)


async def test_privacy_mode_sends_no_content(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url, POSTHOG_LLMA_PRIVACY_MODE="true")
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    sent = json.dumps(posthog.events)
    assert posthog.events
    assert SECRET not in sent
    assert "path-marker" not in sent
