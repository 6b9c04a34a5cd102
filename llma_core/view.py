"""Reads events back, for whoever shows them: what an event says, and the words that describe it best.

The other modules that spell the receiver's names are named in `events`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import Any, Literal, cast

import msgspec

from llma_core import agents, events
from llma_core.privacy import text_of
from llma_core.properties import Attribution, project_name
from llma_core.spans import Prompt

__all__ = [
    "EMBEDDING_EVENT",
    "EVENTS",
    "FEEDBACK_EVENT",
    "GENERATION_EVENT",
    "METRIC_EVENT",
    "OWN_COST",
    "PRICE_NAMES",
    "PROJECT_NAME",
    "TRACE_EVENT",
    "CallView",
    "Content",
    "EventView",
    "PromptView",
    "asked",
    "calls",
    "content",
    "prompt",
    "prompt_of",
    "read",
    "words",
    "words_and_prompt",
]

_Kind = Literal["generation", "embedding", "span", "trace", "metric", "feedback", "other"]


class EventView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event, read back to be shown. A field is None where the event does not say it.

    Attributes:
        kind: what the event stands for.
        name: the event's name.
        label: the model of a generation or an embedding, the name of a span, a trace, a metric or a feedback; "" if
            unknown.
        timestamp: RFC 3339; "" if unknown.
        latency: seconds.
        status: how a tool call ended.
        is_open: whether it is the trace of a session that has not ended.
        input_tokens: tokens sent that no cache held.
        given_input_tokens: tokens sent, as the event counts them: with those that a cache held, or without.
        outcome: how a session or turn ended.
        provider: who serves the model, as in the price lists: `anthropic`, `bedrock`, …
        cache_write_5m_tokens: the part of `cache_write_tokens` that is kept for five minutes.
        cache_write_1h_tokens: the part that is kept for an hour.
        web_searches: how many searches the provider ran, and bills, in this call.
        service_tier: the tier if it is not the standard one; `priority` is the client's fast mode.
        branch: the branch of the repository.
        version: the version of the client.
        http_status: the status of a failed attempt.
        client_cost: US dollars that the client itself counts for the session so far, in a session's trace.
        trace_name: the title of the session or turn it belongs to.
        value: what a metric or a feedback says.
        stands_for: the name of a generation that stands for calls which are not logged.
        own_prices: the prices that the user has set, by the names of their properties; see `PRICE_NAMES` and
            `OWN_COST`.
    """

    kind: _Kind
    uuid: str
    name: str
    timestamp: str
    trace_id: str
    session_id: str | None
    span_id: str | None
    parent_id: str | None
    label: str
    span_type: str | None
    agent: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    latency: float | None
    is_error: bool
    error: str | None
    error_type: str | None
    status: str | None
    stop_reason: str | None
    project: str | None
    given_input_tokens: int | None = None
    is_open: bool = False
    outcome: str | None = None
    provider: str | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    web_searches: int | None = None
    service_tier: str | None = None
    branch: str | None = None
    version: str | None = None
    http_status: int | None = None
    client_cost: float | None = None
    own_prices: tuple[tuple[str, float], ...] = ()
    trace_name: str | None = None
    stands_for: str | None = None
    value: str | None = None


OWN_COST = "total"
"""In place of prices, what the whole call costs by its caller's own account, in US dollars."""

PRICE_NAMES = {
    "input": "$ai_input_token_price",
    "output": "$ai_output_token_price",
    "cache_read": "$ai_cache_read_token_price",
    "cache_write": "$ai_cache_write_token_price",
    "request": "$ai_request_price",
}
"""The properties in which a user gives prices of their own, in US dollars for one token or one request."""


