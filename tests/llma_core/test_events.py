from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llma_core
from llma_core import events
from llma_core.events import AI_EVENT_LIMIT, BATCH_EVENT_LIMIT, CaptureEvent
from llma_core.privacy import ContentLevel, Policy
from llma_core.properties import Attribution, InputMode, refused_properties
from llma_core.spans import Generation, Prompt, TokenUsage, ToolCall, Trace, TurnKey
from tests.support.logs import LogBuilder, redacted_thinking, text, thinking, tool_use, usage
from tests.support.requests import SHAPE
from tests.support.sessions import body, built, identity, properties, spans

NAMESPACE = UUID("a3c3f6c2-9b8e-4a3e-b3a1-7e6b8e9a0f00")
ADA = Attribution(distinct_id="ada@example.com")
BY_MESSAGE = replace(ADA, grouping="message")


@pytest.fixture
def log() -> LogBuilder:
    log = LogBuilder()
    log.prompt("Count the apple trees")
    return log


def sent(log: LogBuilder, attribution: Attribution = ADA, *, repository: str | None = None) -> list[dict[str, Any]]:
    return [body(event) for event in built(spans(log.files()), attribution, repository=repository)]


def generations(log: LogBuilder, attribution: Attribution = ADA) -> list[dict[str, Any]]:
    return [event["properties"] for event in sent(log, attribution) if event["event"] == "$ai_generation"]


def tool_spans(log: LogBuilder, attribution: Attribution = ADA) -> list[dict[str, Any]]:
    return [event["properties"] for event in sent(log, attribution) if event["event"] == "$ai_span"]


def trace(log: LogBuilder, attribution: Attribution = ADA) -> dict[str, Any]:
    traces = [event["properties"] for event in sent(log, attribution) if event["event"] == "$ai_trace"]
    [properties] = [properties for properties in traces if properties["claude_code_trace"] == "final"]
    assert isinstance(properties, dict)
    return properties


def key(*parts: str) -> str:
    return str(uuid5(NAMESPACE, "|".join(parts)))


# ---------------------------------------------------------------------- identity


def test_uuids_are_made_of_the_session_and_of_what_happened(log: LogBuilder) -> None:
    asking = log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    asked_at = log.line()["timestamp"]
    log.wait(3)
    log.tool_result("toolu_1", "2")
    log.compaction()
    compacted = log.line(-2)["uuid"]
    log.permanent_error()
    failed = log.line()["uuid"]
    session = log.session

    uuids = {(event["event"], event["uuid"]) for event in sent(log)}

    assert uuids == {
        ("$ai_generation", key("cc-gen", session, asking)),
        ("$ai_span", key("cc-span", session, "toolu_1", "Bash", asked_at)),
        ("$ai_span", key("cc-compaction", session, compacted)),
        ("$ai_generation", key("cc-error", session, failed)),
        ("$ai_trace", key("cc-trace-open", session)),
        ("$ai_trace", key("cc-trace-session", session)),
    }


def test_a_turns_trace_is_named_by_its_prompt_or_by_its_first_message() -> None:
    log = LogBuilder()
    first = log.answer(text("Out of nowhere."))
    prompt = log.prompt("Count")
    log.answer(text("Two."))

    traces = [event for event in sent(log, BY_MESSAGE) if event["event"] == "$ai_trace"]

    assert [event["uuid"] for event in traces] == [
        key("cc-trace-fallback", log.session, first),
        key("cc-trace-msg", log.session, prompt),
    ]
    assert [event["properties"]["$ai_trace_id"] for event in traces] == [first, prompt]


def test_what_happened_has_one_name_whatever_log_it_is_found_in(log: LogBuilder) -> None:
    message = log.answer(tool_use("Bash", id="toolu_1"))
    found = spans(log.files())

    names = [identity(span) for span in found]

    prompt = found[0]
    assert isinstance(prompt, Prompt)
    turn = prompt.context.turn
    assert names == [
        f"prompt|{prompt.identity}",
        f"trace-open|{log.session}",
        f"gen|{message}",
        "call|toolu_1",
        f"trace|{log.session}|prompt|{turn.id}",
        f"trace|{log.session}",
    ]


def test_the_trace_of_a_session_and_of_its_turns_have_different_names() -> None:
    names = {
        events.trace_key("s1", None),
        events.trace_key("s1", TurnKey(kind="prompt", id="x")),
        events.trace_key("s1", TurnKey(kind="stretch", id="x")),
        events.trace_key("s2", None),
    }

    assert len(names) == 4


def test_an_event_carries_the_name_it_is_given(log: LogBuilder) -> None:
    [_, *_, last] = spans(log.files())
    assert isinstance(last, Trace)

    event = events.build(last, ADA, name="trace|s1|2")

    assert (event.name, event.identity, event.cut) == ("$ai_trace", "trace|s1|2", False)
    assert event.uuid == body(event)["uuid"]


# ---------------------------------------------------------------------- time and place


def test_timestamps_are_the_logs_own(log: LogBuilder) -> None:
    log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    ended = log.line()["timestamp"]
    log.wait(3)
    log.tool_result("toolu_1", "2")
    result = log.line()["timestamp"]

    times = {event["event"]: event["timestamp"] for event in sent(log)}

    assert times == {"$ai_generation": ended, "$ai_span": result, "$ai_trace": ended}


