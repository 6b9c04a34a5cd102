"""Draws what `tail` shows: a line for each prompt or event, and below them a board of the sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING

from daemon.cli.render import error_text, has_failed, money, subagent
from daemon.reading.follower import Seen
from daemon.system.figures import count, printable, short_duration, short_tokens
from daemon.usage.prices import Dollars, event_dollars
from llma_core.trace_tree import CALL_TYPES, short_id, time_of
from llma_core.view import EventView, PromptView

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

__all__ = ["Board", "Dates", "line", "moment"]

_LONGEST_WORDS = 400
_LONGEST_PROJECT = 12
_SESSIONS_SHOWN = 4
# The kinds of lines, with their colors.
_COLORS = {
    "prompt": "bold cyan",
    "answer": "green",
    "tool": "blue",
    "agent": "magenta",
    "step": "blue",
    "failed": "red",
    "begun": "bold",
    "ended": "bold",
    "embed": "green",
    "metric": "yellow",
    "rated": "yellow",
}
_MEASURES = {"embedding": "embed", "metric": "metric", "feedback": "rated"}
"""The words for what has no word of its own above; none is longer than its column."""


def moment(seen: Seen) -> datetime | None:
    """Return when it happened; None if that is unknown."""
    return time_of(seen.what.timestamp)


def line(seen: Seen, *, zone: tzinfo | None = None, project_width: int = 0, session: bool = False) -> Text:
    """Draw a prompt or an event as one line, which a console cuts at its edge.

    Args:
        seen: the prompt or event.
        zone: the time zone to show its time in; None for the local one.
        project_width: columns for the project's name, so that what follows lines up.
        session: whether to name the session.
    """
    from rich.text import Text

    drawn = Text(no_wrap=True, overflow="ellipsis")
    at = moment(seen)
    drawn.append(f"{at.astimezone(zone):%H:%M:%S} " if at is not None else "--:--:-- ", style="dim")
    if session:
        drawn.append(f"{short_id(_short(seen.session)):<8} ", style="dim")
    project = _short(seen.what.project or "-")[:_LONGEST_PROJECT]
    drawn.append(f"{project:<{project_width}} ", style="dim")
    kind = _kind(seen.what)
    drawn.append(f"{kind:<6} ", style=_COLORS[kind])
    return drawn.append_text(_prompt(seen) if isinstance(seen.what, PromptView) else _event(seen, seen.what))


@dataclass(slots=True)
class Dates:
    """Draws a line with the date where the lines of another day begin.

    Attributes:
        today: the date of the lines before: at the beginning, that of now.
        zone: the time zone of the lines; None for the local one.
    """

    today: date
    zone: tzinfo | None = None
    _begun: bool = False

    def before(self, seen: Seen) -> Text | None:
        """Return the line to print before that of *seen*; None if the day is the same."""
        from rich.text import Text

        at = moment(seen)
        day = at.astimezone(self.zone).date() if at is not None else self.today
        # What other sessions did just before midnight may come after it. That is no new day.
        if day == self.today or (self._begun and day < self.today):
            self._begun = self._begun or at is not None
            return None
        self.today, self._begun = day, True
        return Text(f"── {day:%Y-%m-%d} ──", style="dim")


def _kind(what: PromptView | EventView) -> str:
    if isinstance(what, PromptView):
        return "prompt"
    if what.kind == "trace":
        return "begun" if what.is_open else "ended"
    if what.kind == "generation":
        return "failed" if what.is_error else "answer"
    if what.kind in _MEASURES:
        return _MEASURES[what.kind]
    return what.span_type if what.span_type in CALL_TYPES else "step"


def _prompt(seen: Seen) -> Text:
    from rich.text import Text

    return Text(_short(seen.words) or "(not shown)", style="bold" if seen.words else "dim")


def _event(seen: Seen, event: EventView) -> Text:
    from rich.text import Text

    failed = has_failed(event)
    drawn = Text()
    name = _short(event.label) or event.kind
    drawn.append(name, style="red" if failed else "bold" if event.kind == "trace" else "")
    facts = [_short(event.value or ""), _tokens(event), short_duration(event.latency)]
    if event.kind == "span" and failed:
        facts.append(event.status or "error")
    drawn.append("".join(f"  {fact}" for fact in facts if fact), style="red" if failed else "dim")
    if agent := subagent(event):
        drawn.append(f"  {agent}", style="magenta")
    if event.kind == "span" and seen.words:
        drawn.append(f"  {_short(seen.words)}")
    if why := error_text(event, _LONGEST_WORDS):
        drawn.append(f"  {why}", style="red")
    elif event.kind == "generation" and seen.words:
        drawn.append(f"  {_short(seen.words)}", style="italic")
    return drawn


@dataclass(slots=True)
class _Session:
    """The sums of everything seen in one session.

    Attributes:
        session: the session's id.
        project: the project that its latest prompt or event names.
        prompt: the text of the latest prompt; "" if it may not be shown, None before the first prompt.
        answers: API responses.
        calls: calls of tools and agents.
        errors: failed attempts and failed calls.
        fresh: input tokens that no cache held.
        cached: input tokens read from the cache or written to it.
        written: output tokens.
        dollars: what the answers cost.
        title: the session's title, as its latest event has it; "" until it has one.
        ended: whether its trace is the latest thing seen.
    """

    session: str
    project: str = "-"
    prompt: str | None = None
    answers: int = 0
    calls: int = 0
    errors: int = 0
    fresh: int = 0
    cached: int = 0
    written: int = 0
    dollars: Dollars = field(default_factory=Dollars)
    title: str = ""
    ended: bool = False

    def add(self, seen: Seen) -> None:
        what = seen.what
        self.project = _short(what.project or "") or self.project
        if isinstance(what, PromptView):
            self.prompt, self.ended = seen.words, False
            return
        self.title = what.trace_name or self.title
        if what.kind in ("metric", "feedback"):
            # They come with the end, or after it, and nothing goes on because of them.
            return
        self.ended = what.kind == "trace" and not what.is_open
        if what.kind == "trace":
            return
        self.errors += what.is_error
        self.calls += what.kind == "span" and what.span_type in CALL_TYPES
        self.answers += what.kind == "generation" and not what.is_error
        if what.kind in ("generation", "embedding"):
            self.fresh += what.input_tokens or 0
            self.cached += (what.cache_read_tokens or 0) + (what.cache_write_tokens or 0)
            self.written += what.output_tokens or 0
            self.dollars += event_dollars(what)


@dataclass(slots=True)
class Board:
    """A rich renderable of the sessions seen so far, the most recently active first.

    Attributes:
        waiting: the line to show until something is seen.
    """

    waiting: str
    _sessions: dict[str, _Session] = field(default_factory=dict)

    @property
    def project_width(self) -> int:
        """Columns for the longest project name on the board, up to a limit."""
        return min(_LONGEST_PROJECT, max((len(each.project) for each in self._sessions.values()), default=0))

    @property
    def shares_project(self) -> bool:
        """Whether two sessions on the board are of the same project. Then each line also shows its session's id."""
        return len({each.project for each in self._sessions.values()}) < len(self._sessions)

    def add(self, seen: Seen) -> None:
        """Count a prompt or an event."""
        session = self._sessions.pop(seen.session, None) or _Session(seen.session)
        session.add(seen)
        self._sessions[seen.session] = session

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw a rule and two lines for each of the latest sessions."""
        from rich.rule import Rule
        from rich.text import Text

        yield Rule(style="dim")
        if not self._sessions:
            yield Text(self.waiting, style="dim", no_wrap=True, overflow="ellipsis")
            return
        latest = list(reversed(self._sessions.values()))
        for session in latest[:_SESSIONS_SHOWN]:
            yield from _rows(session)
        if len(latest) > _SESSIONS_SHOWN:
            yield Text(f"and {len(latest) - _SESSIONS_SHOWN} more", style="dim")


def _rows(session: _Session) -> Iterator[RenderableType]:
    from rich.text import Text

    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(session.project, style="bold")
    head.append(f" {short_id(_short(session.session))}", style="dim")
    if cost := money(session.dollars):
        head.append(f"  {cost}", style="yellow")
    head.append("  ended" if session.ended else "", style="dim")
    title = _short(session.title)
    # A title that only repeats how the prompt begins says nothing more.
    if title and not _short(session.prompt or "").startswith(title.rstrip("…")):
        head.append(f"  {title}", style="bold")
    if session.prompt is not None:
        head.append("  > ", style="cyan").append(_short(session.prompt) or "(not shown)")
    yield head
    facts = Text("  ", no_wrap=True, overflow="ellipsis")
    facts.append(f"{count(session.answers, 'answer')}, {count(session.calls, 'tool call')}", style="dim")
    fresh, cached, written = map(short_tokens, (session.fresh, session.cached, session.written))
    facts.append(f"  {fresh} in + {cached} cache  {written} out")
    if session.errors:
        facts.append(f"  {count(session.errors, 'error')}", style="red")
    yield facts


def _tokens(event: EventView) -> str:
    """Write the token counts in short, with what went through the cache apart; unknown ones are left out."""
    cache = (event.cache_read_tokens or 0) + (event.cache_write_tokens or 0)
    taken = short_tokens(event.input_tokens) if event.input_tokens is not None else ""
    taken = "+".join(filter(None, (taken, short_tokens(cache) if cache else "")))
    given = f"{short_tokens(event.output_tokens)} out" if event.output_tokens is not None else ""
    return " ".join(filter(None, (f"{taken} in" if taken else "", given)))


def _short(text: str) -> str:
    return printable(text, _LONGEST_WORDS)