class _Properties(msgspec.Struct):
    trace_id: str = msgspec.field(default="", name="$ai_trace_id")
    session_id: str | None = msgspec.field(default=None, name="$ai_session_id")
    span_id: str | None = msgspec.field(default=None, name="$ai_span_id")
    parent_id: str | None = msgspec.field(default=None, name="$ai_parent_id")
    span_name: str | None = msgspec.field(default=None, name="$ai_span_name")
    trace_name: str | None = msgspec.field(default=None, name="$ai_trace_name")
    span_type: str | None = msgspec.field(default=None, name="$ai_span_type")
    model: str | None = msgspec.field(default=None, name="$ai_model")
    input_tokens: int | None = msgspec.field(default=None, name="$ai_input_tokens")
    output_tokens: int | None = msgspec.field(default=None, name="$ai_output_tokens")
    cache_read_tokens: int | None = msgspec.field(default=None, name="$ai_cache_read_input_tokens")
    cache_write_tokens: int | None = msgspec.field(default=None, name="$ai_cache_creation_input_tokens")
    latency: float | None = msgspec.field(default=None, name="$ai_latency")
    is_error: bool = msgspec.field(default=False, name="$ai_is_error")
    error: str | None = msgspec.field(default=None, name="$ai_error")
    error_type: str | None = msgspec.field(default=None, name="$ai_error_type")
    stop_reason: str | None = msgspec.field(default=None, name="$ai_stop_reason")
    provider: str | None = msgspec.field(default=None, name="$ai_provider")
    cache_write_5m_tokens: int | None = msgspec.field(default=None, name="$ai_cache_creation_5m_input_tokens")
    cache_write_1h_tokens: int | None = msgspec.field(default=None, name="$ai_cache_creation_1h_input_tokens")
    web_searches: int | None = msgspec.field(default=None, name="$ai_web_search_count")
    service_tier: str | None = msgspec.field(default=None, name="$ai_service_tier")
    http_status: int | None = msgspec.field(default=None, name="$ai_http_status")
    # A caller may set these, to any value.
    agent: Any = msgspec.field(default=None, name="$ai_agent_name")
    project: Any = msgspec.field(default=None, name="$ai_project_name")
    branch: Any = msgspec.field(default=None, name="$ai_git_branch")
    input_price: Any = msgspec.field(default=None, name=PRICE_NAMES["input"])
    output_price: Any = msgspec.field(default=None, name=PRICE_NAMES["output"])
    cache_read_price: Any = msgspec.field(default=None, name=PRICE_NAMES["cache_read"])
    cache_write_price: Any = msgspec.field(default=None, name=PRICE_NAMES["cache_write"])
    request_price: Any = msgspec.field(default=None, name=PRICE_NAMES["request"])

    exclusive: bool | None = msgspec.field(default=None, name="$ai_cache_reporting_exclusive")
    total_cost: Any = msgspec.field(default=None, name="$ai_total_cost_usd")
    passthrough: bool | None = msgspec.field(default=None, name="$ai_cost_passthrough")
    metric: str | None = msgspec.field(default=None, name="$ai_metric_name")
    metric_value: Any = msgspec.field(default=None, name="$ai_metric_value")
    feedback: str | None = msgspec.field(default=None, name="$ai_feedback_text")

    def own(self, name: str) -> Any:
        """Return a property whose name begins with a framework's prefix, whichever framework the event is of."""
        for field in _own_fields(type(self), name):
            value = getattr(self, field)
            if value is not None:
                return value
        return None


@cache
def _own_fields(properties: type[_Properties], name: str) -> tuple[str, ...]:
    fields = properties.__struct_fields__[len(_Properties.__struct_fields__) :]
    return tuple(field for field in fields if field.startswith(f"{name}_"))


class _Event(msgspec.Struct):
    event: str = ""
    uuid: str = ""
    timestamp: str = ""
    properties: _Properties = msgspec.field(default_factory=_Properties)


@cache
def _decoder(prefixes: tuple[str, ...]) -> Callable[[bytes], _Event]:
    """Return a decoder for events of the frameworks with these prefixes."""
    own = [
        (f"{name}_{number}", kind | None, msgspec.field(default=None, name=f"{prefix}{name}"))
        for number, prefix in enumerate(prefixes)
        for name, kind in _OWN.items()
    ]
    properties = msgspec.defstruct("_Properties", own, bases=(_Properties,))
    fields = [("properties", properties, msgspec.field(default_factory=properties))]
    event = cast("type[_Event]", msgspec.defstruct("_Event", fields, bases=(_Event,)))
    return msgspec.json.Decoder(event).decode


_OWN: dict[str, type] = {
    "tool_status": str,
    "trace": str,
    "outcome": str,
    "version": str,
    "client_cost_usd": float,
    "feedback": str,
}
PROJECT_NAME = "$ai_project_name"
"""The property that names the project, which a user may set."""
TRACE_EVENT = "$ai_trace"
"""The name of the event that stands for a session or a turn."""
GENERATION_EVENT = "$ai_generation"
"""The name of the event that stands for a generation."""
EMBEDDING_EVENT = "$ai_embedding"
"""The name of the event that stands for a call of a model that turns text into numbers."""
METRIC_EVENT = "$ai_metric"
"""The name of the event that holds a measured value."""
FEEDBACK_EVENT = "$ai_feedback"
"""The name of the event that holds what a person says of an answer."""

_KINDS: dict[str, _Kind] = {
    GENERATION_EVENT: "generation",
    "$ai_span": "span",
    TRACE_EVENT: "trace",
    EMBEDDING_EVENT: "embedding",
    METRIC_EVENT: "metric",
    FEEDBACK_EVENT: "feedback",
}
EVENTS = tuple(_KINDS)
"""The names of all events that this project sends."""


