"""`status` shows what was delivered, what waits, and what was set aside."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal

import pytest

from llma_core import __version__
from tests.support.capture_server import Answer, CaptureServer, Event, Refusal
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import KEY, ROOT, SECRET, environment, following, put_logs, session_id, tree, verb
from tests.support.terminal import on_terminal, plain


def documented(heading: str) -> set[str]:
    """Return the fields in the first table below *heading* in docs/json.md."""
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    section = re.split("^#", page.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` ", section, re.MULTILINE))


class Picky(CaptureServer):
    """Refuses every request with the generation of one particular message."""

    def _judge_event(self, event: Event, path: str) -> None:
        if event["properties"].get("$ai_span_id") == "msg_poison":
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
    assert document.pop("room")["free"] > 0
    assert document == {
        "healthy": False,
        "started": True,
        "suspended": False,
        "silent_seconds": None,
        "reported": False,
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
        "read_seconds": None,
        "sessions_held": 0,
        "held": [],
        "endangered": [],
        "unknown_logs": [],
        "hanging": [],
        "recordings": {
            "folders": [str(workspace.state / "outbox")],
            "files": 0,
            "bytes": 0,
            "dropped": {},
            "strange": [],
            "open": [],
            "unknown_lines": 0,
            "ignored_fields": 0,
            "kept_local": 0,
        },
        "verified": None,
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

    shown = await verb(workspace, "status", env=env)
    assert shown.status == 1
    assert fields(shown.stdout)["sent"] == f"{sent} events"
    assert len(re.findall("^ *sent:", shown.stdout, re.MULTILINE)) == 1
    assert fields(shown.stdout)["running"] == "no"
    assert "posthog-llma-daemon install" in shown.stdout
    assert KEY not in shown.stdout + said.stdout + (workspace.state / "status.json").read_text()
    assert max(len(line) for line in shown.stdout.splitlines() if str(workspace.state) not in line) <= 80


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


async def test_json_is_printed_before_the_first_start(workspace: Workspace) -> None:
    for arguments, words in (((), "posthog-llma-daemon install"), (("--local",), "run --local")):
        said = await verb(workspace, "status", "--json", *arguments)
        document = json.loads(said.stdout)
        assert (said.status, said.stderr, document["healthy"], document["started"]) == (1, "", False, False)
        [problem] = document["problems"]
        assert words in problem["hint"]
        assert document.keys() == documented("status --json")
    assert not workspace.state.exists()


async def test_before_the_first_start_it_says_what_comes_first(workspace: Workspace) -> None:
    said = await verb(workspace, "status")
    assert (said.status, said.stdout) == (1, "")
    assert "posthog-llma-daemon login" in said.errors[0]
    assert "posthog-llma-daemon run --local" in said.errors[0]
    ready = await verb(workspace, "status", env=environment(workspace, "http://127.0.0.1:9"))
    assert "posthog-llma-daemon install" in ready.errors[0]


async def test_json_is_printed_with_a_configuration_that_cannot_be_used(workspace: Workspace) -> None:
    env = environment(workspace, POSTHOG_LLMA_CONTENT="some", POSTHOG_HOST="not a host")
    said = await verb(workspace, "status", "--json", env=env)
    document = json.loads(said.stdout)
    assert (said.status, document["healthy"], document["running"]) == (78, False, None)
    assert len(document["problems"]) == len(said.errors) == 2
    assert [f"error: {each['message']}; {each['hint']}" for each in document["problems"]] == said.errors
    assert document.keys() == documented("status --json")
    shown = await verb(workspace, "status", env=env)
    assert (shown.status, shown.stdout, len(shown.errors)) == (78, "", 2)


async def test_json_is_printed_for_a_state_that_cannot_be_read(workspace: Workspace) -> None:
    workspace.state.mkdir(mode=0o700)
    (workspace.state / "state.db").write_bytes(b"not a database at all" * 100)
    said = await verb(workspace, "status", "--json")
    document = json.loads(said.stdout)
    assert (said.status, document["healthy"]) == (1, False)
    [problem] = document["problems"]
    assert "damaged" in problem["message"]
    shown = await verb(workspace, "status")
    assert (shown.status, len(shown.errors)) == (1, 1)
    assert "damaged" in shown.errors[0]


async def test_a_wrong_option_exits_with_2(workspace: Workspace) -> None:
    assert (await verb(workspace, "status", "--everything")).status == 2


async def test_a_suspended_daemon_and_a_failing_receiver_are_not_well(workspace: Workspace) -> None:
    put_logs(workspace, tree())
    async with CaptureServer() as posthog:
        posthog.script(*[Answer(status=503)] * 1000)
        env = environment(workspace, posthog.url)
        async with following(workspace, "--from-start", env=env) as daemon:
            report = workspace.state / "status.json"
            await daemon.until(lambda: report.exists() and '"backing_off"' in report.read_text())
            said = await verb(workspace, "status", env=env)
            words = " ".join(said.stdout.split())
            assert re.search(rf"{posthog.url} has failed \d+ times? in a row: ", words)
            assert "No problems" not in words
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                said = await verb(workspace, "status", env=env)
            finally:
                os.kill(daemon.pid, signal.SIGCONT)
    assert said.status == 1
    assert f"!! the daemon (pid {daemon.pid}) is suspended" in said.stdout


async def test_colors_are_for_terminals_whose_user_wants_them(workspace: Workspace) -> None:
    assert (await verb(workspace, "run", "--local", "--once")).status == 0

    async def seen(**variables: str) -> str:
        ended = await on_terminal(workspace, "status", "--local", env=environment(workspace, **variables))
        assert ended.status == 0
        return ended.stdout

    colored = await seen()
    assert "\x1b[32mNo problems found.\x1b[0m" in colored
    without = await verb(workspace, "status", "--local")
    assert plain(colored) == without.stdout == await seen(NO_COLOR="1") == await seen(TERM="dumb")


@pytest.mark.parametrize(("columns", "longest"), [(80, 79), (120, 100), (50, 49)])
async def test_lines_fit_the_terminal(workspace: Workspace, columns: int, longest: int) -> None:
    put_logs(workspace, tree())
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url)
        assert (await verb(workspace, "run", "--once", env=env)).status == 0
        ended = await on_terminal(workspace, "status", columns=columns, env=env)
    lines = [line for line in plain(ended.stdout).splitlines() if str(workspace.state) not in line]
    assert ended.status == 1
    assert longest - 25 < max(map(len, lines)) <= longest
