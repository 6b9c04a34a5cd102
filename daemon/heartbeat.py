"""The sign of life that systemd's watchdog waits for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from daemon.notify import Notifier, watchdog_interval

__all__ = ["heartbeat"]


@contextlib.asynccontextmanager
async def heartbeat(notifier: Notifier, environ: Mapping[str, str]) -> AsyncIterator[None]:
    """Say as often as the service manager wants it, while the context lasts, that the event loop turns.

    Without a watchdog nothing is said.

    Args:
        notifier: the service manager.
        environ: where the manager says how often.
    """
    interval = watchdog_interval(environ)
    if interval is None:
        yield
        return
    task = asyncio.create_task(_beat(notifier, interval))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(notifier: Notifier, interval: float) -> None:
    while True:
        notifier.watchdog()
        await asyncio.sleep(interval)
