"""`backfill` sends existing sessions once, with the ids they would have had live."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.following.log_roots import roots_at
from daemon.history.backfill_request import BackfillDesk, BackfillRequest
from daemon.history.first_start import settle_history
from daemon.state.store import Store
from tests.support.cadence import cadence_variables
from tests.support.capture_server import Answer, CaptureServer, Event, Refusal
from tests.support.client import Workspace, start
from tests.support.logs import LogBuilder, text, usage
from tests.support.processes import (
    ROOT,
    SECRET,
    append,
    bodies,
    environment,
    following,
    hosting,
    kill,
    log_lines,
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


async def test_only_the_sessions_in_the_given_paths_are_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree() | hosting())
    logs = [path for name in ("rich", "guest") for path in projects.glob(f"*/{session_id(name)}.jsonl")]
    env = environment(workspace, posthog.url)
    assert (await verb(workspace, "backfill", "--yes", *logs, env=env)).status == 0
    assert bodies(posthog) == await expected(workspace, *logs)
    # Of a session with lines in the log of another, these are sent, too.
    assert [body for body in bodies(posthog).values() if '"msg_hosted"' in body]
    # A daemon leaves the rest alone, and it can be sent later.
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert bodies(posthog) == await expected(workspace, *logs)
    assert (await verb(workspace, "backfill", "--yes", projects, env=env)).status == 0
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_what_a_daemon_has_sent_is_not_sent_again(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree())
    env = environment(workspace, posthog.url, POSTHOG_LLMA_SESSION_TIMEOUT="1")
    async with following(workspace, env=env) as daemon:
        log = LogBuilder(session_id("live"), start=now())
        log.prompt("hello")
        log.answer(text("hello"), id="msg_live")
        append(projects / log.path, log.files()[log.path])
        await daemon.until(lambda: len(posthog.without_openings) == 2)
        daemon.terminate()
        assert await daemon.wait() == 0
    ended = await verb(workspace, "backfill", "--yes", env=env)
    assert ended.status == 0
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_the_next_backfill_sends_what_the_first_could_not(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, many_sessions(10, 60))
    answered = iter(range(1000))
    posthog.fault = lambda _: Answer(status=403) if next(answered) >= 3 else None
    env = environment(workspace, posthog.url)
    first = await verb(workspace, "backfill", "--yes", "--log-format", "json", env=env)
    assert first.status == 1
    assert first.stdout == f"{len(posthog.events):,} events sent\n"
    assert len(first.errors) == 1
    assert "run it again" in first.errors[0]
    before = len(posthog.events)
    assert before
    posthog.fault = None
    second = await verb(workspace, "backfill", "--yes", env=env)
    assert second.stdout == f"{len(posthog.events) - before:,} events sent\n"
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)


# ---------------------------------------------------------------------- which sessions, and how much they are


async def test_a_dry_run_counts_what_would_be_sent_and_sends_nothing(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url)
    would = await expected(workspace)

    said = await verb(workspace, "backfill", "--dry-run", "--json", env=env)
    assert said.status == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["events"] == len(would)
    assert document["sessions"] == 10
    assert document["bytes"] == sum(len(body.encode()) for body in would.values())
    generations = [event["properties"] for event in map(json.loads, would.values())]
    assert document["tokens"]["output"] == sum(each.get("$ai_output_tokens", 0) for each in generations)
    assert (document["cost_usd"] > 0, document["unpriced_tokens"]) == (True, {})
    assert not workspace.state.exists()

    plain = await verb(workspace, "backfill", "--dry-run", env=env)
    assert f"events:   {len(would):,}\n" in plain.stdout
    assert all(len(line) <= 100 for line in plain.stdout.splitlines())
    assert SECRET not in plain.stdout + plain.stderr
    assert posthog.requests == []

    assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
    again = json.loads((await verb(workspace, "backfill", "--dry-run", "--json", env=env)).stdout)
    assert (again["events"], again["sessions"]) == (0, 0)
    assert (await verb(workspace, "backfill", "--dry-run", env=env)).stdout.startswith("nothing to send")


async def test_sessions_that_would_wait_are_not_reported_as_sent(workspace: Workspace) -> None:
    settings = workspace.work / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text("{")
    put_logs(workspace, dated("one", "2026-07-01", str(workspace.work)).files())
    said = await verb(workspace, "backfill", "--dry-run")
    assert said.stdout == "nothing to send until that is fixed\n"
    assert f"1 session would wait: {settings}" in said.stderr


async def test_a_dry_run_needs_no_key(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    said = await verb(workspace, "backfill", "--dry-run", "--json")
    assert (said.status, said.stderr) == (0, "")
    assert json.loads(said.stdout)["events"]


async def test_without_a_terminal_nothing_is_sent_unless_the_user_says_yes(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, tree())
    for more in ([], ["--json"]):
        ended = await verb(workspace, "backfill", *more, env=environment(workspace, posthog.url))
        assert (ended.status, ended.stdout) == (2, "")
        assert len(ended.errors) == 1
        assert "--yes" in ended.errors[0]
        assert "--dry-run" in ended.errors[0]
    assert posthog.requests == []


async def test_a_dry_run_says_what_the_sessions_cost(workspace: Workspace) -> None:
    log = LogBuilder(session_id("one"), start="2026-07-01T12:00:00Z")
    log.prompt("Count the trees")
    million = usage(1_000_000, 1_000_000, cache_read=0, cache_5m=0, cache_1h=0)
    log.answer(text("All."), model="claude-opus-5", counts=million)
    log.answer(text("Again."), model="orchard-model-1", counts=million)
    put_logs(workspace, log.files())
    said = await verb(workspace, "backfill", "--dry-run")
    assert "cost:     $30.00 + 2.0M tokens without a price (an estimate at API list prices)\n" in said.stdout


def dated(name: str, day: str, cwd: str = "/home/ada/orchard") -> LogBuilder:
    log = LogBuilder(session_id(name), start=f"{day}T12:00:00Z", cwd=cwd)
    log.prompt("hello")
    log.answer(text("hello"), id=f"msg_{name}")
    return log


async def test_sessions_are_chosen_by_time_project_and_id(workspace: Workspace, posthog: CaptureServer) -> None:
    logs = {
        "first": dated("first", "2026-01-10"),
        "second": dated("second", "2026-02-10"),
        "third": dated("third", "2026-03-10", "/home/ada/meadow/low"),
    }
    put_logs(workspace, {path: data for log in logs.values() for path, data in log.files().items()})
    env = environment(workspace, posthog.url)

    async def meant(*options: str) -> int:
        said = await verb(workspace, "backfill", "--dry-run", "--json", *options, env=env)
        assert said.status == 0, said.stderr
        return int(json.loads(said.stdout)["sessions"])

    assert await meant("--since", "2026-02-10") == 2
    assert await meant("--since", "2026-02-11") == 1
    assert await meant("--until", "2026-02-10") == 2
    assert await meant("--until", "2026-02-09T23:00") == 1
    assert await meant("--since", "2026-02-01", "--until", "2026-02-28") == 1
    assert await meant("--project", "/home/ada/meadow") == 1
    assert await meant("--project", "orchard", "--project", "low") == 3
    assert await meant("--session", session_id("first")) == 1
    assert await meant("--session", session_id("first")[:8], "--session", session_id("third")) == 2
    assert await meant("--since", "1h") == 0
    [log] = (workspace.config / "projects").glob(f"*/{session_id('second')}.jsonl")
    assert await meant("--path", str(log)) == 1

    sent = await verb(workspace, "backfill", "--yes", "--json", "--since", "2026-03-01", env=env)
    assert sent.status == 0
    document = json.loads(sent.stdout)
    assert (document["sessions"], document["sent"], document["settled"]) == (1, len(posthog.events), True)
    assert {event["properties"]["$ai_session_id"] for event in posthog.events} == {logs["third"].session}
    none = await verb(workspace, "backfill", "--yes", "--session", "no-such", env=env)
    assert (none.status, none.stdout) == (0, "nothing to send: no session on disk matches these options\n")


async def test_an_invalid_time_is_bad_usage(workspace: Workspace) -> None:
    ended = await verb(workspace, "backfill", "--since", "yesterday")
    assert ended.status == 2
    assert "2026-11-20" in ended.stderr


async def test_logs_outside_the_followed_folders_are_an_error(workspace: Workspace, posthog: CaptureServer) -> None:
    log = dated("elsewhere", "2026-01-10")
    put_logs(workspace, tree())
    elsewhere = workspace.root / "elsewhere.jsonl"
    elsewhere.write_bytes(log.files()[log.path])
    ended = await verb(workspace, "backfill", "--yes", elsewhere, env=environment(workspace, posthog.url))
    assert ended.status == 1
    assert "CLAUDE_CONFIG_DIR" in ended.errors[0]


async def test_it_says_when_posthog_will_not_keep_the_content(workspace: Workspace, posthog: CaptureServer) -> None:
    recent = datetime.now(UTC) - timedelta(days=2)
    put_logs(workspace, dated("old", "2026-01-10").files() | dated("new", recent.date().isoformat()).files())
    env = environment(workspace, posthog.url)
    counted = await verb(workspace, "backfill", "--dry-run", env=env)
    assert "note: 3 events older than 30 days: PostHog keeps only metrics" in counted.stderr
    document = json.loads((await verb(workspace, "backfill", "--dry-run", "--json", env=env)).stdout)
    assert (document["events"], document["metrics_only_events"]) == (6, 3)
    sent = await verb(workspace, "backfill", "--yes", env=env)
    assert "note: 1 session began more than 30 days ago" in sent.stderr


async def test_sessions_that_the_client_will_remove_are_listed(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, dated("fresh", "2026-01-10").files())
    put_logs(workspace, dated("soon", "2026-01-10").files(), age=26 * 86_400)
    put_logs(workspace, dated("overdue", "2026-01-10").files(), age=40 * 86_400)
    env = environment(workspace, posthog.url)
    listed = await verb(workspace, "backfill", "--expiring", "--json", env=env)
    assert listed.status == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert [row["session"] for row in rows] == [session_id("overdue"), session_id("soon")]
    assert [row["days_left"] for row in rows] == [0.0, 4.0]
    assert {row["unsent_events"] for row in rows} == {3}
    assert posthog.requests == []

    sent = await verb(workspace, "backfill", "--expiring", "--yes", env=env)
    assert sent.stdout == "6 events sent\n"
    plain = await verb(workspace, "backfill", "--expiring", env=env)
    assert "all their events have been sent already" in plain.stdout

    (workspace.config / "settings.json").write_text('{"cleanupPeriodDays": 365}')
    kept = await verb(workspace, "backfill", "--expiring", env=env)
    assert (kept.status, kept.stdout) == (0, "Claude Code removes no session within 7 days\n")


async def test_each_config_folder_has_its_own_time_until_logs_are_removed(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    """A session of an hour ago and one of 20 days in each; Claude Code's default is 30 days."""
    values = {"unset": None, "zero": 0, "week": 7, "text": "7", "negative": -1, "switch": True}
    for name, days in values.items():
        config = workspace.root / name
        for age, session in ((3600.0, f"{name}-new"), (20 * 86_400.0, f"{name}-old")):
            for path, data in dated(session, "2026-01-10").files().items():
                log = config / "projects" / path
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_bytes(data)
                os.utime(log, (time.time() - age,) * 2)
        if days is not None:
            (config / "settings.json").write_text(json.dumps({"cleanupPeriodDays": days}))
    folders = os.pathsep.join(str(workspace.root / name) for name in values)
    env = environment(workspace, posthog.url, CLAUDE_CONFIG_DIR=folders)
    listed = await verb(workspace, "backfill", "--expiring", "--json", env=env)
    assert listed.status == 0, listed.stderr
    assert {row["session"]: row["days_left"] for row in json.loads(listed.stdout)} == {
        session_id("zero-new"): 0.0,
        session_id("zero-old"): 0.0,
        session_id("week-new"): 7.0,
        session_id("week-old"): 0.0,
    }


