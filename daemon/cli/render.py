"""The tree of a trace, and one line for each event: how `traces` and `demo` show what was kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from llma_core.agents import main_agents
from llma_core.view import EventView

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

__all__ = ["Node", "Totals", "TraceTree", "build", "delivered", "stdout", "tree"]

# For output that no terminal bounds, so that a line stays a line.
_WIDE = 200
_LONGEST_TEXT = 100
_MINUTE = 60.0
# The span types that are calls of a tool.
_CALLS = ("tool", "agent")
# After everything that has a time.
_NO_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operation and what it started, in the order of their starts."""

    event: EventView
    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a trace adds up to.

    Attributes:
        generations: API responses; failed attempts are none.
        tool_calls: tool and agent calls, at any depth.
        errors: failed attempts and failed calls.
        input_tokens: sum over all generations, or None if none says; so for the three below.
        output_tokens: tokens the model wrote.
        cache_read_tokens: input read from the cache.
        cache_write_tokens: input written to the cache.
    """

    generations: int
    tool_calls: int
    errors: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTree:
    """A trace.

    Attributes:
        trace_id: its id.
        event: the event of the trace itself, or None while it has not ended.
        project: the project its events name, or None.
        started: when its first operation began, or None if no event has a time.
        seconds: from there to the end of the last one.
        totals: sums over the operations.
        roots: operations nothing else in the trace started, in the order of their starts.
    """

    trace_id: str
    event: EventView | None
    project: str | None
    started: datetime | None
    seconds: float
    totals: Totals
    roots: tuple[Node, ...]

    @property
    def name(self) -> str:
        """The trace's name, or words for one that has none yet."""
        named = self.event.label if self.event is not None else ""
        return named or f"trace {self.trace_id[:8]}"


def build(trace_id: str, events: Iterable[EventView]) -> TraceTree:
    """Arrange *events* of one trace as a tree.

    An operation whose parent is the trace, absent or not among *events* is a root; one of a circle of parents is made
    a root, so nothing is left out.
    """
    trace: EventView | None = None
    operations: list[EventView] = []
    for event in events:
        if event.kind == "trace":
            trace = event
        else:
            operations.append(event)
    operations.sort(key=_start)
    starts = [_start(event) for event in operations]
    ends = [end for event in operations if (end := _end(event)) is not None]
    started = starts[0] if starts and starts[0] != _NO_TIME else None
    return TraceTree(
        trace_id=trace_id,
        event=trace,
        project=next((event.project for event in [*operations, *([trace] if trace else [])] if event.project), None),
        started=started,
        seconds=(max(ends) - started).total_seconds() if started is not None and ends else 0.0,
        totals=_totals(operations),
        roots=_arrange(operations),
    )


def tree(trace: TraceTree) -> Tree:
    """Draw *trace* for a rich console."""
    from rich.tree import Tree

    drawn = Tree(_headline(trace), guide_style="dim")
    _hang(drawn, trace.roots)
    return drawn


def delivered(event: EventView) -> Text:
    """Draw *event* as one line: its time, what it is and what it says."""
    end = _end(event)
    at = end.strftime("%H:%M:%S.") + f"{end.microsecond // 1000:03d}" if end is not None else "-"
    line = _line(f"{at:<12}  ", "dim")
    line.append(f"{event.kind if event.kind != 'other' else event.name:<10}  ", style="cyan")
    return line.append_text(_line(_clean(event.label), "bold") if event.kind == "trace" else _describe(event))


