"""`backfill`: history is sent when it is asked for, once, with the ids it would have had live."""

from __future__ import annotations

from pathlib import Path

from tests.support.capture_server import Answer, CaptureServer
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import (
    append,
    bodies,
    environment,
    following,
    many_sessions,
    now,
    previewed,
    put_logs,
    session_id,
    tree,
    verb,
)


async def expected(workspace: Workspace, *paths: Path) -> dict[str, str]:
    return previewed((await verb(workspace, "preview", *(paths or (workspace.config,)))).stdout)


async def test_everything_is_sent_once(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url)
    first = await verb(workspace, "backfill", "--yes", env=env)
    assert first.status == 0, first.stderr
    assert bodies(posthog) == await expected(workspace)
    assert first.stdout == f"{len(posthog.events)} events sent\n"
    second = await verb(workspace, "backfill", "--yes", env=env)
    assert (second.status, second.stdout) == (0, "0 events sent\n")
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_only_the_sessions_that_are_named_are_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree())
    [log] = projects.glob(f"*/{session_id('rich')}.jsonl")
    env = environment(workspace, posthog.url)
    assert (await verb(workspace, "backfill", "--yes", log, env=env)).status == 0
    assert bodies(posthog) == await expected(workspace, log)
    # The rest stays history for a daemon, and can be sent later.
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert bodies(posthog) == await expected(workspace, log)
    assert (await verb(workspace, "backfill", "--yes", projects, env=env)).status == 0
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_after_a_daemon_only_what_it_did_not_send_is_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree())
    env = environment(workspace, posthog.url, POSTHOG_LLMA_SESSION_TIMEOUT="1")
    async with following(workspace, env=env) as daemon:
        log = LogBuilder(session_id("live"), start=now())
        log.prompt("hello")
        log.answer(text("hello"), id="msg_live")
        append(projects / log.path, log.files()[log.path])
        await daemon.until(lambda: len(posthog.events) == 2, 15)
        daemon.terminate()
        assert await daemon.wait(12) == 0
    ended = await verb(workspace, "backfill", "--yes", env=env)
    assert ended.status == 0
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_what_could_not_be_sent_is_sent_by_the_next(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, many_sessions(10, 25))
    answered = iter(range(1000))
    posthog.fault = lambda _: Answer(status=403) if next(answered) >= 3 else None
    env = environment(workspace, posthog.url)
    first = await verb(workspace, "backfill", "--yes", "--log-format", "json", env=env, limit=20)
    assert first.status == 1
    assert first.stdout == f"{len(posthog.events)} events sent\n"
    assert len(first.errors) == 1
    assert "run it again" in first.errors[0]
    before = len(posthog.events)
    assert before
    posthog.fault = None
    second = await verb(workspace, "backfill", "--yes", env=env)
    assert second.stdout == f"{len(posthog.events) - before} events sent\n"
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)
