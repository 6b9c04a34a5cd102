"""What changed in the local file, told to every open page at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

__all__ = ["Change", "Changes"]

_GATHER_SECONDS = 0.1
"""After a page was told of a change, those within this time are told together: it needs no more."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changed since the last time.

    Attributes:
        sessions: the ids of the sessions that have changed in the file, and none if any may have; None if the file is
            as it was.
        running: whether something else is known of running sessions than what the file says.
    """

    sessions: list[str] | None
    running: bool = False


class Changes:
    """Tells pages which sessions have changed. For one event loop.

    A page that is slow gets the changes of the meantime at once, so nothing piles up.

    Args:
        gather: seconds after a page was told of a change in which the next ones wait for one another.
    """

    def __init__(self, gather: float = _GATHER_SECONDS) -> None:
        self._gather = gather
        self._waiting: set[_Page] = set()
        self._closed = False

    def note(self, sessions: Iterable[str]) -> None:
        """Tell all pages that some sessions have changed; none named: any may have."""
        named = frozenset(sessions)
        for page in self._waiting:
            if page.sessions is None or not named:
                page.sessions = named
            elif page.sessions:
                page.sessions |= named
            # Otherwise any may have changed already.
            page.changed.set()

    def note_running(self) -> None:
        """Tell all pages that something else is known of running sessions."""
        for page in self._waiting:
            page.running = True
            page.changed.set()

    @property
    def are_heard(self) -> bool:
        """Whether any page is open."""
        return bool(self._waiting)

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        for page in self._waiting:
            page.changed.set()

    async def stream(self) -> AsyncIterator[Change]:
        """Yield what changed since the last time, until the server stops."""
        page = _Page()
        self._waiting.add(page)
        loop = asyncio.get_running_loop()
        told = float("-inf")
        try:
            while not self._closed:
                await page.changed.wait()
                await asyncio.sleep(max(0.0, told + self._gather - loop.time()))
                if self._closed:
                    return
                told = loop.time()
                page.changed.clear()
                change = Change(None if page.sessions is None else sorted(page.sessions), page.running)
                page.sessions, page.running = None, False
                yield change
        finally:
            self._waiting.discard(page)


class _Page:
    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.sessions: frozenset[str] | None = None
        self.running = False
