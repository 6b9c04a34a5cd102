"""Writes to the store what is settled: one transaction for each acknowledged batch.

Of what programs recorded, receipts are written, too: `verify` compares them when the files are gone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

from daemon.delivering.delivery import EventOutcome
from daemon.delivering.local.call import EMBEDDING, GENERATION, call
from daemon.delivering.route import LOCAL, Route
from daemon.following.log_roots import is_spooled
from daemon.reading.settlement import Settlement
from daemon.routing.decisions import Decisions
from daemon.state.receipts import Receipt, Receipts
from daemon.state.rows import Commit
from daemon.state.store import Store
from daemon.system.workers import Workers
from llma_core import view

__all__ = ["Commits"]


_Recorded = tuple[EventOutcome, str, Route | None]
"""What became of an event that a program recorded, with its unit, and its route if that is not its unit's."""


class Commits:
    """Writes commits, one at a time. Use it from one event loop only.

    Args:
        settlement: makes the commits.
        decisions: the sessions' routes, which are written before anything else of a session.
        store: the state.
        workers: has the thread that writes.
        receipts: keeps what becomes of events that programs recorded; None to keep nothing.
        folder_of: returns the working directory of the program that wrote a unit; None if that is not known.
    """

    def __init__(
        self,
        *,
        settlement: Settlement,
        decisions: Decisions,
        store: Store,
        workers: Workers,
        receipts: Receipts | None = None,
        folder_of: Callable[[str], str | None] = lambda _unit: None,
    ) -> None:
        self._settlement = settlement
        self._decisions = decisions
        self._store = store
        self._workers = workers
        self._receipts = receipts
        self._folder_of = folder_of
        self._lock = asyncio.Lock()
        self._unwritten: tuple[Commit, Sequence[_Recorded]] | None = None

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
                    await self._write(*self._unwritten)
                recorded = self._recorded(outcomes)
                if commit := self._settlement.commit(outcomes):
                    await self._write(commit, recorded)
            except sqlite3.OperationalError:
                # The service is stopping. What is not written is read again at the next start.
                return

    def _recorded(self, outcomes: Sequence[EventOutcome]) -> list[_Recorded]:
        """Return what became of events that programs recorded, of those that may leave this machine."""
        found: list[_Recorded] = []
        spooled: dict[str | None, bool] = {None: False}
        for outcome in outcomes if self._receipts is not None else ():
            unit = self._settlement.unit_of(outcome.event.identity)
            if unit not in spooled:
                spooled[unit] = unit is not None and is_spooled(unit)
            if unit is not None and spooled[unit] and outcome.outcome != "superseded":
                route = self._settlement.route_of(outcome.event.identity)
                if route != LOCAL:
                    found.append((outcome, unit, route))
        return found

    def _receive(self, recorded: Sequence[_Recorded]) -> None:
        """Write receipts. The routes of their units are in the store by now; memory may have forgotten them."""
        assert self._receipts is not None
        units = {unit for _, unit, _ in recorded}
        folders = {unit: self._folder_of(unit) for unit in units}
        with closing(self._store.reader()) as lookup:
            routes = {unit: lookup.route(unit) for unit in units}
        receipts = []
        for outcome, unit, route in recorded:
            frozen = routes[unit]
            host, key = (route.host, route.fingerprint) if route is not None else (None, None)
            if route is None and frozen is not None:
                host, key = frozen.host, frozen.key
            if host is not None and key is not None:
                receipts.append(_receipt(outcome, folder=folders[unit], host=host, key=key))
        self._receipts.add(receipts)

    async def _write(self, commit: Commit, recorded: Sequence[_Recorded]) -> None:
        """Write *commit*, after receipts. If that fails or is cancelled, both come before the next one.

        It may owe the trace of a line that the offsets of the next one pass.
        """
        unreceived = [*recorded]
        self._unwritten = commit, unreceived

        def work() -> None:
            # The disk may refuse the commit several times.
            if unreceived:
                self._receive(unreceived)
                unreceived.clear()
            self._store.commit(commit)
            self._unwritten = None

        try:
            await self._decisions.write()
            await self._workers.write(work)
        finally:
            if self._unwritten is None:
                self._settlement.written(commit)


def _receipt(outcome: EventOutcome, *, folder: str | None, host: str, key: str) -> Receipt:
    said = view.read(outcome.event.body)
    row = call(said)
    return Receipt(
        uuid=outcome.event.uuid,
        kind=outcome.event.name,
        session=said.session_id,
        trace=said.trace_id,
        model=said.model,
        at=row.at,
        input=row.input or 0,
        given=said.given_input_tokens or 0,
        output=row.output or 0,
        cache_read=row.cache_read or 0,
        cache_write_5m=row.cache_write_5m or 0,
        cache_write_1h=row.cache_write_1h or 0,
        web_searches=row.web_searches or 0,
        provider=row.provider,
        tier=row.tier,
        prices=row.prices,
        is_priced=row.kind in (GENERATION, EMBEDDING),
        folder=folder,
        host=host,
        key=key,
    )
