"""`status` shows what was delivered, what waits, and what was set aside."""

from __future__ import annotations

import json
import shlex

from llma_core import __version__
from tests.support.capture_server import Answer, CaptureServer, Event, Refusal
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import KEY, SECRET, environment, following, put_logs, session_id, tree, verb


class Picky(CaptureServer):
    """Refuses every request with the generation of one particular message."""

    def _judge_event(self, event: Event, path: str) -> None:
        if event["properties"]["$ai_span_id"] == "msg_poison":
            raise Refusal(400, 'event "msg_poison" is not wanted')
        super()._judge_event(event, path)


async def test_it_counts_what_was_sent_and_lists_what_was_set_aside(workspace: Workspace) -> None:
    log = LogBuilder(session_id("poison"))
    log.prompt("one")
    log.answer(text(f"{SECRET} wrong"), id="msg_poison")
    log.prompt("two")
    log.answer(text("right"), id="msg_right")
    log.raw(b"no JSON")
    projects = put_logs(workspace, tree() | log.files())
    async with Picky() as posthog:
        env = environment(workspace, posthog.url)
        assert (await verb(workspace, "run", "--once", env=env)).status == 0
        sent = len(posthog.events)
    said = await verb(workspace, "status", "--json", env=env)
    assert said.status == 1, "it is not running"
    document = json.loads(said.stdout)
    [aside] = document.pop("set_aside")
    [problem] = document.pop("problems")
    assert (problem["level"], problem["message"]) == ("fail", "the daemon is not running")
    [route] = document.pop("routes")
    assert (route["host"], route["state"]) == (posthog.url, "closed")
    assert (route["sent"], route["waiting"], route["rejected"]) == (sent, 0, 1)
    assert "400" in route["last_error"]
    assert document == {
        "healthy": False,
        "running": False,
        "pid": None,
        "since": None,
        "version": None,
        "state_dir": str(workspace.state),
        "files": len(list(projects.rglob("*.jsonl"))),
        "sent": sent,
        "rejected": 1,
        "cut": 0,
        "bad_lines": 1,
        "traces_owed": 0,
        "sessions": None,
        "followed": None,
        "unread_bytes": 0,
        "unread_logs": 0,
        "unread_seconds": None,
        "sessions_held": 0,
        "held": [],
        "endangered": [],
        "unknown_logs": [],
        "hanging": [],
    }
    path = projects / log.path
    assert (aside["name"], aside["path"]) == ("$ai_generation", str(path))
    assert b"msg_poison" in path.read_bytes()[aside["start"] : aside["end"]]

    listed = await verb(workspace, "status", "--rejected", env=env)
    assert listed.status == 0
    assert aside["uuid"] in listed.stdout
    assert "400" in listed.stdout
    assert f"{path} bytes {aside['start']} to {aside['end']}" in listed.stdout
    rebuilt = await verb(workspace, *shlex.split(aside["command"])[1:], env=env)
    assert json.loads(rebuilt.stdout)["uuid"] == aside["uuid"]
    assert aside["command"] in listed.stdout
    # The receiver's answer may quote content.
    assert "msg_poison" not in listed.stdout
    assert SECRET not in listed.stdout

    plain = await verb(workspace, "status", env=env)
    assert plain.status == 1
    assert fields(plain.stdout)["sent"] == f"{sent} events"
    assert fields(plain.stdout)["running"] == "no"
    assert "posthog-llma-daemon install" in plain.stdout
    assert KEY not in plain.stdout + said.stdout + (workspace.state / "status.json").read_text()
    assert max(len(line) for line in plain.stdout.splitlines() if str(workspace.state) not in line) <= 80


def fields(stdout: str) -> dict[str, str]:
    """Return the `name: value` lines; the first of a name counts."""
    pairs = (line.partition(":") for line in reversed(stdout.splitlines()))
    return {name.strip(): value.strip() for name, _, value in pairs}


async def test_without_anything_set_aside_it_lists_nothing(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url)
        assert (await verb(workspace, "run", "--once", env=env)).status == 0
    listed = await verb(workspace, "status", "--rejected", env=env)
    assert (listed.status, listed.stdout) == (0, "")


async def test_it_distinguishes_a_running_daemon_from_a_killed_one(workspace: Workspace) -> None:
    (workspace.config / "projects").mkdir(parents=True)
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url)
        async with following(workspace, env=env) as daemon:
            seen = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
            assert (seen["running"], seen["pid"]) == (True, daemon.pid)
            assert seen["since"] is not None
            said = await verb(workspace, "status", env=env)
            assert said.status == 0, said.stdout
            assert fields(said.stdout)["running"].startswith("yes, for ")
            assert said.stdout.endswith("No problems found.\n")
        seen = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
        assert (seen["running"], seen["pid"]) == (False, None)


async def test_a_stopped_route_is_reported_with_what_to_do(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    async with CaptureServer() as posthog:
        posthog.script(*[Answer(status=401)] * 50)
        env = environment(workspace, posthog.url)
        async with following(workspace, "--from-start", env=env) as daemon:
            await daemon.until(lambda: "delivery_stopped" in daemon.stderr)
            report = workspace.state / "status.json"
            await daemon.until(lambda: '"stopped"' in report.read_text())
            seen = await verb(workspace, "status", "--json", env=env)
            said = await verb(workspace, "status", env=env)
    document = json.loads(seen.stdout)
    assert (seen.status, said.status, document["healthy"]) == (1, 1, False)
    [route] = document["routes"]
    assert (route["state"], route["sent"]) == ("stopped", 0)
    assert route["waiting"] > 0
    assert route["oldest_waiting_at"] is not None
    assert document["version"] == __version__
    [problem] = document["problems"]
    assert posthog.url in problem["message"]
    assert "posthog-llma-daemon restart" in problem["hint"]
    assert "the daemon asks again in 1 minute" in problem["hint"]
    assert "; asked again in " in " ".join(said.stdout.split())
    words = " ".join(said.stdout.split())
    assert f"!! {problem['message']} -> {problem['hint']}" in words
    assert SECRET not in seen.stdout + said.stdout
    assert KEY not in seen.stdout + said.stdout


async def test_a_daemon_that_cannot_write_its_status_still_delivers(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    workspace.state.mkdir(mode=0o700)
    (workspace.state / "daemon.lock").touch()
    (workspace.state / "status.json").mkdir()
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url)
        ended = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
        assert (ended.status, ended.stderr.count("status_unwritable")) == (0, 1)
        said = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
        assert (said["sent"], said["routes"]) == (len(posthog.events), [])


async def test_the_local_sink_has_a_status_of_its_own(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    assert (await verb(workspace, "run", "--local", "--once")).status == 0
    local = json.loads((await verb(workspace, "status", "--local", "--json")).stdout)
    assert local["sent"] > 50
    assert local["healthy"], "it is not expected to run all the time"
    assert local["problems"] == []
    other = await verb(workspace, "status")
    assert other.status == 1
    assert "status --local" in other.stderr


async def test_local_status_reports_waiting_sessions_while_no_daemon_runs(workspace: Workspace) -> None:
    settings = workspace.work / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text("{")
    log = LogBuilder(session_id("waiting"), cwd=str(workspace.work))
    log.prompt("hello")
    log.answer(text("hello"), id="msg_a")
    put_logs(workspace, log.files())
    assert (await verb(workspace, "run", "--local", "--once")).status == 1
    said = await verb(workspace, "status", "--local")
    assert said.status == 0
    assert "1 session waiting for you" in said.stdout
    assert str(settings) in said.stdout
    assert "No problems" not in said.stdout
