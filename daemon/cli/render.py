"""Draws a trace as a tree, and one event as a line, for `traces` and `demo`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING

from daemon.system.figures import count, dollars, duration, printable, short_tokens, tokens
from daemon.usage.prices import Dollars, event_dollars
from llma_core.agents import main_agents
from llma_core.trace_tree import CALL_TYPES, short_id, time_of
from llma_core.view import EventView

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    from llma_core.trace_tree import Node, TraceTree

__all__ = [
    "delivered",
    "error_text",
    "figure_table",
    "has_failed",
    "money",
    "name_cell",
    "spent",
    "stdout",
    "subagent",
    "tree",
]

# The width of output that goes to no terminal: wide enough for a line or a table row to stay whole.
_WIDE = 200
_LONGEST_TEXT = 100
_LONGEST_PROMPT = 400
_LONGEST_BESIDE_ERROR = 60


def tree(trace: TraceTree, *, zone: tzinfo | None = None) -> Tree:
    """Draw *trace* for a rich console.

    Args:
        trace: the trace.
        zone: the time zone to show its time in; None for the local one.
    """
    from rich.tree import Tree

    drawn = Tree(_headline(trace, zone), guide_style="dim")
    told = trace.prompt
    for root in trace.roots:
        # The headline has the first prompt.
        if root.prompt and root.prompt != told:
            drawn.add(_line(f"> {printable(root.prompt, _LONGEST_PROMPT)}", "bold"))
        told = "" if root.prompt else told
        _add_branches(drawn, [root])
    return drawn


def spent(trace: TraceTree) -> Dollars:
    """Return what the generations of *trace* cost."""
    whole, left = Dollars(), [*trace.roots]
    while left:
        node = left.pop()
        whole += event_dollars(node.event)
        left += node.children
    return whole


def money(amount: Dollars) -> str:
    """Write what calls cost: `$1.20`, `no price`, or both with the tokens that have no price; "" if it is nothing."""
    unpriced = sum(amount.unpriced.values())
    if not amount.known:
        return "no price" if unpriced else ""
    return f"{dollars(amount.known)}{f' + {short_tokens(unpriced)} tokens without a price' if unpriced else ''}"


def delivered(event: EventView, *, zone: tzinfo | None = None) -> Text:
    """Draw *event* as one line: its time, its kind, and what it reports.

    Args:
        event: the event.
        zone: the time zone to show its time in; None for the local one.
    """
    end = time_of(event.timestamp)
    end = end.astimezone(zone) if end is not None else None
    at = end.strftime("%H:%M:%S.") + f"{end.microsecond // 1000:03d}" if end is not None else "-"
    line = _line(f"{at:<12}  ", "dim")
    line.append(f"{event.kind if event.kind != 'other' else event.name:<10}  ", style="cyan")
    if event.kind != "trace":
        return line.append_text(_describe(event))
    return line.append(_short(event.label), style="bold").append("  begins" if event.is_open else "", style="dim")


def has_failed(event: EventView) -> bool:
    """Whether the attempt or call failed, was denied, or was interrupted."""
    return event.is_error or event.status in ("error", "denied", "interrupted") or event.outcome == "failed"


def error_text(event: EventView, longest: int = _LONGEST_TEXT) -> str:
    """Return the error that *event* reports, on one line: `type: message`; "" without one.

    Args:
        event: the event.
        longest: cut the type and the message to this many characters each.
    """
    return ": ".join(part for text in (event.error_type, event.error) if (part := printable(text or "", longest)))


def subagent(event: EventView) -> str:
    """Return the name of the agent, unless it is the one the user talks to; else ""."""
    return "" if event.agent in main_agents() else _short(event.agent)


def stdout() -> Console:
    """Make a console on standard output, as wide as the terminal; without a terminal, wide enough for any line."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def figure_table(first: str, headings: Sequence[str]) -> Table:
    """Make a table of figures. A terminal that is too narrow cuts the names in the first column, and no figure.

    Args:
        first: the heading of the names, each of which has to be added by `name_cell`.
        headings: those of the figures.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=False)
    # Columns that may wrap are narrowed before others. These cells do not wrap, and are cut.
    table.add_column(name_cell(first), no_wrap=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def name_cell(words: str, style: str = "") -> Text:
    """Return a name for the first column of `figure_table`."""
    return _line(words, style)


def _add_branches(branch: Tree, nodes: Iterable[Node]) -> None:
    for node in nodes:
        _add_branches(branch.add(_describe(node.event, node.words)), node.children)


def _headline(trace: TraceTree, zone: tzinfo | None) -> Text:
    """Draw the name and the prompt on one line, and what the trace comes to on the next."""
    name, prompt = _short(trace.name), printable(trace.prompt, _LONGEST_PROMPT)
    line = _line(f"{short_id(_short(trace.trace_id))}  ", "cyan")
    # A title that only repeats how the prompt begins says nothing more.
    if prompt.startswith(name.rstrip("…")):
        line.append(prompt, style="bold")
    else:
        line.append(name, style="bold")
        line.append(f"  > {prompt}" if prompt else "")
    line.append("\n")
    totals = trace.totals
    facts = [
        _short(trace.project),
        f"{trace.started.astimezone(zone):%Y-%m-%d %H:%M:%S}" if trace.started else "",
        duration(trace.seconds),
        money(spent(trace)),
        count(totals.generations, "generation"),
        count(totals.embeddings, "embedding") if totals.embeddings else "",
        count(totals.tool_calls, "tool call"),
        tokens(totals.input_tokens, totals.output_tokens, totals.cache_read_tokens, totals.cache_write_tokens),
    ]
    line.append("  ".join(fact for fact in facts if fact))
    if totals.errors:
        line.append(f"  {count(totals.errors, 'error')}", style="red")
    if trace.is_unended:
        line.append("  not ended", style="dim")
    elif trace.event is not None and trace.event.outcome not in (None, "ok"):
        line.append(f"  {_short(trace.event.outcome)}", style="red" if has_failed(trace.event) else "dim")
    return line


def _describe(event: EventView, words: str = "") -> Text:
    failed = has_failed(event)
    what = _short(event.label)
    if event.kind in ("generation", "embedding"):
        what = f"{what or 'API'} failed" if event.is_error else what or event.kind
    if event.kind == "feedback":
        # Its words say its name, where it has no others.
        what = "feedback"
    color = "red" if failed else {"generation": "green", "embedding": "green", "span": "blue"}.get(event.kind, "")
    line = _line(what or event.kind, color)
    facts = [
        "embedding" if event.kind == "embedding" and event.label else "",
        event.stands_for or "",
        _short(event.value),
        tokens(event.input_tokens, event.output_tokens, event.cache_read_tokens, event.cache_write_tokens),
        money(event_dollars(event)),
        duration(event.latency),
        _short(event.stop_reason),
    ]
    if event.kind == "span" and event.span_type in CALL_TYPES:
        facts.append(_short(event.status or ("error" if failed else "ok")))
    line.append("".join(f"  {fact}" for fact in facts if fact), style="red" if failed else "")
    if event.kind == "generation" and (agent := subagent(event)):
        line.append(f"  {agent}", style="magenta")
    why = error_text(event)
    if words := printable(words, _LONGEST_BESIDE_ERROR if why else _LONGEST_PROMPT):
        line.append(f"  {words}", style="dim")
    if why:
        line.append(f"  {why}", style="red")
    return line


def _line(words: str, style: str) -> Text:
    """Begin a line that the terminal cuts at its edge. Nothing in it is read as markup."""
    from rich.text import Text

    return Text(no_wrap=True, overflow="ellipsis").append(words, style=style)


def _short(text: str | None) -> str:
    return printable(text or "", _LONGEST_TEXT)
