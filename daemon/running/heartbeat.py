"""Feeds systemd's watchdog."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import structlog

from daemon.running.notify import Notifier, watchdog_interval

__all__ = ["heartbeat"]

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def heartbeat(
    notifier: Notifier, environ: Mapping[str, str], overdue: Callable[[], str | None]
) -> AsyncIterator[None]:
    """Tell the service manager at its interval that the service is alive, while the context lasts.

    The service is alive while the event loop runs and nothing is overdue. Without a watchdog this does nothing.

    Args:
        notifier: sends the messages.
        environ: the environment, in which the manager sets the interval.
        overdue: returns the name of a part that should have made progress long ago; None if there is none.
    """
    interval = watchdog_interval(environ)
    if interval is None:
        yield
        return
    task = asyncio.create_task(_beat(notifier, interval, overdue))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(notifier: Notifier, interval: float, overdue: Callable[[], str | None]) -> None:
    told: str | None = None
    while True:
        late = overdue()
        if late is None:
            notifier.watchdog()
        elif late != told:
            _log.error("part_overdue", part=late, action="no longer feeding the service manager's watchdog")
        told = late
        await asyncio.sleep(interval)
