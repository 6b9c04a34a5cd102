"""The service: composition root and life cycle.

    watcher, logs    which sessions may have grown
    turns            which of them is read next
    backfilling      the sessions of a backfill; read only while no other session waits
    decisions        which route a session's events take, and whether it has to wait for the user's approval
    reader           its new lines, as events (in a thread of the workers, one session at a time)
    settlement       which lines those events rest on
    deliveries       for each route, batches to its sink, until settled
    commits, store   offsets, settled identities, owed traces: one transaction for each acknowledged batch

These tasks run at the same time in one event loop:

    read loop        reads sessions and queues their events (`read_loop.py`)
    lookout          finds out what there is to read, and enqueues it (`lookout.py`)
    deliveries       send batches; each acknowledged batch calls `_settle`
    prune, health    remove what no log refers to any more; write what `status` reads

A session is not read while its route has no room: the logs are the queue. A session at rest is not in memory, except
for the paths and sizes of its files. A session's trace is sent when the client's registry proves its end, or after a
long quiet. Shutdown has two phases: reading stops, then what was read is delivered within the deadline. What
was not delivered is read again at the next start.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from daemon.delivering.deliveries import Deliveries, MakeDelivery
from daemon.delivering.delivery import EventOutcome
from daemon.delivering.route import Route
from daemon.delivering.sink import Stopped
from daemon.following.cadence import Cadence
from daemon.following.kept_open import KeptOpen
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import log_roots
from daemon.following.logs import Logs
from daemon.following.opening import opening
from daemon.following.session_files import SessionFiles
from daemon.following.watcher import Watcher
from daemon.history.backfill_request import BackfillDesk
from daemon.history.backfilling import Backfilling
from daemon.history.backlog import Backlog
from daemon.history.first_start import HistoryPolicy, settle_history
from daemon.history.pruning import prune
from daemon.lookout import Lookout
from daemon.parallel.choice import Choice
from daemon.parallel.crew import Crew
from daemon.read_loop import ReadLoop
from daemon.reading.attendance import Attendance
from daemon.reading.claims import Claims
from daemon.reading.commits import Commits
from daemon.reading.executions import Executions
from daemon.reading.facts import Facts
from daemon.reading.logged_history import LoggedHistory
from daemon.reading.open_sessions import OpenSessions
from daemon.reading.reader import Reader
from daemon.reading.reporting import Reporting
from daemon.reading.settlement import Settlement
from daemon.reading.spool import Spool
from daemon.reading.turns import Turns
from daemon.routing.decisions import Decisions
from daemon.routing.routing import Routing
from daemon.running.health import Health
from daemon.running.memory import give_back
from daemon.running.notify import Notifier
from daemon.running.plugin_status import PluginStatus
from daemon.state.layout import LOCAL, STORE
from daemon.state.receipts import Receipts
from daemon.state.store import Store
from daemon.system import disk
from daemon.system.running_clock import RunningClock
from daemon.system.workers import Workers

__all__ = ["Service"]

_log = structlog.get_logger(__name__)

_LOOKED_THROUGH = 256 * 1024 * 1024
"""How many bytes of unread logs are looked through before a service is ready."""
_SIGHTING_DAYS = 30
"""Age at which it is forgotten that a session's process is gone."""


