"""What the local file keeps of an event besides its body: a row without content, and the texts that can be searched."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from llma_core import view
from llma_core.trace_tree import CALL_TYPES, time_of
from llma_core.view import EventView

__all__ = [
    "AGENT",
    "ATTEMPT",
    "EMBEDDING",
    "GENERATION",
    "OTHER",
    "TOOL",
    "TRACE",
    "Call",
    "Searchable",
    "call",
    "searchable",
    "session_of",
]

OTHER, GENERATION, ATTEMPT, TOOL, AGENT, TRACE, EMBEDDING = range(7)
"""Kinds of rows: a generation, a failed attempt at one, a tool call, a call of an agent, a trace, an embedding, and the
rest.
"""

_LONGEST_TEXT = 20_000
"""Characters of one text that can be searched. More of a long answer rarely helps to find it, and takes much room."""


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call, as reports see it. A field is None where the event does not say it.

    Attributes:
        kind: one of the kinds above.
        at: its end, in milliseconds since the epoch; 0 if unknown.
        seconds: how long it took.
        span: its own id in the trace.
        parent: the id of what started it.
        name: a tool's or trace's name; None for a generation, whose name is content.
        tier: the service tier if it is not the standard one.
        status: how it ended, for a tool call; the type of the error, for a failed attempt.
        input: tokens sent that no cache held.
        cache_write_5m: tokens written to the cache for five minutes, or for a time that is not said.
        prices: prices that the user has set, as JSON by kind.
        client_cost: US dollars that the client itself counts for the session so far.
    """

    kind: int
    at: int
    seconds: float | None
    session: str | None
    trace: str | None
    span: str | None
    parent: str | None
    name: str | None
    model: str | None
    provider: str | None
    tier: str | None
    project: str | None
    branch: str | None
    agent: str | None
    version: str | None
    status: str | None
    input: int | None
    output: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    web_searches: int | None
    prices: str | None
    client_cost: float | None


class Searchable(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text that can be searched, with where it stands. Its digest tells it from others of the session."""

    session: str | None
    trace: str | None
    text: str
    digest: bytes


def call(event: EventView) -> Call:
    """Return the row of an event."""
    end = time_of(event.timestamp)
    written_5m, written_1h = event.cache_write_5m_tokens, event.cache_write_1h_tokens
    if written_5m is None and written_1h is None:
        written_5m = event.cache_write_tokens
    kind = _kind(event)
    return Call(
        kind=kind,
        at=round(end.timestamp() * 1000) if end is not None else 0,
        seconds=event.latency,
        session=session_of(event),
        trace=event.trace_id or None,
        span=event.span_id,
        parent=event.parent_id,
        # The name of a trace is content, and is read from its body while that is kept.
        name=event.label or None if kind in (TOOL, AGENT, OTHER) else None,
        model=event.model,
        provider=event.provider,
        tier=event.service_tier,
        project=event.project,
        branch=event.branch,
        agent=event.agent,
        version=event.version,
        status=_status(event, kind),
        input=event.input_tokens,
        output=event.output_tokens,
        cache_read=event.cache_read_tokens,
        cache_write_5m=written_5m,
        cache_write_1h=written_1h,
        web_searches=event.web_searches,
        prices=msgspec.json.encode(dict(event.own_prices)).decode() if event.own_prices else None,
        client_cost=event.client_cost,
    )


def session_of(event: EventView) -> str | None:
    """Return the session under which an event is listed: what belongs to none is listed by its trace."""
    return event.session_id or event.trace_id or None


def _kind(event: EventView) -> int:
    match event.kind:
        case "generation":
            return ATTEMPT if event.is_error else GENERATION
        case "embedding":
            return ATTEMPT if event.is_error else EMBEDDING
        case "span" if event.span_type == "agent":
            return AGENT
        case "span" if event.span_type in CALL_TYPES:
            return TOOL
        case "trace":
            return TRACE
        case _:
            return OTHER


def _status(event: EventView, kind: int) -> str | None:
    if kind == ATTEMPT:
        return event.error_type or "error"
    if kind == TRACE:
        return event.outcome
    return event.status or ("error" if event.is_error else None)


def searchable(event: EventView, body: bytes) -> Iterator[Searchable]:
    """Yield the texts of an event: names, prompts and answers. A tool's input and output are not searched."""
    for text in _texts(event, body):
        cut = text[:_LONGEST_TEXT]
        digest = blake2b(cut.encode("utf-8", "surrogatepass"), digest_size=12, person=b"text")
        digest.update((session_of(event) or "").encode())
        yield Searchable(session=session_of(event), trace=event.trace_id or None, text=cut, digest=digest.digest())


def _texts(event: EventView, body: bytes) -> Iterator[str]:
    if event.kind == "generation":
        yield from filter(None, view.words_and_prompt(body))
    elif event.kind == "trace":
        yield from filter(None, (event.label, view.words(body)))
    elif event.kind == "feedback":
        yield from filter(None, (event.value,))
    elif event.label:
        yield event.label
