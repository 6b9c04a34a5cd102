"""Sessions that run now: what each does, and which of them wait for a person.

The registry of live processes says which run, and newer clients write into it whether they are busy. What a session
does follows from its last finished steps: a message that calls tools without results runs them, one that calls none has
answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.delivering.local.events import LocalEvents
from llma_core import view
from llma_core.agents import asking_tools, main_agents
from llma_core.trace_tree import time_of

__all__ = ["Running", "Watch"]

_LAST_STEPS = 40
"""Steps of a session's end that are looked at. A message rarely calls more tools than that at once."""
_LONGEST = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A session that runs now.

    Attributes:
        session: its id.
        doing: what it does right now, in a few words; "" if that is not known.
        waits: whether it waits for a person.
        since: since when, in seconds since the epoch; None if that is not known.
    """

    session: str
    doing: str
    waits: bool
    since: float | None


class Watch:
    """Tells which sessions run, and what they do.

    Args:
        path: the local file.
        statuses: returns what the registry says of each session that runs: `busy`, another word, or None.
    """

    def __init__(self, path: Path, statuses: Callable[[], Mapping[str, str | None]]) -> None:
        self._events = LocalEvents(path)
        self._statuses = statuses

    def now(self) -> list[Running]:
        """Return the sessions that run now.

        Raises:
            UnreadableEventsError: the file cannot be read.
        """
        return [self._look(session, status) for session, status in self._statuses().items()]

    def _look(self, session: str, status: str | None) -> Running:
        bodies = self._events.last(session, _LAST_STEPS)
        events = [view.read(body) for body in bodies]
        # The newest message of the main thread; what came after it are results.
        last = next(
            (number for number, event in enumerate(events) if event.kind == "generation" and event.agent in _MAIN), None
        )
        if last is None:
            return Running(session=session, doing="", waits=status not in (None, "busy"), since=None)
        since = self._at(events[last])
        answered = {event.span_id for event in events[:last]}
        calls = [call for call in view.calls(bodies[last]) if call.identity not in answered]
        if calls:
            asks = any(call.name in asking_tools() for call in calls)
            words = ", ".join(" ".join(f"{call.name} {call.argument}".split())[:_LONGEST] for call in calls)
            # While a tool runs the client is busy; if it is not, it asks whether the tool may run.
            return Running(session=session, doing=words, waits=asks or status not in (None, "busy"), since=since)
        if events[last].is_error:
            return Running(
                session=session, doing=events[last].error_type or "error", waits=status != "busy", since=since
            )
        if events[last].stop_reason == "tool_use":
            return Running(session=session, doing="thinking", waits=status not in (None, "busy"), since=since)
        busy = status == "busy"
        return Running(session=session, doing="thinking" if busy else "has answered", waits=not busy, since=since)

    @staticmethod
    def _at(event: view.EventView) -> float | None:
        at = time_of(event.timestamp)
        return at.timestamp() if at is not None else None


_MAIN = main_agents()