def test_a_call_without_a_result_has_its_own_time_and_nothing_it_does_not_know(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_1"))
    asked = log.line()["timestamp"]

    [event] = [event for event in sent(log) if event["event"] == "$ai_span"]

    said = event["properties"]
    assert event["timestamp"] == asked
    assert said["claude_code_tool_status"] == "no_result"
    assert said["$ai_is_error"] is False
    assert {"$ai_latency", "$ai_output_state", "$ai_error", "claude_code_permission_decision"}.isdisjoint(said)


def test_a_trace_without_a_generation_has_its_prompts_time(log: LogBuilder) -> None:
    [event] = sent(log)

    assert event["timestamp"] == log.line(0)["timestamp"]


@pytest.mark.parametrize(
    ("logged", "sent_as"),
    [
        ("2026-03-02T09:00:00Z", "2026-03-02T09:00:00.000Z"),
        ("2026-03-02T10:00:00.050+01:00", "2026-03-02T09:00:00.050Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_is_rfc_3339_in_utc_with_milliseconds(log: LogBuilder, logged: str, sent_as: str) -> None:
    log.answer(text("Two."), timestamp=logged)

    [event] = [event for event in sent(log) if event["event"] == "$ai_generation"]

    assert event["timestamp"] == sent_as


@pytest.mark.parametrize("logged", ["no time", "", "0001-01-01T00:00:00+10:00"])
def test_without_a_time_of_its_own_an_event_has_that_of_the_line_before(log: LogBuilder, logged: str) -> None:
    before = log.line()["timestamp"]
    log.answer(text("Two."), timestamp=logged)

    [event] = [event for event in sent(log) if event["event"] == "$ai_generation"]

    assert event["timestamp"] == before
    assert "$ai_latency" not in event["properties"]


def test_by_session_everything_hangs_in_the_sessions_trace(log: LogBuilder) -> None:
    message = log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"))
    agent = log.agent("toolu_1", "go", type="gardener")
    inner = agent.answer(tool_use("Bash", id="toolu_2"))
    agent.tool_result("toolu_2")

    places = {
        said["$ai_span_id"]: (said["$ai_trace_id"], said["$ai_session_id"], said["$ai_parent_id"])
        for said in generations(log) + tool_spans(log)
    }

    session = log.session
    assert places == {
        message: (session, session, session),
        "toolu_1": (session, session, message),
        inner: (session, session, "toolu_1"),
        "toolu_2": (session, session, inner),
    }
    whole = trace(log)
    assert (whole["$ai_trace_id"], whole["$ai_span_id"], whole["$ai_session_id"]) == (session, session, session)
    assert "$ai_parent_id" not in whole


def test_by_message_everything_hangs_in_its_prompts_trace_subagents_too(log: LogBuilder) -> None:
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"))
    log.agent("toolu_1", "go").answer(text("sub"))
    second = log.prompt("And the pears?")
    log.answer(text("Three."))
    first = log.line(0)["promptId"]

    said = generations(log, BY_MESSAGE)

    assert {event["$ai_session_id"] for event in said} == {log.session}
    assert sorted((event["$ai_trace_id"], event["$ai_parent_id"]) for event in said) == sorted(
        [(first, first), (first, "toolu_1"), (second, second)]
    )
    assert [e["properties"]["$ai_span_id"] for e in sent(log, BY_MESSAGE) if e["event"] == "$ai_trace"] == [
        first,
        second,
    ]


# ---------------------------------------------------------------------- generations


def test_the_properties_of_a_generation(log: LogBuilder) -> None:
    counts = usage(
        9,
        777,
        cache_read=9881,
        cache_5m=617,
        cache_1h=1235,
        output_tokens_details={"thinking_tokens": 40},
        server_tool_use={"web_search_requests": 2},
        speed="fast",
    )
    log.wait(1)
    log.api_request(max_tokens=64000, thinking={"type": "adaptive"})
    log.wait(2)
    message = log.answer(
        thinking("hm", signature="c2VjcmV0"),
        redacted_thinking(),
        text("I look."),
        tool_use("Bash", {"command": "ls"}, id="toolu_1"),
        tool_use("mcp__trees__grow", id="toolu_2"),
        counts=counts,
        attributionSkill="pruning",
        attributionMcpServer="trees",
        attributionMcpTool="grow",
    )

    [said] = generations(log)

    assert said == {
        "$lib": "posthog-llma-daemon",
        "$lib_version": llma_core.__version__,
        "$ai_lib": "posthog-llma-daemon",
        "$ai_lib_version": llma_core.__version__,
        "$ai_framework": "claude-code",
        "$ai_project_name": "orchard",
        "$ai_agent_name": "claude-code",
        "$ai_git_branch": "main",
        "$geoip_disable": True,
        "$ai_trace_id": log.session,
        "$ai_session_id": log.session,
        "$ai_parent_id": log.session,
        "$ai_span_id": message,
        "$ai_model": "claude-opus-5-5",
        "$ai_provider": "anthropic",
        "$ai_span_name": "Bash, mcp__trees__grow",
        "$ai_service_tier": "priority",
        "$ai_request_id": f"req_{message[4:]}",
        "$ai_input_tokens": 9,
        "$ai_output_tokens": 777,
        "$ai_cache_read_input_tokens": 9881,
        "$ai_cache_creation_input_tokens": 1852,
        "$ai_cache_creation_5m_input_tokens": 617,
        "$ai_cache_creation_1h_input_tokens": 1235,
        "$ai_cache_reporting_exclusive": True,
        "$ai_total_tokens": 786,
        "$ai_reasoning_tokens": 40,
        "$ai_web_search_count": 2,
        "$ai_usage": counts,
        "$ai_latency": 2.5,
        "$ai_stop_reason": "tool_use",
        "$ai_input": [{"role": "user", "content": "Count the apple trees"}],
        "$ai_output_choices": [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "thinking", "thinking": "[redacted by the provider]"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "mcp__trees__grow", "input": {}},
                ],
            }
        ],
        "$ai_tools_called": "Bash,mcp__trees__grow",
        "$ai_tool_call_count": 2,
        "$ai_model_parameters": {
            "max_tokens": 64000,
            "thinking": {"type": "adaptive"},
            "effort": "medium",
            "service_tier": "standard",
            "speed": "fast",
        },
        "$ai_user_prompt": "Count the apple trees",
        "$ai_trace_name": "Count the apple trees",
        "$ai_is_error": False,
        "claude_code_version": "2.1.329",
        "claude_code_entrypoint": "cli",
        "claude_code_permission_mode": "default",
        "claude_code_effort": "medium",
        "claude_code_skill": "pruning",
        "claude_code_mcp_server": "trees",
        "claude_code_mcp_tool": "grow",
    }


def test_a_message_without_calls_calls_no_tools_and_says_so(log: LogBuilder) -> None:
    log.answer(text("Two."))

    [said] = generations(log, replace(ADA, policy=Policy(level="metadata")))

    assert (said["$ai_tools_called"], said["$ai_tool_call_count"]) == ("", 0)


def test_a_comma_in_a_tools_name_does_not_make_it_two(log: LogBuilder) -> None:
    log.answer(tool_use("a,b", id="toolu_1"))

    [said] = generations(log)

    assert said["$ai_tools_called"] == "a_b"


def test_what_is_not_known_is_absent(log: LogBuilder) -> None:
    log.raw({"type": "assistant", "message": {"id": "msg_bare", "role": "assistant", "content": []}})

    [said] = generations(log)

    assert said["$ai_span_id"] == "msg_bare"
    absent = {
        "$ai_model",
        "$ai_input_tokens",
        "$ai_output_tokens",
        "$ai_total_tokens",
        "$ai_cache_reporting_exclusive",
        "$ai_usage",
        "$ai_latency",
        "$ai_stop_reason",
        "$ai_output_choices",
        "$ai_model_parameters",
        "$ai_project_name",
        "$ai_git_branch",
        "$ai_error",
        "claude_code_version",
        "claude_code_effort",
        "claude_code_skill",
    }
    assert absent.isdisjoint(said)
    assert None not in said.values()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            {"input_tokens": 0, "output_tokens": 0},
            {"$ai_input_tokens": 0, "$ai_output_tokens": 0, "$ai_total_tokens": 0},
        ),
        ({"input_tokens": 5}, {"$ai_input_tokens": 5}),
        ({"output_tokens": 5}, {"$ai_output_tokens": 5}),
    ],
)
def test_a_count_of_zero_is_a_count_and_a_missing_one_is_none(
    log: LogBuilder, counts: dict[str, int], expected: dict[str, int]
) -> None:
    log.answer(text("Two."), counts=counts)

    [said] = generations(log)

    shown = ("$ai_input_tokens", "$ai_output_tokens", "$ai_total_tokens")
    assert {name: said[name] for name in shown if name in said} == expected