async def test_the_open_turn_of_a_running_session_is_not_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    log = dated("running", "2026-01-10")
    log.prompt("and now?")
    log.answer(text("I think"), id="msg_open", stop_reason=None)
    put_logs(workspace, log.files())
    registry = workspace.config / "sessions"
    registry.mkdir()
    (registry / f"{os.getpid()}.json").write_text(json.dumps({"sessionId": log.session, "pid": os.getpid()}))
    env = environment(workspace, posthog.url)
    said = await verb(workspace, "backfill", "--dry-run", env=env)
    assert "events:   2\n" in said.stdout
    assert "note: 1 session still running" in said.stderr
    assert (await verb(workspace, "backfill", "--yes", env=env)).stdout == "2 events sent\n"


# ---------------------------------------------------------------------- by a running daemon


async def test_a_running_daemon_sends_history_itself(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree())
    would = await expected(workspace)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        done = await verb(workspace, "backfill", "--yes", env=env)
        assert done.status == 0, done.stderr + daemon.stderr
        assert f"pid {daemon.pid}" in done.stderr
        assert bodies(posthog) == would
        assert done.stdout == f"{len(would)} events sent\n"
        again = await verb(workspace, "backfill", "--yes", "--json", env=env)
        assert (again.status, json.loads(again.stdout)["sent"]) == (0, 0)
        # It still follows live sessions, even one whose history it has just sent.
        [log] = projects.glob(f"*/{session_id('2-1-300')}.jsonl")
        more = LogBuilder(session_id("live"), start=now())
        more.prompt("hello")
        more.answer(text("hello"), id="msg_live")
        append(projects / more.path, more.files()[more.path])
        await daemon.until(lambda: len(posthog.events) == len(would) + 2)
        daemon.terminate()
        assert await daemon.wait() == 0
    assert [path.name for path in workspace.state.iterdir() if path.name.startswith("backfill")] == []
    assert len(posthog.events) == len(posthog.events_by_uuid)
    # None of it is sent again by another backfill.
    assert (await verb(workspace, "backfill", "--yes", "--path", log, env=env)).stdout == "0 events sent\n"


