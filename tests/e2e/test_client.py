"""The real client, driven by a scripted API, followed by the real daemon: the API's answers arrive as events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.support.messages_api import Answer, Usage
from tests.support.processes import canonical, previewed
from tests.support.scenarios import SCENARIOS, SCRIPTS, Observation, Run, is_final

pytestmark = pytest.mark.e2e

Json = dict[str, Any]

each_scenario = pytest.mark.parametrize("scenario", [scenario.name for scenario in SCENARIOS])

# Tolerances in milliseconds for comparing the client's times with the API's, which use one clock. LATE allows for a
# client that notes its own requests late, as it does on a busy machine, ROUNDING for rounded times.
LATE = 5000
ROUNDING = 2


def properties(events: Iterable[Json]) -> list[Json]:
    return [event["properties"] for event in events]


def by_span_id(events: Iterable[Json]) -> dict[str, Json]:
    found = {event["properties"]["$ai_span_id"]: event for event in events}
    assert len(found) == len(list(events)), "two events have the same span id"
    return found


def generations(observation: Observation, run: Run) -> dict[str, Json]:
    """Return the events of the answers that were messages, by span id."""
    events = observation.events(run.scenario.name, "$ai_generation")
    return by_span_id(
        [
            event
            for event in events
            if not event["properties"].get("$ai_is_error") and not event["properties"].get("claude_code_side_calls")
        ]
    )


def side_calls(observation: Observation, run: Run) -> list[Json]:
    """Return the properties of the events of what the client asked for itself, one for each model and ending."""
    events = observation.events(run.scenario.name, "$ai_generation")
    return [found for found in properties(events) if found.get("claude_code_side_calls")]


def errors(observation: Observation, run: Run) -> list[Json]:
    """Return the properties of the events of failed attempts."""
    events = observation.events(run.scenario.name, "$ai_generation")
    return [each for each in properties(events) if each.get("$ai_is_error")]


def tool_spans(observation: Observation, run: Run) -> dict[str, Json]:
    """Return the properties of the tool calls' events, by span id."""
    spans = by_span_id(observation.events(run.scenario.name, "$ai_span"))
    return {
        span_id: event["properties"]
        for span_id, event in spans.items()
        if event["properties"]["$ai_span_type"] != "compaction"
    }


def expected(run: Run) -> dict[str, Answer]:
    """Return the answers that have to become generations: a warm-up counts only if the client had time to log it."""
    return {
        str(answer.message_id): answer
        for answer in run.answers
        if answer in run.messages or (answer.kind == "warm-up" and answer.message_id in run.logged)
    }


def session_of(run: Run, answer: Answer) -> str:
    """Return the session of an answer. No prompt asks for a warm-up; its session is the one its line names."""
    if answer.kind == "warm-up":
        return str(run.logged[str(answer.message_id)][0]["sessionId"])
    return run.result(answer).session


def token_counts(event: Json) -> Usage:
    """Return an event's token counts, in the API's terms."""
    usage = Usage(
        input_tokens=event["$ai_input_tokens"],
        output_tokens=event["$ai_output_tokens"],
        cache_read_input_tokens=event["$ai_cache_read_input_tokens"],
        cache_creation_5m_input_tokens=event["$ai_cache_creation_5m_input_tokens"],
        cache_creation_1h_input_tokens=event["$ai_cache_creation_1h_input_tokens"],
    )
    assert event["$ai_cache_creation_input_tokens"] == usage.cache_creation_input_tokens
    return usage


