"""Turns spans into capture events.

`properties` has what all events have in common, and `recorded_events` what those have that programs recorded. Only
these modules, and `view` and `hogql`, which read events back and ask for them, know the receiver's names.

An unknown value is absent from an event: it is never 0, never "" and never null. For the receiver, 0 tokens means
"free", while an absent count means "unknown".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, TypeVar, assert_never, cast

import msgspec

from llma_core import __version__, identifiers
from llma_core.cut import beginnings, cut_strings
from llma_core.privacy import (
    Change,
    ContentLevel,
    Messages,
    Nested,
    Policy,
    Properties,
    TraceName,
    characters,
    figures,
    first_words,
    is_code,
    is_name,
    members,
)
from llma_core.properties import (
    IDS,
    LIBRARY,
    Attribution,
    Common,
    adds_up,
    common,
    common_properties,
    raw_usage,
    seconds,
    tool_name,
)
from llma_core.recorded_events import recorded_attribution, recorded_properties
from llma_core.spans import (
    ApiFailure,
    Compaction,
    Context,
    Generation,
    HookRun,
    Metric,
    OpeningTrace,
    Prompt,
    Recorded,
    SessionFacts,
    SideCalls,
    TokenUsage,
    ToolCall,
    Trace,
    TurnKey,
    Verdict,
    settled_name,
)

__all__ = [
    "AI_EVENT_LIMIT",
    "BATCH_EVENT_LIMIT",
    "SIDE_CALLS",
    "CaptureEvent",
    "build",
    "connection_test",
    "fit",
    "identity",
    "opening_key",
    "timestamp",
    "trace_key",
]

SIDE_CALLS = "side calls"
"""The name of a generation that stands for calls which the client does not log."""
AI_EVENT_LIMIT = 7_864_320
"""Largest event for the AI batch path, in bytes: 7.5 MiB. The path's limit is 8 MiB; a proxy may need some room."""
BATCH_EVENT_LIMIT = 921_600
"""Largest event for `/batch/`, in bytes: 900 KiB, the limit that PostHog's own SDKs use there."""

_CONTENT = (
    "$ai_input",
    "$ai_tools",
    "$ai_output_choices",
    "$ai_input_state",
    "$ai_output_state",
    "$ai_error",
    "$ai_user_prompt",
    "$ai_feedback_text",
)


class CaptureEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """One event, final and encoded.

    Attributes:
        name: the event's name, for logs and counters.
        uuid: the event's deterministic uuid.
        identity: the name of what happened in the settled table, unique across all sessions.
        body: the whole event as a JSON object in UTF-8, ready to be joined into a batch.
        cut: whether content was cut to keep the event under a sink's limit.
        changes: what was withheld, scrubbed and cut before that; empty unless the attribution asks for it.
    """

    name: str
    uuid: str
    identity: str
    body: bytes
    cut: bool = False
    changes: tuple[Change, ...] = ()


# ---------------------------------------------------------------------- identity


_Event = (
    Generation | ToolCall | ApiFailure | Compaction | SideCalls | Metric | Verdict | OpeningTrace | Trace | Recorded
)
"""A span that is an event."""


def identity(
    span: Prompt | Generation | ToolCall | ApiFailure | Compaction | SideCalls | Metric | Verdict | Recorded,
) -> str:
    """Return the name of a span in the settled table; it is the same in whatever log the span is found."""
    match span:
        case Prompt():
            return settled_name("prompt", span.identity)
        case Generation():
            return settled_name("gen", span.identity)
        case ToolCall():
            return settled_name("call", span.identity)
        case ApiFailure():
            return settled_name("error", span.identity)
        case Compaction():
            return settled_name("compaction", span.identity)
        case SideCalls():
            return settled_name("side", f"{span.context.session}|{span.model}|{span.number}")
        case Metric() | Verdict():
            return settled_name("metric", f"{span.context.session}|{span.name}|{span.number}")
        case Recorded():
            return settled_name("line", span.identity)
        case _:
            assert_never(span)