async def test_the_daemon_sends_only_the_chosen_sessions(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, tree() | hosting())
    logs = [path for name in ("rich", "guest") for path in projects.glob(f"*/{session_id(name)}.jsonl")]
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env):
        done = await verb(workspace, "backfill", "--yes", *logs, env=env)
        assert done.status == 0, done.stderr
        assert bodies(posthog) == await expected(workspace, *logs)
    assert [body for body in bodies(posthog).values() if '"msg_hosted"' in body]


async def test_the_daemon_sends_the_trace_of_a_session_that_may_continue_when_it_ends(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, many_sessions(3, 3), age=60)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env):
        done = await verb(workspace, "backfill", "--yes", env=env)
        assert (done.status, done.stdout) == (0, f"{3 * 8} events sent\n"), done.stderr
    # The last answers are among them; only the traces are still to come.
    would = await expected(workspace)
    assert {uuid for uuid, body in would.items() if '"claude_code_trace":"final"' not in body} == bodies(posthog).keys()
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert bodies(posthog) == would


async def test_a_daemon_that_dies_is_reported_and_the_next_backfill_continues(
    workspace: Workspace, posthog: CaptureServer
) -> None:
    put_logs(workspace, many_sessions(10, 25))
    posthog.fault = lambda _: Answer(status=503)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        asking = asyncio.create_task(verb(workspace, "backfill", "--yes", env=env))
        await posthog.wait_requests(1)
        await kill(daemon)
        ended = await asking
    assert ended.status == 1
    assert len(ended.errors) == 1
    assert f"pid {daemon.pid}" in ended.errors[0]
    assert "run this again" in ended.errors[0]
    posthog.fault = None
    assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
    assert bodies(posthog) == await expected(workspace)


