"""The tree of a trace: its operations, each under the one that started it, and what they add up to.

A terminal and a web page draw the same tree from these values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from llma_core.view import EventView

__all__ = ["CALL_TYPES", "Node", "Totals", "TraceTree", "build", "order", "short_id", "time_of"]

CALL_TYPES = ("tool", "agent")
"""The span types that count as tool calls."""

# Sorts after every real time.
_NO_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operation and the operations it started, in the order of their starts.

    Attributes:
        words: the words that describe the operation best, such as a call's command; "" without any.
        prompt: the prompt that it is the first to answer, among the roots; "" if it is not.
    """

    event: EventView
    children: tuple[Node, ...]
    words: str = ""
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the operations of a trace.

    Attributes:
        generations: API responses, without failed attempts.
        tool_calls: tool and agent calls, at any depth.
        embeddings: embeddings, without failed ones.
        errors: failed attempts and failed calls.
        input_tokens: tokens sent that no cache held; None if no call of a model reports a count. The same holds
            for the three counts below.
        output_tokens: tokens the model wrote.
        cache_read_tokens: input tokens read from the cache.
        cache_write_tokens: input tokens written to the cache.
    """

    generations: int
    tool_calls: int
    embeddings: int
    errors: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTree:
    """A trace with its operations arranged as a tree.

    Attributes:
        trace_id: the trace's id.
        event: the event of the trace itself; None until the trace has ended.
        opening: the event that a session's trace began with; None if there is none.
        project: the project that its events name, or None.
        started: when its first operation began; None if no event has a time.
        seconds: from `started` to the end of the last operation.
        totals: sums over the operations.
        roots: the operations that nothing else in the trace started, in the order of their starts.
        prompt: the first prompt; "" if it is not known or not kept.
        title: the newest title that its operations carry; "" without one.
        is_unended: whether it is of a session that has not ended. The trace of recorded calls need not be ended.
    """

    trace_id: str
    event: EventView | None
    opening: EventView | None
    project: str | None
    started: datetime | None
    seconds: float
    totals: Totals
    roots: tuple[Node, ...]
    prompt: str = ""
    title: str = ""
    is_unended: bool = False

    @property
    def name(self) -> str:
        """The trace's name; made from its id until it has one."""
        said = self.event.label if self.event is not None else ""
        began = self.opening.label if self.opening is not None else ""
        return said or self.title or began or f"trace {short_id(self.trace_id)}"


def short_id(name: str) -> str:
    """Return the beginning of an id, long enough to tell it from others.

    A version 7 UUID begins with the time: its first eight characters stay the same for a minute, the next four give the
    millisecond.
    """
    return name[:13] if _TIMED.match(name) else name[:8]


_TIMED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7")


def build(
    trace_id: str,
    events: Iterable[EventView],
    *,
    words: Mapping[str, str] | None = None,
    prompt: str = "",
    asked: Mapping[str, str] | None = None,
) -> TraceTree:
    """Arrange the events of one trace as a tree.

    An operation becomes a root if its parent is the trace, is missing, or is not among *events*. If parents form a
    cycle, its first operation becomes a root, so that no operation is left out.

    Args:
        trace_id: the trace's id.
        events: all events of that trace, in any order.
        words: the words that describe events best, by their uuids.
        prompt: the first prompt, where the event of the trace does not say it.
        asked: the prompts that generations are the first to answer, by their uuids.
    """
    words = words or {}
    trace = opening = None
    operations: list[EventView] = []
    for event in events:
        if event.kind == "trace" and event.is_open:
            opening = event
        elif event.kind == "trace":
            trace = event
        else:
            operations.append(event)
    operations.sort(key=_start)
    starts = [_start(event) for event in operations]
    ends = [end for event in operations if (end := time_of(event.timestamp)) is not None]
    started = starts[0] if starts and starts[0] != _NO_TIME else None
    return TraceTree(
        trace_id=trace_id,
        event=trace,
        opening=opening,
        project=next((event.project for event in [*operations, trace, opening] if event and event.project), None),
        started=started,
        seconds=(max(ends) - started).total_seconds() if started is not None and ends else 0.0,
        totals=_totals(operations),
        roots=tuple(_with_prompts(_arrange(operations, words), asked or {})),
        prompt=next((said for each in (trace, opening) if each is not None and (said := words.get(each.uuid))), prompt),
        title=next((event.trace_name for event in reversed(operations) if event.trace_name), ""),
        # Only what comes from a session's log names its client's version.
        is_unended=trace is None and (opening is not None or any(event.version for event in operations)),
    )