def connection_test(trace: str, uuid: str, at: int) -> CaptureEvent:
    """Return an event that shows whether events arrive: a trace without content, of no person and no session.

    Args:
        trace: the id of the trace.
        uuid: the event's uuid.
        at: its time, in milliseconds since the epoch.
    """
    name = f"{LIBRARY}: connection test"
    properties = {
        "$lib": LIBRARY,
        "$lib_version": __version__,
        "$ai_lib": LIBRARY,
        "$ai_lib_version": __version__,
        "$ai_trace_id": trace,
        "$ai_trace_name": name,
        "$ai_span_name": name,
        "$geoip_disable": True,
        "$process_person_profile": False,
    }
    envelope = _Envelope(event="$ai_trace", uuid=uuid, distinct_id=trace, timestamp=timestamp(at))
    body = _encode({**msgspec.to_builtins(envelope), "properties": properties})
    return CaptureEvent(name="$ai_trace", uuid=uuid, identity=f"test|{trace}", body=body)


def opening_key(session: str) -> str:
    """Return the name of a session's opening trace in the settled table."""
    return f"trace-open|{session}"


def trace_key(session: str, turn: TurnKey | None) -> str:
    """Return the key under which the store notes that a session, or one of its turns, still owes its trace."""
    return f"trace|{session}" if turn is None else f"trace|{session}|{turn.kind}|{turn.id}"


# ---------------------------------------------------------------------- building


