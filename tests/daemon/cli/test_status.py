"""`status`: what was delivered, what waits, and what was set aside."""

from __future__ import annotations

import json

from tests.support.capture_server import CaptureServer, Event, Refusal
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import SECRET, environment, following, put_logs, session_id, tree, verb


class Picky(CaptureServer):
    """Refuses every request that holds one message's generation."""

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
    document = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
    [aside] = document.pop("set_aside")
    assert document == {
        "running": False,
        "pid": None,
        "state_dir": str(workspace.state),
        "files": len(list(projects.rglob("*.jsonl"))),
        "sent": sent,
        "rejected": 1,
        "cut": 0,
        "bad_lines": 1,
        "traces_owed": 0,
        "sessions_held": 0,
        "held": [],
    }
    path = projects / log.path
    assert (aside["name"], aside["path"]) == ("$ai_generation", str(path))
    assert b"msg_poison" in path.read_bytes()[aside["start"] : aside["end"]]

    listed = await verb(workspace, "status", "--rejected", env=env)
    assert listed.status == 0
    assert aside["uuid"] in listed.stdout
    assert "400" in listed.stdout
    assert f"{path} bytes {aside['start']} to {aside['end']}" in listed.stdout
    # What the receiver quotes may be content.
    assert "msg_poison" not in listed.stdout
    assert SECRET not in listed.stdout

    plain = await verb(workspace, "status", env=env)
    assert f"sent: {sent}" in plain.stdout.splitlines()
    assert "running: False" in plain.stdout.splitlines()


async def test_without_anything_set_aside_it_lists_nothing(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url)
        assert (await verb(workspace, "run", "--once", env=env)).status == 0
    listed = await verb(workspace, "status", "--rejected", env=env)
    assert (listed.status, listed.stdout) == (0, "")


async def test_it_tells_a_running_daemon_from_one_that_was_killed(workspace: Workspace) -> None:
    (workspace.config / "projects").mkdir(parents=True)
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url)
        async with following(workspace, env=env) as daemon:
            seen = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
            assert (seen["running"], seen["pid"]) == (True, daemon.pid)
        seen = json.loads((await verb(workspace, "status", "--json", env=env)).stdout)
        assert (seen["running"], seen["pid"]) == (False, None)


async def test_the_local_sink_has_a_status_of_its_own(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    assert (await verb(workspace, "run", "--local", "--once")).status == 0
    local = json.loads((await verb(workspace, "status", "--local", "--json")).stdout)
    assert local["sent"] > 50
    assert (await verb(workspace, "status")).status == 1
