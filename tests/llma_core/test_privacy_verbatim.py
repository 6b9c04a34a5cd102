from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llma_core import events, privacy
from llma_core.claude_code.framework import FRAMEWORK
from llma_core.events import CaptureEvent
from llma_core.privacy import Policy
from llma_core.properties import Attribution
from llma_core.spans import (
    ApiFailure,
    Compaction,
    ContentBlock,
    Context,
    Generation,
    HookRun,
    InputMessage,
    LineRange,
    Request,
    RequestMessage,
    TokenUsage,
    ToolCall,
    Trace,
    TurnKey,
)
from tests.support.each import for_each

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8" * 2
LINES = LineRange(file="a.jsonl", start=0, end=1)
ORIGINS: st.SearchStrategy[Literal["tool_result", "agent_prompt", "prompt"]] = st.sampled_from(
    ["tool_result", "agent_prompt", "prompt"]
)
KINDS = [
    "text",
    "thinking",
    "redacted_thinking",
    "image",
    "tool_use",
    "tool_result",
    "server_tool_use",
    "t\\u0065xt",
    5,
]

WORDS = st.lists(
    st.sampled_from(
        ["apple ", "é", "\n", "\x1b[1m", '"', "\\", "source", TOKEN, TOKEN[:20], "DB_PASSWORD=", "hunter2", "x" * 30]
    ),
    max_size=4,
).map("".join)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "content", "password", "source", "type", TOKEN]), inner, max_size=3)
        | inner.map(lambda value: {"type": "image", "source": value, "name": "apple"})
        | st.tuples(inner, st.sampled_from([1, 60, 130])).map(lambda pair: nested(*pair))
    ),
    max_leaves=5,
)
BLOCK = (
    st.fixed_dictionaries(
        {"type": st.sampled_from(KINDS)},
        optional={
            "id": st.just("toolu_1"),
            "text": VALUE,
            "thinking": VALUE,
            "input": VALUE,
            "content": VALUE,
            "signature": st.just("x" * 20),
            "caller": st.just({"type": "direct"}),
        },
    )
    | VALUE
)


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def json_of(draw: st.DrawFn, value: st.SearchStrategy[Any]) -> bytes:
    """Return JSON in one of the ways that writers spell it."""
    separators = draw(st.sampled_from([(",", ":"), (", ", " : ")]))
    written = json.dumps(draw(value), ensure_ascii=draw(st.booleans()), separators=separators)
    return (written.replace("/", "\\/") if draw(st.booleans()) else written).encode()


