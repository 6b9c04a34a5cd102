"""The service: composition root and life cycle.

    watcher, logs  -> which sessions may have grown
    turns          -> which of them is read next
    backfilling    -> whose history is asked for; read only while none of the others waits
    decisions      -> which route a session's events take, and whether it has to wait for the user's approval
    reader         -> its new lines, as events (in a thread of the workers, one session at a time)
    settlement     -> which lines those events rest on
    deliveries     -> for each route batches to its sink, until settled
    store          -> offsets, settled identities, owed traces: one transaction for each acknowledged batch

A session is not read while its route has no room: the logs are the queue. Of a session at rest nothing is in memory
but where its files are and what they look like. A session's trace goes out when its process is gone from the client's
registry, or when it has been quiet for long. Shutdown has two phases: reading stops, then what was read is delivered
within the deadline; what is not is read again at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
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
from daemon.following.schedule import SweepSchedule
from daemon.following.session_files import SessionFiles
from daemon.following.watcher import Watcher
from daemon.history.backfill_request import BackfillDesk
from daemon.history.backfilling import Backfilling
from daemon.history.backlog import Backlog
from daemon.history.first_start import HistoryPolicy, settle_history
from daemon.history.pruning import prune
from daemon.read_loop import ReadLoop
from daemon.reading.attendance import Attendance
from daemon.reading.claims import Claims
from daemon.reading.commits import Commits
from daemon.reading.executions import Executions
from daemon.reading.open_sessions import OpenSessions
from daemon.reading.reader import Reader
from daemon.reading.reporting import Reporting
from daemon.reading.settlement import Settlement
from daemon.reading.turns import Turns
from daemon.routing.decisions import Decisions
from daemon.routing.routing import Routing
from daemon.running.health import Health
from daemon.running.memory import give_back
from daemon.running.notify import Notifier
from daemon.running.plugin_status import PluginStatus
from daemon.state.store import Store
from daemon.system.workers import Workers

__all__ = ["Service"]

_log = structlog.get_logger(__name__)


class Service:
    """Follows the logs below some config folders and delivers their events.

    Args:
        config_dirs: Claude Code's config folders; each has folders of logs, now or later.
        store: the state.
        make_delivery: builds where the events of a route go, around what settles them.
        routing: whose they are, and which route they take.
        session_timeout: seconds of quiet after which a session without a live process has ended.
        notifier: the service manager.
        health: where to say what `status` is to tell; None: nowhere.
        again: read everything from its beginning and send what was never settled, history too; stored offsets are never
            lowered by it.
        desk: where a running service is asked to send history.
        backlog: counts how far the sessions in it are.
        executions: the commands that `exec` runs.
        only_named: follow no sessions but those of commands.
        plugin_status: keeps the status file of PostHog's plugin; None: nobody does.
        cadence: times and sizes.
    """

    def __init__(
        self,
        *,
        config_dirs: Sequence[Path],
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
        cadence: Cadence | None = None,
    ) -> None:
        self._store = store
        self._notifier = notifier or Notifier({})
        self._again = again
        self._cadence = cadence or Cadence()
        self._drain_seconds = self._cadence.drain
        self._stopping = asyncio.Event()
        self._replaced = False
        self._ticked_at: float | None = None
        self._overflow = False

        self._workers = Workers(self._stopping, work=self._cadence.work, retry=self._cadence.store_retry)
        self._lookup = store.reader()
        self._claims = Claims(self._lookup, fresh=self._lookup.is_empty)
        self._settlement = Settlement(self._claims, store.owed())
        self._live = LiveSessions(config_dirs)
        self._sessions = OpenSessions()
        self._logs = Logs(log_roots(config_dirs), kept=KeptOpen(), is_open=self._sessions.__contains__)
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
        self._commits = Commits(
            settlement=self._settlement, decisions=self._decisions, store=store, workers=self._workers
        )
        self._deliveries = Deliveries(make_delivery, self._commits.before_sending, self._settle)
        turns = Turns(
            self._logs.sessions,
            active=self._sessions.names,
            seen=self._decisions.foreseen.keys(),
            stalled_on=self._stalled_on,
            is_stopped=self._deliveries.is_stopped,
        )
        self._backfilling = Backfilling(
            desk=desk,
            backlog=backlog or Backlog(),
            settlement=self._settlement,
            deliveries=self._deliveries,
            route_of=self._sessions.route,
        )
        self._reader = Reader(
            logs=self._logs,
            routing=routing,
            claims=self._claims,
            sessions=self._sessions,
            settlement=self._settlement,
            marks=self._lookup.mark,
            decided=self._decisions,
            executions=self._attendance.executions,
            live=self._live,
            session_timeout=session_timeout,
            again=lambda name: again or name in self._backfilling.backlog,
            cadence=self._cadence,
        )

        self._reporting = Reporting(
            health=health,
            plugin_status=plugin_status,
            logs=self._logs,
            sessions=self._sessions,
            turns=turns,
            deliveries=self._deliveries,
        )

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
            cadence=self._cadence,
        )

    def _stalled_on(self, name: str) -> Route | None:
        """Return the route of a session if it has no room; None if it has, or if the route is not known yet."""
        route = self._sessions.route(name) or self._decisions.foreseen.get(name)
        return route if route is not None and not self._deliveries.has_room(route) else None

    # ------------------------------------------------------------------ life cycle

    async def run(self) -> None:
        """Follow until `stop` is called; then deliver what was read, within the deadline.

        Raises:
            Exception: what broke the service; offsets are as they were last written.
        """
        loop = asyncio.get_running_loop()
        watcher = Watcher(
            self._logs.roots,
            lambda path: _discard(loop.call_soon_threadsafe(self._hint, path)),
            lambda: _discard(loop.call_soon_threadsafe(self._hint_all)),
        )
        try:
            watcher.start()
            await self._first_sweep()
            await self._tend_backlog()
            _log.info("ready", sessions=len(self._logs.sessions), to_read=len(self._loop.turns))
            self._notifier.ready(f"following {len(self._logs.sessions)} sessions")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._loop.run())
                tasks.create_task(self._tick_loop(watcher))
                tasks.create_task(self._deliveries.wait_failed())
                tasks.create_task(self._prune_loop())
                tasks.create_task(self._health_loop())
                tasks.create_task(self._end_when_stopped())
        except BaseExceptionGroup as group:
            broken = group.split(_Stop)[1]
            if broken is not None:
                raise (broken if len(broken.exceptions) > 1 else broken.exceptions[0]) from None
        finally:
            if not self._replaced:
                self._notifier.stopping()
            watcher.stop()
            await self._close()

    async def run_once(self, wanted: Callable[[SessionFiles], bool] = lambda _files: True) -> bool:
        """Read everything there is, deliver it, and return whether all of it is settled.

        Sessions that are running keep what is open in them for a daemon that follows them.

        Args:
            wanted: which sessions to look at.
        """
        loop = asyncio.get_running_loop()
        try:
            await self._first_sweep()
            order = await self._loop.in_order(list(self._logs.sessions.values()))
            waiting = self._loop.turns.names
            self._loop.turns.clear()
            chosen = [files for files in order if files.name in waiting and wanted(files)]
            settled = await self._with_patience(loop.create_task(self._loop.read_all(chosen)))
            if not self._again:
                await self._prune()
            return settled
        finally:
            await self._close()

    def stop(self, *, replaced: bool = False, drain: float | None = None) -> None:
        """Begin to shut down.

        Args:
            replaced: whether another service takes over in this process, so that the service manager sees no end.
            drain: seconds to deliver what was read; None: as many as the cadence says.
        """
        self._drain_seconds = self._cadence.drain if drain is None else drain
        if replaced:
            self._replaced = True
            self._notifier.reloading()
        self._stopping.set()
        self._loop.wake()

    def prepare(self, history: HistoryPolicy, now: float) -> None:
        """Settle what is history, before the first sweep.

        Args:
            history: what to do with the logs that are there at the first start.
            now: the wall clock, in seconds since the epoch.
        """
        self._reader.first_start = settle_history(self._store, self._logs.roots, history, now)

    def refusal(self) -> Stopped | None:
        """Return why nothing can be delivered until a person changes something; None where something can."""
        return self._deliveries.refusal()

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
            finally:
                await self._reporting.tell(self._loop.reading)
                self._workers.end_store()
                self._logs.close()
                await self._workers.end_reader()
                self._lookup.close()

    async def _with_patience(self, work: asyncio.Task[bool]) -> bool:
        """Wait for *work*, as long as batches are accepted from time to time."""
        failed = asyncio.create_task(self._deliveries.wait_failed())
        try:
            while True:
                before = self._deliveries.batches
                done, _ = await asyncio.wait(
                    {work, failed}, timeout=self._cadence.once_patience, return_when=asyncio.FIRST_COMPLETED
                )
                if work in done:
                    return work.result()
                if failed in done:
                    failed.result()
                if self._deliveries.batches == before:
                    return False
        finally:
            work.cancel()
            failed.cancel()
            await asyncio.wait({work, failed})

    # ------------------------------------------------------------------ which sessions may have grown

    def _hint(self, path: str) -> None:
        self._loop.take(self._logs.hinted(path))

    def _hint_all(self) -> None:
        self._overflow = True
        self._loop.wake()

    async def _first_sweep(self) -> None:
        executions, logs, settlement = self._attendance.executions, self._logs, self._settlement
        await self._workers.read(executions.refresh)
        scan = await self._workers.read(partial(logs.sweep, "full"))
        executions.close(executions.ended)
        if not self._attendance.only_named:
            # Those that still have to wait are found again; who looks at few sessions must not forget the others.
            await self._workers.write(self._store.release)
        logs.include(scan.changed)
        missing = [name for name in settlement.owing if name not in logs.sessions]
        if deleted := logs.deleted(missing, self._store.files()):
            await self._workers.change(partial(self._store.forget_owed, deleted))
            settlement.forgive(deleted)
        every = list(logs.sessions.values())
        unread = await self._workers.read(partial(logs.unread, every, self._lookup.offset))
        logs.expect(unread)
        wanted = {files.name for files in map(logs.session_of, unread) if files is not None}
        # With the sessions that hints have named meanwhile, so that these are put in order with the others.
        wanted |= {*settlement.owing, *self._loop.turns.names}
        to_read = [
            files
            for files in logs.sessions.values()
            if self._attendance.follows(files) and (self._again or files.name in wanted)
        ]
        newest: dict[str, int] = {}
        for files in to_read:
            newest[files.folder] = max(newest.get(files.folder, 0), logs.touched(files))
        self._loop.enqueue_all(sorted(to_read, key=lambda files: -newest[files.folder]))
        # The newest first, which are those that are kept open where there are too many.
        for files in sorted(to_read, key=logs.touched, reverse=True):
            for path in filter(unread.__contains__, files.paths):
                logs.keep(path)

    async def _tick_loop(self, watcher: Watcher) -> None:
        loop = asyncio.get_running_loop()
        schedule = SweepSchedule(self._cadence, loop.time(), time.time())
        while True:
            await asyncio.sleep(self._cadence.tick)
            now, wall = loop.time(), time.time()
            self._ticked_at = time.monotonic()
            kind = schedule.due(now, wall, watcher, overflow=self._overflow)
            if kind is not None:
                self._overflow = False
                scan = await self._workers.read(partial(self._logs.sweep, kind, wall))
                self._loop.take(self._logs.apply(scan))
                if kind == "full":
                    give_back()
                for files in await self._decisions.release():
                    self._loop.enqueue(files)
                self._reopen_owing()
                for files in self._reader.retry_unreadable():
                    self._loop.enqueue(files)
            await self._look_at_commands()
            if len(self._sessions):
                for files in self._reader.tend(now, self._live.running(), reading=self._loop.reading):
                    self._loop.enqueue(files)
            await self._commits.write()
            await self._tend_backlog()

    def _reopen_owing(self) -> None:
        """Take up sessions that owe a trace, are not in memory and have ended meanwhile."""
        if not self._settlement.owing:
            return
        running = self._live.running()
        for name in list(self._settlement.owing):
            files = self._logs.sessions.get(name)
            if files is not None and name not in self._sessions and files.session not in running:
                self._loop.enqueue(files)

    async def _look_at_commands(self) -> None:
        changes, claimed = await self._attendance.look()
        self._loop.take(changes)
        for files in claimed:
            self._loop.enqueue(files)
        await self._attendance.remove_delivered(self._loop.is_done)

    # ------------------------------------------------------------------ history that is asked for

    async def _tend_backlog(self) -> None:
        """Take up, or give up, what `backfill` asks for, and say how far it is."""
        if not self._backfilling.look():
            return
        # A route that has stopped settles nothing, and so wakes nobody.
        self._loop.wake()
        soon = asyncio.get_running_loop().time() + self._cadence.backlog_patience
        settling = any(
            session.due is not None and session.due <= soon
            for session in self._sessions
            if session.name in self._backfilling.backlog and not self._backfilling.is_stopped(session.name)
        )
        await self._backfilling.report(settling=settling)

    async def _settle(self, outcomes: Sequence[EventOutcome]) -> None:
        for outcome in outcomes:
            unit = self._settlement.unit_of(outcome.event.identity)
            self._backfilling.backlog.settle(unit, outcome.outcome)
            self._reporting.note_settled(unit, outcome)
        if self._backfilling.backlog:
            self._loop.wake()
        await self._commits.write(outcomes)

    # ------------------------------------------------------------------ from time to time

    async def _prune_loop(self) -> None:
        while True:
            await self._prune()
            # The start and this have taken more than what follows.
            await self._workers.change(self._store.shrink)
            give_back()
            await asyncio.sleep(self._cadence.prune)

    async def _prune(self) -> None:
        await prune(self._store, self._workers, self._logs, forget=self._decisions.forget)

    async def _health_loop(self) -> None:
        while True:
            await self._reporting.tell(self._loop.reading)
            await asyncio.sleep(self._cadence.health)

    def overdue(self) -> str | None:
        """Name the part that should have got on long ago; None if all parts do, or wait for what they may wait for."""
        if (late := self._workers.overdue() or self._deliveries.overdue()) is not None:
            return late
        now, patience = time.monotonic(), self._cadence.late
        if self._loop.resting_until is not None and self._loop.resting_until + patience < now:
            return "the reader, which rests"
        # While the disk refuses the store, looking at files waits for it.
        if (
            self._ticked_at is not None
            and not self._workers.store_waits
            and self._ticked_at + self._cadence.work + patience < now
        ):
            return "the look at files"
        return None


class _Stop(Exception):  # noqa: N818 - ends the group of tasks; nothing is wrong
    """The service was asked to stop."""


def _discard(_handle: asyncio.Handle) -> None:
    """Turn what schedules a call into what a watcher may call."""