def time_of(timestamp: str) -> datetime | None:
    """Read the timestamp of an event: the end of its operation, in UTC if it names no zone; None if it is no time."""
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _start(event: EventView) -> datetime:
    end = time_of(event.timestamp)
    return end - timedelta(seconds=event.latency or 0.0) if end is not None else _NO_TIME


def _arrange(operations: Sequence[EventView], words: Mapping[str, str]) -> tuple[Node, ...]:
    """Put *operations*, sorted by start, under their parents; return the roots."""
    below: list[list[Node]] = [[]]
    for index, depth in reversed(order([(event.span_id, event.parent_id) for event in operations])):
        # Read backwards, what an operation started comes before itself.
        below += [[] for _ in range(depth + 2 - len(below))]
        event, children = operations[index], tuple(reversed(below[depth + 1]))
        below[depth].append(Node(event=event, children=children, words=words.get(event.uuid, "")))
        below[depth + 1] = []
    return tuple(reversed(below[0]))


def _with_prompts(roots: Iterable[Node], asked: Mapping[str, str]) -> Iterator[Node]:
    """Yield *roots*, each turn's first one with its prompt; attempts at the same answer have it once."""
    tried = ""
    for root in roots:
        prompt = asked.get(root.event.uuid, "") if root.event.kind == "generation" else ""
        yield replace(root, prompt=prompt) if prompt and prompt != tried else root
        tried = (prompt or tried) if root.event.is_error else ""


def order(operations: Sequence[tuple[str | None, str | None]]) -> list[tuple[int, int]]:
    """Return the operations of a tree from the top down, each as its index in *operations* and its depth.

    An operation becomes a root, with depth 0, if its parent is missing. If parents form a cycle, its first operation
    becomes a root.

    Args:
        operations: span and parent of each, sorted by start.
    """
    by_span: dict[str, int] = {}
    for index, (span, _) in enumerate(operations):
        if span is not None:
            by_span.setdefault(span, index)
    children: dict[int | None, list[int]] = {}
    for index, (_, parent) in enumerate(operations):
        children.setdefault(by_span.get(parent) if parent is not None else None, []).append(index)
    placed: set[int] = set()
    found: dict[int, list[tuple[int, int]]] = {}

    def place(root: int) -> None:
        found[root] = []
        left = [(root, 0)]
        while left:
            index, depth = left.pop()
            # A child that is placed already would close a cycle.
            if index not in placed:
                placed.add(index)
                found[root].append((index, depth))
                left += [(child, depth + 1) for child in reversed(children.get(index, ()))]

    for root in children.get(None, ()):
        place(root)
    for index in range(len(operations)):
        if index not in placed:
            place(index)
    return [place for root in sorted(found) for place in found[root]]


def _totals(operations: Sequence[EventView]) -> Totals:
    generations = [event for event in operations if event.kind in ("generation", "embedding")]
    return Totals(
        generations=sum(event.kind == "generation" and not event.is_error for event in generations),
        embeddings=sum(event.kind == "embedding" and not event.is_error for event in generations),
        tool_calls=sum(event.kind == "span" and event.span_type in CALL_TYPES for event in operations),
        errors=sum(event.is_error for event in operations),
        input_tokens=_sum(event.input_tokens for event in generations),
        output_tokens=_sum(event.output_tokens for event in generations),
        cache_read_tokens=_sum(event.cache_read_tokens for event in generations),
        cache_write_tokens=_sum(event.cache_write_tokens for event in generations),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
