"""Commits: writes what is settled to the store, in one transaction for each acknowledged batch."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import partial

from daemon.delivering.delivery import EventOutcome
from daemon.reading.settlement import Settlement
from daemon.routing.decisions import Decisions
from daemon.state.store import Store
from daemon.system.workers import Workers

__all__ = ["Commits"]


class Commits:
    """Belongs to one event loop.

    Args:
        settlement: tells what may be written.
        decisions: the routes that have to be written before.
        store: where it is written.
        workers: the thread in which it is.
    """

    def __init__(self, *, settlement: Settlement, decisions: Decisions, store: Store, workers: Workers) -> None:
        self._settlement = settlement
        self._decisions = decisions
        self._store = store
        self._workers = workers
        self._lock = asyncio.Lock()

    async def before_sending(self) -> None:
        """Make sure that no event leaves before its session's route is written."""
        try:
            await self._decisions.write()
        except sqlite3.OperationalError:
            # The disk refuses it, and the service ends: nothing may leave any more.
            await asyncio.get_running_loop().create_future()

    async def write(self, outcomes: Sequence[EventOutcome] = ()) -> None:
        """Settle *outcomes*, and write everything that may be written; wait while the disk refuses it.

        Raises:
            sqlite3.DatabaseError: the store is damaged.
        """
        async with self._lock:
            commit = self._settlement.commit(outcomes)
            if not commit:
                return
            try:
                await self._decisions.write()
                await self._workers.write(partial(self._store.commit, commit))
            except sqlite3.OperationalError:
                # The service ends; what is not written is read again.
                return
            self._settlement.written(commit)
