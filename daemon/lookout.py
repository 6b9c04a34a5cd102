"""The lookout: finds out what there is to read.

    first_sweep    at a start: everything that has grown since the last run, and what owes a trace
    hint           the watcher names a file that may have changed
    tick           once a second: sweeps, the end of sessions, commands under `exec`, recorded calls, backfill requests
    unknown        rarely: logs in places that nobody follows

What it finds, it enqueues in the read loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial

from daemon.following.cadence import Cadence
from daemon.following.live_sessions import LiveSessions
from daemon.following.logs import Logs
from daemon.following.opening import unknown_logs
from daemon.following.schedule import SweepSchedule
from daemon.following.session_files import SessionFiles
from daemon.following.watcher import Watcher
from daemon.history.backfilling import Backfilling
from daemon.read_loop import ReadLoop
from daemon.reading.attendance import Attendance
from daemon.reading.commits import Commits
from daemon.reading.facts import Facts
from daemon.reading.reader import Reader
from daemon.reading.reporting import Reporting
from daemon.reading.settlement import Settlement
from daemon.reading.spool import Spool
from daemon.routing.decisions import Decisions
from daemon.routing.routing import Routing
from daemon.running.memory import give_back
from daemon.state.reader import StoreReader
from daemon.state.store import Store
from daemon.system.running_clock import RunningClock
from daemon.system.workers import Workers

__all__ = ["Lookout"]


class Lookout:
    """Enqueues the sessions that may have something to read. Use it from one event loop only.

    Args:
        again: whether everything is read from its beginning.
        store: the state.
        lookup: reads the state.
        logs: the logs.
        live: knows which sessions run.
        routing: tells what the user has allowed.
        decisions: the decisions about each session.
        attendance: attends to the commands under `exec`.
        backfilling: the backfill that is requested.
        settlement: knows which traces are owed.
        reader: reads sessions.
        spool: what programs record.
        facts: what callers know of sessions.
        commits: writes what is settled.
        reporting: reports what was found.
        loop: reads what is enqueued.
        workers: has the thread that reads files.
        clock: the time by which quiet makes something final.
        cadence: times and sizes.
    """

    def __init__(
        self,
        *,
        again: bool,
        store: Store,
        lookup: StoreReader,
        logs: Logs,
        live: LiveSessions,
        routing: Routing,
        decisions: Decisions,
        attendance: Attendance,
        backfilling: Backfilling,
        settlement: Settlement,
        reader: Reader,
        spool: Spool,
        facts: Facts,
        commits: Commits,
        reporting: Reporting,
        loop: ReadLoop,
        workers: Workers,
        clock: RunningClock,
        cadence: Cadence,
    ) -> None:
        self._again = again
        self._store = store
        self._lookup = lookup
        self._logs = logs
        self._live = live
        self._routing = routing
        self._allowed = routing.allowed()
        self._decisions = decisions
        self._attendance = attendance
        self._backfilling = backfilling
        self._settlement = settlement
        self._reader = reader
        self._sessions = reader.sessions
        self._spool = spool
        self._facts = facts
        self._commits = commits
        self._reporting = reporting
        self._loop = loop
        self._workers = workers
        self._clock = clock
        self._cadence = cadence
        self._ticked_at: float | None = None
        self._overflow = False
        self._registry_look: asyncio.TimerHandle | None = None
        self._registry_looked_at = 0.0

    # ------------------------------------------------------------------ hints

    def hint(self, path: str) -> None:
        """Take note that the file at *path* may have changed."""
        changes = self._logs.hinted(path)
        if any(files.name not in self._sessions for files in changes.grown):
            self.note_registry()
        self._loop.take(changes)

    def note_overflow(self) -> None:
        """Take note that hints were lost: the next tick looks at everything."""
        self._overflow = True
        self._loop.wake()

    def note_registry(self) -> None:
        """Look at the registry soon: the record of a short session is gone before the next tick."""
        if self._registry_look is None:
            at = self._registry_looked_at + self._cadence.registry
            self._registry_look = asyncio.get_running_loop().call_at(at, self._look_at_registry)

    def _look_at_registry(self) -> None:
        self._registry_look = None
        self._registry_looked_at = asyncio.get_running_loop().time()
        self._live.running()

    def stop_listening(self) -> None:
        """Forget the look at the registry that was to come."""
        if self._registry_look is not None:
            self._registry_look.cancel()

    # ------------------------------------------------------------------ sweeps

    async def first_sweep(self, *, most: float = float("inf")) -> None:
        """Find out what there is to read.

        Args:
            most: how many bytes of unread logs to look through for lines of other sessions. In further logs, they are
                found when these are read, perhaps after what follows them in their session's own log.
        """
        executions, logs, settlement = self._attendance.executions, self._logs, self._settlement
        await self._workers.read(executions.refresh)
        ended = executions.ended
        scan = await self._workers.read(partial(logs.sweep, "full"))
        if not self._attendance.only_named:
            # The list of held sessions is built anew. A service that reads few sessions would not find them all again.
            await self._workers.write(self._store.release)
        logs.include(scan.changed)
        executions.close(ended)
        missing = [name for name in settlement.owing if name not in logs.sessions]
        if deleted := logs.deleted(missing, self._store.files()):
            await self._workers.change(partial(self._store.forget_owed, deleted))
            settlement.forgive(deleted)
        every = list(logs.sessions.values())
        unread = await self._workers.read(partial(logs.unread, every, self._lookup.offset))
        logs.expect(unread)
        # Lines of old sessions may stand in logs that were never read.
        are_all = self._again or self._backfilling.backlog
        grown = [files for files in every if are_all or not unread.keys().isdisjoint(files.mains)]
        hosted = await self._workers.read(partial(logs.note_hosts, self._newest(grown, most)))
        wanted = {files.name for files in map(logs.session_of, unread) if files is not None}
        # Sessions that hints have named meanwhile are included, so that they are sorted with the others.
        wanted |= {*settlement.owing, *self._loop.turns.names, *hosted, *logs.unread_guests(self._store.hosted())}
        to_read = [
            files
            for files in logs.sessions.values()
            if self._attendance.follows(files)
            # What programs have recorded may say something of any session.
            and (self._again or files.agent.is_spool or files.name in wanted or files.name in self._backfilling.backlog)
        ]
        newest: dict[str, int] = {}
        for files in to_read:
            newest[files.folder] = max(newest.get(files.folder, 0), logs.touched(files))
        self._loop.enqueue_all(sorted(to_read, key=lambda files: -newest[files.folder]))
        # The newest first: if there are too many files to keep open, the oldest are left out.
        for files in sorted(to_read, key=logs.touched, reverse=True):
            for path in filter(unread.__contains__, files.paths):
                logs.keep(path)

    def _newest(self, sessions: Iterable[SessionFiles], most: float) -> list[SessionFiles]:
        """Return the sessions that were written to last, up to *most* bytes of main logs."""
        found = []
        for files in sorted(sessions, key=self._logs.touched, reverse=True):
            most -= sum(file.size for path in files.mains if (file := self._logs.files.get(path)))
            if most < 0:
                break
            found.append(files)
        return found

    # ------------------------------------------------------------------ the tick

    async def tick(self, watcher: Watcher) -> None:
        """Do everything that happens by the clock and not because of a hint. Never returns."""
        loop = asyncio.get_running_loop()
        schedule = SweepSchedule(self._cadence, loop.time(), time.time())
        while True:
            await asyncio.sleep(self._cadence.tick)
            now, wall = loop.time(), time.time()
            self._ticked_at = time.monotonic()
            self._clock.now()
            kind = schedule.due(now, wall, watcher, overflow=self._overflow)
            if kind is not None:
                self._overflow = False
                scan = await self._workers.read(partial(self._logs.sweep, kind, wall))
                self._loop.take(self._logs.apply(scan))
                if kind == "full":
                    give_back()
                for files in await self._decisions.release():
                    self._loop.enqueue(files)
                await self._release_lines()
                self._reopen_owing()
                for files in self._reader.retry_unreadable():
                    self._loop.enqueue(files)
            await self._look_at_commands()
            if len(self._sessions) or watcher.polling:
                for files in self._reader.tend(self._clock.now(), self._live.running(), reading=self._loop.reading):
                    self._loop.enqueue(files)
            for files in self._reader.retry_stranded(reading=self._loop.reading):
                self._loop.enqueue(files)
            await self.note_sightings()
            await self._commits.write()
            await self.tend_spool()
            await self.tend_backlog()

    async def _release_lines(self) -> None:
        """Read the sessions again of which lines are held, if the user has allowed anything since."""
        version = await self._workers.read(self._routing.allowed)
        if version == self._allowed:
            return
        for name in [*self._decisions.held_lines]:
            if name == self._loop.reading:
                # The next sweep looks again.
                return
            self._reader.close(name)
            files = await self._decisions.release_lines(name)
            if files is not None:
                self._loop.enqueue(files)
        self._allowed = version

    async def tend_spool(self) -> None:
        """Look at what programs have recorded; read what is new, and forget what was removed."""
        to_read, removed = await self._spool.tend()
        for files in to_read:
            self._loop.enqueue(files)
        for path in removed:
            changes = self._logs.hinted(path)
            for files in changes.removed:
                self._facts.forget(files.name)
            self._loop.take(changes)

    async def note_sightings(self) -> None:
        """Write which sessions the registry has named: the next run must be able to prove their ends."""
        if seen := self._live.unsaved():
            await self._workers.write(partial(self._store.see, seen))
            self._live.saved(seen)

    def _reopen_owing(self) -> None:
        """Enqueue the sessions with an owed trace that are not in memory and do not run: their traces can be sent."""
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

    async def tend_backlog(self) -> None:
        """Start or cancel what `backfill` requests, and report its progress."""
        if self._backfilling.is_asked:
            # Lines of old sessions may stand in logs that were never read.
            await self._workers.read(self._logs.note_hosts)
        is_there = self._backfilling.look()
        self._loop.tend_backlog()
        if not is_there:
            return
        # Settling wakes the read loop, but a stopped route settles nothing.
        self._loop.wake()
        soon = self._clock.now() + self._cadence.backlog_patience
        settling = any(
            session.due is not None and session.due <= soon
            for session in self._sessions
            if session.name in self._backfilling.backlog and not self._backfilling.is_stopped(session.name)
        )
        await self._backfilling.report(settling=settling)

    async def look_for_unknown(self) -> None:
        """Look for logs in places that nobody knows yet: they are not passed over in silence. Never returns."""
        while True:
            self._reporting.note_unknown(await self._workers.read(partial(unknown_logs, self._logs.roots)))
            await asyncio.sleep(self._cadence.full_sweep)

    def is_late(self, now: float) -> bool:
        """Whether the tick is stuck; *now* as `time.monotonic` tells it."""
        # While the disk refuses writes to the store, the tick waits for it.
        return (
            self._ticked_at is not None
            and not self._workers.store_waits
            and self._ticked_at + self._cadence.work + self._cadence.late < now
        )
