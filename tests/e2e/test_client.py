"""The real client, driven by a scripted API, followed by the real daemon: what was answered is what arrives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.preview import find_logs, preview
from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Workspace, start_client
from tests.support.messages_api import Answer, Failure, MessagesApi, Step, Text, Thinking, Usage, agent, bash
from tests.support.rig import routing_for

pytestmark = pytest.mark.e2e

Json = dict[str, Any]

OVERLOADED = Failure(status=529, error_type="overloaded_error", message="Overloaded")

SCRIPTS = {
    "tools": (
        Step(blocks=(Thinking(thinking="Where to begin?"), Text(text="I begin."), bash("echo hi"))),
        Step(blocks=(bash("echo one"), bash("echo two"))),
        Step(blocks=(bash("exit 3"),)),
        Step(blocks=(Text(text="The last one failed."),)),
    ),
    "foreground": (
        Step(blocks=(Text(text="A part of it."), agent("Do it. [[part]]", background=False))),
        Step(blocks=(Text(text="All done."),)),
    ),
    "background": (
        Step(blocks=(agent("Do it. [[part]]", background=True),)),
        Step(blocks=(Text(text="It is under way."),)),
        Step(blocks=(Text(text="All done."),)),
    ),
    "part": (
        Step(blocks=(bash("echo part"),)),
        Step(blocks=(Text(text="The part is done."),)),
    ),
    "overloaded": (Step(blocks=(Text(text="At last."),), failures=(OVERLOADED,)),),
    "held": (
        Step(blocks=(Text(text="I begin."), bash("echo hi"))),
        Step(blocks=(Text(text="All done."),), hold="second answer"),
    ),
}

ANSWERS = {"tools": 4, "foreground": 4, "background": 5, "overloaded": 2}
"""How many answers each whole session gets, its subagents' and its failures counted."""

# Seconds. A session takes two or three; a session's end is noticed with the daemon's next look at the registry.
CLIENT_LIMIT = 120.0
ARRIVAL_LIMIT = 60.0


async def run_client(executable: Path, script: str, workspace: Workspace) -> tuple[Answer, ...]:
    """Run a session to its end and return what the API answered it."""
    with MessagesApi(SCRIPTS) as api:
        prompt = f"Do what is to be done. [[{script}]]"
        async with start_client(executable, prompt, workspace=workspace, api_url=api.url) as client:
            assert await client.wait(CLIENT_LIMIT) == 0, client.stderr + client.stdout
        answers = tuple(answer for answer in api.answers if answer.kind != "side")
    assert len(answers) == ANSWERS[script]
    return answers