def stdout() -> Console:
    """Make a console on standard output, as wide as the terminal or, without one, wide enough for any line."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def _arrange(operations: Sequence[EventView]) -> tuple[Node, ...]:
    """Hang *operations*, sorted by start, under their parents."""
    by_span: dict[str, int] = {}
    for index, event in enumerate(operations):
        if event.span_id is not None:
            by_span.setdefault(event.span_id, index)
    children: dict[int | None, list[int]] = {None: []}
    for index, event in enumerate(operations):
        parent = by_span.get(event.parent_id) if event.parent_id is not None else None
        children.setdefault(parent, []).append(index)
    placed: set[int] = set()

    def node(index: int) -> Node:
        placed.add(index)
        # Those placed already are the ones that close a circle.
        below = [node(child) for child in children.get(index, ()) if child not in placed]
        return Node(event=operations[index], children=tuple(below))

    roots = [(index, node(index)) for index in children[None]]
    roots += [(index, node(index)) for index in range(len(operations)) if index not in placed]
    return tuple(root for _, root in sorted(roots, key=lambda root: root[0]))


def _totals(operations: Sequence[EventView]) -> Totals:
    generations = [event for event in operations if event.kind == "generation"]
    return Totals(
        generations=sum(not event.is_error for event in generations),
        tool_calls=sum(event.kind == "span" and event.span_type in _CALLS for event in operations),
        errors=sum(event.is_error for event in operations),
        input_tokens=_sum(event.input_tokens for event in generations),
        output_tokens=_sum(event.output_tokens for event in generations),
        cache_read_tokens=_sum(event.cache_read_tokens for event in generations),
        cache_write_tokens=_sum(event.cache_write_tokens for event in generations),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _hang(branch: Tree, nodes: Iterable[Node]) -> None:
    for node in nodes:
        _hang(branch.add(_describe(node.event)), node.children)


def _headline(trace: TraceTree) -> Text:
    line = _line(_clean(trace.name), "bold")
    totals = trace.totals
    facts = [
        _clean(trace.project or ""),
        trace.started.strftime("%Y-%m-%d %H:%M:%SZ") if trace.started else "",
        _count(totals.generations, "generation"),
        _count(totals.tool_calls, "tool call"),
        _tokens(totals.input_tokens, totals.output_tokens, totals.cache_read_tokens, totals.cache_write_tokens),
        _duration(trace.seconds),
    ]
    line.append("".join(f"  {fact}" for fact in facts if fact))
    if totals.errors:
        line.append(f"  {_count(totals.errors, 'error')}", style="red")
    if trace.event is None:
        line.append("  not ended", style="dim")
    line.append(f"  {_clean(trace.trace_id)}", style="dim")
    return line


def _describe(event: EventView) -> Text:
    failed = event.is_error or event.status in ("error", "denied", "interrupted")
    what = _clean(event.label)
    if event.kind == "generation":
        what = f"{what or 'API'} failed" if event.is_error else what or "generation"
    colour = "red" if failed else {"generation": "green", "span": "blue"}.get(event.kind, "")
    line = _line(what or event.kind, colour)
    facts = [
        _tokens(event.input_tokens, event.output_tokens, event.cache_read_tokens, event.cache_write_tokens),
        _duration(event.latency),
        _clean(event.stop_reason or ""),
    ]
    if event.kind == "span" and event.span_type in _CALLS:
        facts.append(_clean(event.status or ("error" if failed else "ok")))
    line.append("".join(f"  {fact}" for fact in facts if fact), style="red" if failed else "")
    if event.kind == "generation" and event.agent is not None and event.agent not in main_agents():
        line.append(f"  {_clean(event.agent or '')}", style="magenta")
    why = ": ".join(part for part in (_clean(event.error_type or ""), _clean(event.error or "")) if part)
    if why:
        line.append(f"  {why}", style="red")
    return line


def _line(words: str, style: str) -> Text:
    """Begin a line that is cut at the edge of the terminal. Nothing in it is markup."""
    from rich.text import Text

    return Text(no_wrap=True, overflow="ellipsis").append(words, style=style)


def _tokens(taken: int | None, given: int | None, read: int | None, written: int | None) -> str:
    """Say token counts in words; those that are unknown, and caches that were not used, are left out."""
    parts = [f"{taken:,} in" if taken is not None else "", f"{given:,} out" if given is not None else ""]
    cache = [f"{read:,} read" if read else "", f"{written:,} written" if written else ""]
    if any(cache):
        parts.append(f"(cache {', '.join(filter(None, cache))})")
    return " ".join(filter(None, parts))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), int(_MINUTE))
    return f"{minutes} min {rest:02d} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _clean(words: str) -> str:
    """Make *words* one bounded line. What a tool printed may hold control sequences, and this goes to a terminal."""
    line = " ".join("".join(char if char.isprintable() else " " for char in words[: 4 * _LONGEST_TEXT]).split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"


def _end(event: EventView) -> datetime | None:
    try:
        end = datetime.fromisoformat(event.timestamp)
    except ValueError:
        return None
    return end if end.tzinfo is not None else end.replace(tzinfo=UTC)


def _start(event: EventView) -> datetime:
    end = _end(event)
    return end - timedelta(seconds=event.latency or 0.0) if end is not None else _NO_TIME
