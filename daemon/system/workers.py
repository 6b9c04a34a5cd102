"""The two threads in which the service's work is done, and whether they get on.

One looks at files, one changes the store; the event loop waits for neither. Whatever takes longer than it should, a
file system that hangs for example, is named by `overdue`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from daemon.system.liveness import Liveness

__all__ = ["Workers"]

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Workers:
    """Does work in threads. Belongs to one event loop.

    Args:
        stopping: set when the service is to end.
        work: seconds that one piece of work may take.
        retry: seconds between two attempts to write what the disk refuses.
    """

    def __init__(self, stopping: asyncio.Event, *, work: float = 300.0, retry: float = 5.0) -> None:
        self._work = work
        self._retry = retry
        self._stopping = stopping
        self._liveness = Liveness()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._store = ThreadPoolExecutor(1, thread_name_prefix="store")
        self.store_waits = False
        """Whether the disk refuses the store for now."""

    async def read(self, work: Callable[[], _T]) -> _T:
        """Do what looks at files, in its thread."""
        with self._liveness.doing("the reader", self._work):
            return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def change(self, work: Callable[[], _T]) -> _T:
        """Do what changes the store, in its thread."""
        with self._liveness.doing("the store", self._work):
            return await asyncio.get_running_loop().run_in_executor(self._store, work)

    async def write(self, work: Callable[[], None]) -> None:
        """Do what changes the store, again and again while the disk refuses it.

        Raises:
            sqlite3.OperationalError: the disk refuses it, and the service is to end.
            sqlite3.DatabaseError: the store is damaged. A new start sets it aside.
        """
        told = False
        while True:
            try:
                await self.change(work)
                break
            except sqlite3.OperationalError as error:
                if not told:
                    _log.error("store_unwritable", reason=str(error), action="trying again; nothing is lost")
                    told = True
                if self._stopping.is_set():
                    raise
                self.store_waits = True
                await asyncio.sleep(self._retry)
        self.store_waits = False
        if told:
            _log.info("store_writable_again")

    def overdue(self) -> str | None:
        """Name the thread whose work takes too long; None if none does."""
        return self._liveness.overdue()

    def end_store(self) -> None:
        """End the store's thread, which has nothing more to do."""
        self._store.shutdown()

    async def end_reader(self) -> None:
        """Wait for the reader's thread to end. A file system that does not answer keeps no signal from being heard."""
        await asyncio.to_thread(self._reader.shutdown)
