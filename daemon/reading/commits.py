"""Writes to the store what is settled: one transaction for each acknowledged batch."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

from daemon.delivering.delivery import EventOutcome
from daemon.reading.settlement import Settlement
from daemon.routing.decisions import Decisions
from daemon.state.rows import Commit
from daemon.state.store import Store
from daemon.system.workers import Workers

__all__ = ["Commits"]


class Commits:
    """Writes commits, one at a time. Use it from one event loop only.

    Args:
        settlement: makes the commits.
        decisions: the sessions' routes, which are written before anything else of a session.
        store: the state.
        workers: has the thread that writes.
    """

    def __init__(self, *, settlement: Settlement, decisions: Decisions, store: Store, workers: Workers) -> None:
        self._settlement = settlement
        self._decisions = decisions
        self._store = store
        self._workers = workers
        self._lock = asyncio.Lock()
        self._unwritten: Commit | None = None

    async def before_sending(self) -> None:
        """Write the routes that are not stored yet. Each request awaits this: no event leaves before its route."""
        try:
            await self._decisions.write()
        except sqlite3.OperationalError:
            # The disk refuses the write, and the service is stopping. Without the route nothing may be sent, so this
            # waits until the service cancels it.
            await asyncio.get_running_loop().create_future()

    async def write(self, outcomes: Sequence[EventOutcome] = ()) -> None:
        """Settle *outcomes* and write everything that may be written. Waits while the disk refuses the write.

        Raises:
            sqlite3.DatabaseError: the store is damaged.
        """
        async with self._lock:
            try:
                if self._unwritten is not None:
                    await self._write(self._unwritten)
                if commit := self._settlement.commit(outcomes):
                    await self._write(commit)
            except sqlite3.OperationalError:
                # The service is stopping. What is not written is read again at the next start.
                return

    async def _write(self, commit: Commit) -> None:
        """Write *commit*. If that fails or is cancelled, it comes before the next one.

        It may owe the trace of a line that the offsets of the next one pass.
        """
        self._unwritten = commit

        def work() -> None:
            self._store.commit(commit)
            self._unwritten = None

        try:
            await self._decisions.write()
            await self._workers.write(work)
        finally:
            if self._unwritten is None:
                self._settlement.written(commit)