class Service:
    """Follows the logs below some config folders and delivers their events.

    Args:
        config_dirs: Claude Code's config folders. Their folders of logs may be created later.
        outboxes: folders in which programs record their own calls. They may be created later.
        empties: whether what is settled in them is removed. Then receipts of it are kept.
        store: the state.
        make_delivery: makes the delivery of a route.
        routing: decides the route of a session, and who its events belong to.
        session_timeout: seconds of quiet after which a session ends in which something is open, unless it is known to
            run.
        notifier: tells the service manager that the service is ready or stops; None to tell nobody.
        health: writes the file that `status` reads; None to write none.
        again: whether to read everything from its beginning and send what was never settled, including history. No
            stored offset is lowered.
        desk: receives the requests of `backfill`; None if there are none.
        backlog: the sessions to count progress of; None for none.
        executions: the records of the commands under `exec`; None if there are none.
        only_named: whether to follow only the sessions of commands.
        plugin_status: writes the status file of PostHog's plugin; None to write none.
        hire: see `ReadLoop`.
        on_current: called once while it follows, when everything that was logged before is read and delivered.
        cadence: times and sizes.
    """

    def __init__(
        self,
        *,
        config_dirs: Sequence[Path],
        outboxes: Sequence[Path] = (),
        empties: bool = False,
        store: Store,
        make_delivery: MakeDelivery,
        routing: Routing,
        session_timeout: float,
        notifier: Notifier | None = None,
        health: Health | None = None,
        again: bool = False,
        desk: BackfillDesk | None = None,
        backlog: Backlog | None = None,
        executions: Executions | None = None,
        only_named: bool = False,
        plugin_status: PluginStatus | None = None,
        hire: Callable[[int, int | None], Crew | None] = lambda _size, _jobs: None,
        on_current: Callable[[], None] | None = None,
        cadence: Cadence | None = None,
    ) -> None:
        self._store = store
        facts = Facts()
        self._notifier = notifier or Notifier({})
        self._again = again
        self._on_current = on_current
        self._cadence = cadence or Cadence()
        self._drain_seconds = self._cadence.drain
        self._stopping = asyncio.Event()
        self._replaced = False

        self._workers = Workers(self._stopping, work=self._cadence.work, retry=self._cadence.store_retry)
        self._lookup = store.reader()
        self._claims = Claims(self._lookup, fresh=self._lookup.is_empty)
        rejected = list(store.rejected())
        self._settlement = Settlement(
            self._claims, store.owed(), (row.uuid for row in rejected), filter(None, (row.unit for row in rejected))
        )
        self._live = LiveSessions(config_dirs, store.sightings())
        self._sessions = OpenSessions()
        self._logs = Logs(log_roots(config_dirs, outboxes), kept=KeptOpen(), is_open=self._sessions.__contains__)
        self._attendance = Attendance(
            executions or Executions(None),
            logs=self._logs,
            lookup=self._lookup,
            workers=self._workers,
            only_named=only_named,
            young=self._cadence.young,
        )
        self._decisions = Decisions(
            routing=routing, store=store, reader=self._lookup, workers=self._workers, units=self._logs.sessions
        )
        self._receipts = Receipts(store.folder) if empties else None
        self._commits = Commits(
            settlement=self._settlement,
            decisions=self._decisions,
            store=store,
            workers=self._workers,
            receipts=self._receipts,
            folder_of=self._folder_of,
        )
        self._deliveries = Deliveries(make_delivery, self._commits.before_sending, self._settle)
        turns = Turns(
            self._logs.sessions,
            active=self._sessions.names,
            seen=self._decisions.foreseen.keys(),
            stalled_on=self._stalled_on,
            has_room=self._deliveries.has_room,
            is_stopped=self._deliveries.is_stopped,
        )
        self._backfilling = Backfilling(
            desk=desk,
            backlog=backlog or Backlog(),
            settlement=self._settlement,
            deliveries=self._deliveries,
            route_of=self._route_of,
        )
        self._reader = Reader(
            logs=self._logs,
            routing=routing,
            claims=self._claims,
            sessions=self._sessions,
            settlement=self._settlement,
            marks=self._lookup.mark,
            former=self._lookup.files_of,
            hosts=self._lookup.hosts,
            stored_of=self._lookup.stored_of,
            decided=self._decisions,
            executions=self._attendance.executions,
            live=self._live,
            history=LoggedHistory(self._lookup),
            session_timeout=session_timeout,
            again=lambda name: again or self._backfilling.reads_again(name),
            resends=self._backfilling.resends,
            facts=facts,
            cadence=self._cadence,
        )

        spool = Spool(
            logs=self._logs,
            lookup=self._lookup,
            workers=self._workers,
            is_done=self._is_done,
            facts=facts,
            was_rejected=lambda name: name in self._settlement.rejecting,
            shown=store.folder / LOCAL / STORE,
            quiet=self._cadence.gone,
            most=self._cadence.spool_bytes,
            empties=empties,
        )
        self._reporting = Reporting(
            health=health,
            plugin_status=plugin_status,
            logs=self._logs,
            sessions=self._sessions,
            turns=turns,
            deliveries=self._deliveries,
        )

        clock = RunningClock(self._cadence.tick, lambda: asyncio.get_running_loop().time())
        self._loop = ReadLoop(
            logs=self._logs,
            live=self._live,
            reader=self._reader,
            settlement=self._settlement,
            decisions=self._decisions,
            attendance=self._attendance,
            backfilling=self._backfilling,
            deliveries=self._deliveries,
            commits=self._commits,
            reporting=self._reporting,
            turns=turns,
            workers=self._workers,
            choice=Choice(
                logs=self._logs,
                lookup=self._lookup,
                claims=self._claims,
                executions=self._attendance.executions,
                again=lambda name: again or self._backfilling.reads_again(name),
                resends=self._backfilling.resends,
                facts=facts,
                first_start=lambda: self._reader.first_start,
            ),
            hire=hire,
            clock=clock,
            cadence=self._cadence,
        )
        self._lookout = Lookout(
            again=again,
            store=store,
            lookup=self._lookup,
            logs=self._logs,
            live=self._live,
            routing=routing,
            decisions=self._decisions,
            attendance=self._attendance,
            backfilling=self._backfilling,
            settlement=self._settlement,
            reader=self._reader,
            spool=spool,
            facts=facts,
            commits=self._commits,
            reporting=self._reporting,
            loop=self._loop,
            workers=self._workers,
            clock=clock,
            cadence=self._cadence,
        )

    def _route_of(self, name: str) -> Route | None:
        """Return the route of a session; None if it is not known yet. The session need not be in memory any more."""
        return self._sessions.route(name) or self._decisions.foreseen.get(name)

    def _stalled_on(self, name: str) -> Route | None:
        """Return a route of a session that has no room; None if all have, or if the route is not known yet."""
        session = self._sessions.get(name)
        routes = [self._route_of(name), *(session.pipeline.routes if session is not None else ())]
        return next((each for each in routes if each is not None and not self._deliveries.has_room(each)), None)

    def _is_done(self, files: SessionFiles) -> bool | None:
        return self._loop.is_done(files)

    # ------------------------------------------------------------------ life cycle

    async def run(self) -> None:
        """Follow until `stop` is called. Then deliver what was read, within the deadline.

        Raises:
            Exception: what broke the service. The offsets are as last written.
        """
        loop = asyncio.get_running_loop()
        watcher = Watcher(
            self._logs.roots,
            lambda path: _discard(loop.call_soon_threadsafe(self._lookout.hint, path)),
            lambda: _discard(loop.call_soon_threadsafe(self._lookout.note_overflow)),
            registries=self._live.folders,
            registered=lambda: _discard(loop.call_soon_threadsafe(self._lookout.note_registry)),
        )
        try:
            await self._workers.read(watcher.start)
            await self._lookout.first_sweep(most=_LOOKED_THROUGH)
            await self._lookout.tend_backlog()
            _log.info("ready", sessions=len(self._logs.sessions), to_read=len(self._loop.turns))
            self._notifier.ready(f"following {len(self._logs.sessions)} sessions")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._loop.run())
                tasks.create_task(self._lookout.tick(watcher))
                tasks.create_task(self._deliveries.wait_failed())
                tasks.create_task(self._prune_loop())
                tasks.create_task(self._health_loop())
                tasks.create_task(self._lookout.look_for_unknown())
                tasks.create_task(self._end_when_stopped())
                if self._on_current is not None:
                    tasks.create_task(self._tell_current(self._on_current))
        except BaseExceptionGroup as group:
            broken = group.split(_Stop)[1]
            if broken is not None:
                raise (broken if len(broken.exceptions) > 1 else broken.exceptions[0]) from None
        finally:
            if not self._replaced:
                self._notifier.stopping()
            watcher.stop()
            self._lookout.stop_listening()
            await self._close()

    async def run_once(
        self, wanted: Callable[[SessionFiles], bool] = lambda _files: True, *, since: float = 0.0
    ) -> bool:
        """Read all logs to their end and deliver their events. Return whether everything is settled.

        What is open in running sessions stays open, for a daemon that follows them.

        Args:
            wanted: returns whether to read a session.
            since: read only sessions that were written to since then, in seconds since the epoch.
        """
        try:
            await self._lookout.first_sweep()
            waiting = self._loop.turns.names
            self._loop.turns.clear()
            chosen = [
                files
                for files in self._logs.sessions.values()
                # What programs record tells only inside which sessions it is of; there is little, as it is removed.
                if files.name in waiting
                and (files.agent.is_spool or (self._logs.touched(files) >= since * 1e9 and wanted(files)))
            ]
            # To sort a session, its first line is read: of a long history, only few may be chosen.
            order = await self._loop.in_order(chosen)
            settled = await self._deliveries.outlast(self._loop.read_all(order), self._cadence.once_patience)
            await self._lookout.tend_spool()
            if not self._again:
                await self._prune()
            return settled
        finally:
            await self._close()

    def stop(self, *, replaced: bool = False, drain: float | None = None) -> None:
        """Begin to shut down.

        Args:
            replaced: whether another service takes over in this process. Then the service manager is told of a reload.
            drain: seconds to deliver what was read; None for as many as the cadence says.
        """
        self._drain_seconds = self._cadence.drain if drain is None else drain
        if replaced:
            self._replaced = True
            self._notifier.reloading()
        self._stopping.set()
        self._loop.wake()

    def prepare(self, history: HistoryPolicy, now: float) -> None:
        """At the first start, mark the existing logs as history or not. Call this before `run` or `run_once`.

        Args:
            history: what to do with logs that exist at the first start.
            now: the wall clock, in seconds since the epoch.
        """
        self._reader.first_start = settle_history(self._store, self._logs.roots, history, now)

    @property
    def waiting(self) -> int:
        """How many sessions wait to be read."""
        return len(self._loop.turns)

    def progress(self) -> tuple[int, int]:
        """Return how many bytes of logs `run_once` has read, and how many it has still to read. For any thread."""
        return self._loop.progress

    def refusal(self) -> Stopped | None:
        """Return why nothing can be delivered for now; None if something can."""
        return self._deliveries.refusal()

    async def _tell_current(self, tell: Callable[[], None]) -> None:
        await self._loop.caught_up.wait()
        await self._deliveries.flush()
        tell()

    async def _end_when_stopped(self) -> None:
        await self._stopping.wait()
        raise _Stop

    async def _close(self) -> None:
        self._reporting.note_failures()
        try:
            await self._deliveries.aclose(self._drain_seconds)
        finally:
            try:
                await self._commits.write()
                with suppress(sqlite3.OperationalError):
                    await self._lookout.note_sightings()
            finally:
                await self._reporting.tell(self._loop.reading)
                self._workers.end_store()
                self._logs.close()
                await self._workers.end_reader()
                self._lookup.close()

    # ------------------------------------------------------------------ settling

    async def _settle(self, outcomes: Sequence[EventOutcome]) -> None:
        """Count and write the outcomes of an acknowledged batch."""
        backlog = self._backfilling.backlog
        for outcome in outcomes:
            unit = self._settlement.unit_of(outcome.event.identity)
            backlog.settle(unit, outcome.event.uuid, outcome.outcome)
            self._reporting.note_settled(unit, outcome)
        if backlog:
            self._loop.wake()
        await self._commits.write(outcomes)

    def _folder_of(self, unit: str) -> str | None:
        files = self._logs.sessions.get(unit)
        try:
            return None if files is None else opening(files).cwd
        except disk.Unanswered:
            return None

    # ------------------------------------------------------------------ from time to time

    async def _prune_loop(self) -> None:
        while True:
            await self._prune()
            # The start and pruning need more memory than what follows.
            await self._workers.change(self._store.shrink)
            give_back()
            await asyncio.sleep(self._cadence.prune)

    async def _prune(self) -> None:
        await prune(self._store, self._workers, self._logs, forget=self._decisions.forget)
        await self._workers.change(partial(self._store.forget_sightings, _SIGHTING_DAYS))
        if self._receipts is not None:
            await self._workers.change(self._receipts.tidy)

    async def _health_loop(self) -> None:
        while True:
            await self._reporting.tell(self._loop.reading)
            await asyncio.sleep(self._cadence.health)

    def overdue(self) -> str | None:
        """Return the name of a part that is stuck; None if every part works, or waits for something it may wait for."""
        if (late := self._workers.overdue() or self._deliveries.overdue()) is not None:
            return late
        now, patience = time.monotonic(), self._cadence.late
        if self._loop.resting_until is not None and self._loop.resting_until + patience < now:
            return "the read loop, which rests"
        if self._lookout.is_late(now):
            return "looking at files"
        return None


class _Stop(Exception):  # noqa: N818 - ends the group of tasks; nothing is wrong
    """`stop` was called."""


def _discard(_handle: asyncio.Handle) -> None:
    """Drop the return value: a watcher's callbacks return None."""
