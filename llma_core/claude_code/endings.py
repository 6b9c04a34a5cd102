"""What the client's own totals say beyond the log, each time a session ends.

The client writes its totals when it exits, and at `/clear` (`cost-state`, 2.1.250 and later). They are cumulative over
the session and have no time. They hold calls that are not logged, such as those for titles and summaries. What such a
line tells beyond the logged calls, and beyond what earlier ones told, is an ending's.

A logged call belongs to the first ending after it. Its time decides, and the next line of the main thread with a time
is where an ending's calls end: subagents' files are read in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from llma_core.spans import Context, Generation, LineRange, TokenUsage

__all__ = ["Closing", "Endings", "Totals"]


class _Counts(NamedTuple):
    """Token counts that can be added up. Zero for what is not known."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    cache_creation_5m: int = 0
    cache_creation_1h: int = 0
    web_searches: int = 0

    @property
    def tokens(self) -> tuple[int, int, int, int]:
        """The counts that every client tells."""
        return self.input, self.output, self.cache_read, self.cache_creation


_NONE = _Counts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The client's own totals.

    Attributes:
        by_model: tokens by model, of every call of the session.
        lines_added: lines of code added.
        lines_removed: lines of code removed.
    """

    by_model: Mapping[str, TokenUsage]
    lines_added: int | None = None
    lines_removed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What one ending tells.

    Attributes:
        number: the ending's number, from 1.
        context: the context of the main thread's latest line before it.
        at: the time of that line, in milliseconds since the epoch.
        lines: the line with the totals.
        side_calls: tokens by model of calls that are not logged; empty if the totals do not hold the logged ones.
        changes: how much the client's other totals grew, by name.
    """

    number: int
    context: Context
    at: int | None
    lines: LineRange
    side_calls: Mapping[str, TokenUsage]
    changes: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class _Ending:
    totals: Totals
    context: Context
    at: int | None
    lines: LineRange
    reached: int
    until: int | None = None


class _Call(NamedTuple):
    at: int
    model: str
    counts: _Counts


class Endings:
    """The endings of one session. Feed it the main thread's lines in order, and the calls in any order."""

    def __init__(self) -> None:
        self._open: list[_Ending] = []
        self._latest: Totals | None = None
        self._number = 0
        self._reached = -1
        self._calls: list[_Call] = []
        self._told: dict[str, _Counts] = {}
        self._grown = {"lines_added": 0, "lines_removed": 0}

    def add(self, generation: Generation) -> None:
        """Count a logged call."""
        if generation.usage is not None:
            at = generation.ended_at if generation.ended_at is not None else -1
            self._calls.append(_Call(at, generation.model or "", _counts(generation.usage)))

    def note(self, totals: Totals, context: Context, at: int | None, lines: LineRange) -> None:
        """Take the client's totals. The same totals again are no other ending: the client repeats them."""
        if totals != self._latest:
            self._latest = totals
            self._open.append(_Ending(totals=totals, context=context, at=at, lines=lines, reached=self._reached))

    def go_on(self, at: int | None) -> None:
        """Note a line of the main thread, and its time in milliseconds since the epoch."""
        if at is None:
            return
        self._reached = max(self._reached, at)
        for ending in reversed(self._open):
            if ending.until is not None:
                break
            ending.until = at

    def needed(self) -> Iterator[LineRange]:
        """Yield the lines of the endings that were not closed yet."""
        for ending in self._open:
            yield ending.lines

    def close(self, *, is_whole: bool) -> Iterator[Closing]:
        """Yield what each ending tells, once.

        Args:
            is_whole: whether the totals are those of this session alone. A fork's hold its parent's, and tell only how
                much they grew since.
        """
        ending: _Ending | None
        while ending := self._open.pop(0) if self._open else None:
            self._number += 1
            known = {"lines_added": ending.totals.lines_added or 0, "lines_removed": ending.totals.lines_removed or 0}
            grown = {name: count - self._grown[name] for name, count in known.items()}
            self._grown = {name: max(count, self._grown[name]) for name, count in known.items()}
            yield Closing(
                number=self._number,
                context=ending.context,
                at=ending.at,
                lines=ending.lines,
                side_calls=self._beyond(ending) if is_whole else {},
                changes={name: count for name, count in grown.items() if count > 0 and (is_whole or self._number > 1)},
            )

    def _beyond(self, ending: _Ending) -> dict[str, TokenUsage]:
        """Return the tokens by model that are in the totals, and neither in logged calls nor told before."""
        known = dict(self._told)
        for call in self._calls:
            # Two clients may write into one log, so that an older line follows.
            if ending.until is None or call.at < ending.until or call.at <= ending.reached:
                known[call.model] = _plus(known.get(call.model, _NONE), call.counts)
        totals = {model: _counts(usage) for model, usage in ending.totals.by_model.items()}
        left = {model: _minus(totals.get(model, _NONE), known.get(model, _NONE)) for model in totals.keys() | known}
        if any(min(counts.tokens) < 0 for counts in left.values()):
            # A run that was killed is in no totals, and those of two clients at a time hold only one of them.
            return {}
        found = {model: counts for model, counts in left.items() if any(counts.tokens)}
        for model, counts in found.items():
            self._told[model] = _plus(self._told.get(model, _NONE), counts)
        return {model: _usage(counts) for model, counts in sorted(found.items())}


def _counts(usage: TokenUsage) -> _Counts:
    return _Counts(
        usage.input or 0,
        usage.output or 0,
        usage.cache_read or 0,
        usage.cache_creation or 0,
        usage.cache_creation_5m or 0,
        usage.cache_creation_1h or 0,
        usage.web_searches or 0,
    )


def _usage(counts: _Counts) -> TokenUsage:
    short, long = counts.cache_creation_5m, counts.cache_creation_1h
    # It adds up only if the client's totals and all logged calls tell for how long something was written.
    is_split = counts.cache_creation > 0 and min(short, long) >= 0 and short + long == counts.cache_creation
    return TokenUsage(
        input=counts.input,
        output=counts.output,
        cache_read=counts.cache_read,
        cache_creation=counts.cache_creation,
        cache_creation_5m=short if is_split else None,
        cache_creation_1h=long if is_split else None,
        # Of totals that do not tell it, more would be known than told.
        web_searches=counts.web_searches if counts.web_searches > 0 else None,
    )


def _plus(one: _Counts, other: _Counts) -> _Counts:
    return _Counts(*(own + others for own, others in zip(one, other, strict=True)))


def _minus(one: _Counts, other: _Counts) -> _Counts:
    return _Counts(*(own - others for own, others in zip(one, other, strict=True)))