async def test_a_daemon_that_starts_continues_an_open_request(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, many_sessions(5, 5))
    would = await expected(workspace)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        daemon.terminate()
        assert await daemon.wait() == 0
    units = {
        f"claude-code/{path.stem}": path.stat().st_size for path in (workspace.config / "projects").glob("*/*.jsonl")
    }
    BackfillDesk(workspace.state).ask(BackfillRequest(id="0" * 32, units=units))
    async with following(workspace, env=env) as daemon:
        await daemon.until(lambda: len(posthog.events) == len(would))
        await daemon.until(lambda: not BackfillDesk(workspace.state).request_path.exists())
    assert bodies(posthog) == would


async def test_a_stopped_route_ends_the_request(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, many_sessions(4, 25))
    posthog.fault = lambda _: Answer(status=403)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env):
        ended = await verb(workspace, "backfill", "--yes", env=env)
    assert ended.status == 1
    assert len(ended.errors) == 1
    assert "run it again" in ended.errors[0]
    assert "403" in ended.stderr


async def test_an_invalid_request_is_refused(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, tree())
    env = environment(workspace, posthog.url)
    path = BackfillDesk(workspace.state).request_path
    async with following(workspace, env=env) as daemon:
        for content, mode in (('{"version": 1, "id": "x", "units": {"a": 1}}', 0o600), ("{}", 0o600), ("{", 0o644)):
            path.write_text(content)
            path.chmod(mode)
            await daemon.until(lambda: not path.exists())
        refused = [line for line in log_lines(daemon.stderr) if line["event"] == "backfill_refused"]
        assert len(refused) == 3
        assert all(str(path) in line["reason"] for line in refused)
    assert posthog.requests == []