def read(body: bytes) -> EventView:
    """Return what an event says.

    Args:
        body: the event as it is sent, a JSON object in UTF-8.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    event = _decoder(agents.prefixes())(body)
    properties = event.properties
    kind = _KINDS.get(event.event, "other")
    return EventView(
        kind=kind,
        uuid=event.uuid,
        name=event.event,
        timestamp=event.timestamp,
        trace_id=properties.trace_id,
        session_id=properties.session_id,
        span_id=properties.span_id,
        parent_id=properties.parent_id,
        label=_label(kind, properties),
        span_type=properties.span_type,
        agent=_as_text(properties.agent),
        model=properties.model,
        input_tokens=_uncached(properties),
        given_input_tokens=properties.input_tokens,
        output_tokens=properties.output_tokens,
        cache_read_tokens=properties.cache_read_tokens,
        cache_write_tokens=properties.cache_write_tokens,
        latency=properties.latency,
        is_error=properties.is_error,
        error=properties.error,
        error_type=properties.error_type,
        status=properties.own("tool_status"),
        stop_reason=properties.stop_reason,
        project=_as_text(properties.project),
        is_open=properties.own("trace") == "open",
        outcome=properties.own("outcome"),
        provider=properties.provider,
        cache_write_5m_tokens=properties.cache_write_5m_tokens,
        cache_write_1h_tokens=properties.cache_write_1h_tokens,
        web_searches=properties.web_searches,
        service_tier=properties.service_tier,
        branch=_as_text(properties.branch),
        version=properties.own("version"),
        http_status=properties.http_status,
        client_cost=properties.own("client_cost_usd"),
        own_prices=_own_prices(properties),
        trace_name=properties.trace_name or (properties.span_name if kind == "trace" else None),
        stands_for=events.SIDE_CALLS if properties.span_name == events.SIDE_CALLS and kind == "generation" else None,
        value=properties.feedback if kind == "feedback" else _as_text(properties.metric_value),
    )


def _label(kind: _Kind, properties: _Properties) -> str:
    match kind:
        case "generation" | "embedding":
            return properties.model or ""
        case "metric":
            return properties.metric or ""
        case "feedback":
            return str(properties.own("feedback") or "")
        case _:
            return properties.span_name or ""


def _uncached(properties: _Properties) -> int | None:
    """Return the input tokens that no cache held, whichever way the event counts them."""
    count = properties.input_tokens
    if count is None or properties.exclusive is not False:
        return count
    return max(0, count - (properties.cache_read_tokens or 0) - (properties.cache_write_tokens or 0))


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


_NO_PRICES = (None,) * len(PRICE_NAMES)


def _own_prices(properties: _Properties) -> tuple[tuple[str, float], ...]:
    """Return the prices that are numbers: a custom property may hold anything."""
    if properties.passthrough and isinstance(properties.total_cost, int | float):
        return ((OWN_COST, float(properties.total_cost)),)
    given_prices = (
        properties.input_price,
        properties.output_price,
        properties.cache_read_price,
        properties.cache_write_price,
        properties.request_price,
    )
    if given_prices == _NO_PRICES:
        return ()
    prices = []
    for kind, given in zip(PRICE_NAMES, given_prices, strict=True):
        if given is None or isinstance(given, bool):
            continue
        with suppress(ValueError, TypeError, OverflowError):
            price = float(given)
            if isfinite(price) and price >= 0:
                prices.append((kind, price))
    return tuple(prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """A prompt, to be shown. It makes no event of its own, so this says what its turn's events say about it.

    Attributes:
        timestamp: RFC 3339; "" if unknown.
        session_id: the session it was given in.
        project: base name of its working directory; None if unknown.
        words: the prompt, scrubbed; None where the policy keeps it back.
    """

    timestamp: str
    session_id: str
    project: str | None
    words: str | None


def prompt(span: Prompt, attribution: Attribution) -> PromptView:
    """Return what the events of *span*'s turn say about its prompt."""
    policy, context = attribution.policy, span.context
    released = policy.release(
        {
            "$ai_project_name": project_name(context),
            "$ai_user_prompt": context.prompt if policy.conversation else None,
        }
    )
    return PromptView(
        timestamp=events.timestamp(span.at) or events.timestamp(context.near) or "",
        session_id=context.session,
        project=released.get("$ai_project_name"),
        words=released.get("$ai_user_prompt"),
    )


