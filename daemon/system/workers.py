"""The service's two worker threads: one reads files, one changes the store.

The event loop never blocks on either. `overdue` names the thread whose work takes longer than it should, for example
because a file system hangs.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from daemon.system.completion import uninterrupted
from daemon.system.liveness import Liveness

__all__ = ["Workers"]

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Workers:
    """Runs work in the two threads. Belongs to one event loop.

    Args:
        stopping: set when the service stops.
        work: seconds that one piece of work may take; longer means that a file system hangs.
        retry: seconds between two attempts to write to the store while the disk refuses.
    """

    def __init__(self, stopping: asyncio.Event, *, work: float = 300.0, retry: float = 5.0) -> None:
        self._work = work
        self._retry = retry
        self._stopping = stopping
        self._liveness = Liveness()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._store = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.store_waits = False
        """Whether a write to the store waits because the disk refuses it."""

    async def read(self, work: Callable[[], _T]) -> _T:
        """Run *work*, which reads files or looks things up in the store, in the reader's thread."""
        with self._liveness.doing("the reader", self._work):
            return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def change(self, work: Callable[[], _T]) -> _T:
        """Run *work*, which changes the store, in the store's thread.

        A caller that is cancelled gets the cancellation after the work is done or has failed, so that it knows what is
        in the store.
        """
        with self._liveness.doing("the store", self._work):
            future = asyncio.get_running_loop().run_in_executor(self._store, work)
            try:
                await uninterrupted(asyncio.wait({future}))
            except asyncio.CancelledError as cancelled:
                raise cancelled from future.exception()
            return future.result()

    async def write(self, work: Callable[[], None]) -> None:
        """Run *work*, which changes the store, and repeat it while the disk refuses the write.

        Raises:
            sqlite3.OperationalError: the disk refuses the write, and the service is stopping.
            sqlite3.DatabaseError: the store is damaged. The next start of the daemon sets it aside.
        """
        logged = False
        while True:
            try:
                await self.change(work)
                break
            except sqlite3.OperationalError as error:
                if not logged:
                    _log.error("store_unwritable", reason=str(error), action="trying again; nothing is lost")
                    logged = True
                if self._stopping.is_set():
                    raise
                self.store_waits = True
                await asyncio.sleep(self._retry)
        self.store_waits = False
        if logged:
            _log.info("store_writable_again")

    def overdue(self) -> str | None:
        """Return the thread whose work takes too long; None if neither's does."""
        return self._liveness.overdue()

    def end_store(self) -> None:
        """End the store's thread, after all its work is done."""
        self._store.shutdown()

    async def end_reader(self) -> None:
        """Wait for the reader's thread to end. Signals are handled meanwhile, even if a file system hangs."""
        await asyncio.to_thread(self._reader.shutdown)
