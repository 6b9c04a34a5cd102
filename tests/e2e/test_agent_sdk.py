"""The real Claude Agent SDK with the real client, recorded by a program under `exec`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture_server import CaptureServer, Event, is_ended
from tests.support.client import Client, Workspace, client_environment, start
from tests.support.messages_api import MessagesApi
from tests.support.processes import ROOT, environment
from tests.support.scenarios import SCRIPTS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("claude_agent_sdk") is None,
        reason="the Claude Agent SDK is not installed: pip install './recorder[claude-agent-sdk]'",
    ),
]


def of(events: list[Event], session: str) -> list[dict[str, Any]]:
    return [event["properties"] for event in events if event["properties"]["$ai_session_id"] == session]


async def test_what_the_sdks_caller_knows_is_said_with_the_sessions_events(
    client: Client, workspace: Workspace
) -> None:
    if client.is_old:
        pytest.skip("the SDK needs a newer client")
    program: list[str | Path] = [sys.executable, Path(__file__).with_name("sdk_program.py"), *client.command]
    async with CaptureServer() as posthog:
        with MessagesApi(SCRIPTS) as api:
            sending = environment(workspace, posthog.url)
            variables = {name: value for name, value in sending.items() if name.startswith("POSTHOG")}
            path = os.pathsep.join([str(ROOT), str(ROOT / "recorder")])
            async with start(
                [sys.executable, "-m", "daemon.cli", "exec", "--", *program],
                name="exec",
                environment=client_environment(workspace, api.url, PYTHONPATH=path, **variables),
                cwd=workspace.work,
                output=workspace.output,
                forks=workspace.forks,
            ) as child:
                assert await child.wait() == 0, child.stderr
                assert child.stderr == ""
                said: list[Mapping[str, Any]] = [json.loads(line) for line in child.stdout.splitlines()]
            answers = [answer for answer in api.answers if answer.kind in ("main", "subagent")]
        assert posthog.violations == []
    assert [each["script"] for each in said] == ["mixed", "plain", "further"]
    review, plain, further = said
    assert plain["session_id"] == further["session_id"] != review["session_id"]
    events = posthog.events
    assert len(posthog.events_by_uuid) == len(events)
    assert {event["properties"]["$ai_session_id"] for event in events} == {each["session_id"] for each in said}
    # Every call of a model is one generation, with those of subagents, and there is none more.
    made = [event["properties"]["$ai_span_id"] for event in events if event["event"] == "$ai_generation"]
    assert sorted(made) == sorted(answer.message_id or "" for answer in answers)

    mine = of(events, review["session_id"])
    assert {event["distinct_id"] for event in events if event["properties"] in mine} == {"review-bot"}
    assert {properties["pull_request"] for properties in mine} == {52984}
    assert {properties["$groups"]["company"] for properties in mine} == {"orchard"}
    assert len({properties["$ai_trace_id"] for properties in mine}) == 1
    assert {properties["$ai_trace_name"] for properties in mine if "$ai_trace_name" in properties} == {"Review"}

    theirs = [event for event in events if event["properties"]["$ai_session_id"] == plain["session_id"]]
    assert {event["distinct_id"] for event in theirs} == {"chat-user"}
    words = json.dumps(theirs)
    assert not any(word in words for word in ("Good day", "The same way", "Do what is to be done"))

    for last, turns in ((review, review["num_turns"]), (further, plain["num_turns"] + further["num_turns"])):
        [trace] = [
            event["properties"]
            for event in events
            if is_ended(event) and event["properties"]["$ai_session_id"] == last["session_id"]
        ]
        assert trace["claude_code_turns"] == turns
        assert trace["claude_code_api_seconds"] == pytest.approx(last["duration_api_ms"] / 1000)
        assert trace["claude_code_caller_cost_usd"] == pytest.approx(last["total_cost_usd"])
        assert trace["claude_code_result"] == "success"