def context(words: str) -> Context:
    turn = TurnKey(kind="prompt", id="p")
    return Context(
        framework=FRAMEWORK,
        session="s",
        turn=turn,
        prompt=words,
        session_name=words or None,
        cwd="/srv/orchard",
        branch="main",
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    blocks = st.lists(json_of(BLOCK | VALUE), max_size=2).map(tuple)
    message = st.builds(RequestMessage, role=st.sampled_from(["user", "assistant"]), blocks=blocks)
    return Request(
        system=draw(blocks),
        tools=draw(st.none() | json_of(st.lists(st.just({"name": "Bash"}) | VALUE, max_size=2))),
        messages=draw(st.none() | st.lists(message, max_size=2).map(tuple)),
        exact=True,
    )


@st.composite
def generations(draw: st.DrawFn) -> Generation:
    content = json_of(WORDS | st.lists(BLOCK, max_size=3) | st.none())
    given_ = draw(st.lists(content, max_size=3))
    before = draw(st.none() | st.lists(content, max_size=2))
    usage = TokenUsage(
        input=draw(st.none() | st.just(3)),
        output=4,
        cache_creation=5,
        cache_creation_5m=2,
        cache_creation_1h=draw(st.sampled_from([None, 3, 4])),
        reasoning=draw(st.sampled_from([None, 0, 7])),
        raw=draw(st.none() | json_of(st.just({"input_tokens": 3}) | VALUE.map(lambda value: {"service_tier": value}))),
    )
    return Generation(
        identity="msg_1",
        checksum=b"m",
        context=context(draw(WORDS | st.just("apple " * 30) | st.just(f"{'apple ' * 16}{TOKEN}"))),
        model=draw(st.sampled_from([None, "claude-opus", TOKEN])),
        provider="anthropic",
        usage=draw(st.sampled_from([None, usage])),
        output_partial=draw(st.booleans()),
        started_at=draw(st.sampled_from([None, 1000])),
        ended_at=draw(st.sampled_from([None, 2500])),
        stop_reason=draw(st.sampled_from([None, "end_turn"])),
        input=tuple(InputMessage(role="user", content=data, origin=draw(ORIGINS)) for data in given_),
        conversation=None
        if before is None
        else tuple(InputMessage(role="user", content=data, origin="answer") for data in before),
        request=draw(st.none() | requests()),
        output=tuple(
            ContentBlock(type="text", raw=data) for data in draw(st.lists(json_of(BLOCK | VALUE), max_size=3))
        ),
        tools_called=draw(st.sampled_from([(), ("Bash",), ("mcp__a,b__c", "Read")])),
        max_tokens=draw(st.sampled_from([None, 32_000])),
        thinking=draw(st.sampled_from([None, b'{"type":"enabled"}'])),
        skill=draw(st.sampled_from([None, "pruning"])),
        lines=LINES,
    )


@st.composite
def calls(draw: st.DrawFn) -> ToolCall:
    error = draw(st.sampled_from([None, "no ladder", TOKEN]))
    return ToolCall(
        identity="toolu_1",
        call_id="toolu_1",
        context=context(draw(WORDS)),
        name=draw(st.sampled_from(["Bash", "mcp__apple__pick", TOKEN])),
        generation="msg_1",
        generation_ended_at=2500,
        is_agent=draw(st.booleans()),
        called_at=2000,
        ended_at=draw(st.sampled_from([None, 3000])),
        input=draw(st.none() | json_of(VALUE)),
        output=draw(st.none() | json_of(VALUE | st.lists(BLOCK, max_size=2))),
        status=draw(st.sampled_from(["ok", "error", "denied", "no_result"])),
        permission_decision=draw(st.sampled_from([None, "accept"])),
        skill=None,
        hooks=draw(st.sampled_from([(), (HookRun(name="PreToolUse", duration_ms=5, failed=True, error=error),)])),
        lines=LINES,
    )


@st.composite
def others(draw: st.DrawFn) -> ApiFailure | Compaction | Trace:
    words = draw(st.none() | WORDS)
    place = context(draw(WORDS))
    failure = ApiFailure(
        identity="e",
        context=place,
        at=5,
        started_at=None,
        model=None,
        provider="anthropic",
        status=529,
        error_type="overloaded_error",
        message=words,
        lines=LINES,
    )
    compaction = Compaction(
        identity="c",
        context=place,
        at=5,
        duration_ms=None,
        trigger=words,
        tokens_before=1,
        tokens_after=None,
        lines=LINES,
    )
    trace = Trace(
        scope="session",
        session="s",
        turn=None,
        context=place,
        name=draw(st.none() | st.just("apple " * 40) | WORDS),
        started_at=1,
        first_at=1,
        ended_at=2,
        input_tokens=1,
        output_tokens=None,
        generations=1,
        tool_calls=0,
        subagents=0,
        api_errors=0,
        compactions=0,
        prompt=words,
        answer=draw(st.none() | json_of(WORDS)),
        client_cost_usd=0.25,
    )
    return draw(st.just(failure) | st.just(compaction) | st.just(trace))


def build(span: Generation | ToolCall | ApiFailure | Compaction | Trace, attribution: Attribution) -> CaptureEvent:
    return events.build(span, attribution, name="x", repository="ada/orchard")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    span=generations() | calls() | others(),
    limit=st.sampled_from([1, 30, 12_000]),
    redact=st.booleans(),
    level=st.sampled_from(["full", "full", "no_tool_content", "metadata"]),
    mode=st.sampled_from(["delta", "prompt", "full"]),
    properties=st.sampled_from([{}, {"team": "orchard"}, {"team": TOKEN, "api_key": "hunter2hunter2"}]),
)
def test_an_event_put_together_from_what_was_logged_is_the_one_that_comes_the_long_way(
    span: Generation | ToolCall | ApiFailure | Compaction | Trace,
    limit: int,
    redact: bool,
    level: Any,
    mode: Any,
    properties: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attribution = Attribution(
        distinct_id="ada@example.com",
        policy=Policy(level=level, max_length=limit, redact=redact),
        input_mode=mode,
        properties=properties,
    )
    event = build(span, attribution)
    with monkeypatch.context() as patch:
        patch.setattr(privacy, "_verbatim", lambda *_: None)
        assert build(span, attribution) == event
    json.loads(event.body)


def block(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


LONG = "apples and pears, " * 12
AS_LOGGED = [
    b'"seven apples"',
    b'"\\u00e9\\ud83c\\udf4e"',
    b"null",
    b" null ",
    b"5",
    b'{"a":1}',
    b"[" * 130 + b"]" * 130,
    b'{"a":' * 130 + b"1" + b"}" * 130,
    b"[null, null]",
    block(source="a branch", name="apple"),
    block(type="image", source={"data": "x"}),
    block(type="text", text="seven\n\u200bapples"),
    block(type="text", text=None),
    block(type="text", text=5),
    block(type="text"),
    block(type="text", text=LONG, citations=[1]),
    block(type="thinking", thinking="so many", signature="x" * 20),
    block(type="redacted_thinking", data="x" * 9),
    block(type="redacted_thinking", content=LONG),
    block(type="document", title="apples"),
    block(type="document", content=LONG),
    b'{"type":"im\\u0061ge","data":"x"}',
    b'{"type":"im\\u0061ge","content":"%b"}' % LONG.encode(),
    b'{"type":"t\\u0065xt","text":"seven","more":1}',
    b'{"type":"tool_use","id":"\\u0061pple","input":{"a":1}}',
    b'{"type":"tool_use","input":"x","content":"\\u00e9"}',
    b'{"type":"tool_result","content":"\\u00e9 \\"source\\""}',
    block(type=5, content="x"),
    block(type="tool_use", id="toolu_1", input={"command": "ls"}, signature="x", caller={"type": "direct"}),
    block(type="tool_use", id="toolu_1", input={"command": LONG}, signature="x", caller={"type": "direct"}),
    block(type="tool_use", input=[[LONG], {"source": "a branch"}]),
    block(type="tool_use", input={"token": TOKEN, "words": LONG}),
    block(type="tool_use", input=LONG, content=LONG),
    b'{"type":"tool_use","input":{"apples":1e400}}',
    b'{"type":"tool_use","input":{"apples":1e400,"words":"%b"}}' % LONG.encode(),
    b'[-1e400,"%b"]' % LONG.encode(),
    block(type="tool_use", input=None, content="x"),
    block(type="tool_use", input="x", content=None),
    block(type="tool_use", input=nested("x", 60), content=nested("x", 60)),
    b'{"type": "tool_result", "content" :  null }',
    b'{"type":"tool_result","content":null}',
    block(type="tool_result", content=LONG, more=LONG),
    block(type="tool_result", content=LONG, source="a branch"),
    block(type="tool_result", content=LONG, more=nested("x", 130)),
    block(type="tool_result", content=LONG, more="\u200b"),
    block(type="tool_result", content=nested("x", 130)),
    block(type="tool_result", content=nested(LONG, 130)),
    block(type="tool_result", content=[{"type": "image", "source": {"data": LONG}}]),
    block(type="tool_result", more=LONG),
    block(type="tool_result", content="\\u0000\u202e\U000e0041 apples"),
    b'{"type":"text","text":%b}' % (b"[" * 50_000 + b"]" * 50_000),
]


def holding(raw: bytes) -> list[Generation | ToolCall]:
    """Return all kinds of spans with *raw* wherever they can hold logged content."""
    said: dict[str, Any] = {
        "context": context("Count the apples"),
        "checksum": b"m",
        "model": "claude-opus",
        "provider": "anthropic",
        "usage": None,
        "output_partial": False,
        "started_at": 1000,
        "ended_at": 2000,
        "stop_reason": None,
        "tools_called": (),
        "lines": LINES,
    }
    call: dict[str, Any] = {
        "identity": "toolu_1",
        "call_id": "toolu_1",
        "context": context("Count the apples"),
        "name": "Bash",
        "generation": "msg_1",
        "generation_ended_at": 2000,
        "is_agent": False,
        "called_at": 2000,
        "ended_at": 3000,
        "status": "ok",
        "permission_decision": None,
        "skill": None,
        "hooks": (),
        "lines": LINES,
    }
    messages = [
        InputMessage(role=role, content=content, origin="tool_result")
        for role, content in (("user", raw), ("user", b"[%b]" % raw), ("user", b"[%b,%b]" % (raw, raw)), ('to"ol', raw))
    ]
    return [
        *(Generation(identity="msg_1", input=(message,), output=(), **said) for message in messages),
        Generation(identity="msg_1", input=(), output=(ContentBlock(type="text", raw=raw),) * 2, **said),
        ToolCall(input=raw, output=None, **call),
        ToolCall(input=None, output=raw, **call),
    ]


@for_each("redact", [True, False])
@for_each("raw", AS_LOGGED)
def test_whatever_was_logged_leaves_as_it_does_the_long_way(
    raw: bytes, redact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in (1, 30, len(LONG), len(raw) - 1, len(raw), len(raw) + 2, 12_000):
        attribution = Attribution(
            distinct_id="ada@example.com", policy=Policy(level="full", max_length=max(limit, 1), redact=redact)
        )
        events_ = [build(span, attribution) for span in holding(raw)]
        with monkeypatch.context() as patch:
            patch.setattr(privacy, "_verbatim", lambda *_: None)
            assert [build(span, attribution) for span in holding(raw)] == events_


def test_most_events_are_put_together_from_what_was_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(Policy, "_by_piece", refuse)
    raw = b'{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"ls -l\\n# \xc3\xa9"}}'
    result = b'[{"tool_use_id":"toolu_1","type":"tool_result","content":"\\u001b[1mapples"}]'
    generation = Generation(
        identity="msg_1",
        checksum=b"m",
        context=context("Count the apples"),
        model="claude-opus",
        provider="anthropic",
        usage=TokenUsage(input=1, output=2, raw=b'{"input_tokens":1,"output_tokens":2}'),
        output_partial=False,
        started_at=1000,
        ended_at=2000,
        stop_reason="tool_use",
        input=(InputMessage(role="user", content=result, origin="tool_result"),),
        output=(ContentBlock(type="tool_use", raw=raw),),
        tools_called=("Bash",),
        lines=LINES,
    )
    said = json.loads(build(generation, Attribution(distinct_id="ada@example.com")).body)["properties"]
    assert said["$ai_input"] == [{"role": "user", "content": json.loads(result)}]
    assert said["$ai_output_choices"] == [{"role": "assistant", "content": [json.loads(raw)]}]
