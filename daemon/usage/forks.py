"""What a fork has inherited: the client counts what the original had cost until then into the fork's own total.

Which session a fork was made of stands in its log alone, beside the lines that it copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from daemon.following.tailer import open_log
from daemon.system import disk
from daemon.usage.report import Index, Range
from llma_core.agent import Agent

__all__ = ["Inherited", "inherited"]

_DEEPEST = 32
"""Forks of forks that are followed."""

Find = Callable[[str], tuple[Agent, str] | None]
"""Returns whose session an id is, and the path of its log; None if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a fork has inherited.

    Attributes:
        original: the id of the session that it was made of.
        dollars: what that had cost until then; None if that is not known.
    """

    original: str
    dollars: float | None


def inherited(index: Index, session: str, find: Find) -> Inherited | None:
    """Return what a session has inherited; None if it is no fork, or its log is gone.

    Args:
        index: the rows of all calls.
        session: its id.
        find: finds logs.

    Raises:
        UnreadableEventsError: the local file is damaged.
    """
    first: Inherited | None = None
    total = 0.0
    seen = {session}
    while len(seen) < _DEEPEST and (found := find(session)) is not None:
        original, began = _made_of(*found)
        if original is None or original in seen:
            break
        spent = index.total(Range(sessions=frozenset({original}), until=began))
        first = first or Inherited(original=original, dollars=None)
        if not spent.tokens.calls or spent.dollars.unpriced:
            return first
        total += spent.dollars.known
        seen.add(original)
        session = original
    return Inherited(original=first.original, dollars=total) if first is not None else None


def _made_of(agent: Agent, path: str) -> tuple[str | None, float | None]:
    """Return the original of a log's copied lines, and when the first line of its own came after them, in seconds."""
    original: str | None = None
    own: float | None = None
    try:
        for line in disk.call(path.rpartition("/")[0], lambda: [*_lines(path)]):
            seen = agent.glance(line)
            if seen.original is not None:
                original, own = seen.original, None
            elif own is None and seen.at is not None:
                own = seen.at / 1000
    except OSError:
        return None, None
    return original, own


def _lines(path: str) -> Iterator[bytes]:
    with open_log(path, buffered=True) as log:
        yield from log
