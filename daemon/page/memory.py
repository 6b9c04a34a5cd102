"""Gives memory back to the system that answers needed: a table of hundreds of sessions takes megabytes for a moment."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.running.memory import give_back

__all__ = ["Thrift"]

_SECONDS = 10.0
"""A page asks for its parts one after another, and giving memory back takes a few milliseconds."""


class Thrift:
    """Passes requests on to *app*, and gives memory back some time after them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._due: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_SECONDS, self._give_back)
        await self._app(scope, receive, send)

    def _give_back(self) -> None:
        self._due = None
        # The event loop does not wait for it.
        asyncio.get_running_loop().run_in_executor(None, give_back)
