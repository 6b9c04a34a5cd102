"""Another kind of log, next to Claude Code's, works in every part of the daemon without a change to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from daemon.reading.preview import find_logs, preview
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from llma_core import agents
from tests.support.capture_server import CaptureServer, Event
from tests.support.client import Workspace
from tests.support.journal import SCRIBE
from tests.support.machine import Machine, a_session, of_lines, span_ids, times_each_came
from tests.support.processes import append, bodies, environment, now, previewed, until, verb

NAMESPACE = UUID("a3c3f6c2-9b8e-4a3e-b3a1-7e6b8e9a0f00")
PROGRAM = "tests.support.journal"
START = datetime(2026, 3, 2, 9, 0, 0, tzinfo=UTC)


@pytest.fixture
def scribe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "AGENTS", (*agents.AGENTS, SCRIBE))


def lines(start: datetime = START) -> list[bytes]:
    """A prompt, an answer and a call, one second after the other."""
    said: list[dict[str, Any]] = [
        {"kind": "ask", "id": "a1", "words": "Count the trees"},
        {"kind": "say", "id": "s1", "model": "scribe-1", "words": "I will.", "tokens": [120, 7]},
        {"kind": "run", "id": "r1", "by": "s1", "tool": "count", "input": {"of": "trees"}, "output": "3", "ms": 40},
    ]
    times = (start + timedelta(seconds=number) for number in range(len(said)))
    return [
        json.dumps({**each, "at": at.isoformat(), "cwd": "/home/ada/orchard"}).encode() + b"\n"
        for each, at in zip(said, times, strict=True)
    ]


def journal(config: Path, session: str = "first") -> Path:
    path = config / "journals" / f"{session}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_journals(config: Path) -> None:
    for session in ("first", "second"):
        text = b"".join(lines())
        for name in (b"a1", b"s1", b"r1"):
            text = text.replace(name, name + session.encode())
        append(journal(config, session), text)


def properties_of(events: Mapping[str, Event], name: str) -> dict[str, Any]:
    [found] = [event["properties"] for event in events.values() if event["event"] == name]
    return dict(found)


@pytest.mark.usefixtures("scribe")
async def test_it_is_followed_while_it_is_written(machine: Machine, posthog: CaptureServer) -> None:
    path = journal(machine.config)
    async with machine.following(posthog.url):
        asked, said, ran = lines(datetime.now(UTC))
        append(path, asked + said[:10])
        append(path, said[10:])
        await until(lambda: span_ids(posthog) == ["s1"], "the answer")
        claude = a_session("beside", start=now())
        append(machine.projects / claude.path, of_lines(claude, 0))
        await until(lambda: span_ids(posthog) == ["s1", "msg_beside"], "the answer of the agent beside it")
        append(path, b'{"kind": "yawn"}\n' + ran)
        await until(lambda: span_ids(posthog) == ["s1", "msg_beside", "r1"], "the call")
    assert await machine.once(posthog.url, history="skip")

    assert times_each_came(posthog) == {1}
    assert {event["uuid"]: event for event in posthog.events} == machine.preview()
    assert machine.offsets()[Path(claude.path).name] > 0


@pytest.mark.usefixtures("scribe")
def test_its_events_have_its_own_names_only(machine: Machine) -> None:
    append(journal(machine.config), b"".join(lines()))

    events = machine.preview()

    said, ran, trace = (properties_of(events, f"$ai_{kind}") for kind in ("generation", "span", "trace"))
    assert {(each["$ai_framework"], each["$ai_agent_name"]) for each in (said, ran, trace)} == {("scribe", "scribe")}
    assert (said["$ai_model"], said["$ai_input_tokens"], said["$ai_output_tokens"]) == ("scribe-1", 120, 7)
    assert (ran["$ai_parent_id"], ran["$ai_latency"], ran["scribe_tool_status"]) == ("s1", 0.04, "ok")
    assert (trace["$ai_trace_name"], trace["scribe_generations"], trace["scribe_tool_calls"]) == (
        "Count the trees",
        1,
        1,
    )
    assert not [name for each in (said, ran, trace) for name in each if name.startswith("claude_code_")]
    assert str(uuid5(NAMESPACE, "sc-gen|first|s1")) in events


@pytest.mark.usefixtures("scribe")
def test_an_unknown_person_is_named_after_the_agent(machine: Machine) -> None:
    append(journal(machine.config), b"".join(lines()))

    events = machine.preview(POSTHOG_LLMA_DISTINCT_ID="")

    assert {event["distinct_id"] for event in events.values()} == {"scribe:first"}


@pytest.mark.usefixtures("scribe")
@pytest.mark.parametrize("named", ["journals/first.ndjson", "journals", "."])
def test_preview_finds_its_logs_by_file_by_folder_and_by_config_folder(machine: Machine, named: str) -> None:
    append(journal(machine.config), b"".join(lines()))
    routing = Routing(machine.settings(), Repositories(), purpose="preview")

    found = list(preview(list(find_logs([machine.config / named])), routing))

    assert [event.name for event in found] == ["$ai_generation", "$ai_span", "$ai_trace"]


async def test_its_history_is_sent_on_request(workspace: Workspace, posthog: CaptureServer) -> None:
    write_journals(workspace.config)
    env = environment(workspace, posthog.url)

    named = await verb(workspace, "backfill", "--yes", "--session", "second", env=env, program=PROGRAM)
    assert (named.status, named.stdout) == (0, "3 events sent\n"), named.stderr
    assert {event["properties"]["$ai_session_id"] for event in posthog.events} == {"second"}
    rest = await verb(workspace, "backfill", "--yes", env=env, program=PROGRAM)
    assert (rest.status, rest.stdout) == (0, "3 events sent\n"), rest.stderr

    expected = await verb(workspace, "preview", workspace.config, program=PROGRAM)
    assert bodies(posthog) == previewed(expected.stdout)
    assert len(posthog.events) == len(posthog.events_by_uuid)


async def test_its_traces_are_shown(workspace: Workspace) -> None:
    write_journals(workspace.config)
    env = environment(workspace)
    ran = await verb(workspace, "run", "--once", "--local", "--from-start", env=env, program=PROGRAM)
    assert ran.status == 0, ran.stderr

    shown = await verb(workspace, "traces", env=env, program=PROGRAM)

    assert shown.status == 0, shown.stderr
    assert shown.stdout.count("Count the trees") == 2
    assert shown.stdout.count("count  0.04 s  ok") == 2
    answers = [line for line in shown.stdout.splitlines() if "scribe-1" in line]
    assert len(answers) == 2
    assert not [line for line in answers if line.rstrip().endswith("scribe")], "it is no subagent's"