async def test_ctrl_c_withdraws_the_request(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, many_sessions(10, 25))
    posthog.fault = lambda _: Answer(status=503)
    env = environment(workspace, posthog.url)
    path = BackfillDesk(workspace.state).request_path
    async with following(workspace, env=env) as daemon:
        command = [sys.executable, "-m", "tests.support.quick", "backfill", "--yes"]
        async with start(
            command, name="asking", environment=env, cwd=ROOT, output=workspace.output, forks=workspace.forks
        ) as asking:
            await posthog.wait_requests(1)
            os.kill(asking.pid, signal.SIGINT)
            assert await asking.wait() == 1
            assert "interrupted; run it again" in asking.stderr
            assert "Traceback" not in asking.stderr
        assert not path.exists()
        posthog.fault = None
        done = await verb(workspace, "backfill", "--yes", env=env)
        assert done.status == 0, done.stderr + daemon.stderr
    assert bodies(posthog) == await expected(workspace)


async def test_ctrl_c_without_a_daemon_keeps_what_was_sent(workspace: Workspace, posthog: CaptureServer) -> None:
    put_logs(workspace, many_sessions(10, 25))
    answered = iter(range(1000))
    posthog.fault = lambda _: Answer(status=503) if next(answered) >= 2 else None
    env = environment(workspace, posthog.url, **cadence_variables(drain=1.0))
    command = [sys.executable, "-m", "tests.support.quick", "backfill", "--yes"]
    async with start(
        command, name="sending", environment=env, cwd=ROOT, output=workspace.output, forks=workspace.forks
    ) as sending:
        await posthog.wait_requests(4)
        os.kill(sending.pid, signal.SIGINT)
        assert await sending.wait() == 1
        assert "interrupted; run it again" in sending.stderr
        assert "Traceback" not in sending.stderr
    before = len(posthog.events)
    assert before
    posthog.fault = None
    done = await verb(workspace, "backfill", "--yes", env=env)
    assert done.stdout == f"{len(posthog.events) - before} events sent\n"
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_live_events_are_sent_before_the_rest_of_history(workspace: Workspace, posthog: CaptureServer) -> None:
    projects = put_logs(workspace, many_sessions(30, 25))
    would = await expected(workspace)
    env = environment(workspace, posthog.url)
    async with following(workspace, env=env) as daemon:
        # Nothing is accepted until the live turn is logged, so only a few old events are queued before it.
        posthog.fault = lambda _: Answer(status=503)
        asking = asyncio.create_task(verb(workspace, "backfill", "--yes", env=env))
        await posthog.wait_requests(1)
        log = LogBuilder(session_id("live"), start=now())
        log.prompt("hello")
        log.answer(text("hello"), id="msg_live")
        log.prompt("thanks")
        append(projects / log.path, log.files()[log.path])
        await asyncio.sleep(0)
        posthog.fault = None
        done = await asking
        assert done.status == 0, done.stderr + daemon.stderr
        await daemon.until(lambda: len(posthog.events) == len(would) + 2)
    order = [event["properties"]["$ai_session_id"] for event in posthog.without_openings]
    assert order.index(log.session) < len(order) / 2


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--yes"], ["--since", "1h", "--dry-run"]])
async def test_without_logs_it_says_where_it_looked(
    workspace: Workspace, posthog: CaptureServer, arguments: list[str]
) -> None:
    ended = await verb(workspace, "backfill", *arguments, env=environment(workspace, posthog.url))
    assert ended.status == 0
    assert ended.stdout == (
        f"nothing to send: no session logs in {workspace.config / 'projects'}; set CLAUDE_CONFIG_DIR if they are "
        "elsewhere\n"
    )


