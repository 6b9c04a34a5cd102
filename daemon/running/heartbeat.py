"""The sign of life that systemd's watchdog waits for."""

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
    """Say as often as the service manager wants it, while the context lasts, that the service lives.

    It lives while the event loop turns and nothing is overdue. Without a watchdog nothing is said.

    Args:
        notifier: the service manager.
        environ: where the manager says how often.
        overdue: names what should have got on long ago; None if nothing should.
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
            _log.error("stuck", part=late, action="the service manager is no longer told that all is well")
        told = late
        await asyncio.sleep(interval)
