"""The service: composition root and life cycle.

    watcher, sweep -> which sessions may have grown
    turns          -> which of them is read next
    backfilling    -> whose history is asked for; read only while none of the others waits
    decisions      -> which route a session's events take, and whether it has to wait for a word of the user's
    pipeline       -> its new lines, as events (in a thread of the workers, one session at a time)
    settlement     -> which lines those events rest on
    deliveries     -> for each route batches to its sink, until settled
    store          -> offsets, settled identities, owed traces: one transaction for each acknowledged batch

A session is not read while its route has no room: the logs are the queue. Of a session at rest nothing is in memory
but where its files are and what they look like. A session's trace is given out when its process is
gone from the client's registry, or when it has been quiet for long. Shutdown has two phases: reading stops, then what
was read is delivered within the deadline; what is not is read again at the next start.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import structlog

from daemon.delivering.deliveries import Deliveries, MakeDelivery
from daemon.delivering.delivery import BackingOff, EventOutcome
from daemon.delivering.route import Route
from daemon.delivering.sink import Stopped
from daemon.following.catalog import Catalog
from daemon.following.kept_open import KeptOpen
from daemon.following.live_sessions import LiveSessions, keeps_registry
from daemon.following.opening import Opening, by_first_line
from daemon.following.session_files import SessionFiles
from daemon.following.sweep import Sweep, is_missing
from daemon.following.watcher import Watcher
from daemon.history.backfill_request import BackfillDesk
from daemon.history.backfilling import Backfilling
from daemon.history.backlog import Backlog, Ending
from daemon.history.first_start import HistoryPolicy, settle_history
from daemon.history.pruning import Forgettable, Retained, forgetting
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress, Replaced
from daemon.reading.executions import Executions
from daemon.reading.pipeline import Pipeline
from daemon.reading.settlement import Settlement, owed_by_unit
from daemon.reading.turns import Turns
from daemon.reading.unreadable import Unreadable
from daemon.routing.decisions import Decisions
from daemon.routing.routing import Held, Routing
from daemon.running.health import Health, LogBehind
from daemon.running.memory import give_back
from daemon.running.notify import Notifier
from daemon.running.plugin_status import PluginStatus, Sender
from daemon.state.rows import Commit
from daemon.state.store import Store
from daemon.system.workers import WORK_SECONDS, Workers
from llma_core.claude_code.layout import classify
from llma_core.events import CaptureEvent

__all__ = ["DRAIN_SECONDS", "SLICE_BYTES", "Service"]

_log = structlog.get_logger(__name__)

SLICE_BYTES = 4 * 1024 * 1024
"""Bytes read of one session before another gets its turn."""
HOT_SWEEP_SECONDS = 10.0
FULL_SWEEP_SECONDS = 600.0
TICK_SECONDS = 1.0
DRAIN_SECONDS = 10.0
"""How long a shutdown delivers what was read."""
ONCE_PATIENCE_SECONDS = 60.0
"""How long `run --once` goes on without an accepted batch."""
ACTIVE_SESSIONS = 256
"""Sessions kept in memory at most, apart from those that have something open."""
IDLE_SECONDS = 3600.0
"""Quiet after which a session with nothing open is dropped from memory, to be replayed when it grows."""
GONE_SECONDS = 10.0
"""Quiet after which a session whose client keeps a registry of live processes, and is not in it, has ended."""
HEALTH_SECONDS = 5.0
"""Between two looks at whether there is something new for `status`."""
PRUNE_SECONDS = 86_400.0
"""Between two looks for what no log refers to any more."""
BACKLOG_PATIENCE = 5.0
"""Seconds within which what is open in a session belongs to the backlog; what takes longer is left to the following."""
YOUNG_SECONDS = 3.0
"""Age up to which a session is not read while a command runs that may yet say it is its own."""
LATE_SECONDS = 60.0
"""By how much what is due may be late before something is wrong."""


class _Active:
    """A session that is being followed."""

    def __init__(self, pipeline: Pipeline, now: float) -> None:
        self.pipeline = pipeline
        self.heard_at = now
        self.seen_running = False
        self.ended = False
        self.due: float | None = None


class Service:
    """Follows the logs below some config folders and delivers their events.

    Args:
        config_dirs: Claude Code's config folders; each has a `projects` folder, now or later.
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
    ) -> None:
        # By their real paths, once: hints and sweeps must name a file alike, however the user reaches it.
        self._roots = list(dict.fromkeys((folder / "projects").resolve() for folder in config_dirs))
        self._live = LiveSessions(config_dirs)
        self._store = store
        self._routing = routing
        self._timeout = session_timeout
        self._notifier = notifier or Notifier({})
        self._health = health
        self._reader = store.reader()
        self._claims = Claims(self._reader, fresh=self._reader.is_empty)
        self._catalog = Catalog()
        self._sweep = Sweep(self._roots)
        self._unread = KeptOpen()
        self._unreadable = Unreadable()
        self._settlement = Settlement(self._claims)
        self._again = again
        self._executions = executions or Executions(None)
        self._only_named = only_named
        self._plugin_status = plugin_status
        self._executions_seen = 0
        self._young: set[str] = set()
        self._drain_seconds = DRAIN_SECONDS
        self._active: dict[str, _Active] = {}
        self._owed = owed_by_unit(store.owed())
        self._first_start: int | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._replaced = False
        self._resting_until: float | None = None
        self._ticked_at: float | None = None
        self._overflow = False
        self._reading: str | None = None
        self._write_lock = asyncio.Lock()
        self._workers = Workers(self._stopping)
        self._deliveries = Deliveries(make_delivery, self._before_sending, self._settle)
        self._decisions = Decisions(
            routing=routing, store=store, reader=self._reader, workers=self._workers, units=self._catalog.units
        )
        self._turns = Turns(
            self._catalog.units,
            active=self._active.keys(),
            seen=self._decisions.foreseen.keys(),
            stalled_on=self._stalled_on,
            is_stopped=self._deliveries.is_stopped,
        )
        self._backfilling = Backfilling(
            desk=desk,
            backlog=backlog or Backlog(),
            settlement=self._settlement,
            deliveries=self._deliveries,
            route_of=self._route_of,
        )

    # ------------------------------------------------------------------ life cycle

    async def run(self) -> None:
        """Follow until `stop` is called; then deliver what was read, within the deadline.

        Raises:
            Exception: what broke the service; offsets are as they were last written.
        """
        loop = asyncio.get_running_loop()
        watcher = Watcher(
            self._roots,
            lambda path: _discard(loop.call_soon_threadsafe(self._hint, path)),
            lambda: _discard(loop.call_soon_threadsafe(self._hint_all)),
        )
        try:
            watcher.start()
            await self._first_sweep()
            await self._tend_backlog()
            _log.info("ready", sessions=len(self._catalog.units), to_read=len(self._turns))
            self._notifier.ready(f"following {len(self._catalog.units)} sessions")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_loop())
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

    async def run_once(self, wanted: Callable[[SessionFiles], bool] = lambda _unit: True) -> bool:
        """Read everything there is, deliver it, and return whether all of it is settled.

        Sessions that are running keep what is open in them for a daemon that follows them.

        Args:
            wanted: which sessions to look at.
        """
        loop = asyncio.get_running_loop()
        try:
            await self._first_sweep()
            order = await self._in_order(list(self._catalog.units.values()))
            waiting = self._turns.names
            self._turns.clear()
            work = loop.create_task(self._read_units([unit for unit in order if unit.name in waiting and wanted(unit)]))
            settled = await self._with_patience(work)
            if not self._again:
                await self._prune()
            return settled
        finally:
            await self._close()

    def stop(self, *, replaced: bool = False, drain: float = DRAIN_SECONDS) -> None:
        """Begin to shut down.

        Args:
            replaced: whether another service takes over in this process, so that the service manager sees no end.
            drain: seconds to deliver what was read.
        """
        self._drain_seconds = drain
        if replaced:
            self._replaced = True
            self._notifier.reloading()
        self._stopping.set()
        self._wake.set()

    def prepare(self, history: HistoryPolicy, now: float) -> None:
        """Settle what is history, before the first sweep.

        Args:
            history: what to do with the logs that are there at the first start.
            now: the wall clock, in seconds since the epoch.
        """
        self._first_start = settle_history(self._store, self._roots, history, now)

    async def _end_when_stopped(self) -> None:
        await self._stopping.wait()
        raise _Stop

    async def _close(self) -> None:
        if self._plugin_status is not None:
            # Deliveries that are closed no longer tell.
            self._note_failures(self._plugin_status)
        try:
            await self._deliveries.aclose(self._drain_seconds)
        finally:
            try:
                await self._write(self._settlement.commit)
            finally:
                await self._tell_health()
                self._workers.end_store()
                self._unread.close()
                await self._workers.end_reader()
                self._reader.close()

    async def _with_patience(self, work: asyncio.Task[bool]) -> bool:
        """Wait for *work*, as long as batches are accepted from time to time."""
        failed = asyncio.create_task(self._deliveries.wait_failed())
        try:
            while True:
                before = self._deliveries.batches
                done, _ = await asyncio.wait(
                    {work, failed}, timeout=ONCE_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
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

    # ------------------------------------------------------------------ hints and sweeps

    def _hint(self, path: str) -> None:
        changed, gone = self._sweep.hinted(path)
        self._found(changed)
        self._gone(gone)

    def _hint_all(self) -> None:
        self._overflow = True
        self._wake.set()

    def _found(self, paths: Sequence[str]) -> None:
        units: dict[str, SessionFiles] = {}
        for path in paths:
            unit = self._catalog.add(path)
            if unit is None:
                # An agent's log that names its session inside, and does not yet: look again when it grows.
                self._sweep.files.pop(path, None)
                continue
            if path in unit.metas.values():
                if unit.name not in self._active:
                    continue
            else:
                self._keep(path)
            units[unit.name] = unit
        self._enqueue_all(units.values())

    def _gone(self, paths: Sequence[str]) -> None:
        for path in paths:
            unit = self._catalog.find(path)
            if unit is not None and (path in self._unread or unit.name in self._active):
                # What was not read of it still can be, and what was read is still to be sent.
                self._enqueue(unit)
            else:
                self._forget_path(path)

    def _keep(self, path: str) -> None:
        """Keep a log open until it is read: it may be deleted before its turn comes."""
        found = self._sweep.files.get(path)
        if found is not None:
            self._unread.keep(path, found.identity, found.modified)

    def _forget_path(self, path: str) -> None:
        self._unread.release(path)
        unit = self._catalog.remove(path)
        if unit is not None and not unit.paths and unit.name in self._owed:
            _log.info("session_removed", session=unit.session, action="its trace is not sent")

    def _drop(self, unit: SessionFiles) -> None:
        """Take a session out of memory, and what was deleted of it out of the catalog."""
        active = self._active.pop(unit.name, None)
        if active is not None:
            self._settlement.drop(active.pipeline)
        # What was decided of it stands in the store, and is looked up when it grows.
        self._decisions.forget([unit.name])
        for path in [*unit.paths, *unit.metas.values()]:
            if path not in self._sweep.files and path not in self._unread:
                self._forget_path(path)

    def _enqueue(self, unit: SessionFiles) -> None:
        if unit.name in self._decisions.held or not self._follows(unit):
            return
        self._turns.add(unit)
        self._wake.set()

    def _follows(self, unit: SessionFiles) -> bool:
        return not self._only_named or self._executions.names(unit.session)

    def _enqueue_all(self, units: Collection[SessionFiles]) -> None:
        """Enqueue what was found at once, in whatever order."""
        self._turns.note_found(units)
        for unit in units:
            self._enqueue(unit)

    async def _first_sweep(self) -> None:
        await self._workers.read(self._executions.refresh)
        changed, _ = await self._workers.read(self._sweep.full)
        self._executions.close(self._executions.ended)
        if not self._only_named:
            # Those that still have to wait are found again; who looks at few sessions must not forget the others.
            await self._workers.write(self._store.release)
        for path in changed:
            self._catalog.add(path)
        gone = self._deleted([name for name in self._owed if name not in self._catalog.units])
        if gone:
            await self._workers.change(partial(self._store.forget_owed, gone))
            for name in gone:
                del self._owed[name]
        settled = await self._workers.read(partial(self._unread_of, list(self._catalog.units.values())))
        self._sweep.rested.update(settled)
        units = [unit for unit in self._catalog.units.values() if self._follows(unit)]
        wanted = {unit.name for unit in map(self._catalog.find, settled) if unit is not None}
        # With the sessions that hints have named meanwhile, so that these are put in order with the others.
        wanted |= {*self._owed, *self._turns.names}
        unread = [unit for unit in units if self._again or unit.name in wanted]
        newest = {unit.folder: 0 for unit in unread}
        for unit in unread:
            newest[unit.folder] = max(newest[unit.folder], self._touched(unit))
        self._enqueue_all(sorted(unread, key=lambda unit: -newest[unit.folder]))
        # The newest first, which are those that are kept where there are too many.
        for unit in sorted(unread, key=self._touched, reverse=True):
            for path in filter(settled.__contains__, unit.paths):
                self._keep(path)

    def _touched(self, unit: SessionFiles) -> int:
        """When *unit* was last written to, as far as it was seen, in nanoseconds since the epoch."""
        return max((file.modified for path in unit.paths if (file := self._sweep.files.get(path))), default=0)

    def _deleted(self, names: Sequence[str]) -> list[str]:
        """Return those of the sessions *names*, none of which is there, whose logs were deleted.

        Others may be on a disk that is not mounted, or in a folder that is not followed this time.
        """
        if not (names and self._sweep.complete):
            return []
        inhabited = {
            str(root) for root in self._roots if any(path.startswith(f"{root}/") for path in self._sweep.files)
        }
        paths: dict[str, list[str]] = {name: [] for name in names}
        for mark in self._store.files():
            if mark.unit in paths:
                paths[mark.unit].append(mark.path)
        return [name for name, logs in paths.items() if logs and all(_was_deleted(log, inhabited) for log in logs)]

    def _unread_of(self, units: Iterable[SessionFiles]) -> dict[str, int]:
        """Find the logs of *units* that are not settled to their end, and up to where they are. Asks the store."""
        unread = {}
        for path in (path for unit in units for path in unit.paths):
            file = self._sweep.files.get(path)
            offset = self._reader.offset(file.identity) if file is not None else 0
            if file is None or offset != file.size:
                unread[path] = offset
        return unread

    async def _tick_loop(self, watcher: Watcher) -> None:
        loop = asyncio.get_running_loop()
        full_at = loop.time() + FULL_SWEEP_SECONDS
        hot_at = loop.time() + HOT_SWEEP_SECONDS
        last, last_wall = loop.time(), time.time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now, wall = loop.time(), time.time()
            self._ticked_at = time.monotonic()
            # A clock that jumped means a suspend: no hint came for what was written meanwhile.
            resumed = abs((wall - last_wall) - (now - last)) > HOT_SWEEP_SECONDS
            last, last_wall = now, wall
            if now >= hot_at or self._overflow or resumed:
                mended = watcher.ensure()
                full = mended or self._overflow or resumed or watcher.polling or now >= full_at
                self._overflow = False
                changed, gone = await self._workers.read(self._sweep.full if full else partial(self._sweep.hot, wall))
                self._found(changed)
                self._gone(gone)
                hot_at = now + HOT_SWEEP_SECONDS
                if full:
                    full_at = now + FULL_SWEEP_SECONDS
                    give_back()
                for unit in await self._decisions.release():
                    self._enqueue(unit)
                self._reopen_owing()
                self._retry_unreadable()
            await self._look_at_executions()
            self._end_sessions(now)
            await self._write(self._settlement.commit)
            await self._tend_backlog()

    def _reopen_owing(self) -> None:
        """Take up sessions that owe a trace, are not in memory and have ended meanwhile."""
        if not self._owed:
            return
        running = self._live.running()
        for name in self._owed:
            unit = self._catalog.units.get(name)
            if unit is not None and name not in self._active and unit.session not in running:
                self._enqueue(unit)

    def _retry_unreadable(self) -> None:
        for name in self._unreadable.names:
            unit = self._catalog.units.get(name)
            if unit is None:
                self._unreadable.forget(name)
            else:
                self._enqueue(unit)

    async def _look_at_executions(self) -> None:
        """Take up sessions that turn out to be a command's, end those whose command has ended, and say what is done."""
        for unit in [self._catalog.units[name] for name in self._young if name in self._catalog.units]:
            self._enqueue(unit)
        self._young.clear()
        if self._executions.may_be_new:
            await self._workers.read(self._executions.refresh)
        if self._executions.version != self._executions_seen:
            self._executions_seen, ended = self._executions.version, self._executions.ended
            # The command's processes are gone: whatever they wrote is found by this.
            changed, gone = await self._workers.read(self._sweep.full)
            self._executions.close(ended)
            self._found(changed)
            self._gone(gone)
            for unit in [each for each in self._catalog.units.values() if self._executions.names(each.session)]:
                self._enqueue(unit)
        await self._remove_executions()

    async def _remove_executions(self) -> None:
        """Remove the files of commands of which everything is delivered."""
        ended = self._executions.ended
        if not ended:
            return
        units = [unit for unit in self._catalog.units.values() if self._executions.names(unit.session)]
        resting = [unit for unit in units if unit.name not in self._active]
        try:
            unread = await self._workers.read(partial(self._unread_of, resting))
        except sqlite3.OperationalError:
            # Asked again with the next tick; whoever reads a session says why.
            return
        waiting = {unit.session for unit in units if not self._is_done(unit, unread)}
        for name, sessions in ended.items():
            if waiting.isdisjoint(sessions) and all(map(self._executions.is_over, sessions)):
                try:
                    await self._workers.read(partial(self._executions.remove, name))
                except OSError as error:
                    _log.warning("execution_kept", path=name, reason=error.strerror, action="trying again")

    def _is_done(self, unit: SessionFiles, unread: Container[str]) -> bool:
        """Whether nothing of a session that has ended is left to be delivered; *unread*: of those not in memory."""
        active = self._active.get(unit.name)
        if unit in self._turns or unit.name == self._reading or unit.name in self._owed:
            return False
        if active is None:
            return not any(path in unread for path in unit.paths)
        return active.ended and active.pipeline.idle and self._settlement.is_settled(active.pipeline)

    def refusal(self) -> Stopped | None:
        """Return why nothing can be delivered until a person changes something; None where something can."""
        return self._deliveries.refusal()

    def _end_sessions(self, now: float) -> None:
        if not self._active:
            return
        running = self._live.running()
        for name, active in list(self._active.items()):
            pipeline = active.pipeline
            if pipeline.unit.session in running:
                active.seen_running = True
            if name == self._reading or name in self._unreadable:
                continue
            if (active.due is not None and active.due <= now) or (
                not active.ended and self._has_ended(active, running, now)
            ):
                self._enqueue(pipeline.unit)
            elif self._may_drop(active, now):
                self._drop(pipeline.unit)

    def _may_drop(self, active: _Active, now: float) -> bool:
        """Whether a session can leave the memory: nothing of it is open or unsettled, and it will hardly grow."""
        unlikely = active.ended or (
            # One that was deleted has its end still to come, and could not be taken up again for that.
            any(path in self._sweep.files for path in active.pipeline.unit.paths)
            and (now >= active.heard_at + IDLE_SECONDS or len(self._active) > ACTIVE_SESSIONS)
        )
        return unlikely and active.pipeline.idle and self._settlement.is_settled(active.pipeline)

    def _is_over(self, active: _Active, now: float, *, finish: bool) -> bool:
        """Whether a session has ended that had not before; with *finish*, unless it is known to go on.

        That nothing was heard of it counts up to *now*; how long its files have lain untouched does in any case.
        """
        running = self._live.running()
        session = active.pipeline.unit.session
        return not active.ended and (
            self._has_ended(active, running, now)
            or (finish and session not in running and not self._executions.of(session).waits)
        )

    def _has_ended(self, active: _Active, running: frozenset[str], now: float) -> bool:
        session = active.pipeline.unit.session
        if session in running or self._executions.of(session).waits:
            return False
        if self._executions.is_over(session):
            return True
        # What lies untouched for long is not made to wait because it was read only now.
        touched = self._touched(active.pipeline.unit)
        if not touched:
            # All of it was deleted, if nothing takes its place soon.
            return now - active.heard_at >= min(GONE_SECONDS, self._timeout)
        quiet = max(now - active.heard_at, time.time() - touched / 1e9)
        if active.seen_running or (self._live.has_registry and keeps_registry(active.pipeline.last_version)):
            return quiet >= min(GONE_SECONDS, self._timeout)
        return quiet >= self._timeout

    # ------------------------------------------------------------------ reading

    async def _read_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._turns.sort(self._in_order)
            unit = self._turns.next()
            if unit is not None:
                if await self._step(unit):
                    self._turns.resume(unit)
            elif not self._enqueue_due(loop.time()):
                if (unit := self._next_history()) is not None:
                    await self._step_history(unit)
                else:
                    await self._rest()

    async def _in_order(self, units: Iterable[SessionFiles]) -> Sequence[SessionFiles]:
        return await self._workers.read(partial(by_first_line, units))

    def _enqueue_due(self, now: float) -> bool:
        """Enqueue the sessions whose time has come; return whether there is one that did not wait already."""
        waiting = self._turns.names
        due = [
            active.pipeline.unit
            for name, active in self._active.items()
            if active.due is not None and active.due <= now and name not in waiting and name not in self._decisions.held
        ]
        for unit in due:
            self._enqueue(unit)
        return bool(due)

    async def _rest(self) -> None:
        """Wait until there is something to read: a hint, a session that is due, or room on a route that had none."""
        self._wake.clear()
        waiting = self._turns.names
        due = [active.due for name, active in self._active.items() if active.due is not None and name not in waiting]
        stalled = {route for name in waiting if (route := self._stalled_on(name)) is not None}
        woken = asyncio.ensure_future(self._wake.wait())
        room = asyncio.ensure_future(self._deliveries.wait_room(stalled))
        self._resting_until = min(due, default=None)
        try:
            async with asyncio.timeout_at(self._resting_until):
                await asyncio.wait({woken, room}, return_when=asyncio.FIRST_COMPLETED)
            if room.done():
                room.result()
        except TimeoutError:
            pass
        finally:
            self._resting_until = None
            woken.cancel()
            room.cancel()
            await asyncio.gather(woken, room, return_exceptions=True)

    def _route_of(self, name: str) -> Route | None:
        """Return the route of a session that is being followed."""
        active = self._active.get(name)
        return active.pipeline.route if active is not None else None

    def _stalled_on(self, name: str) -> Route | None:
        """Return the route of a session if it has no room; None if it has, or if the route is not known yet."""
        route = self._route_of(name) or self._decisions.foreseen.get(name)
        return route if route is not None and not self._deliveries.has_room(route) else None

    async def _step(self, unit: SessionFiles, *, finish: bool = False) -> bool:
        """Read a slice of *unit*, hand over what became final, and return whether there is more to read at once."""
        loop = asyncio.get_running_loop()
        active = self._active.get(unit.name)
        try:
            if active is None:
                if not await self._foresee(unit):
                    return unit.name not in self._decisions.held and unit.name not in self._young
                active = self._active[unit.name] = _Active(self._pipeline(unit), loop.time())
            pipeline = active.pipeline
            # By what was heard up to now nothing can be told of what is there to be read.
            last = self._is_over(active, active.heard_at, finish=finish)
            self._reading = unit.name
            progress = await self._workers.read(partial(pipeline.advance, loop.time(), SLICE_BYTES, last=last))
        except Replaced as replaced:
            _log.info("file_replaced", path=str(replaced), action="reading its session again from the beginning")
            assert active is not None
            await self._conclude(active, active.pipeline.salvage)
            self._drop(unit)
            return unit.name not in self._decisions.held
        except Held as held:
            await self._hold(unit, held)
            return False
        except OSError as error:
            return self._put_off(unit, error)
        except sqlite3.OperationalError as error:
            self._put_off_for_store(unit, error)
            return False
        finally:
            self._reading = None
        if progress.lines:
            active.heard_at = loop.time()
            active.ended = False
        await self._hand_over(active, progress)
        if progress.more:
            return True
        self._caught_up(unit)
        if progress.ended:
            active.ended = True
        elif self._is_over(active, loop.time(), finish=finish):
            # That is known only now: by its version, by its silence, or because its lines were the first after an end.
            active.ended = True
            await self._conclude(active, pipeline.end)
        return False

    async def _conclude(self, active: _Active, conclude: Callable[[float], Progress]) -> None:
        """Hand over what is final because nothing more comes: the session has ended, or its files are others now."""
        loop = asyncio.get_running_loop()
        self._reading = active.pipeline.unit.name
        try:
            progress = await self._workers.read(partial(conclude, loop.time()))
        except Held as held:
            await self._hold(active.pipeline.unit, held)
            return
        except sqlite3.OperationalError as error:
            self._put_off_for_store(active.pipeline.unit, error)
            return
        finally:
            self._reading = None
        await self._hand_over(active, progress)

    def _put_off(self, unit: SessionFiles, error: OSError) -> bool:
        """Leave a session of which a file cannot be read for later; return whether to try at once."""
        active = self._active.get(unit.name)
        if active is not None:
            # Whatever is due in it has to wait for what cannot be read, until a sweep tries again.
            active.due = None
            if not any(tail.position for tail in active.pipeline.tails.values()):
                # Nothing of it is known. Otherwise it stays: what was read may stand in no file any more.
                self._settlement.drop(active.pipeline)
                del self._active[unit.name]
        path = str(error.filename or unit.session)
        if path in unit.paths:
            self._sweep.look(path)
            if path not in self._sweep.files and path not in self._unread:
                self._drop(unit)
                return bool(unit.paths)
        self._unreadable.note(unit, path, error)
        return False

    def _put_off_for_store(self, unit: SessionFiles, error: sqlite3.OperationalError) -> None:
        """Leave a session for later because nobody can say what of it is settled."""
        active = self._active.pop(unit.name, None)
        if active is not None:
            self._settlement.drop(active.pipeline)
        self._unreadable.note_store(unit, error)

    def _caught_up(self, unit: SessionFiles) -> None:
        """Keep nothing open of a session that was read to its end, unless it has grown since."""
        self._unreadable.note_read(unit)
        if unit not in self._turns:
            for path in unit.paths:
                self._unread.release(path)
                self._sweep.rested.pop(path, None)

    def _pipeline(self, unit: SessionFiles) -> Pipeline:
        return Pipeline(
            unit,
            claims=self._claims,
            routing=self._routing,
            marks=self._reader.mark,
            frozen=self._decisions.frozen(unit.name),
            restraint=self._decisions.restraint(unit.name),
            owed=lambda: tuple(self._owed.get(unit.name, ())),
            first_start=self._first_start or None,
            again=self._again or unit.name in self._backfilling.backlog,
            has_main=partial(self._catalog.has_main, unit.folder),
            kept=self._unread,
            added=partial(self._executions.of, unit.session),
        )

    async def _hand_over(self, active: _Active, progress: Progress) -> None:
        pipeline = active.pipeline
        name, frozen = pipeline.unit.name, pipeline.frozen
        self._backfilling.backlog.read(name, sum(tail.position for tail in pipeline.tails.values()))
        self._decisions.tell(pipeline.warnings)
        # Before any line of it counts as settled: it was refused because of this.
        await self._decisions.restrain([name], pipeline.restraint)
        wanted = self._settlement.note(pipeline, progress)
        active.due = pipeline.due()
        if frozen is not None:
            self._decisions.freeze(name, frozen)
        if progress.emissions:
            self._note_sender(pipeline, progress, wanted)
        if wanted:
            assert pipeline.route is not None
            self._deliveries.put(pipeline.route, wanted)

    def _note_sender(self, pipeline: Pipeline, progress: Progress, wanted: Sequence[CaptureEvent]) -> None:
        """Let the plugin's status file tell of a session; history that is asked for is not what was sent last."""
        unit, route, frozen = pipeline.unit, pipeline.route, pipeline.frozen
        if self._plugin_status is None or unit.name in self._backfilling.backlog or route is None or frozen is None:
            return
        sender = Sender(
            unit=unit.name,
            session=unit.session,
            folder=unit.folder,
            route=route,
            distinct_id=frozen.distinct_id,
            project=Path(pipeline.first_cwd or "").name,
        )
        prompts = sum(emission.prompt is not None for emission in progress.emissions)
        self._plugin_status.hand_over(sender, wanted, prompts)

    async def _read_units(self, units: Sequence[SessionFiles]) -> bool:
        left = {unit.name: unit for unit in units}
        many = ACTIVE_SESSIONS
        while left:
            unit = next(self._turns.readable(left.values()), None)
            if unit is None:
                stalled = {route for name in left if (route := self._stalled_on(name)) is not None}
                if all(self._deliveries.is_stopped(route) for route in stalled):
                    break
                await self._deliveries.wait_change(
                    [route for route in stalled if not self._deliveries.is_stopped(route)]
                )
            elif not await self._step(unit, finish=True):
                del left[unit.name]
                self._backfilling.backlog.finish(unit.name, "held" if unit.name in self._decisions.held else "read")
                if len(self._active) >= many:
                    await self._forget_settled(left)
                    many = max(ACTIVE_SESSIONS, 2 * len(self._active))
        settled = await self._deliveries.flush()
        await self._write(self._settlement.commit)
        await self._remove_executions()
        return settled and not (
            left or self._young or self._decisions.held or self._unreadable or self._settlement.waiting
        )

    async def _forget_settled(self, but: Container[str]) -> None:
        """Drop the sessions from memory of which everything is read and settled; *but* those are not read yet."""
        await self._write(self._settlement.commit)
        for name, active in list(self._active.items()):
            if name not in but and self._settlement.is_settled(active.pipeline):
                self._drop(active.pipeline.unit)

    # ------------------------------------------------------------------ sessions that have to wait

    async def _foresee(self, unit: SessionFiles) -> bool:
        """Find out, before a session is read, where its events will go; return whether they may be read now.

        One that a command may yet name as its own is not, for a moment.
        """
        self._reading = unit.name
        outlook = await self._decisions.outlook(unit)
        if self._is_young(unit, outlook.opening) and await self._workers.read(self._may_be_named(unit)):
            self._young.add(unit.name)
            return False
        self._decisions.foresee(unit.name, outlook)
        return self._stalled_on(unit.name) is None

    def _is_young(self, unit: SessionFiles, began: Opening) -> bool:
        return (
            self._decisions.frozen(unit.name) is None
            and unit.name not in self._backfilling.backlog
            and began.at is not None
            and abs(time.time() - began.at / 1000) < YOUNG_SECONDS
        )

    def _may_be_named(self, unit: SessionFiles) -> Callable[[], bool]:
        """Return what finds out whether a command that runs may be about to say that *unit* is one of its sessions."""

        def look() -> bool:
            self._executions.refresh()
            return self._executions.any_runs and not self._executions.names(unit.session)

        return look

    async def _hold(self, unit: SessionFiles, held: Held) -> None:
        """Let a session wait for the user: what was read of it is forgotten, and its offsets stay."""
        active = self._active.pop(unit.name, None)
        if active is not None:
            self._settlement.drop(active.pipeline)
        await self._decisions.hold([unit.name], held)

    # ------------------------------------------------------------------ what `status` tells

    async def _health_loop(self) -> None:
        while True:
            await self._tell_health()
            await asyncio.sleep(HEALTH_SECONDS)

    def _note_failures(self, plugin_status: PluginStatus) -> None:
        for route, delivery in self._deliveries.by_route.items():
            if isinstance(state := delivery.state, BackingOff | Stopped):
                plugin_status.fail(route, state.reason)

    async def _tell_health(self) -> None:
        if self._plugin_status is not None:
            self._note_failures(self._plugin_status)
            await self._plugin_status.tell()
        if self._health is not None:
            await self._health.tell(
                self._health.observe(
                    sessions=len(self._catalog.units),
                    followed=len(self._active),
                    unread=list(self._unread_logs()),
                    deliveries=self._deliveries.by_route,
                )
            )

    def _unread_logs(self) -> Iterator[LogBehind]:
        """Yield the logs of the sessions that are to be read, with how far they are."""
        waiting = self._turns.names
        if self._reading is not None:
            waiting.add(self._reading)
        for name in waiting:
            unit, active = self._catalog.units.get(name), self._active.get(name)
            for path in unit.paths if unit is not None else ():
                file = self._sweep.files.get(path)
                tail = active.pipeline.tails.get(path) if active is not None else None
                position = tail.position if tail is not None else self._sweep.rested.get(path, 0)
                if file is not None:
                    yield LogBehind(path=path, position=position, size=file.size, modified=file.modified / 1e9)

    # ------------------------------------------------------------------ what may be forgotten

    async def _prune_loop(self) -> None:
        while True:
            await self._prune()
            # The start and this have taken more than what follows.
            await self._workers.change(self._store.shrink)
            give_back()
            await asyncio.sleep(PRUNE_SECONDS)

    async def _prune(self) -> None:
        """Forget what no log refers to any more. Batches are written in between; that it fails harms nothing."""
        if not self._sweep.complete:
            return
        is_there = self._catalog.units.__contains__
        try:
            found = dict(self._sweep.files)
            kept = await self._workers.change(partial(Retained.of, self._store, found, is_there))
            compare = partial(Forgettable.of, kept, roots=self._roots, found=found, is_there=is_there)
            what = await self._workers.read(compare)
            # Should one come back, it is decided anew, and kept anew.
            self._decisions.forget([name for name in what.units if not is_there(name)])
            for step in forgetting(self._store, what, is_there):
                await self._workers.change(step)
        except (sqlite3.OperationalError, OSError) as error:
            _log.warning("pruning_failed", reason=str(error), action="tried again tomorrow; nothing is lost")
        else:
            if what.units or what.files:
                _log.info("store_pruned", sessions=len(what.units), files=len(what.files))

    # ------------------------------------------------------------------ history that is asked for

    async def _tend_backlog(self) -> None:
        """Take up, or give up, what `backfill` asks for, and say how far it is."""
        if not self._backfilling.look():
            return
        # A route that has stopped settles nothing, and so wakes nobody.
        self._wake.set()
        soon = asyncio.get_running_loop().time() + BACKLOG_PATIENCE
        settling = any(
            active.due is not None and active.due <= soon
            for name, active in self._active.items()
            if name in self._backfilling.backlog and not self._backfilling.is_stopped(name)
        )
        await self._backfilling.report(settling=settling)

    def _next_history(self) -> SessionFiles | None:
        """Return the session of the backlog whose turn it is; None while there is none, or it has to wait."""
        backlog = self._backfilling.backlog
        while (name := backlog.next) is not None:
            unit, route = self._catalog.units.get(name), self._stalled_on(name)
            if unit is None:
                backlog.finish(name, "missing")
            elif name in self._decisions.held:
                backlog.finish(name, "held")
            elif name in self._unreadable:
                backlog.finish(name, "missing")
            elif route is None:
                return unit if self._backfilling.has_room else None
            elif self._deliveries.is_stopped(route):
                backlog.finish(name, "stopped")
            else:
                return None
        return None

    async def _step_history(self, unit: SessionFiles) -> None:
        active = self._active.get(unit.name)
        if active is not None and not active.pipeline.again:
            # It was followed from where history ended; what is on its way stays on its way.
            self._settlement.drop(active.pipeline)
            del self._active[unit.name]
        if not await self._step(unit):
            is_read = unit.name in self._active and unit.name not in self._unreadable
            read: Ending = "read" if is_read else "missing"
            self._backfilling.backlog.finish(unit.name, "held" if unit.name in self._decisions.held else read)

    # ------------------------------------------------------------------ settling

    async def _before_sending(self) -> None:
        try:
            await self._decisions.write()
        except sqlite3.OperationalError:
            # The service ends. Nothing may leave of a session whose route is not written.
            await asyncio.get_running_loop().create_future()

    async def _settle(self, outcomes: Sequence[EventOutcome]) -> None:
        for outcome in outcomes:
            unit = self._settlement.unit_of(outcome.event.identity)
            self._backfilling.backlog.settle(unit, outcome.outcome)
            if self._plugin_status is not None:
                self._plugin_status.settle(unit, outcome)
        if self._backfilling.backlog:
            self._wake.set()
        await self._write(lambda: self._settlement.commit(outcomes))

    async def _write(self, make: Callable[[], Commit]) -> None:
        """Write what may be written, in one transaction; wait while the disk refuses it."""
        async with self._write_lock:
            commit = make()
            if not commit:
                return
            try:
                await self._decisions.write()
                await self._workers.write(partial(self._store.commit, commit))
            except sqlite3.OperationalError:
                # The service ends; what is not written is read again.
                return
            self._settlement.written(commit)
            for row in commit.owed:
                self._owed.setdefault(row.unit, []).append(row)
            for row in commit.paid:
                self._owed[row.unit] = [other for other in self._owed.get(row.unit, ()) if other != row]
                if not self._owed[row.unit]:
                    del self._owed[row.unit]

    # ------------------------------------------------------------------ whether all parts get on

    def overdue(self) -> str | None:
        """Name the part that should have got on long ago; None if all parts do, or wait for what they may wait for."""
        if (late := self._workers.overdue() or self._deliveries.overdue()) is not None:
            return late
        now = time.monotonic()
        if self._resting_until is not None and self._resting_until + LATE_SECONDS < now:
            return "the reader, which rests"
        # While the disk refuses the store, looking at files waits for it.
        if (
            self._ticked_at is not None
            and not self._workers.store_waits
            and self._ticked_at + WORK_SECONDS + LATE_SECONDS < now
        ):
            return "the look at files"
        return None


class _Stop(Exception):  # noqa: N818 - ends the group of tasks; nothing is wrong
    """The service was asked to stop."""


def _discard(_handle: asyncio.Handle) -> None:
    """Turn what schedules a call into what a watcher may call."""


def _was_deleted(log: str, inhabited: set[str]) -> bool:
    """Whether *log* is missing where its neighbours are there; *inhabited* are the roots with any log below them."""
    place = classify(log)
    assert place is not None
    return is_missing(log) and (not is_missing(place.folder) or str(Path(place.folder).parent) in inhabited)