class Content(msgspec.Struct, frozen=True):
    """The content of an event, as it was sent. A field is None where the event has none.

    Attributes:
        input: the messages that a generation was given.
        choices: the messages that it gave.
        arguments: the input of a tool call or of another span.
        result: its output.
        prompt: the prompt of the turn.
    """

    input: Any = msgspec.field(default=None, name="$ai_input")
    choices: Any = msgspec.field(default=None, name="$ai_output_choices")
    arguments: Any = msgspec.field(default=None, name="$ai_input_state")
    result: Any = msgspec.field(default=None, name="$ai_output_state")
    prompt: Any = msgspec.field(default=None, name="$ai_user_prompt")


class _ContentEvent(msgspec.Struct):
    properties: Content = msgspec.field(default_factory=Content)


_decode_content = msgspec.json.Decoder(_ContentEvent).decode


class _Said(msgspec.Struct):
    """The part of the content that holds an event's words: without the input of a generation, most of an event."""

    choices: Any = msgspec.field(default=None, name="$ai_output_choices")
    arguments: Any = msgspec.field(default=None, name="$ai_input_state")
    prompt: Any = msgspec.field(default=None, name="$ai_user_prompt")
    name: Any = msgspec.field(default=None, name="$ai_span_name")


class _SaidEvent(msgspec.Struct):
    properties: _Said = msgspec.field(default_factory=_Said)


_decode_said = msgspec.json.Decoder(_SaidEvent).decode


def content(body: bytes) -> Content:
    """Return the content of an event.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    return _decode_content(body).properties


def words(body: bytes) -> str:
    """Return the words that describe an event best: an answer's text, a call's telling argument, a trace's prompt.

    A generation that stands for calls which are not logged has its name. Returns "" where the event has no words. Words
    that may not leave the machine are not in the event.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    return _words(_decode_said(body).properties)


def words_and_prompt(body: bytes) -> tuple[str, str]:
    """Return what `words` and `prompt_of` return.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    said = _decode_said(body).properties
    return _words(said), _prompt(said)


def _words(held: _Said) -> str:
    if isinstance(held.choices, list):
        # A choice may hold its message in turn.
        choices = [each.get("message", each) for each in held.choices if isinstance(each, dict)]
        contents = (each.get("content") for each in choices if isinstance(each, dict))
        return "\n".join(filter(None, map(text_of, contents)))
    if held.name == events.SIDE_CALLS:
        return events.SIDE_CALLS
    arguments = held.arguments
    if isinstance(arguments, list):
        # The state of a trace: the first prompt as a message.
        first = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
        return text_of(first.get("content"))
    if isinstance(arguments, dict):
        return _telling(arguments)
    return arguments if isinstance(arguments, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """A tool call that a generation made.

    Attributes:
        identity: the span id of the tool call.
        name: the tool.
        argument: the argument that tells best what it does; "" without a text argument.
    """

    identity: str
    name: str
    argument: str


def calls(body: bytes) -> list[CallView]:
    """Return the tool calls of a generation, as its content says.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    choices = content(body).choices
    blocks = [
        block
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict) and isinstance(choice.get("content"), list)
        for block in choice["content"]
        if isinstance(block, dict) and block.get("type") == "tool_use"
    ]
    return [
        CallView(
            identity=str(block.get("id", "")),
            name=str(block.get("name", "")),
            argument=_telling(block.get("input")),
        )
        for block in blocks
    ]


def _telling(arguments: Any) -> str:
    """Return the text among a call's arguments that tells best what it does; "" without any text."""
    if not isinstance(arguments, dict):
        return ""
    ordered = [*map(arguments.get, agents.telling_arguments()), *arguments.values()]
    return next((value for value in ordered if isinstance(value, str) and value.strip()), "")


def asked(body: bytes) -> str:
    """Return the prompt that a generation is the first to answer; "" if it goes on with a turn, or has no content.

    Its input then ends with the prompt, and perhaps with what the client adds to one. Later ones of the turn repeat the
    prompt before the results that they answer.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    held = _decode_content(body).properties
    if not isinstance(held.prompt, str) or not held.prompt.strip() or not isinstance(held.input, list):
        return ""
    for message in reversed(held.input):
        if not isinstance(message, dict) or message.get("role") == "assistant" or _has_results(message):
            break
        if held.prompt in text_of(message.get("content")):
            return held.prompt
    return ""


def _has_results(message: Mapping[str, Any]) -> bool:
    blocks = message.get("content")
    return isinstance(blocks, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks
    )


def prompt_of(body: bytes) -> str:
    """Return the prompt of the turn that an event belongs to, as the event carries it; "" without one.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    return _prompt(_decode_said(body).properties)


def _prompt(said: _Said) -> str:
    return said.prompt if isinstance(said.prompt, str) else ""