@pytest.mark.parametrize(
    ("split", "aggregate", "shown"),
    [
        ({"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}, 5, (2, 3)),
        ({"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, 0, (0, 0)),
        ({"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 3}, 3, (0, 3)),
        ({"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}, 6, (None, None)),
        ({"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}, None, (2, 3)),
        ({"ephemeral_5m_input_tokens": 5}, 5, (None, None)),
        ({"ephemeral_1h_input_tokens": 5}, 5, (None, None)),
        (None, 5, (None, None)),
    ],
)
def test_the_split_of_cache_writes_is_shown_whole_and_only_if_it_adds_up(
    log: LogBuilder, split: dict[str, int] | None, aggregate: int | None, shown: tuple[int | None, int | None]
) -> None:
    log.answer(text("Two."), counts={"cache_creation": split, "cache_creation_input_tokens": aggregate})

    [said] = generations(log)

    names = ("$ai_cache_creation_5m_input_tokens", "$ai_cache_creation_1h_input_tokens")
    assert tuple(said.get(name) for name in names) == shown
    assert said.get("$ai_cache_creation_input_tokens") == (5 if aggregate is None else aggregate)
    # The receiver would take the split from there.
    shows = ("cache_creation" in said["$ai_usage"], split is None or shown != (None, None))
    assert shows in {(True, True), (False, False)}


def test_thinking_and_searches_of_zero_are_not_shown(log: LogBuilder) -> None:
    log.answer(
        text("Two."),
        counts=usage(output_tokens_details={"thinking_tokens": 0}, server_tool_use={"web_search_requests": 0}),
    )

    [said] = generations(log)

    assert {"$ai_reasoning_tokens", "$ai_web_search_count"}.isdisjoint(said)


def test_a_partial_generation_says_that_its_output_is_a_lower_bound(log: LogBuilder) -> None:
    log.answer(text("Tw"), cut=True)
    log.answer(text("A slow"), aborted=True)
    log.interrupted()
    log.answer(text("Two."))

    cut, stopped, whole = generations(log)

    assert (cut["claude_code_output_tokens_partial"], cut["$ai_is_error"]) == (True, False)
    assert "$ai_stop_reason" not in cut
    assert (stopped["claude_code_output_tokens_partial"], stopped["$ai_stop_reason"]) == (True, "interrupted")
    assert "claude_code_output_tokens_partial" not in whole


def test_the_input_is_the_delta_or_the_prompt(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "2")
    log.answer(text("Two."))

    _, delta = generations(log)
    _, prompt = generations(log, replace(ADA, input_mode="prompt"))

    result = {"tool_use_id": "toolu_1", "type": "tool_result", "content": "2"}
    asked = {"role": "user", "content": "Count the apple trees"}
    assert delta["$ai_input"] == [asked, {"role": "user", "content": [result]}]
    assert prompt["$ai_input"] == [asked]


FULL = replace(ADA, input_mode="full")


def requesting(log: LogBuilder, attribution: Attribution = FULL) -> list[dict[str, Any]]:
    """Return the properties of all generations, from spans with whole inputs."""
    found = built(spans(log.files(), whole_inputs=True), attribution)
    return [said for event in found if "$ai_model" in (said := properties(event))]


def with_requests(version: str = "2.1.329") -> LogBuilder:
    log = LogBuilder(version=version, requests=True)
    log.prompt("Count the apple trees")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls"}, id="toolu_1"))
    log.tool_result("toolu_1", "2 trees")
    log.answer(text("Two."))
    return log


def test_the_full_input_is_the_exact_request() -> None:
    _, said = requesting(with_requests())

    roles = [message["role"] for message in said["$ai_input"]]
    assert roles == ["system", "user", "system", "assistant", "user"]
    assert said["$ai_input"][0] == {"role": "system", "content": SHAPE["system"]}
    assert said["$ai_input"][1]["content"][1] == text("Count the apple trees")
    assert said["$ai_tools"] == SHAPE["tools"]
    assert said["claude_code_input_exact"] is True


def test_the_full_input_of_an_old_log_is_the_conversation() -> None:
    _, said = requesting(with_requests("2.1.100"))

    result = {"tool_use_id": "toolu_1", "type": "tool_result", "content": "2 trees"}
    assert said["$ai_input"] == [
        {"role": "user", "content": "Count the apple trees"},
        {"role": "assistant", "content": [text("I look."), tool_use("Bash", {"command": "ls"}, id="toolu_1")]},
        {"role": "user", "content": [result]},
    ]
    assert "$ai_tools" not in said
    assert said["claude_code_input_exact"] is False


def test_a_request_that_cannot_be_rebuilt_is_the_conversation_with_what_else_is_known() -> None:
    log = with_requests()
    blob = next(line for line in log.lines if isinstance(line, dict) and line["type"] == "api-request-blob")
    blob["message"]["content"] = [text("Count the bushes")]

    _, said = requesting(log)

    assert [message["role"] for message in said["$ai_input"]] == ["system", "user", "assistant", "user"]
    assert said["$ai_input"][1] == {"role": "user", "content": "Count the apple trees"}
    assert said["$ai_tools"] == SHAPE["tools"]
    assert said["claude_code_input_exact"] is False


def test_a_request_whose_system_prompt_was_changed_is_not_called_exact() -> None:
    log = with_requests()
    shape = next(line for line in log.lines if isinstance(line, dict) and line["type"] == "api-request-shape")
    shape["shape"] = {**shape["shape"], "system": [text("You [shortened]")]}

    said, _ = requesting(log)

    assert said["$ai_input"][0] == {"role": "system", "content": [text("You [shortened]")]}
    assert said["$ai_input"][1]["content"][1] == text("Count the apple trees")
    assert said["claude_code_input_exact"] is False


def test_without_tool_content_the_full_input_is_the_conversation() -> None:
    """Nothing distinguishes the text of a file in a reminder from a person's text."""
    _, said = requesting(with_requests(), replace(FULL, policy=Policy(level="no_tool_content")))

    assert said["$ai_input"] == [
        {"role": "system", "content": SHAPE["system"]},
        {"role": "user", "content": "Count the apple trees"},
        {"role": "assistant", "content": [text("I look."), {"type": "tool_use", "id": "toolu_1", "name": "Bash"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]},
    ]
    assert said["$ai_tools"] == SHAPE["tools"]
    assert said["claude_code_input_exact"] is False


def test_at_metadata_of_the_full_input_only_the_tools_names_are_said() -> None:
    _, said = requesting(with_requests(), replace(FULL, policy=Policy(level="metadata")))

    assert said["$ai_tools"] == [{"name": "Bash"}, {"name": "Agent"}]
    assert {"$ai_input", "claude_code_input_exact"}.isdisjoint(said)


@pytest.mark.parametrize("mode", ["delta", "prompt"])
def test_only_the_full_input_says_what_was_requested(mode: InputMode) -> None:
    for said in requesting(with_requests(), replace(ADA, input_mode=mode)):
        assert {"$ai_tools", "claude_code_input_exact"}.isdisjoint(said)


@pytest.mark.parametrize("limit", [60_000, 20_000, 5_000])
def test_a_full_input_over_the_limit_is_cut(limit: int) -> None:
    log = LogBuilder(requests=True)
    for number in range(20):
        log.prompt(f"{number} " + "apple " * 1000)
        log.answer(text("Two."))

    found = [event for event in built(spans(log.files(), whole_inputs=True), FULL) if event.name == "$ai_generation"]
    smaller = [events.fit(event, limit) for event in found]

    assert len(found[-1].body) > 100_000
    assert all(len(event.body) <= limit for event in smaller)
    said, whole = properties(smaller[-1]), properties(found[-1])
    assert {name: value for name, value in said.items() if "tokens" in name} == {
        name: value for name, value in whole.items() if "tokens" in name
    }


def test_without_a_prompt_the_prompt_input_is_absent() -> None:
    log = LogBuilder()
    log.answer(text("Out of nowhere."))

    [said] = generations(log, replace(ADA, input_mode="prompt"))

    assert {"$ai_input", "$ai_user_prompt"}.isdisjoint(said)


# ---------------------------------------------------------------------- failures


def test_a_failed_attempt_is_a_generation_that_failed_and_has_no_counts(log: LogBuilder) -> None:
    log.api_request(model="claude-haiku-4-5")
    log.wait(1)
    log.api_error(529, "overloaded_error", words="Overloaded")
    line = log.line()

    [said] = generations(log)

    assert said["$ai_span_id"] == line["uuid"]
    assert (said["$ai_is_error"], said["$ai_http_status"], said["$ai_error_type"]) == (True, 529, "overloaded_error")
    assert "Overloaded" in said["$ai_error"]
    assert (said["$ai_model"], said["$ai_provider"], said["$ai_latency"]) == ("claude-haiku-4-5", "anthropic", 1.1)
    assert (said["$ai_user_prompt"], said["$ai_trace_name"]) == ("Count the apple trees",) * 2
    assert [name for name in said if "token" in name] == []
    assert {"$ai_usage", "$ai_stop_reason", "$ai_output_choices"}.isdisjoint(said)


@pytest.mark.parametrize(
    ("blocks", "title"),
    [
        ([tool_use("Bash", id="t1"), tool_use("Read", id="t2"), tool_use("Read", id="t3")], "Bash, Read ×2"),  # noqa: RUF001 - as people write it
        ([text("  Two \n trees. ")], "Two trees."),
        ([text("x" * 200)], "x" * 79 + "…"),
        ([thinking("hm")], None),
    ],
)
def test_a_generation_is_named_by_what_it_did(log: LogBuilder, blocks: list[dict[str, Any]], title: str | None) -> None:
    log.answer(*blocks)

    [said] = generations(log)

    assert said.get("$ai_span_name") == title


def test_the_title_of_an_answer_is_content_and_scrubbed(log: LogBuilder) -> None:
    log.answer(text("password=hunter2hunter2 it is"))

    [said] = generations(log)
    assert said["$ai_span_name"].startswith("password=[REDACTED:")
    [said] = generations(log, replace(ADA, policy=Policy(level="metadata")))
    assert "$ai_span_name" not in said


def test_a_tool_name_that_is_none_is_content(log: LogBuilder) -> None:
    made_up = "The list was added. Let me check:<tool_call>Bash"
    log.answer(tool_use(made_up, id="toolu_1"))
    log.tool_result("toolu_1", "ada")

    said = sent(log, replace(ADA, policy=Policy(level="metadata")))

    assert "list" not in json.dumps(said)
    [call] = tool_spans(log, replace(ADA, policy=Policy(level="metadata")))
    assert call["$ai_span_name"] == "unnamed_tool"
    [call] = tool_spans(log)
    assert call["$ai_span_name"] == made_up


def test_a_calls_id_that_a_model_made_up_of_words_is_content(log: LogBuilder) -> None:
    made_up = "functions.Look at the list:0"
    log.answer(tool_use("Agent", {"prompt": "go"}, id=made_up))
    agent = log.agent(made_up, "go")
    agent.answer(text("Well."))
    log.tool_result(made_up, "ada")
    hidden = replace(ADA, policy=Policy(level="metadata"))

    assert "list" not in json.dumps(sent(log, hidden))
    [call], [of_agent] = tool_spans(log, hidden), generations(log, hidden)[1:]
    assert call["$ai_span_id"] == of_agent["$ai_parent_id"]
    [call], [of_agent] = tool_spans(log), generations(log)[1:]
    assert call["$ai_span_id"] == of_agent["$ai_parent_id"] == made_up


@pytest.mark.parametrize(
    ("kind", "said"), [("1302", "1302"), ("overloaded_error", "overloaded_error"), ("too many pears", None)]
)
def test_the_type_of_an_error_that_is_words_is_content(log: LogBuilder, kind: str, said: str | None) -> None:
    log.prompt("Count")
    log.permanent_error(status=429, kind=kind)

    [failure] = generations(log, replace(ADA, policy=Policy(level="metadata")))
    assert (failure["$ai_http_status"], failure.get("$ai_error_type")) == (429, said)


@pytest.mark.parametrize(
    ("tool", "arguments", "name"),
    [
        ("Agent", {"prompt": "go", "subagent_type": "gardener"}, "Agent: gardener"),
        ("Agent", {"prompt": "go"}, "Agent"),
        ("Skill", {"skill": "pruning"}, "Skill: pruning"),
        ("Workflow", {"name": "harvest"}, "Workflow: harvest"),
        ("SlashCommand", {"command": "/greet the world"}, "SlashCommand: /greet"),
    ],
)
def test_a_call_is_named_by_what_it_starts(log: LogBuilder, tool: str, arguments: dict[str, str], name: str) -> None:
    log.answer(tool_use(tool, arguments, id="toolu_1"))

    [said] = tool_spans(log)

    assert said["$ai_span_name"] == name


def test_what_the_result_says_a_tool_took_is_its_latency(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    log.wait(60)
    log.tool_result("toolu_1", "ada", toolUseResult={"durationMs": 1500})

    [said] = tool_spans(log)

    assert said["$ai_latency"] == 1.5
    assert "claude_code_latency_source" not in said


def test_a_call_inside_a_call_is_a_generation_below_it(log: LogBuilder) -> None:
    advisor = {"type": "advisor_message", "model": "claude-sonnet-5-5", "input_tokens": 159000, "output_tokens": 7800}
    message = log.answer(text("So."), counts=usage(2, 491, iterations=[{"type": "message"}, advisor]))

    outer, inner = generations(log)

    assert (outer["$ai_input_tokens"], outer["$ai_output_tokens"]) == (2, 491)
    assert (inner["$ai_span_id"], inner["$ai_parent_id"]) == (f"{message}:1", message)
    assert (inner["$ai_model"], inner["$ai_span_name"]) == ("claude-sonnet-5-5", "advisor_message")
    assert (inner["$ai_input_tokens"], inner["$ai_output_tokens"]) == (159000, 7800)
    assert trace(log)["$ai_total_input_tokens"] == 159002


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-opus-5-5", "anthropic"),
        ("us.anthropic.claude-opus-4-6-v1:0", "bedrock"),
        ("claude-opus-4-6@20260101", "vertex"),
        ("vertex_ai/claude-opus-4-6", "vertex"),
        ("openrouter/anthropic/claude", "openrouter"),
        ("accounts/fireworks/models/kimi-k3", None),
        ("glm-5", None),
        ("gpt-5.5", None),
    ],
)
def test_the_provider_is_known_by_the_models_id(log: LogBuilder, model: str, provider: str | None) -> None:
    log.answer(text("Two."), model=model)

    [said] = generations(log)

    assert said.get("$ai_provider") == provider


# ---------------------------------------------------------------------- tool calls


def test_the_properties_of_a_tool_call(log: LogBuilder) -> None:
    message = log.answer(tool_use("mcp__trees__grow_tall", {"kind": "apple"}, id="toolu_1"))
    log.wait(2)
    log.tool_result("toolu_1", [text("grown")])

    [said] = tool_spans(log)

    assert {name: value for name, value in said.items() if "lib" not in name} == {
        "$ai_framework": "claude-code",
        "$ai_project_name": "orchard",
        "$ai_agent_name": "claude-code",
        "$ai_git_branch": "main",
        "$geoip_disable": True,
        "$ai_trace_id": log.session,
        "$ai_session_id": log.session,
        "$ai_parent_id": message,
        "$ai_span_id": "toolu_1",
        "$ai_span_name": "mcp__trees__grow_tall",
        "$ai_span_type": "tool",
        "$ai_latency": 2.1,
        "claude_code_latency_source": "lines",
        "$ai_input_state": {"kind": "apple"},
        "$ai_output_state": [{"type": "text", "text": "grown"}],
        "$ai_trace_name": "Count the apple trees",
        "$ai_is_error": False,
        "claude_code_tool_status": "ok",
        "claude_code_permission_decision": "accept",
        "claude_code_mcp_server": "trees",
        "claude_code_mcp_tool": "grow_tall",
        "claude_code_version": "2.1.329",
        "claude_code_entrypoint": "cli",
        "claude_code_permission_mode": "default",
        "claude_code_effort": "medium",
    }


@pytest.mark.parametrize("level", ["full", "no_tool_content", "metadata"])
def test_what_ran_around_a_call_is_told_and_its_words_only_where_tools_words_are(
    log: LogBuilder, level: ContentLevel
) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    log.hook("PreToolUse", "toolu_1", tool="Bash", seconds=0.25)
    log.tool_result("toolu_1")
    log.hook("PostToolUse", "toolu_1", tool="Bash", error="no apples")
    log.answer(text("Done."))

    [said] = [
        event["properties"]
        for event in sent(log, replace(ADA, policy=Policy(level=level)))
        if event["event"] == "$ai_span"
    ]

    words = {"error": "no apples"} if level == "full" else {}
    assert said["claude_code_hooks"] == [
        {"name": "PreToolUse:Bash", "seconds": 0.25},
        {"name": "PostToolUse:Bash", "seconds": 0.005, "failed": True} | words,
    ]
    assert said["claude_code_hook_errors"] == 1
    assert said["$ai_is_error"] is False, "the tool itself did what it should"


def test_what_the_log_does_not_show_is_on_the_sessions_trace(log: LogBuilder) -> None:
    log.hook("Stop", seconds=2, error="no")
    log.raw({"type": "tomorrow"})

    [said] = [event["properties"] for event in sent(log) if event["event"] == "$ai_trace"]

    assert said["claude_code_unknown_records"] == 1
    hooks = (said["claude_code_hook_runs"], said["claude_code_hook_seconds"], said["claude_code_hook_errors"])
    assert hooks == (1, 2.0, 1)


def test_what_the_client_spent_besides_is_a_generation_without_content(log: LogBuilder) -> None:
    log.prompt("Count")
    log.cost_state(0.25, added=12, removed=0, models={"claude-haiku-4-5": [3, 7, 5, 0]})

    [generation] = [body(event) for event in built(spans(log.files()), ADA) if event.name == "$ai_generation"]
    said = generation["properties"]

    assert generation["uuid"] == key("cc-side", log.session, "claude-haiku-4-5", "1")
    assert (said["$ai_span_name"], said["claude_code_side_calls"]) == ("side calls", True)
    assert (said["$ai_trace_id"], said["$ai_parent_id"], said["$ai_provider"]) == (
        log.session,
        log.session,
        "anthropic",
    )
    assert (said["$ai_input_tokens"], said["$ai_output_tokens"], said["$ai_total_tokens"]) == (3, 7, 10)
    assert (said["$ai_cache_read_input_tokens"], said["$ai_cache_reporting_exclusive"]) == (5, True)
    assert {"$ai_input", "$ai_output_choices", "$ai_latency", "$ai_user_prompt"}.isdisjoint(said)
    assert trace(log)["claude_code_generations"] == 0


def test_lines_of_code_are_metrics_of_the_session(log: LogBuilder) -> None:
    log.prompt("Count")
    log.cost_state(0.25, added=12, removed=0)

    [metric] = [body(event) for event in built(spans(log.files()), ADA) if event.name == "$ai_metric"]
    said = metric["properties"]

    assert metric["uuid"] == key("cc-metric", log.session, "lines_added", "1")
    assert (said["$ai_metric_name"], said["$ai_metric_value"]) == ("lines_added", 12)
    assert (said["$ai_trace_id"], said["$ai_session_id"]) == (log.session, log.session)
    assert said["$ai_project_name"] == "orchard"


@pytest.mark.parametrize(
    ("name", "kind"), [("Bash", "tool"), ("Agent", "agent"), ("Task", "agent"), ("TaskCreate", "tool")]
)
def test_only_calls_that_start_subagents_are_agents(log: LogBuilder, name: str, kind: str) -> None:
    log.answer(tool_use(name, id="toolu_1"))

    [said] = tool_spans(log)

    assert (said["$ai_span_name"], said["$ai_span_type"]) == (name, kind)


@pytest.mark.parametrize(
    ("name", "server", "tool"),
    [
        ("mcp__trees__grow", "trees", "grow"),
        ("mcp__trees__grow__tall", "trees", "grow__tall"),
        ("mcp__trees", "trees", None),
        ("mcp__", None, None),
        ("mcp_trees", None, None),
        ("Bash", None, None),
    ],
)
def test_an_mcp_tools_name_tells_its_server(log: LogBuilder, name: str, server: str | None, tool: str | None) -> None:
    log.answer(tool_use(name, id="toolu_1"))

    [said] = tool_spans(log)

    assert (said.get("claude_code_mcp_server"), said.get("claude_code_mcp_tool")) == (server, tool)


def test_a_failed_call_says_what_went_wrong(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "Exit code 3\nout", error=True)

    [said] = tool_spans(log)

    assert (said["$ai_is_error"], said["$ai_error"], said["claude_code_tool_status"]) == (
        True,
        "Exit code 3\nout",
        "error",
    )


def test_a_denied_call_is_no_error_and_says_that_it_was_denied(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    log.denied("toolu_1")

    [said] = tool_spans(log)

    assert (said["$ai_is_error"], said["claude_code_tool_status"]) == (False, "denied")
    assert "$ai_error" not in said
    assert said["claude_code_permission_decision"] == "reject"


def test_a_tool_that_printed_nothing_has_an_empty_output(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "")

    [said] = tool_spans(log)

    assert said["$ai_output_state"] == ""


def test_tool_content_is_cut_string_by_string_also_inside_messages(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", {"command": "x" * 50, "n": 5}, id="toolu_1"))
    log.tool_result("toolu_1", "y" * 50, error=True)
    log.answer(text("z" * 50))
    short = replace(ADA, policy=Policy(max_length=10))
    cut_x, cut_y = "x" * 10 + "… [40 more characters]", "y" * 10 + "… [40 more characters]"

    [span] = tool_spans(log, short)
    first, second = generations(log, short)

    assert (span["$ai_input_state"], span["$ai_output_state"]) == ({"command": cut_x, "n": 5}, cut_y)
    assert span["$ai_error"] == cut_y
    assert first["$ai_output_choices"][0]["content"][0]["input"] == {"command": cut_x, "n": 5}
    assert second["$ai_input"][1]["content"][0]["content"] == cut_y
    assert second["$ai_output_choices"][0]["content"] == [text("z" * 50)]


@pytest.mark.parametrize("tool", ["Agent", "Task"])
def test_a_call_of_an_agent_is_named_by_its_type_whatever_the_tool_is_called(log: LogBuilder, tool: str) -> None:
    log.answer(tool_use(tool, {"prompt": "go", "subagent_type": "scout"}, id="toolu_1"))
    log.tool_result("toolu_1", "One.")

    [said] = tool_spans(log)

    assert (said["$ai_span_name"], said["$ai_span_type"]) == ("Agent: scout", "agent")


def test_a_compaction(log: LogBuilder) -> None:
    log.compaction(trigger="manual", preTokens=150000, postTokens=3000, durationMs=1500)

    [said] = tool_spans(log)

    assert (said["$ai_span_name"], said["$ai_span_type"], said["$ai_latency"]) == ("compaction", "compaction", 1.5)
    assert said["$ai_parent_id"] == log.session
    assert said["claude_code_compaction_trigger"] == "manual"
    assert (said["claude_code_tokens_before"], said["claude_code_tokens_after"]) == (150000, 3000)


@pytest.mark.parametrize(
    ("level", "after"),
    [
        ("full", "3,000 tokens after\n\nThey counted apple trees. [REDACTED:github-token]"),
        ("no_tool_content", "3,000 tokens after\n\nThey counted apple trees. [REDACTED:github-token]"),
        ("metadata", "3,000 tokens after"),
    ],
)
def test_the_states_of_a_compaction_are_words_and_its_summary_is_content(
    log: LogBuilder, level: ContentLevel, after: str
) -> None:
    log.compaction(f"They counted apple trees. ghp_{'a1B2' * 9}", trigger="auto", preTokens=150000, postTokens=3000)

    [said] = tool_spans(log, replace(ADA, policy=Policy(level=level)))

    assert said["$ai_input_state"] == "auto, 150,000 tokens before"
    assert said["$ai_output_state"] == after


# ---------------------------------------------------------------------- traces


def test_the_properties_of_a_sessions_trace(log: LogBuilder) -> None:
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"), counts=usage(10, 20))
    agent = log.agent("toolu_1", "go")
    agent.answer(text("sub"), counts=usage(1, 2))
    log.agent_result("toolu_1", agent, "sub")
    log.api_error()
    log.compaction()
    log.title("Trees")
    log.answer(text("Two."), counts=usage(100, 200))
    log.cost_state(0.25, added=12, removed=0)

    said = trace(log)

    assert {name: value for name, value in said.items() if "lib" not in name} == {
        "$ai_framework": "claude-code",
        "$ai_project_name": "orchard",
        "$ai_agent_name": "claude-code",
        "$ai_git_branch": "main",
        "$geoip_disable": True,
        "$ai_trace_id": log.session,
        "$ai_session_id": log.session,
        "$ai_span_id": log.session,
        "$ai_trace_name": "Trees",
        "$ai_span_name": "Trees",
        "$ai_latency": 1.1,
        "$ai_total_input_tokens": 111,
        "$ai_total_output_tokens": 222,
        "$ai_input_state": [{"role": "user", "content": "Count the apple trees"}],
        "$ai_output_state": [{"role": "assistant", "content": "Two."}],
        "claude_code_trace": "final",
        "claude_code_outcome": "ok",
        "claude_code_wall_seconds": 1.1,
        "claude_code_generations": 3,
        "claude_code_tool_calls": 1,
        "claude_code_subagents": 1,
        "claude_code_api_errors": 1,
        "claude_code_compactions": 1,
        "claude_code_client_cost_usd": 0.25,
        "claude_code_lines_added": 12,
        "claude_code_lines_removed": 0,
        "claude_code_version": "2.1.329",
        "claude_code_entrypoint": "cli",
        "claude_code_permission_mode": "default",
        "claude_code_effort": "medium",
    }


def test_a_turns_trace_has_no_totals_of_the_client(log: LogBuilder) -> None:
    log.answer(text("Two."))
    log.cost_state()

    said = trace(log, BY_MESSAGE)

    assert [name for name in said if "cost" in name or "lines" in name] == []


def test_a_trace_that_ended_in_an_error_says_so_without_being_a_second_one(log: LogBuilder) -> None:
    log.permanent_error("API Error: 400 messages.0: too many trees")

    said = trace(log)

    assert said["claude_code_outcome"] == "failed"
    assert {"$ai_is_error", "$ai_error", "$ai_error_type"}.isdisjoint(said)
    assert {"$ai_total_input_tokens", "$ai_total_output_tokens", "$ai_output_state"}.isdisjoint(said)


def test_the_name_of_a_trace_is_the_title_by_session_and_the_prompt_by_message(log: LogBuilder) -> None:
    log.title("Trees")
    log.answer(text("Two."))

    assert {said["$ai_trace_name"] for said in generations(log)} == {"Trees"}
    assert {said["$ai_trace_name"] for said in generations(log, BY_MESSAGE)} == {"Count the apple trees"}
    assert trace(log)["$ai_trace_name"] == "Trees"
    assert trace(log, BY_MESSAGE)["$ai_trace_name"] == "Count the apple trees"


# ---------------------------------------------------------------------- on every event


def test_a_made_up_person_gets_no_profile(log: LogBuilder) -> None:
    log.answer(text("Two."))

    for event in sent(log, Attribution(distinct_id="claude-code:s1", identified=False)):
        assert event["distinct_id"] == "claude-code:s1"
        assert event["properties"]["$process_person_profile"] is False
    for event in sent(log):
        assert event["distinct_id"] == "ada@example.com"
        assert "$process_person_profile" not in event["properties"]


def test_repository_purpose_and_own_properties_are_on_every_event(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", id="toolu_1"))
    attribution = replace(ADA, purpose="review", properties={"team": "trees", "$ai_input_token_price": 0.5})

    found = sent(log, attribution, repository="ada/orchard")

    assert len(found) == 4
    for event in found:
        said = event["properties"]
        assert (said["$ai_git_repo"], said["$ai_purpose"], said["team"]) == ("ada/orchard", "review", "trees")
        assert said["$ai_input_token_price"] == 0.5


@pytest.mark.parametrize(
    ("cwd", "project"),
    [
        ("/home/zelda/orchard", "orchard"),
        ("/home/zelda/orchard/", "orchard"),
        ("C:\\Users\\zelda\\orchard", "orchard"),
        ("orchard", "orchard"),
        ("/", None),
        ("", None),
    ],
)
def test_of_a_folder_only_its_own_name_is_told(cwd: str, project: str | None) -> None:
    log = LogBuilder(cwd=cwd)
    log.prompt("Count")
    log.answer(text("Two."))

    [said] = generations(log)

    assert said.get("$ai_project_name") == project
    assert "zelda" not in json.dumps(said)


def test_a_subagents_events_carry_its_type(log: LogBuilder) -> None:
    log.answer(tool_use("Agent", {"prompt": "go", "subagent_type": "gardener"}, id="toolu_1"))
    log.agent("toolu_1", "go", type="gardener").answer(text("sub"))

    assert sorted(said["$ai_agent_name"] for said in generations(log)) == ["claude-code", "gardener"]


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("team", False),
        ("$ai_purpose", False),
        ("$ai_project_name", False),
        ("$ai_agent_name", False),
        ("$ai_git_repo", False),
        ("$ai_git_branch", False),
        ("$ai_input_token_price", False),
        ("$ai_cache_read_token_price", False),
        ("$ai_request_price", False),
        ("$groups", False),
        ("$ai_trace_id", True),
        ("$ai_session_id", True),
        ("$ai_span_id", True),
        ("$ai_parent_id", True),
        ("$ai_input_tokens", True),
        ("$ai_total_tokens", True),
        ("$ai_input", True),
        ("$ai_model", True),
        ("$ai_is_error", True),
        ("$ai_input_cost_usd", True),
        ("claude_code_version", True),
        ("distinct_id", True),
        ("token", True),
        ("$lib", True),
        ("$insert_id", True),
        ("$process_person_profile", True),
        ("$geoip_disable", True),
    ],
)
def test_a_users_own_property_may_not_replace_what_is_measured(name: str, refused: bool) -> None:
    assert refused_properties([name]) == ({name} if refused else frozenset())


def test_every_property_that_is_sent_and_no_name_is_refused(log: LogBuilder) -> None:
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"))
    log.compaction()
    log.permanent_error()
    names = {name for event in sent(log, repository="ada/orchard") for name in event["properties"]}
    free = {"$ai_project_name", "$ai_agent_name", "$ai_git_branch", "$ai_git_repo", "$ai_purpose"}

    may_be_given = names - refused_properties(names)

    # The names of the library and the framework are constants of this project.
    assert may_be_given <= free


# ---------------------------------------------------------------------- sizes


def large(log: LogBuilder, **content: str) -> CaptureEvent:
    log.prompt(content.get("prompt", "Count"))
    log.answer(
        text(content.get("answer", "Two.")), tool_use("Bash", {"command": content.get("command", "ls")}, id="toolu_1")
    )
    found = spans(log.files())
    [generation] = [span for span in found if isinstance(span, Generation)]
    return events.build(generation, replace(ADA, policy=Policy(max_length=10**9)), name="gen|m")


def test_an_event_within_the_limit_is_not_touched(log: LogBuilder) -> None:
    event = large(log)

    assert events.fit(event, len(event.body)) is event


def test_an_event_over_the_limit_loses_its_longest_strings_and_says_so(log: LogBuilder) -> None:
    event = large(log, answer="a" * 50_000, command="short", prompt="p" * 100)

    smaller = events.fit(event, 20_000)

    said, whole = properties(smaller), properties(event)
    assert len(smaller.body) <= 20_000
    assert smaller.cut
    assert (smaller.name, smaller.uuid, smaller.identity) == (event.name, event.uuid, event.identity)
    answer, call = said["$ai_output_choices"][0]["content"]
    assert answer["text"].startswith("aaaa")
    assert answer["text"].endswith(" more characters]")
    assert call == whole["$ai_output_choices"][0]["content"][1]
    assert said["$ai_user_prompt"] == "p" * 100
    content = {"$ai_output_choices", "$ai_input", "$ai_user_prompt"}
    assert {n: v for n, v in said.items() if n not in content} == {n: v for n, v in whole.items() if n not in content}


def test_cutting_keeps_as_much_as_fits(log: LogBuilder) -> None:
    event = large(log, answer="a" * 50_000)

    assert 19_900 < len(events.fit(event, 20_000).body) <= 20_000


@given(
    answer=st.integers(min_value=0, max_value=30_000),
    command=st.integers(min_value=0, max_value=30_000),
    letter=st.sampled_from(["a", "\U0001f34e", "\n", '"', "\\"]),
    limit=st.integers(min_value=3_000, max_value=60_000),
)
@settings(max_examples=40)
def test_any_event_fits_any_limit_that_leaves_room_for_what_is_no_content(
    answer: int, command: int, letter: str, limit: int
) -> None:
    event = large(LogBuilder(), answer=letter * answer, command=letter * command)

    smaller = events.fit(event, limit)

    assert len(smaller.body) <= limit
    assert smaller.cut == (len(event.body) > limit)
    said, whole = body(smaller), body(event)
    assert (said["uuid"], said["timestamp"]) == (whole["uuid"], whole["timestamp"])
    kept = ("$ai_input_tokens", "$ai_output_tokens", "$ai_latency", "$ai_trace_id", "$ai_span_id", "$ai_tools_called")
    assert {name: said["properties"][name] for name in kept} == {name: whole["properties"][name] for name in kept}
    assert events.fit(event, limit) == smaller


def test_when_even_the_markers_are_too_long_the_content_goes(log: LogBuilder) -> None:
    log.answer(*(text("word") for _ in range(1)), *({"type": "text", "text": f"{n}"} for n in range(2000)))
    [generation] = [span for span in spans(log.files()) if isinstance(span, Generation)]
    event = events.build(generation, ADA, name="gen|m")

    smaller = events.fit(event, 3_000)

    assert len(smaller.body) <= 3_000
    assert "$ai_output_choices" not in properties(smaller)
    assert properties(smaller)["$ai_output_tokens"] == 50


def test_content_with_a_number_that_nobody_can_tell_goes_where_something_has_to_be_cut(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", {}, id="toolu_1"))
    line = log.files()[log.path].replace(b'"input":{}', b'"input":{"trees":1e400}')
    log.tool_result("toolu_1", "a" * 50_000)
    result = log.files()[log.path].splitlines(keepends=True)[-1]
    [call] = [span for span in spans({log.path: line + result}) if isinstance(span, ToolCall)]
    event = events.build(call, replace(ADA, policy=Policy(max_length=10**9)), name="span|m")
    assert b"1e400" in event.body

    smaller = events.fit(event, 20_000)

    assert 19_900 < len(smaller.body) <= 20_000
    assert "$ai_input_state" not in properties(smaller)
    assert properties(smaller)["$ai_output_state"].endswith(" more characters]")


def test_an_event_is_built_within_the_ai_paths_limit(log: LogBuilder) -> None:
    event = large(log, answer="\U0001f34e" * 3_000_000)

    assert event.cut
    assert AI_EVENT_LIMIT - 1000 < len(event.body) <= AI_EVENT_LIMIT
    assert events.fit(event, BATCH_EVENT_LIMIT).cut


# ---------------------------------------------------------------------- bodies


def test_a_refused_property_that_nobody_took_out_replaces_the_events_own_and_comes_once(log: LogBuilder) -> None:
    log.answer(text("Two."))
    attribution = replace(ADA, properties={"$ai_model": "apple", "team": "orchard"})

    [event] = [event for event in built(spans(log.files()), attribution) if event.name == "$ai_generation"]

    assert event.body.count(b'"$ai_model"') == 1
    assert (properties(event)["$ai_model"], properties(event)["team"]) == ("apple", "orchard")
    [explained] = [
        event
        for event in built(spans(log.files()), replace(attribution, explain=True))
        if event.name == "$ai_generation"
    ]
    assert explained.body == event.body


def test_an_event_is_one_json_object_of_four_or_five_keys(log: LogBuilder) -> None:
    log.answer(text("Two \U0001f34e trees"))

    for event in built(spans(log.files())):
        assert list(body(event)) == ["event", "uuid", "distinct_id", "timestamp", "properties"]
        assert b"\n" not in event.body
        assert "\U0001f34e".encode() in event.body or event.name != "$ai_generation"


def test_the_same_log_gives_the_same_bytes(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", {"b": 1, "a": 2}, id="toolu_1"))
    log.tool_result("toolu_1", "2")

    first, second = built(spans(log.files())), built(spans(log.files()))

    assert first == second


def _one_call() -> LogBuilder:
    log = LogBuilder()
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    return log


@given(st.builds(TokenUsage, input=st.none() | st.integers(0, 2**63 - 1), output=st.none() | st.integers(0, 2**63 - 1)))
def test_any_counts_make_an_event(counts: TokenUsage) -> None:
    [generation] = [span for span in spans(_one_call().files()) if isinstance(span, Generation)]

    said = properties(events.build(msgspec.structs.replace(generation, usage=counts), ADA, name="gen|m"))

    assert said.get("$ai_input_tokens") == counts.input
    assert ("$ai_total_tokens" in said) == (counts.input is not None and counts.output is not None)
