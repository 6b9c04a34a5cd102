"""What `tail` shows: a line for each thing that happens, and a board of the sessions below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from daemon.reading.follower import Seen
from llma_core.agents import main_agents
from llma_core.view import EventView, PromptView

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

__all__ = ["Board", "line", "moment"]

_LONGEST_WORDS = 400
_LONGEST_PROJECT = 12
_SHORT_ID = 8
_SESSIONS_SHOWN = 4
_THOUSAND = 1000
_MINUTE = 60.0
_FAILED = ("error", "denied", "interrupted")
# Kinds of lines, with their colours.
_COLOURS = {
    "prompt": "bold cyan",
    "answer": "green",
    "tool": "blue",
    "agent": "magenta",
    "step": "blue",
    "failed": "red",
    "ended": "bold",
}


def moment(seen: Seen) -> datetime | None:
    """When it happened; None if that is not known."""
    try:
        at = datetime.fromisoformat(seen.what.timestamp)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def line(seen: Seen, *, zone: tzinfo | None = None, project_width: int = 0, session: bool = False) -> Text:
    """Draw what was seen as one line, which a console cuts at its edge.

    Args:
        seen: what was seen.
        zone: the zone of the time shown; None for the local one.
        project_width: room for the project's name, so that what follows stands in one column.
        session: whether to name the session.
    """
    from rich.text import Text

    drawn = Text(no_wrap=True, overflow="ellipsis")
    at = moment(seen)
    drawn.append(f"{at.astimezone(zone):%H:%M:%S} " if at is not None else "--:--:-- ", style="dim")
    if session:
        drawn.append(f"{_clean(seen.session)[:_SHORT_ID]:<{_SHORT_ID}} ", style="dim")
    project = _clean(seen.what.project or "-")[:_LONGEST_PROJECT]
    drawn.append(f"{project:<{project_width}} ", style="dim")
    kind = _kind(seen.what)
    drawn.append(f"{kind:<6} ", style=_COLOURS[kind])
    return drawn.append_text(_prompt(seen) if isinstance(seen.what, PromptView) else _event(seen, seen.what))


def _kind(what: PromptView | EventView) -> str:
    if isinstance(what, PromptView):
        return "prompt"
    if what.kind == "trace":
        return "ended"
    if what.kind == "generation":
        return "failed" if what.is_error else "answer"
    return what.span_type if what.span_type in ("tool", "agent") else "step"


def _prompt(seen: Seen) -> Text:
    from rich.text import Text

    return Text(_clean(seen.words) or "(not shown)", style="bold" if seen.words else "dim")


def _event(seen: Seen, event: EventView) -> Text:
    from rich.text import Text

    failed = event.is_error or event.status in _FAILED
    drawn = Text()
    name = _clean(event.label) or event.kind
    drawn.append(name, style="red" if failed else "bold" if event.kind == "trace" else "")
    facts = [_tokens(event), _duration(event.latency)]
    if event.kind == "span" and failed:
        facts.append(event.status or "error")
    drawn.append("".join(f"  {fact}" for fact in facts if fact), style="red" if failed else "dim")
    if event.agent is not None and event.agent not in main_agents():
        drawn.append(f"  {_clean(event.agent or '')}", style="magenta")
    why = ": ".join(part for part in (_clean(event.error_type or ""), _clean(event.error or "")) if part)
    if event.kind == "span" and seen.words:
        drawn.append(f"  {_clean(seen.words)}")
    if why:
        drawn.append(f"  {why}", style="red")
    elif event.kind == "generation" and seen.words:
        drawn.append(f"  {_clean(seen.words)}", style="italic")
    return drawn


@dataclass(slots=True)
class _Session:
    """What a session came to, as far as it was seen.

    Attributes:
        session: its id.
        project: the project its latest prompt or event names.
        prompt: the words of the latest prompt; "" if they may not be shown, None before the first one.
        answers: API responses.
        calls: calls of tools and agents.
        errors: failed attempts and failed calls.
        fresh: input tokens that no cache had.
        cached: input tokens read from the cache or written to it.
        written: output tokens.
        ended: whether its trace has come since.
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
    ended: bool = False

    def add(self, seen: Seen) -> None:
        what = seen.what
        self.project = _clean(what.project or "") or self.project
        if isinstance(what, PromptView):
            self.prompt, self.ended = seen.words, False
            return
        self.ended = what.kind == "trace"
        if self.ended:
            return
        self.errors += what.is_error
        self.calls += what.kind == "span" and what.span_type in ("tool", "agent")
        if what.kind == "generation":
            self.answers += not what.is_error
            self.fresh += what.input_tokens or 0
            self.cached += (what.cache_read_tokens or 0) + (what.cache_write_tokens or 0)
            self.written += what.output_tokens or 0


@dataclass(slots=True)
class Board:
    """The sessions that were seen, the one of the latest line first; a rich renderable.

    Attributes:
        waiting: what to say while nothing was seen.
    """

    waiting: str
    _sessions: dict[str, _Session] = field(default_factory=dict)

    @property
    def project_width(self) -> int:
        """Room for the longest name of a project on it, and no more than a bound."""
        return min(_LONGEST_PROJECT, max((len(each.project) for each in self._sessions.values()), default=0))

    def add(self, seen: Seen) -> None:
        """Count what was seen."""
        session = self._sessions.pop(seen.session, None) or _Session(seen.session)
        session.add(seen)
        self._sessions[seen.session] = session

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, three lines for each of the latest sessions at most."""
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
    head.append(f" {_clean(session.session)[:_SHORT_ID]}", style="dim")
    head.append("  ended" if session.ended else "", style="dim")
    if session.prompt is not None:
        head.append("  > ", style="cyan").append(_clean(session.prompt) or "(not shown)")
    yield head
    facts = Text("  ", no_wrap=True, overflow="ellipsis")
    facts.append(f"{_count(session.answers, 'answer')}, {_count(session.calls, 'tool call')}", style="dim")
    facts.append(f"  {_sum(session.fresh)} in + {_sum(session.cached)} cache  {_sum(session.written)} out")
    if session.errors:
        facts.append(f"  {_count(session.errors, 'error')}", style="red")
    yield facts


def _tokens(event: EventView) -> str:
    """Say tokens in few words, input that a cache had or took apart; those that are unknown are left out."""
    cache = (event.cache_read_tokens or 0) + (event.cache_write_tokens or 0)
    taken = _sum(event.input_tokens) if event.input_tokens is not None else ""
    taken = "+".join(filter(None, (taken, _sum(cache) if cache else "")))
    given = f"{_sum(event.output_tokens)} out" if event.output_tokens is not None else ""
    return " ".join(filter(None, (f"{taken} in" if taken else "", given)))


def _sum(number: int) -> str:
    if number < _THOUSAND:
        return str(number)
    if number < 999_950:  # noqa: PLR2004 - what rounds to a million is written as one
        return f"{number / _THOUSAND:.1f}k"
    return f"{number / _THOUSAND**2:.1f}M"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.2f}s" if seconds < 1 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), int(_MINUTE))
    return f"{minutes}m{rest:02d}s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _clean(words: str) -> str:
    """Make *words* one bounded line. What a tool printed may hold control sequences, and this goes to a terminal."""
    kept = "".join(char if char.isprintable() else " " for char in words[:_LONGEST_WORDS])
    return " ".join(kept.split())