def messages(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that were messages."""
    return [answer for answer in answers if answer.status == 200]


def failures(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that were errors."""
    return [answer for answer in answers if answer.status != 200]


def log_lines(workspace: Workspace, pattern: str) -> Iterator[Json]:
    for path in sorted((workspace.config / "projects").glob(pattern)):
        for line in path.read_text("utf-8").splitlines():
            yield json.loads(line)


def blocks(record: Json) -> list[Json]:
    content = record["message"]["content"]
    return content if isinstance(content, list) else []


def token_counts(properties: Json) -> Usage:
    """An event's token counts, in the API's terms."""
    usage = Usage(
        input_tokens=properties["$ai_input_tokens"],
        output_tokens=properties["$ai_output_tokens"],
        cache_read_input_tokens=properties["$ai_cache_read_input_tokens"],
        cache_creation_5m_input_tokens=properties["$ai_cache_creation_5m_input_tokens"],
        cache_creation_1h_input_tokens=properties["$ai_cache_creation_1h_input_tokens"],
    )
    assert properties["$ai_cache_creation_input_tokens"] == usage.cache_creation_input_tokens
    return usage


def of_kind(posthog: CaptureServer, name: str) -> list[Json]:
    """The properties of every event of that name."""
    return [event["properties"] for event in posthog.events if event["event"] == name]


def by_span_id(properties: Sequence[Json]) -> dict[str, Json]:
    found = {each["$ai_span_id"]: each for each in properties}
    assert len(found) == len(properties), "a span id stands in two events"
    return found


def check_each_event_came_once(posthog: CaptureServer) -> None:
    assert posthog.violations == []
    assert {uuid: len(times) for uuid, times in posthog.events_by_uuid.items() if len(times) > 1} == {}


def check_generations(posthog: CaptureServer, answers: Sequence[Answer], session_id: str) -> None:
    generations = [each for each in of_kind(posthog, "$ai_generation") if not each["$ai_is_error"]]
    found = by_span_id(generations)
    expected = {answer.message_id: answer for answer in messages(answers)}
    assert set(found) == set(expected)
    for span_id, properties in found.items():
        answer = expected[span_id]
        assert token_counts(properties) == answer.usage
        assert properties["$ai_model"] == answer.model
        assert properties["$ai_stop_reason"] == answer.stop_reason
        assert properties["$ai_tool_call_count"] == len(answer.tool_calls)
        assert properties["$ai_parent_id"] == (answer.parent_tool_use_id or session_id)
        assert properties["$ai_latency"] > 0


def check_tool_spans(posthog: CaptureServer, answers: Sequence[Answer]) -> None:
    expected = {(call.id, call.name, answer.message_id) for answer in messages(answers) for call in answer.tool_calls}
    spans = by_span_id(of_kind(posthog, "$ai_span")).values()
    assert {(span["$ai_span_id"], span["$ai_span_name"], span["$ai_parent_id"]) for span in spans} == expected


def check_failures(posthog: CaptureServer, answers: Sequence[Answer]) -> None:
    found = [each for each in of_kind(posthog, "$ai_generation") if each["$ai_is_error"]]
    assert [each["$ai_http_status"] for each in found] == [answer.status for answer in failures(answers)]
    for each in found:
        assert not [name for name in each if name.endswith("_tokens")]


def check_trace(posthog: CaptureServer, answers: Sequence[Answer], session_id: str) -> None:
    [trace] = of_kind(posthog, "$ai_trace")
    assert trace["$ai_span_id"] == session_id
    assert trace["claude_code_generations"] == len(messages(answers))
    assert trace["claude_code_tool_calls"] == sum(len(answer.tool_calls) for answer in answers)
    assert {event["properties"]["$ai_trace_id"] for event in posthog.events} == {session_id}


@pytest.mark.parametrize("script", ANSWERS)
async def test_scripted_api_drives_the_client(executable: Path, script: str, workspace: Workspace) -> None:
    answers = await run_client(executable, script, workspace)

    main, subagents = (list(log_lines(workspace, pattern)) for pattern in ("*/*.jsonl", "*/*/subagents/*.jsonl"))
    for kind, records in (("main", main), ("subagent", subagents)):
        expected = [answer for answer in messages(answers) if answer.kind == kind]
        logged = [record for record in records if record["type"] == "assistant"]
        assert {record["message"]["id"] for record in logged} == {answer.message_id for answer in expected}
        final = {record["message"]["id"]: record["message"]["usage"]["output_tokens"] for record in logged}
        assert final == {answer.message_id: answer.usage.output_tokens for answer in expected if answer.usage}
        for block_type, key in (("tool_use", "id"), ("tool_result", "tool_use_id")):
            ids = [
                block[key]
                for record in records
                if record["type"] in ("assistant", "user")
                for block in blocks(record)
                if block["type"] == block_type
            ]
            assert sorted(ids) == sorted(call.id for answer in expected for call in answer.tool_calls)
    retried = [record["error"]["requestId"] for record in main if record.get("subtype") == "api_error"]
    assert retried == [answer.request_id for answer in failures(answers)]


@pytest.mark.parametrize("script", ANSWERS)
async def test_every_answer_becomes_its_events(
    executable: Path, script: str, workspace: Workspace, posthog: CaptureServer, service: Child
) -> None:
    answers = await run_client(executable, script, workspace)
    [log] = (workspace.config / "projects").glob("*/*.jsonl")

    whole_session = len(answers) + sum(len(answer.tool_calls) for answer in answers) + 1  # and its trace
    await service.until(lambda: len(posthog.events) >= whole_session, ARRIVAL_LIMIT)
    service.terminate()
    assert await service.wait(30) == 0, service.stderr

    check_each_event_came_once(posthog)
    check_generations(posthog, answers, log.stem)
    check_tool_spans(posthog, answers)
    check_failures(posthog, answers)
    check_trace(posthog, answers, log.stem)


async def test_failed_command_is_a_failed_span(
    executable: Path, workspace: Workspace, posthog: CaptureServer, service: Child
) -> None:
    answers = await run_client(executable, "tools", workspace)
    [failed] = answers[2].tool_calls

    await service.until(lambda: len(of_kind(posthog, "$ai_span")) >= 4, ARRIVAL_LIMIT)

    spans = by_span_id(of_kind(posthog, "$ai_span"))
    assert Counter(span["claude_code_tool_status"] for span in spans.values()) == {"ok": 3, "error": 1}
    assert spans[failed.id]["$ai_is_error"]


def as_shown(content: str | list[Json]) -> list[Json]:
    """What went over the wire as events show it: without cache marks and signatures, a string as a block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [
        {key: value for key, value in block.items() if key not in ("cache_control", "signature", "caller")}
        for block in content
    ]


@pytest.mark.parametrize("script", ["tools", "foreground", "background"])
async def test_the_full_input_is_what_went_over_the_wire(executable: Path, script: str, workspace: Workspace) -> None:
    with MessagesApi(SCRIPTS) as api:
        prompt = f"Do what is to be done. [[{script}]]"
        async with start_client(executable, prompt, workspace=workspace, api_url=api.url) as client:
            assert await client.wait(CLIENT_LIMIT) == 0, client.stderr + client.stdout
        requests = api.requests

    routing = routing_for(workspace.root, inputs="full")
    events = [json.loads(event.body) for event in preview(find_logs([workspace.config]), routing)]
    said = by_span_id([event["properties"] for event in events if event["event"] == "$ai_generation"])

    assert len(said) == ANSWERS[script]
    for message_id, properties in said.items():
        request = requests[message_id]
        # The first block bills, and is no part of the prompt.
        billing, *system = as_shown(request["system"])
        assert billing["text"].startswith("x-anthropic-billing-header")
        sent = [{"role": each["role"], "content": as_shown(each["content"])} for each in request["messages"]]
        assert properties["$ai_input"] == [{"role": "system", "content": system}, *sent]
        assert properties["$ai_tools"] == as_shown(request["tools"])
        assert properties["claude_code_input_exact"] is True


async def test_events_arrive_while_the_client_still_runs(
    executable: Path, workspace: Workspace, posthog: CaptureServer, service: Child
) -> None:
    with MessagesApi(SCRIPTS) as api:
        prompt = "Do what is to be done. [[held]]"
        async with start_client(executable, prompt, workspace=workspace, api_url=api.url) as client:
            await client.until(lambda: bool(api.answers), CLIENT_LIMIT)
            [first] = api.answers
            [call] = first.tool_calls
            await service.until(
                lambda: {event["properties"]["$ai_span_id"] for event in posthog.events} >= {first.message_id, call.id},
                ARRIVAL_LIMIT,
            )
            assert client.running
            assert api.answers == (first,)

            api.release("second answer")
            assert await client.wait(CLIENT_LIMIT) == 0, client.stderr + client.stdout
        answers = api.answers

    await service.until(lambda: bool(of_kind(posthog, "$ai_trace")), ARRIVAL_LIMIT)
    check_each_event_came_once(posthog)
    check_tool_spans(posthog, answers)
    assert set(by_span_id(of_kind(posthog, "$ai_generation"))) == {answer.message_id for answer in answers}
