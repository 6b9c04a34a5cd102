"""Gives memory back to the system that answers needed: a table of hundreds of sessions takes megabytes for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.running.memory import give_back

__all__ = ["Thrift"]

_SECONDS = 10.0
"""A page asks for its parts one after another, and giving memory back takes a few milliseconds."""


class Thrift:
    """Passes requests on, and gives memory back some time after them.

    Args:
        app: answers the requests.
        give_back: gives memory back; called in a thread.
        after: seconds after a request, for all requests of that time.
    """

    def __init__(self, app: ASGIApp, give_back: Callable[[], None] = give_back, after: float = _SECONDS) -> None:
        self._app = app
        self._give_back_memory = give_back
        self._after = after
        self._due: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._after, self._give_back)
        await self._app(scope, receive, send)

    def _give_back(self) -> None:
        self._due = None
        # The event loop does not wait for it.
        asyncio.get_running_loop().run_in_executor(None, self._give_back_memory)