# ---------------------------------------------------------------------- rejected events


class Picky(CaptureServer):
    """A receiver with something in front of it that refuses the events with any of some words."""

    words: tuple[str, ...] = ()

    def _judge_event(self, event: Event, path: str) -> None:
        said = json.dumps(event)
        if any(word in said for word in self.words):
            raise Refusal(400, "blocked by the firewall")
        super()._judge_event(event, path)


def two_answers(name: str, *, start: str) -> LogBuilder:
    """A session of two turns with an event each, and a trace."""
    log = LogBuilder(session_id(name), start=start)
    for turn in ("first", "second"):
        log.prompt(f"the {turn} prompt of {name}")
        log.answer(text(f"the {turn} answer of {name}"), id=f"msg_{turn}_{name}")
    return log


def rejected_uuids(workspace: Workspace) -> set[str]:
    with closing(Store(workspace.state, read_only=True)) as store:
        return {row.uuid for row in store.rejected()}


@pytest.mark.parametrize("grouping", ["session", "message"])
async def test_rejected_events_are_sent_again_and_nothing_else(workspace: Workspace, grouping: str) -> None:
    history = two_answers("history", start="2026-03-01T08:00:00+00:00")
    put_logs(workspace, history.files())
    async with Picky() as posthog:
        env = environment(workspace, posthog.url, POSTHOG_LLMA_TRACE_GROUPING=grouping)
        workspace.state.mkdir(mode=0o700)
        with closing(Store(workspace.state)) as store:
            settle_history(store, roots_at(workspace.config / "projects"), "skip", time.time())
        late, other = two_answers("late", start=now()), two_answers("other", start=now())
        put_logs(workspace, late.files() | other.files())
        posthog.words = ("first answer of late", f'"$ai_trace_id": "{session_id("late")}"', "second answer of other")
        assert (await verb(workspace, "run", "--once", env=env)).status == 0
        whole = previewed((await verb(workspace, "preview", workspace.config, env=env)).stdout)
        would = {uuid: body for uuid, body in whole.items() if session_id("history") not in body}
        refused = rejected_uuids(workspace)
        assert refused == would.keys() - bodies(posthog).keys()
        assert len(refused) > 1

        # They are refused once more, and stay what they are.
        again = await verb(workspace, "backfill", "--rejected", "--yes", env=env)
        assert (again.status, again.stdout) == (1, "0 events sent\n")
        assert rejected_uuids(workspace) == refused
        status = await verb(workspace, "status", env=env)
        assert f"{len(refused)} events; --rejected lists them" in status.stdout
        assert "`posthog-llma-daemon backfill --rejected`" in " ".join(status.stdout.split())
        doctor = await verb(workspace, "doctor", "--json", env=env)
        [finding] = [each for each in json.loads(doctor.stdout)["checks"] if each["name"] == "rejected events"]
        assert finding["message"] == f"PostHog refused {len(refused)} events"
        assert "backfill --rejected" in finding["hint"]

        posthog.words = ()
        counted = await verb(workspace, "backfill", "--rejected", "--dry-run", env=env)
        assert counted.stdout == f"{len(refused)} rejected events to send again, of 2 sessions\n"
        done = await verb(workspace, "backfill", "--rejected", "--yes", env=env)
        assert (done.status, done.stdout, done.errors) == (0, f"{len(refused)} events sent\n", [])
        assert bodies(posthog) == would, "nothing of history"
        assert len(posthog.events) == len(posthog.events_by_uuid)
        assert rejected_uuids(workspace) == set()
        assert "set aside:        0 events\n" in (await verb(workspace, "status", env=env)).stdout
        empty = await verb(workspace, "backfill", "--rejected", "--yes", env=env)
        assert (empty.status, empty.stdout) == (
            0,
            "nothing to send: no event that was set aside belongs to these sessions\n",
        )
        assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
        assert bodies(posthog) == whole
        assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_a_running_daemon_sends_rejected_events_again_while_it_follows_their_session(
    workspace: Workspace,
) -> None:
    put_logs(workspace, two_answers("history", start="2026-03-01T08:00:00+00:00").files())
    log = two_answers("live", start=now())
    async with Picky() as posthog:
        posthog.words = ("first answer of live",)
        env = environment(workspace, posthog.url)
        async with following(workspace, env=env) as daemon:
            append(workspace.config / "projects" / log.path, log.files()[log.path])
            await daemon.until(lambda: len(posthog.events) == 1)
            await daemon.until(lambda: bool(rejected_uuids(workspace)))
            posthog.words = ()
            done = await verb(workspace, "backfill", "--rejected", "--yes", env=env)
            assert (done.status, done.stdout) == (0, "1 event sent\n")
            assert rejected_uuids(workspace) == set()
            # The session goes on, and what is new in it is sent once.
            before = len(log.files()[log.path])
            log.prompt("the third prompt")
            log.answer(text("the third answer"), id="msg_third")
            append(workspace.config / "projects" / log.path, log.files()[log.path][before:])
            await daemon.until(lambda: len(posthog.events) == 3)
            again = await verb(workspace, "backfill", "--rejected", "--yes", "--json", env=env)
            assert json.loads(again.stdout)["sent"] == 0
            daemon.terminate()
            assert await daemon.wait() == 0
        assert (await verb(workspace, "run", "--once", env=env)).status == 0
        would = {uuid: body for uuid, body in (await expected(workspace)).items() if session_id("history") not in body}
        assert bodies(posthog) == would
        assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_what_an_earlier_version_has_set_aside_is_sent_again_and_what_is_gone_is_said(
    workspace: Workspace,
) -> None:
    kept, gone = two_answers("kept", start="2026-03-01T08:00:00+00:00"), two_answers("gone", start=now())
    put_logs(workspace, kept.files() | gone.files())
    async with Picky() as posthog:
        posthog.words = ("first answer of", f'"$ai_trace_id": "{session_id("kept")}"')
        env = environment(workspace, posthog.url)
        assert (await verb(workspace, "run", "--once", "--from-start", env=env)).status == 0
        would = await expected(workspace)
        posthog.words = ()
        with closing(sqlite3.connect(workspace.state / "state.db")) as store:
            store.executescript("DROP TABLE hosted; ALTER TABLE rejected DROP COLUMN unit; PRAGMA user_version=4;")
        lost = {uuid for uuid, body in would.items() if session_id("gone") in body} & rejected_in_v4(workspace)
        assert len(lost) == 1
        (workspace.config / "projects" / gone.path).unlink()
        done = await verb(workspace, "backfill", "--rejected", "--yes", env=env)
        assert done.status == 0
        assert "no log of the session is left" in " ".join(done.stderr.split())
        assert bodies(posthog).keys() == would.keys() - lost
        assert len(posthog.events) == len(posthog.events_by_uuid)
        assert rejected_uuids(workspace) == lost


def rejected_in_v4(workspace: Workspace) -> set[str]:
    with closing(sqlite3.connect(workspace.state / "state.db")) as store:
        return {uuid for (uuid,) in store.execute("SELECT uuid FROM rejected")}
