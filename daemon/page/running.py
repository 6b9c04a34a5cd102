"""Sessions that run now: what each does, and which of them wait for a person.

The registry of live processes says which run, and newer clients write into it whether they are busy, and what they need
from a person. What a session does follows from its last finished steps: a message that calls tools without results runs
them, one that calls none has answered. A client may log a message only after a person has answered the question in it
(2.1.329 does), so what the registry says of waiting goes before what the log says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.delivering.local.events import LocalEvents
from daemon.following.live_sessions import Status
from daemon.page.changes import Changes
from llma_core import view
from llma_core.agents import asking_tools, main_agents
from llma_core.trace_tree import time_of

__all__ = ["Running", "Watch", "tell_running"]

_LAST_STEPS = 40
"""Steps of a session's end that are looked at. A message rarely calls more tools than that at once."""
_LONGEST = 120
_LOOK_SECONDS = 2.0
"""How often the registry is looked at while a page is open: a few files of a few hundred bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A session that runs now.

    Attributes:
        session: its id.
        doing: what it does right now, in a few words; "" if that is not known.
        waits_for: what it needs from a person, in a few words; None if it waits for nobody.
        since: since when, in seconds since the epoch; None if that is not known.
    """

    session: str
    doing: str
    waits_for: str | None
    since: float | None


class Watch:
    """Tells which sessions run, and what they do.

    Args:
        path: the local file.
        statuses: returns what the registry says of each session that runs.
    """

    def __init__(self, path: Path, statuses: Callable[[], Mapping[str, Status]]) -> None:
        self._events = LocalEvents(path)
        self._statuses = statuses

    def now(self) -> list[Running]:
        """Return the sessions that run now.

        Raises:
            UnreadableEventsError: the file cannot be read.
        """
        return [self._look(session, status) for session, status in self._statuses().items()]

    def _look(self, session: str, status: Status) -> Running:
        bodies = self._events.last(session, _LAST_STEPS)
        events = [view.read(body) for body in bodies]
        # The newest message of the main thread; what came after it are results.
        last = next(
            (number for number, event in enumerate(events) if event.kind == "generation" and event.agent in _MAIN), None
        )
        if last is None:
            needs = _needs(status, idle=_PROMPT)
            return Running(session=session, doing="", waits_for=needs, since=None)
        message = events[last]
        answered = {event.span_id for event in events[:last]}
        calls = [call for call in view.calls(bodies[last]) if call.identity not in answered]
        if calls:
            asks = any(call.name in asking_tools() for call in calls)
            doing = ", ".join(" ".join(f"{call.name} {call.argument}".split())[:_LONGEST] for call in calls)
            # While a tool runs the client is busy; if it is not, it asks whether the tool may run.
            needs = _needs(status, idle=_ANSWER if asks else _PERMISSION, busy=_ANSWER if asks else None)
        elif message.is_error:
            doing = message.error_type or "error"
            needs = _needs(status, idle=_PROMPT, unknown=_PROMPT)
        elif message.stop_reason == "tool_use":
            needs = _needs(status, idle=_PROMPT)
            doing = "" if needs is not None else "thinking"
        else:
            needs = _needs(status, idle=_PROMPT, unknown=_PROMPT)
            doing = "has answered" if needs is not None else "thinking"
        return Running(session=session, doing=doing, waits_for=needs, since=self._at(message))

    @staticmethod
    def _at(event: view.EventView) -> float | None:
        at = time_of(event.timestamp)
        return at.timestamp() if at is not None else None


async def tell_running(
    statuses: Callable[[], Mapping[str, Status]], changes: Changes, every: float = _LOOK_SECONDS
) -> None:
    """Tell open pages when the registry says something else of the sessions that run. Never returns.

    Nobody tells of a process that died, so the registry is asked again and again. An open page would have to be drawn
    anew to ask.

    Args:
        statuses: returns what the registry says of each session that runs; called in a thread.
        changes: tells pages.
        every: seconds between two looks.
    """
    before: Mapping[str, Status] | None = None
    while True:
        await asyncio.sleep(every)
        if not changes.are_heard:
            before = None
            continue
        now = await asyncio.to_thread(statuses)
        # A page that was just opened may have been drawn before a change.
        if now != before:
            changes.note_running()
        before = now


_MAIN = main_agents()
_PROMPT, _ANSWER, _PERMISSION = "next prompt", "answer to a question", "permission"


def _needs(status: Status, *, idle: str, busy: str | None = None, unknown: str | None = None) -> str | None:
    """Return what a session needs from a person.

    Args:
        status: what the registry says; what it says of waiting counts.
        idle: what the session needs if its client does nothing.
        busy: what it needs although its client says that it works.
        unknown: what it needs if its client does not say what it does.
    """
    match status.word:
        case None:
            return busy or unknown
        case "busy":
            return busy
        case "waiting" if status.waits_for:
            return status.waits_for[:_LONGEST]
        case _:
            return idle