def milliseconds(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


# ---------------------------------------------------------------------- the client itself


@each_scenario
def test_client_asks_for_every_step_and_logs_every_message(observation: Observation, run: Run) -> None:
    name, old = run.scenario.name, observation.client.is_old
    scripts = [turn.script for turn in run.scenario.turns if turn.script is not None]
    if name in ("fork", "background"):
        scripts.append("part")
    steps = {(script, number) for script in scripts for number in range(len(SCRIPTS[script]))}
    if old:
        # In print mode it does not wait for its subagents, and it gives up when an answer is cut off.
        steps -= {("background", 2), ("limit", 1)}

    assert {(answer.script, answer.step) for answer in run.answers if answer.script is not None} == steps
    assert set(run.logged) >= {answer.message_id for answer in run.messages}
    if (name, old) != ("background", True):  # there it depends on whether its subagent or its answer ends first
        failed = name == "refused" or (name == "limit" and old)
        assert [result.status for result in run.results] == [int(failed)] * len(run.results)
    forked = [bool(turn.options) for turn in run.scenario.turns]
    assert len(run.sessions) == 1 + sum(forked)


# ---------------------------------------------------------------------- generations


@each_scenario
def test_every_message_becomes_one_generation(observation: Observation, run: Run) -> None:
    assert set(generations(observation, run)) == set(expected(run))


@each_scenario
def test_generation_has_the_content_that_the_api_sent(observation: Observation, run: Run) -> None:
    for span_id, event in generations(observation, run).items():
        answer, found = expected(run)[span_id], event["properties"]
        assert found["$ai_model"] == answer.model
        assert found["$ai_tool_call_count"] == len(answer.tool_calls)
        [choice] = found["$ai_output_choices"]
        assert tuple(block["text"] for block in choice["content"] if block["type"] == "text") == answer.texts
        assert found["claude_code_version"] == observation.client.version


@each_scenario
def test_tokens_and_stop_reason_are_those_the_api_sent(observation: Observation, run: Run) -> None:
    for span_id, event in generations(observation, run).items():
        answer, found = expected(run)[span_id], event["properties"]
        assert answer.usage is not None
        lines = run.logged[span_id]
        if not observation.client.is_old or any(map(is_final, lines)):
            assert token_counts(found) == answer.usage
            assert found["$ai_stop_reason"] == answer.stop_reason
            assert "claude_code_output_tokens_partial" not in found
        else:
            # The client logged the message before it was complete, and never logged its final counts.
            logged = max(line["message"]["usage"]["output_tokens"] for line in lines)
            assert token_counts(found) == replace(answer.usage, output_tokens=logged)
            assert "$ai_stop_reason" not in found
            assert found["claude_code_output_tokens_partial"] is True


def test_message_whose_end_comes_late_is_marked_as_partial_if_its_counts_are(observation: Observation) -> None:
    run = observation.runs["refused"]
    [answer] = run.messages
    event = generations(observation, run)[str(answer.message_id)]
    partial = event["properties"].get("claude_code_output_tokens_partial", False)
    assert partial is observation.client.is_old
    assert (event["properties"]["$ai_output_tokens"] == 1) is partial


@each_scenario
def test_generation_is_nested_under_its_session_or_the_call_that_started_its_subagent(
    observation: Observation, run: Run
) -> None:
    agents = {"main": "claude-code", "subagent": "general-purpose", "warm-up": "warm-up"}
    for span_id, event in generations(observation, run).items():
        answer, found = expected(run)[span_id], event["properties"]
        session = session_of(run, answer)
        assert (found["$ai_trace_id"], found["$ai_session_id"]) == (session, session)
        assert found["$ai_parent_id"] == (answer.parent_tool_use_id or session)
        assert found["$ai_agent_name"] == agents[answer.kind]


@each_scenario
def test_latency_spans_the_request(observation: Observation, run: Run) -> None:
    for span_id, event in generations(observation, run).items():
        answer = expected(run)[span_id]
        ended = milliseconds(event["timestamp"])
        latency = round(event["properties"]["$ai_latency"] * 1000)
        began = ended - latency

        assert latency >= 0
        assert began <= answer.received_at + LATE
        assert ended >= answer.received_at - ROUNDING
        if answer.kind != "warm-up":
            turn = run.result(answer)
            assert turn.began_at - ROUNDING <= began
            assert ended <= turn.ended_at + ROUNDING
        if not observation.client.is_old:
            # It logs when each attempt began, so the latency of a success does not include earlier attempts.
            tried = [other for other in run.failures if (other.script, other.step) == (answer.script, answer.step)]
            assert all(other.received_at <= began + ROUNDING for other in tried)


# ---------------------------------------------------------------------- tool calls


@each_scenario
def test_every_tool_call_becomes_a_span_below_its_generation(observation: Observation, run: Run) -> None:
    calls = {call.id: (call, answer) for answer in run.messages for call in answer.tool_calls}
    spans = tool_spans(observation, run)

    assert set(spans) == set(calls)
    for span_id, span in spans.items():
        call, answer = calls[span_id]
        # A call of a subagent is named by what it starts, also where the client calls the tool Task.
        assert span["$ai_span_name"].partition(":")[0] == (call.name if call.name == "Bash" else "Agent")
        assert span["$ai_span_type"] == ("tool" if call.name == "Bash" else "agent")
        assert span["$ai_parent_id"] == answer.message_id
        assert span["$ai_trace_id"] == run.result(answer).session
        assert 0 < span["$ai_latency"] * 1000 <= run.result(answer).ended_at - run.result(answer).began_at


@each_scenario
def test_failed_command_is_a_failed_span(observation: Observation, run: Run) -> None:
    spans = tool_spans(observation, run)
    failed = {span_id for span_id, span in spans.items() if span["claude_code_tool_status"] not in ("ok", "no_result")}
    commands = {span["$ai_input_state"].get("command") for span_id, span in spans.items() if span_id in failed}

    assert commands == ({"exit 3"} if run.scenario.name == "compaction" else set())
    assert {span_id for span_id, span in spans.items() if span["claude_code_tool_status"] == "error"} == failed
    assert {span["claude_code_tool_status"] for span in spans.values()} <= {"ok", "error"}


# ---------------------------------------------------------------------- failures, compactions, traces


def logged_failures(observation: Observation, run: Run) -> list[tuple[int | None, str | None, str]]:
    """Return the failed attempts that the client logs: status, type and a part of the message."""
    match run.scenario.name:
        case "compaction":
            # Old clients do not log attempts that they repeat.
            logged = [] if observation.client.is_old else run.failures
        case "refused":
            # The client logs only the last attempt.
            logged = run.failures[-1:]
            assert len(run.failures) > 1
        case "limit" if observation.client.is_old:
            return [(None, None, "output token maximum")]
        case _:
            logged = run.failures
            assert not logged
    return [(answer.status, answer.error_type, str(answer.error_message)) for answer in logged]


@each_scenario
def test_failed_attempts_are_errors_without_tokens(observation: Observation, run: Run) -> None:
    found = errors(observation, run)
    logged = logged_failures(observation, run)

    assert [(each.get("$ai_http_status"), each.get("$ai_error_type")) for each in found] == [
        (status, kind) for status, kind, _ in logged
    ]
    for each, (_, _, message) in zip(found, logged, strict=True):
        assert message in each["$ai_error"]
        assert each["$ai_parent_id"] == each["$ai_trace_id"] == run.results[0].session
        assert not [name for name in each if name.endswith("_tokens")]


@each_scenario
def test_compaction_is_a_span(observation: Observation, run: Run) -> None:
    spans = properties(observation.events(run.scenario.name, "$ai_span"))
    compactions = [span for span in spans if span["$ai_span_type"] == "compaction"]

    assert len(compactions) == (1 if run.scenario.name == "compaction" else 0)
    for span in compactions:
        assert span["claude_code_compaction_trigger"] == "manual"
        assert span["claude_code_tokens_before"] > 0
        assert span["$ai_parent_id"] == span["$ai_trace_id"] == run.results[0].session


@each_scenario
def test_trace_sums_up_its_session(observation: Observation, run: Run) -> None:
    name = run.scenario.name
    traces = properties(observation.events(name, "$ai_trace"))
    found = {each["$ai_trace_id"]: each for each in traces if each["claude_code_trace"] == "final"}
    events = [each for each in properties(observation.events(name)) if each["$ai_span_id"] not in found]

    assert set(found) == run.sessions
    assert {each["$ai_trace_id"] for each in events} == run.sessions
    for session, trace in found.items():
        # An old client may warm up before it knows which session it resumes: that answer is in the trace, not its sums.
        summed = [
            answer for answer in expected(run).values() if started_in(run, answer) == session_of(run, answer) == session
        ]
        sent = [each for each in events if each["$ai_span_id"] in {answer.message_id for answer in summed}]
        assert trace["$ai_span_id"] == session
        assert trace["claude_code_generations"] == len(summed) == len(sent)
        assert trace["claude_code_tool_calls"] == sum(len(answer.tool_calls) for answer in summed)
        agents = {run.logged[str(answer.message_id)][0].get("agentId") for answer in summed} - {None}
        assert trace["claude_code_subagents"] == len(agents)
        assert trace["claude_code_api_errors"] == len(errors(observation, run))
        assert trace["claude_code_compactions"] == (1 if name == "compaction" else 0)
        for total in ("input", "output"):
            assert trace[f"$ai_total_{total}_tokens"] == sum(each[f"$ai_{total}_tokens"] for each in sent)
        failed = name == "refused" or (name == "limit" and observation.client.is_old)
        assert (trace["claude_code_outcome"] == "failed") is failed


def started_in(run: Run, answer: Answer) -> str:
    """Return the session of an answer: for a warm-up, the one that its log begins with."""
    if answer.kind != "warm-up":
        return run.result(answer).session
    agent = run.logged[str(answer.message_id)][0]["agentId"]
    return str(next(record["sessionId"] for record in run.records if record.get("agentId") == agent))


@each_scenario
def test_side_requests_are_generations_that_close_their_session(observation: Observation, run: Run) -> None:
    side = [answer for answer in run.answers if answer.kind == "side"]
    totals: dict[str, Counter[str]] = {}
    for answer in side if not observation.client.is_old else ():  # an old client logs no totals
        assert answer.usage is not None
        totals.setdefault(answer.model, Counter()).update(
            input=answer.usage.input_tokens,
            output=answer.usage.output_tokens,
            cache_read_input=answer.usage.cache_read_input_tokens,
            cache_creation_input=answer.usage.cache_creation_input_tokens,
        )

    told: dict[str, Counter[str]] = {}
    for event in side_calls(observation, run):
        told.setdefault(event["$ai_model"], Counter()).update(
            input=event["$ai_input_tokens"],
            output=event["$ai_output_tokens"],
            cache_read_input=event["$ai_cache_read_input_tokens"],
            cache_creation_input=event["$ai_cache_creation_input_tokens"],
        )
    assert told == totals


# ---------------------------------------------------------------------- all events


def test_receiver_finds_no_violation(observation: Observation) -> None:
    assert observation.posthog.violations == []
    assert {request.status for request in observation.posthog.requests} == {200}


def test_each_event_arrives_once(observation: Observation) -> None:
    turns = Counter(result.session for run in observation.runs.values() for result in run.results)
    for uuid, events in observation.posthog.events_by_uuid.items():
        # A session that ends, continues and ends again sends its sums again.
        session = events[0]["properties"]["$ai_trace_id"]
        assert len(events) <= (turns[session] if events[0]["properties"].get("claude_code_trace") == "final" else 1), (
            uuid
        )


def test_all_events_belong_to_what_the_client_did(observation: Observation) -> None:
    assert {event["properties"]["$ai_project_name"] for event in observation.posthog.events} == set(observation.runs)


def test_second_daemon_sends_only_events_that_no_line_made_final(observation: Observation) -> None:
    assert observation.again.status == 0, observation.again.stderr
    late = observation.posthog.events[observation.live :]
    if not observation.client.is_old:
        assert late == []
    for event in late:
        final = observation.runs[event["properties"]["$ai_project_name"]].logged.get(event["properties"]["$ai_span_id"])
        assert event["event"] == "$ai_trace" or not any(is_final(line) for line in final or ())


def test_preview_prints_the_events_that_were_sent(observation: Observation) -> None:
    assert observation.preview.status == 0, observation.preview.stderr
    sent = {event["uuid"]: canonical(event) for event in observation.posthog.events}
    assert sent == previewed(observation.preview.stdout)


def test_events_arrive_while_the_client_still_runs(observation: Observation) -> None:
    run = observation.runs["fork"]
    first, second = run.messages[:2]
    [call] = first.tool_calls
    assert {first.message_id, call.id} <= run.early
    assert second.message_id not in run.early


def test_log_contains_no_content(observation: Observation) -> None:
    assert "Do what is to be done" not in observation.log
    assert {json.loads(line)["level"] for line in observation.log.splitlines()} <= {"info", "debug"}