class _Envelope(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """An event without its properties."""

    event: str
    uuid: str
    distinct_id: str
    timestamp: str | None = None


_encode = msgspec.json.Encoder().encode


def build(
    span: _Event,
    attribution: Attribution,
    *,
    name: str,
    repository: str | None = None,
) -> CaptureEvent:
    """Return the event for *span*.

    Args:
        span: what happened.
        attribution: whose event it is, and what of it may leave.
        name: the span's name in the settled table.
        repository: `owner/name` of the repository in the span's working directory; None if unknown.
    """
    ids, session = span.context.framework.ids, span.context.session
    match span:
        case Generation():
            event_name, uuid, at = (
                "$ai_generation",
                identifiers.generation(ids, session, span.identity),
                span.ended_at,
            )
        case ApiFailure():
            event_name, uuid, at = "$ai_generation", identifiers.failure(ids, session, span.identity), span.at
        case ToolCall():
            ended = timestamp(span.generation_ended_at) or ""
            event_name = "$ai_span"
            uuid = identifiers.tool_call(ids, session, span.call_id, span.name, ended)
            at = span.ended_at if span.ended_at is not None else span.called_at
        case Compaction():
            event_name, uuid, at = "$ai_span", identifiers.compaction(ids, session, span.identity), span.at
        case Trace():
            turn = span.turn
            uuid = identifiers.session_trace(ids, span.session) if turn is None else identifiers.turn_trace(
                ids, span.session, turn
            )  # fmt: skip
            event_name, at = "$ai_trace", span.first_at
        case SideCalls():
            event_name, uuid = "$ai_generation", identifiers.side_calls(ids, session, span.model, span.number)
            at = span.at
        case Metric() | Verdict():
            event_name, uuid = "$ai_metric", identifiers.metric(ids, session, span.name, span.number)
            at = span.at
        case OpeningTrace():
            event_name, uuid, at = "$ai_trace", identifiers.opening_trace(ids, session), span.at
        case Recorded():
            attribution = recorded_attribution(span, attribution)
            event_name, uuid, at = f"$ai_{span.kind}", span.identity, span.at
        case _:
            assert_never(span)
    # The receiver would give an event without a time its own, and a different one each time it is sent.
    sent_at = timestamp(at) or timestamp(span.context.near)
    changes: list[Change] = []
    if attribution.explain:
        properties = _properties(span, attribution, repository)
        everything = replace(attribution, policy=replace(attribution.policy, level="full"))
        changes = _withheld(_properties(span, everything, repository), properties, attribution.policy.level)
        released = _encode(attribution.policy.release(properties, ids=IDS, changes=changes))
        parts: tuple[bytes | memoryview, ...] = (released,)
    else:
        released = attribution.policy.encode(_own(span, attribution), ids=IDS)
        parts = _joined(released, common(span.context, attribution, repository))
    envelope = _encode(_Envelope(event=event_name, uuid=uuid, distinct_id=attribution.distinct_id, timestamp=sent_at))
    body = b"".join((envelope[:-1], b',"properties":', *parts, b"}"))
    return fit(
        CaptureEvent(name=event_name, uuid=uuid, identity=name, body=body, changes=tuple(changes)),
        AI_EVENT_LIMIT,
    )


def _properties(
    span: _Event,
    attribution: Attribution,
    repository: str | None,
) -> dict[str, Any]:
    """Return all properties that the level lets leave, not yet scrubbed and cut; None is what is not known."""
    own = members(_own(span, attribution))
    return {**own, **common_properties(span.context, attribution, repository), **attribution.properties}


def _own(span: _Event, attribution: Attribution) -> Properties:
    """Return the properties that only *span* determines."""
    match span:
        case Recorded():
            return recorded_properties(span, attribution)
        case Generation():
            return _generation(span, attribution)
        case ApiFailure():
            return _failure(span, attribution)
        case ToolCall():
            return _tool_call(span, attribution)
        case Compaction():
            return _compaction(span, attribution)
        case Trace():
            return _trace(span, attribution)
        case SideCalls():
            return _side_calls(span, attribution)
        case Metric() | Verdict():
            return _metric(span, attribution)
        case OpeningTrace():
            return _opening(span, attribution)
        case _:
            assert_never(span)


def _joined(own: bytes, shared: Common) -> tuple[bytes | memoryview, ...]:
    """Return the parts of a JSON object with an event's own properties, followed by the shared ones."""
    if shared.overrides:
        return (_encode({**msgspec.json.decode(own, type=dict[str, msgspec.Raw]), **shared.properties}),)
    # Views avoid copies: an event's own properties may be tens of megabytes.
    return memoryview(own)[:-1], b",", memoryview(shared.encoded)[1:]


def _withheld(everything: Mapping[str, Any], properties: Mapping[str, Any], level: ContentLevel) -> list[Change]:
    """Return what the content level keeps back of an event's properties."""
    gone = ((name, characters(value) - characters(properties.get(name))) for name, value in everything.items())
    return [Change(what="withheld", where=name, kind=level, count=count) for name, count in gone if count > 0]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(at: int | None) -> str | None:
    """Return a time in milliseconds since the epoch as RFC 3339 in UTC; None if it is unknown or out of range."""
    if at is None:
        return None
    day, rest = divmod(at, 86_400_000)
    date = _date(day)
    if date is None:
        return None
    minutes, rest = divmod(rest, 60_000)
    return f"{date}T{_MINUTES[minutes]}{_SECONDS[rest // 1000]}{_THOUSANDTHS[rest % 1000]}"


_MINUTES = tuple(f"{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1440))
_SECONDS = tuple(f"{second:02d}." for second in range(60))
_THOUSANDTHS = tuple(f"{number:03d}Z" for number in range(1000))


@lru_cache(maxsize=64)
def _date(day: int) -> str | None:
    try:
        return (_EPOCH + timedelta(days=day)).date().isoformat()
    except OverflowError:
        return None


def _trace_id(context: Context, attribution: Attribution) -> str:
    return context.session if attribution.grouping == "session" else context.turn.id


def _trace_name(context: Context, attribution: Attribution) -> TraceName | None:
    by_turn = attribution.grouping == "message" and context.turn_name
    return attribution.policy.trace_name(by_turn or attribution.trace_name or context.session_name)


def _place(context: Context, attribution: Attribution) -> dict[str, Any]:
    trace = _trace_id(context, attribution)
    return {
        "$ai_trace_id": trace,
        "$ai_session_id": context.session,
        "$ai_parent_id": _id(context.parent_call, attribution.policy) if context.parent_call else trace,
    }


class _GenerationProperties(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The properties of a generation. A field without a name of its own gets one with the framework's prefix."""

    trace_id: str = msgspec.field(name="$ai_trace_id")
    session_id: str = msgspec.field(name="$ai_session_id")
    parent_id: str = msgspec.field(name="$ai_parent_id")
    span_id: str = msgspec.field(name="$ai_span_id")
    model: str | None = msgspec.field(default=None, name="$ai_model")
    provider: str | None = msgspec.field(default=None, name="$ai_provider")
    span_name: Any = msgspec.field(default=None, name="$ai_span_name")
    service_tier: str | None = msgspec.field(default=None, name="$ai_service_tier")
    request_id: str | None = msgspec.field(default=None, name="$ai_request_id")
    input_tokens: int | None = msgspec.field(default=None, name="$ai_input_tokens")
    output_tokens: int | None = msgspec.field(default=None, name="$ai_output_tokens")
    cache_read: int | None = msgspec.field(default=None, name="$ai_cache_read_input_tokens")
    cache_creation: int | None = msgspec.field(default=None, name="$ai_cache_creation_input_tokens")
    cache_creation_5m: int | None = msgspec.field(default=None, name="$ai_cache_creation_5m_input_tokens")
    cache_creation_1h: int | None = msgspec.field(default=None, name="$ai_cache_creation_1h_input_tokens")
    exclusive: bool | None = msgspec.field(default=None, name="$ai_cache_reporting_exclusive")
    total: int | None = msgspec.field(default=None, name="$ai_total_tokens")
    reasoning: int | None = msgspec.field(default=None, name="$ai_reasoning_tokens")
    web_searches: int | None = msgspec.field(default=None, name="$ai_web_search_count")
    usage: msgspec.Raw | Nested | None = msgspec.field(default=None, name="$ai_usage")
    latency: float | None = msgspec.field(default=None, name="$ai_latency")
    stop_reason: str | None = msgspec.field(default=None, name="$ai_stop_reason")
    input: Any = msgspec.field(default=None, name="$ai_input")
    tools: Any = msgspec.field(default=None, name="$ai_tools")
    output: Any = msgspec.field(default=None, name="$ai_output_choices")
    tools_called: str = msgspec.field(name="$ai_tools_called")
    tool_call_count: int = msgspec.field(name="$ai_tool_call_count")
    parameters: msgspec.Raw | Nested | None = msgspec.field(default=None, name="$ai_model_parameters")
    user_prompt: str | None = msgspec.field(default=None, name="$ai_user_prompt")
    trace_name: Any = msgspec.field(default=None, name="$ai_trace_name")
    is_error: bool = msgspec.field(name="$ai_is_error")
    input_exact: bool | None = None
    output_tokens_partial: bool | None = None
    mcp_server: str | None = None
    mcp_tool: str | None = None
    skill: str | None = None
    side_calls: bool | None = None


def _generation(span: Generation, attribution: Attribution) -> _GenerationProperties:
    context, policy, usage = span.context, attribution.policy, span.usage
    trace = _trace_id(context, attribution)
    given, exact = _input(span, attribution)
    found = _named(context.framework.prefix).generation(
        trace_id=trace,
        session_id=context.session,
        parent_id=_id(span.inside or context.parent_call or trace, policy),
        span_id=_id(span.span_id or span.identity, policy),
        model=span.model,
        provider=span.provider,
        span_name=span.kind or _title(span, policy),
        # The receiver prices fast mode by this name.
        service_tier="priority"
        if span.speed == "fast"
        else span.service_tier
        if span.service_tier != "standard"
        else None,
        request_id=span.request_id,
        latency=seconds(span.started_at, span.ended_at),
        stop_reason=span.stop_reason,
        input=given,
        output=policy.answer(span.output),
        # Names are joined by commas, so a name with a comma would look like two.
        tools_called=",".join([tool_name(tool, policy).replace(",", "_") for tool in span.tools_called])
        if span.tools_called
        else "",
        tool_call_count=len(span.tools_called),
        parameters=_parameters(span),
        user_prompt=context.prompt if policy.conversation else None,
        trace_name=_trace_name(context, attribution),
        is_error=False,
        input_exact=exact,
        output_tokens_partial=True if span.output_partial else None,
        mcp_server=span.mcp_server,
        mcp_tool=span.mcp_tool,
        skill=span.skill,
    )
    if usage is not None:
        _count_tokens(found, usage)
    if span.request is not None and attribution.input_mode == "full":
        found.tools = policy.tool_definitions(span.request.tools)
    return found


def _count_tokens(found: _GenerationProperties, usage: TokenUsage) -> None:
    """Let *found* tell the token counts of *usage*."""
    found.usage = raw_usage(usage) if usage.raw else None
    found.input_tokens, found.output_tokens = usage.input, usage.output
    found.cache_read, found.cache_creation = usage.cache_read, usage.cache_creation
    if adds_up(usage):
        found.cache_creation_5m, found.cache_creation_1h = usage.cache_creation_5m, usage.cache_creation_1h
    found.exclusive = True
    found.total = None if usage.input is None or usage.output is None else usage.input + usage.output
    found.reasoning, found.web_searches = usage.reasoning or None, usage.web_searches or None


def _side_calls(span: SideCalls, attribution: Attribution) -> _GenerationProperties:
    context = span.context
    trace = _trace_id(context, attribution)
    found = _named(context.framework.prefix).generation(
        trace_id=trace,
        session_id=context.session,
        parent_id=trace,
        span_id=f"{context.session}:side:{span.model}:{span.number}",
        model=span.model,
        provider=span.provider,
        span_name=SIDE_CALLS,
        tools_called="",
        tool_call_count=0,
        trace_name=_trace_name(context, attribution),
        is_error=False,
        side_calls=True,
    )
    _count_tokens(found, span.usage)
    return found


def _metric(span: Metric | Verdict, attribution: Attribution) -> dict[str, Any]:
    return {
        "$ai_trace_id": _trace_id(span.context, attribution),
        "$ai_session_id": span.context.session,
        "$ai_metric_name": span.name,
        "$ai_metric_value": span.value,
    }


def _title(span: Generation, policy: Policy) -> str | TraceName | None:
    """Return what a call did, as a title: the tools it called, else the first words of its text."""
    if len(span.tools_called) == 1:
        return tool_name(span.tools_called[0], policy)
    if span.tools_called:
        counts = Counter(tool_name(tool, policy) for tool in span.tools_called)
        return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in counts.items())  # noqa: RUF001 - as people write it
    for block in span.output if policy.conversation else ():
        if block.type == "text" and (words := " ".join(first_words(block.raw, _TITLE_LOOKED_AT).split())):
            return policy.title(words)
    return None


_TITLE_LOOKED_AT = 1000


def _id(text: str, policy: Policy) -> str:
    """Return an id for others to refer to. Some models make up the ids of their calls: one of words is content."""
    return text if policy.conversation or is_code(text) else identifiers.opaque(text)


class _Parameters(msgspec.Struct, omit_defaults=True):
    """The known parameters of a request."""

    max_tokens: int | None = None
    thinking: msgspec.Raw | None = None
    effort: str | None = None
    service_tier: str | None = None
    speed: str | None = None


# A client uses the same parameters for hours.
@lru_cache(maxsize=64)
def _encoded(max_tokens: int | None, thinking: bytes | None, *words: str | None) -> msgspec.Raw | Nested | None:
    effort, service_tier, speed = words
    data = _encode(_Parameters(max_tokens, msgspec.Raw(thinking) if thinking else None, effort, service_tier, speed))
    return figures(data) if data != b"{}" else None


def _parameters(span: Generation) -> msgspec.Raw | Nested | None:
    return _encoded(span.max_tokens, span.thinking, span.context.effort, span.service_tier, span.speed)


def _input(span: Generation | ApiFailure, attribution: Attribution) -> tuple[Messages | list[Any] | None, bool | None]:
    """Return what the model was given, as far as it may leave, and whether that is exactly what was sent.

    The second value is None if there is no input, or if the settings ask only for a part of it.
    """
    policy = attribution.policy
    if attribution.input_mode == "prompt":
        return _asked(span.context.prompt, policy), None
    if attribution.input_mode == "delta" or span.conversation is None:
        return policy.messages(span.input), None
    request = span.request
    if request is not None and (sent := policy.request(request)) is not None:
        return sent, request.exact
    known = policy.system(request) if request is not None else []
    if (given := policy.messages(span.conversation)) is not None:
        known += given.opened()
    return (known, False) if known else (None, None)


def _failure(span: ApiFailure, attribution: Attribution) -> dict[str, Any]:
    policy = attribution.policy
    given, exact = _input(span, attribution)
    return {
        **_place(span.context, attribution),
        "$ai_span_id": span.identity,
        "$ai_model": span.model,
        "$ai_provider": span.provider,
        "$ai_latency": seconds(span.started_at, span.at),
        "$ai_input": given,
        "$ai_tools_called": "",
        "$ai_tool_call_count": 0,
        "$ai_user_prompt": span.context.prompt if policy.conversation else None,
        "$ai_trace_name": _trace_name(span.context, attribution),
        "$ai_is_error": True,
        "$ai_error": span.message if policy.conversation else None,
        "$ai_error_type": span.error_type if policy.conversation or is_code(span.error_type or "") else None,
        "$ai_http_status": span.status,
        f"{span.context.framework.prefix}input_exact": exact,
    }


class _ToolCallProperties(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The properties of a tool call. A field without a name of its own gets one with the framework's prefix."""

    trace_id: str = msgspec.field(name="$ai_trace_id")
    session_id: str = msgspec.field(name="$ai_session_id")
    parent_id: str = msgspec.field(name="$ai_parent_id")
    span_id: str = msgspec.field(name="$ai_span_id")
    name: str = msgspec.field(name="$ai_span_name")
    kind: str = msgspec.field(name="$ai_span_type")
    latency: float | None = msgspec.field(default=None, name="$ai_latency")
    input: Any = msgspec.field(default=None, name="$ai_input_state")
    output: Any = msgspec.field(default=None, name="$ai_output_state")
    latency_source: str | None = None
    trace_name: Any = msgspec.field(default=None, name="$ai_trace_name")
    is_error: bool = msgspec.field(name="$ai_is_error")
    error: Any = msgspec.field(default=None, name="$ai_error")
    tool_status: str
    permission_decision: str | None = None
    skill: str | None = None
    mcp_server: str | None = None
    mcp_tool: str | None = None
    hooks: list[dict[str, Any]] | None = None
    hook_errors: int | None = None


_S = TypeVar("_S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """The structs of one framework's properties, with the names that they have in events."""

    generation: type[_GenerationProperties]
    tool_call: type[_ToolCallProperties]


@cache
def _named(prefix: str) -> _Named:
    return _Named(
        generation=_with_prefix(_GenerationProperties, prefix), tool_call=_with_prefix(_ToolCallProperties, prefix)
    )


def _with_prefix(properties: type[_S], prefix: str) -> type[_S]:
    """Return *properties* with names for the fields that have none of their own. These come last, in their order."""
    fields = [
        (field.name, field.type, msgspec.field(default=field.default, name=f"{prefix}{field.name}"))
        for field in msgspec.structs.fields(properties)
        if field.name == field.encode_name
    ]
    named = msgspec.defstruct(
        properties.__name__, fields, bases=(properties,), omit_defaults=True, kw_only=True, gc=False
    )
    # The fields are the same ones, so it takes the same arguments.
    return cast("type[_S]", named)


def _tool_call(span: ToolCall, attribution: Attribution) -> _ToolCallProperties:
    policy = attribution.policy
    name = tool_name(span.name, policy)
    server, tool = _mcp(name)
    if span.subject and (policy.tools or is_name(span.subject)):
        # The older name of the tool says the same.
        name = f"{'Agent' if span.is_agent else name}: {span.subject}"
    is_error = span.status == "error"
    measured = seconds(0, span.duration_ms)
    waited = seconds(span.called_at, span.ended_at)
    # Who was interrupted or denied was not waited for to its end.
    took = measured if span.status in ("ok", "error") and measured is not None else waited
    return _named(span.context.framework.prefix).tool_call(
        trace_id=_trace_id(span.context, attribution),
        session_id=span.context.session,
        parent_id=_id(span.generation, policy),
        span_id=_id(span.call_id, policy),
        name=name,
        kind="agent" if span.is_agent else "tool",
        latency=took,
        latency_source="lines" if took is not None and took is not measured else None,
        input=policy.tool_value(span.input),
        output=policy.tool_value(span.output),
        trace_name=_trace_name(span.context, attribution),
        is_error=is_error,
        error=policy.tool_text(span.output) if is_error else None,
        tool_status=span.status,
        permission_decision=span.permission_decision,
        skill=span.skill,
        mcp_server=server,
        mcp_tool=tool,
        hooks=(_hooks(span.hooks, policy) or None) if span.hooks else None,
        hook_errors=(sum(run.failed for run in span.hooks) or None) if span.hooks else None,
    )


def _hooks(runs: Sequence[HookRun], policy: Policy) -> list[dict[str, Any]]:
    """Return runs of hooks as objects. What a hook printed about a tool counts as the tool's content."""
    found = []
    for run in runs:
        described = {
            "name": tool_name(run.name, policy) or None,
            "seconds": seconds(0, run.duration_ms),
            "failed": run.failed or None,
            "error": policy.tool_words(run.error),
        }
        found.append({key: value for key, value in described.items() if value is not None})
    return found


def _mcp(name: str) -> tuple[str | None, str | None]:
    if not name.startswith("mcp__"):
        return None, None
    server, _, tool = name[len("mcp__") :].partition("__")
    return server or None, tool or None


def _compaction(span: Compaction, attribution: Attribution) -> dict[str, Any]:
    prefix = span.context.framework.prefix
    summary = span.summary if attribution.policy.conversation else None
    return {
        **_place(span.context, attribution),
        "$ai_span_id": span.identity,
        "$ai_span_name": "compaction",
        "$ai_span_type": "compaction",
        "$ai_latency": seconds(0, span.duration_ms),
        "$ai_input_state": _words(span.trigger, span.tokens_before, "before"),
        "$ai_output_state": "\n\n".join(filter(None, (_words(None, span.tokens_after, "after"), summary))) or None,
        "$ai_trace_name": _trace_name(span.context, attribution),
        "$ai_is_error": False,
        f"{prefix}compaction_trigger": span.trigger,
        f"{prefix}tokens_before": span.tokens_before,
        f"{prefix}tokens_after": span.tokens_after,
    }


def _words(trigger: str | None, tokens: int | None, when: str) -> str | None:
    """Return a compaction's state in words; None if nothing is known of it."""
    return ", ".join(filter(None, (trigger, f"{tokens:,} tokens {when}" if tokens is not None else None))) or None


def _opening(span: OpeningTrace, attribution: Attribution) -> dict[str, Any]:
    policy = attribution.policy
    name = policy.trace_name(attribution.trace_name or span.name)
    return {
        "$ai_trace_id": span.session,
        "$ai_session_id": span.session,
        "$ai_span_id": span.session,
        "$ai_trace_name": name,
        "$ai_span_name": name,
        "$ai_input_state": _asked(span.prompt, policy),
        f"{span.context.framework.prefix}trace": "open",
    }


def _asked(prompt: str | None, policy: Policy) -> list[dict[str, str]] | None:
    """Return a prompt as the receiver shows conversations; None if there is none or it may not leave."""
    return [{"role": "user", "content": prompt}] if prompt and policy.conversation else None


def _trace(span: Trace, attribution: Attribution) -> dict[str, Any]:
    policy, prefix = attribution.policy, span.context.framework.prefix
    trace = span.session if span.turn is None else span.turn.id
    by_caller = attribution.trace_name if span.turn is None else None
    name, ending = policy.trace_name(by_caller or span.name), attribution.ending
    return {
        "$ai_trace_id": trace,
        "$ai_session_id": span.session,
        "$ai_span_id": trace,
        "$ai_trace_name": name,
        "$ai_span_name": name,
        "$ai_latency": seconds(0, span.worked_ms),
        "$ai_total_input_tokens": span.input_tokens,
        "$ai_total_output_tokens": span.output_tokens,
        "$ai_input_state": _asked(span.prompt, policy),
        "$ai_output_state": policy.said(span.answer),
        f"{prefix}trace": "final",
        # An attempt that failed has an event of its own. The receiver would count it twice if the trace said it too.
        f"{prefix}outcome": span.outcome,
        f"{prefix}stopped_by": span.stopped_by,
        f"{prefix}wall_seconds": seconds(span.started_at, span.ended_at),
        f"{prefix}generations": span.generations,
        f"{prefix}tool_calls": span.tool_calls,
        f"{prefix}subagents": span.subagents,
        f"{prefix}api_errors": span.api_errors,
        f"{prefix}compactions": span.compactions,
        f"{prefix}unknown_records": span.unknown_records or None,
        f"{prefix}hook_runs": span.hook_runs or None,
        f"{prefix}hook_seconds": seconds(0, span.hook_ms) if span.hook_runs else None,
        f"{prefix}hook_errors": span.hook_errors or None,
        f"{prefix}client_cost_usd": span.client_cost_usd,
        f"{prefix}lines_added": span.lines_added,
        f"{prefix}lines_removed": span.lines_removed,
        **({} if ending is None or span.turn is not None else _ending(ending, prefix)),
    }


def _ending(facts: SessionFacts, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}turns": facts.turns,
        f"{prefix}api_seconds": seconds(0, facts.api_ms),
        f"{prefix}caller_cost_usd": facts.cost,
        f"{prefix}result": facts.result if is_name(facts.result or "") else None,
    }


# ---------------------------------------------------------------------- sizes


def fit(event: CaptureEvent, limit: int) -> CaptureEvent:
    """Return *event* with its longest content strings cut, so that its body has at most *limit* bytes.

    Ids, times and counts never change. The same event and limit always give the same body.
    """
    if len(event.body) <= limit:
        return event
    # Only what may be cut is decoded; the rest stays as it is.
    value: dict[str, Any] = msgspec.json.decode(event.body, type=dict[str, msgspec.Raw])
    properties: dict[str, Any] = msgspec.json.decode(value["properties"], type=dict[str, msgspec.Raw])
    value["properties"] = properties
    content = {}
    for key in filter(properties.__contains__, _CONTENT):
        try:
            content[key] = beginnings(properties[key], limit)
        except msgspec.MsgspecError:
            # It has a number that is too large to decode. Without this property, the event can still be sent.
            del properties[key]

    def body(length: int) -> bytes:
        # Free the previous attempt first: these are the largest objects of all.
        properties.update(dict.fromkeys(content))
        properties.update((key, cut_strings(item, length)) for key, item in content.items())
        return _encode(value)

    # A string that is longer than the limit can never fit.
    low, high = -1, limit
    while low < high:
        length = (low + high + 1) // 2
        if len(body(length)) <= limit:
            low = length
        else:
            high = length - 1
    if low < 0:
        # There are so many strings that even the notes about missing characters are too long, or a user's own property
        # is too long.
        for key in content:
            del properties[key]
        return msgspec.structs.replace(event, body=_encode(value), cut=True)
    return msgspec.structs.replace(event, body=body(low), cut=True)
