"""`exec` around the real client, driven by a scripted API, the way a CI job runs it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from tests.support.capture_server import CaptureServer, is_ended
from tests.support.client import Client, Workspace, session_of, start_client
from tests.support.messages_api import MessagesApi
from tests.support.processes import ROOT, environment
from tests.support.scenarios import SCRIPTS

pytestmark = pytest.mark.e2e


async def test_the_commands_whole_session_has_arrived_when_exec_ends(client: Client, workspace: Workspace) -> None:
    verdict = """; status=$?; echo '{"verdict": "approve"}' > "$POSTHOG_LLMA_PROPERTIES_FILE"; exit $status"""
    shell = ("sh", "-c", '"$@"' + verdict, "sh")
    wrapped = replace(
        client,
        command=(sys.executable, "-m", "daemon.cli", "exec", "--property", "pr=123", "--", *shell, *client.command),
    )
    async with CaptureServer() as posthog:
        with MessagesApi(SCRIPTS) as api:
            variables = {name: value for name, value in environment(workspace, posthog.url).items() if "LLMA" in name}
            async with start_client(
                wrapped,
                "Do what is to be done. [[mixed]]",
                name="exec",
                workspace=workspace,
                cwd=workspace.work,
                api_url=api.url,
                PYTHONPATH=str(ROOT),
                POSTHOG_API_KEY="phc_test",
                POSTHOG_HOST=posthog.url,
                **variables,
            ) as child:
                assert await child.wait() == 0, child.stderr
                assert child.stderr == ""
                session = session_of(child)
            answers = [answer for answer in api.answers if answer.kind in ("main", "subagent")]
        assert posthog.violations == []
    assert len(posthog.events_by_uuid) == len(posthog.events)
    mine = [event for event in posthog.events if event["properties"]["$ai_session_id"] == session]
    sent = {event["properties"]["$ai_span_id"] for event in mine if event["event"] == "$ai_generation"}
    assert {answer.message_id for answer in answers} <= sent
    assert {event["properties"]["pr"] for event in mine} == {"123"}
    assert [event["properties"]["verdict"] for event in mine if is_ended(event)] == ["approve"]
    assert not any("verdict" in event["properties"] for event in mine if not is_ended(event))
