"""What changed in the local file, told to every open page at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

__all__ = ["Changes"]

_GATHER_SECONDS = 0.1
"""After a page was told of a change, those within this time are told together: it needs no more."""


class Changes:
    """Tells pages which sessions have changed. For one event loop.

    A page that is slow gets the changes of the meantime at once, so nothing piles up.
    """

    def __init__(self) -> None:
        self._waiting: set[_Page] = set()
        self._closed = False

    def note(self, sessions: Iterable[str]) -> None:
        """Tell all pages that some sessions have changed; none named: any may have."""
        named = set(sessions)
        for page in self._waiting:
            page.sessions |= named
            page.changed.set()

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        for page in self._waiting:
            page.changed.set()

    async def stream(self) -> AsyncIterator[list[str]]:
        """Yield the ids of sessions that changed since the last time, until the server stops."""
        page = _Page()
        self._waiting.add(page)
        loop = asyncio.get_running_loop()
        told = float("-inf")
        try:
            while not self._closed:
                await page.changed.wait()
                await asyncio.sleep(max(0.0, told + _GATHER_SECONDS - loop.time()))
                if self._closed:
                    return
                told = loop.time()
                page.changed.clear()
                sessions, page.sessions = sorted(page.sessions), set()
                yield sessions
        finally:
            self._waiting.discard(page)


class _Page:
    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.sessions: set[str] = set()
