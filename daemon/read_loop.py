"""The service's read loop: takes the next session, reads a slice of it, and queues its events for delivery.

    turns          the sessions that may have grown, in the order in which they are read
    backfilling    the sessions of a backfill; read only while no other session waits
    decisions      whether a session has to wait for the user, and which route its events take
    reader         reads a slice, in a thread of the workers
    settlement     notes which lines the events rest on
    deliveries     take the events

While many old sessions wait, workers read them (`daemon/parallel/`), and what they have read is handed over here in the
same order.

`run` repeats this while the service follows, `read_all` does it once for `run --once`. A session is not read while its
route has no room. Its unread lines stay in its logs, so the logs are the queue.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal

from daemon.delivering.deliveries import Deliveries
from daemon.delivering.route import Route
from daemon.following.cadence import Cadence
from daemon.following.live_sessions import LiveSessions
from daemon.following.logs import Changes, Logs
from daemon.following.opening import Opening, Ordered, in_order
from daemon.following.session_files import SessionFiles
from daemon.history.backfilling import Backfilling
from daemon.history.backlog import Backlog, Ending
from daemon.parallel.choice import Choice
from daemon.parallel.crew import Crew
from daemon.parallel.remote import Remote, route_of
from daemon.parallel.wire import Slice, Task
from daemon.reading.attendance import Attendance
from daemon.reading.commits import Commits
from daemon.reading.open_sessions import OpenSession
from daemon.reading.reader import Reader, ReadOutcome, ReadState
from daemon.reading.reporting import Reporting
from daemon.reading.settlement import Settlement
from daemon.reading.turns import Turns
from daemon.routing.decisions import Decisions, Outlook
from daemon.routing.routing import Held
from daemon.system import disk
from daemon.system.running_clock import RunningClock
from daemon.system.workers import Workers
from llma_core.events import CaptureEvent

__all__ = ["ReadLoop"]

_TAKEN = 2 * 1024 * 1024
"""How many bytes of what workers have read to take at once, about."""
_TAKEN_BESIDE = 256 * 1024
"""The same beside live sessions, which wait meanwhile."""
_ENDED = 16
"""How many sessions to read together, and to their end before those that are settled leave memory.

Each has some 150 KB there.
"""
_AHEAD = 50
"""At how many sessions that will be read next to look at once: for each by itself, two threads wait for each other."""
_TOGETHER = 1024 * 1024
"""How many bytes of logs to read of small sessions together. What comes of them is in memory meanwhile."""
_FRESH = 10.0
"""For how many seconds what was seen there holds."""
_AT_ONCE = 200
"""How many sessions of a backfill to look at, at once."""


@dataclass(slots=True)
class _Staff:
    """The workers of a backfill.

    Attributes:
        backlog: its sessions.
        crew: the workers.
        numbers: the numbers of those of its sessions that were looked at so far, by name.
    """

    backlog: Backlog
    crew: Crew
    numbers: dict[str, int] = field(default_factory=dict)


class ReadLoop:
    """Reads sessions in turn. Use it from one event loop only.

    Args:
        logs: the logs.
        live: knows which sessions run.
        reader: reads sessions.
        settlement: knows which events are on their way.
        decisions: the decisions about each session.
        attendance: attends to the commands under `exec`.
        backfilling: the backfill that is requested.
        deliveries: take the events.
        commits: writes what is settled.
        reporting: reports what was read.
        turns: the sessions that wait to be read.
        workers: has the thread that reads files.
        choice: which sessions other processes may read.
        hire: called with how many bytes of logs there are to read, and how many processes may read them (None: as many
            as are worth it); returns these processes. None: they are read here.
        clock: the time by which quiet makes something final.
        cadence: times and sizes.

    Attributes:
        turns: as passed in.
        reading: the name of the session that is being read; None if none is.
        resting_until: when the loop's rest ends, on the event loop's clock; None if it does not rest, or only a hint
            will wake it.
        caught_up: set once `run` has read everything that there was to read, for the first time.
        progress: how many bytes of logs `read_all` has read, and how many it has still to read.
    """

    def __init__(
        self,
        *,
        logs: Logs,
        live: LiveSessions,
        reader: Reader,
        settlement: Settlement,
        decisions: Decisions,
        attendance: Attendance,
        backfilling: Backfilling,
        deliveries: Deliveries,
        commits: Commits,
        reporting: Reporting,
        turns: Turns,
        workers: Workers,
        choice: Choice,
        hire: Callable[[int, int | None], Crew | None],
        clock: RunningClock,
        cadence: Cadence,
    ) -> None:
        self.turns = turns
        self.reading: str | None = None
        self.resting_until: float | None = None
        self.caught_up = asyncio.Event()
        self.progress = (0, 0)
        self._unread: dict[str, int] = {}
        self._logs = logs
        self._live = live
        self._reader = reader
        self._sessions = reader.sessions
        self._settlement = settlement
        self._decisions = decisions
        self._attendance = attendance
        self._backfilling = backfilling
        self._deliveries = deliveries
        self._commits = commits
        self._reporting = reporting
        self._workers = workers
        self._choice = choice
        self._hire = hire
        self._clock = clock
        self._cadence = cadence
        self._reads_all = False
        self._wake = asyncio.Event()
        self._ran: frozenset[str] = frozenset()
        self._ran_at = -math.inf
        self._ahead: dict[str, Outlook | None] = {}
        self._looked_ahead = 0.0
        self._staff: _Staff | None = None
        self._staffed: Backlog | None = None

    # ------------------------------------------------------------------ the queue

    def wake(self) -> None:
        """End the loop's rest, so that it looks again for something to read."""
        self._wake.set()

    def take(self, changes: Changes) -> None:
        """Enqueue the sessions that have changed."""
        self.enqueue_all(changes.grown)
        for files in changes.cut:
            self.enqueue(files)
        self._reader.tell_removed(changes.removed)

    def enqueue_all(self, found: Collection[SessionFiles]) -> None:
        """Enqueue sessions that were found at once, in no particular order."""
        self.turns.note_found(found)
        for files in found:
            self.enqueue(files)

    def enqueue(self, files: SessionFiles) -> None:
        """Enqueue a session, unless it is held or not followed."""
        if files.name in self._decisions.held or not self._attendance.follows(files):
            return
        self.turns.add(files)
        self.wake()

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Read the sessions that wait, those that are due, and the backfill, in this order. Never returns."""
        try:
            await self._run()
        finally:
            self._end_staff()

    async def _run(self) -> None:
        while True:
            await self.turns.sort(self._ordered)
            files = self.turns.next()
            if files is not None:
                if await self._step(files, self.turns.upcoming):
                    self.turns.resume(files)
            elif not self._enqueue_due(self._clock.now()):
                files = self._backfilling.next(
                    self._logs.sessions,
                    held=self._decisions.held,
                    unreadable=self._reader.unreadable,
                    stalled_on=self.turns.stalled_on,
                )
                if files is None or not await self._step_backlog(files):
                    if not self.turns:
                        self.caught_up.set()
                    await self._rest()

    async def read_all(self, ordered: Sequence[Ordered]) -> bool:
        """Read sessions to their end and deliver their events. Return whether everything is settled."""
        self._reads_all = True
        left = {each.files.name: each.files for each in ordered}
        self._unread = {name: self._size(files) for name, files in left.items()}
        self.progress = (0, sum(self._unread.values()))
        numbers = {each.files.name: number for number, each in enumerate(ordered)}
        line = self.turns.line(left.values())
        many = few = self._few
        crew = await self._crew(ordered)

        def is_other(files: SessionFiles) -> bool:
            return crew is not None and numbers[files.name] in crew

        try:
            while left:
                files = line.first()
                if files is None:
                    going = [route for route in line.stalled if not self._deliveries.is_stopped(route)]
                    if not going:
                        break
                    await self._deliveries.wait_change(going)
                    continue
                if crew is not None and is_other(files):
                    ended = await self._take_over(crew, numbers[files.name], files)
                else:
                    ended = await self._step_together(files, line.upcoming, is_other)
                for name in ended:
                    del left[name]
                    line.remove(name)
                    self._note_unread(name, 0)
                    self._backfilling.backlog.finish(name, "held" if name in self._decisions.held else "read")
                if ended and len(self._sessions) >= many:
                    await self._drop_settled(left)
                    many = max(few, 2 * len(self._sessions))
        finally:
            if crew is not None:
                crew.close()
        settled = await self._deliveries.flush()
        await self._commits.write()
        await self._attendance.remove_delivered(self.is_done)
        return settled and not (
            left
            or self._attendance.put_off
            or self._decisions.held
            or self._decisions.held_lines
            or self._reader.unreadable
            or self._settlement.waiting
        )

    def _note_unread(self, name: str, left: int) -> None:
        """Note how many bytes of a session's logs `read_all` has still to read."""
        (read, unread), more = self.progress, self._unread[name] - left
        self.progress, self._unread[name] = (read + more, unread - more), left

    async def _rest(self) -> None:
        """Wait for something to read: a hint, a session that is due, or room on a route that had none."""
        self._wake.clear()
        due = [each.due for each in self._sessions if each.due is not None and each.files not in self.turns]
        woken = asyncio.ensure_future(self._wake.wait())
        room = asyncio.ensure_future(self._deliveries.wait_room(self.turns.stalled))
        self.resting_until = self._clock.steady(min(due)) if due else None
        try:
            async with asyncio.timeout_at(self.resting_until):
                await asyncio.wait({woken, room}, return_when=asyncio.FIRST_COMPLETED)
            if room.done():
                room.result()
        except TimeoutError:
            pass
        finally:
            self.resting_until = None
            woken.cancel()
            room.cancel()
            await asyncio.gather(woken, room, return_exceptions=True)

    def _enqueue_due(self, now: float) -> bool:
        """Enqueue the sessions in which something is due. Return whether there is one that did not wait already."""
        held = self._decisions.held
        due = [
            session.files
            for session in self._sessions
            if session.due is not None
            and session.due <= now
            and session.files not in self.turns
            and session.name not in held
        ]
        for files in due:
            self.enqueue(files)
        return bool(due)

    async def in_order(self, sessions: Iterable[SessionFiles]) -> Sequence[Ordered]:
        """Return sessions in the order in which to read them: an original before its copies."""
        ordered = await self._ordered(sessions)
        self.turns.join(ordered)
        return ordered

    async def _ordered(self, sessions: Iterable[SessionFiles]) -> Sequence[Ordered]:
        return await self._workers.read(partial(in_order, sessions))

    async def _step(
        self,
        files: SessionFiles,
        upcoming: Callable[[], Iterable[SessionFiles]] = tuple,
        *,
        finish: bool = False,
    ) -> bool:
        """Read a slice of a session, if it may be read. Return whether to read it again at once.

        Args:
            files: the session.
            upcoming: returns those that will probably be read next.
            finish: whether the session, if it does not run, has ended once everything is read.

        Raises:
            sqlite3.OperationalError: the disk refuses a write, and the service is stopping.
        """
        self.reading = files.name
        try:
            if files.name not in self._sessions:
                began = await self._look(files, upcoming)
                if not isinstance(began, Opening):
                    return began == "waits"
            return bool(await self._read_slices([files], [], finish=finish))
        finally:
            self.reading = None

    async def _step_together(
        self,
        files: SessionFiles,
        upcoming: Callable[[], Iterable[SessionFiles]],
        is_other: Callable[[SessionFiles], bool],
    ) -> list[str]:
        """Read a session to its end, or a slice of it, and with it the small ones that follow: a few of them together.

        For each session by itself, threads would wait for each other a dozen times.

        Args:
            files: the session.
            upcoming: returns those that wait, in the order in which they will probably be read.
            is_other: returns whether somebody else reads a session.

        Returns:
            The names of those that are not to be read again.

        Raises:
            sqlite3.OperationalError: the disk refuses a write, and the service is stopping.
        """
        first, *others = islice(upcoming(), self._few)
        left = _TOGETHER - self._size(files)
        if files.name in self._sessions or left < 0 or first is not files:
            # Where sessions before it wait for room, one behind it may be a fork of them.
            return [] if await self._step(files, upcoming, finish=True) else [files.name]
        over, ready, openings = list[str](), list[SessionFiles](), list[Opening]()
        try:
            for each in (files, *others):
                if each is not files:
                    left -= self._size(each)
                    if left < 0 or each.name not in self._ahead or each.name in self._sessions or is_other(each):
                        break
                self.reading = each.name
                began = await self._look(each, upcoming)
                if isinstance(began, Opening):
                    ready.append(each)
                    openings.append(began)
                elif began == "over":
                    over.append(each.name)
                else:
                    # One of those behind it may be its fork.
                    break
            again = await self._read_slices(ready, openings, finish=True) if ready else []
            return [*over, *(each.name for each in ready if each.name not in again)]
        finally:
            self.reading = None

    @property
    def _few(self) -> int:
        """How many sessions to read to their end before those that are settled leave memory."""
        return min(_ENDED, self._cadence.open_sessions)

    def _size(self, files: SessionFiles) -> int:
        """Return how many bytes the logs of a session had when they were last seen."""
        return sum([file.size for path in files.paths if (file := self._logs.files.get(path)) is not None])

    async def _look(
        self, files: SessionFiles, upcoming: Callable[[], Iterable[SessionFiles]]
    ) -> Opening | Literal["waits", "over"]:
        """Look at a session before it is read; return how it began, if it may be read now.

        Returns:
            Without that, whether it waits for room, or there is nothing to read of it for now.
        """
        try:
            began = await self._foresee(files, upcoming)
        except Held as held:
            await self._hold(files, held)
            return "over"
        except sqlite3.OperationalError as error:
            self._reader.unreadable.note_store(files, error)
            return "over"
        except disk.Unanswered as error:
            self._reader.unreadable.note(files, str(error.filename), error)
            return "over"
        if began is not None:
            return began
        return "over" if files.name in self._attendance.put_off else "waits"

    async def _hold(self, files: SessionFiles, held: Held) -> None:
        try:
            await self._decisions.hold([files.name], held)
        except disk.Unanswered as error:
            self._reader.unreadable.note(files, str(error.filename), error)

    async def _read_slices(
        self, together: Sequence[SessionFiles], openings: Sequence[Opening], *, finish: bool
    ) -> set[str]:
        """Read a slice of each of some sessions and queue their events.

        Args:
            together: the sessions. Of several, none is in memory.
            openings: how they began, as far as that is known.
            finish: as for `_step`.

        Returns:
            The names of those to read again at once.

        Raises:
            sqlite3.OperationalError: as for `_step`.
        """
        now = self._clock.now()
        sessions = [self._reader.session(files, now) for files in together]
        running = self._running(together)
        outcomes = await self._workers.read(
            partial(self._reader.read_together, sessions, now, openings, running=running, finish=finish)
        )
        again = {files.name for files in together[len(outcomes) :]}
        for name in again:
            self._reader.close(name)
        for outcome in outcomes:
            files = outcome.session.files
            self.reading = files.name
            await self._hand_over(outcome)
            if self._reader.note(outcome, has_grown=files in self.turns):
                again.add(files.name)
            for each in self._reader.called():
                self.enqueue(each)
            if outcome.held is not None:
                await self._hold(files, outcome.held)
        return again

    def _running(self, together: Iterable[SessionFiles]) -> Container[str]:
        """Return the ids of the sessions that run, to read some. For old ones, those of a moment ago are as good."""
        now = asyncio.get_running_loop().time()
        if now >= self._ran_at + self._cadence.registry or not all(map(self._is_old, together)):
            self._ran, self._ran_at = self._live.running(), now
        return self._ran

    async def _foresee(self, files: SessionFiles, upcoming: Callable[[], Iterable[SessionFiles]]) -> Opening | None:
        """Find out, before a session is read, where its events will go; return how it began, if it may be read now.

        A brand-new session that a running command may still claim is put off briefly.

        Raises:
            Held: the session has to wait for the user.
            sqlite3.OperationalError: the store cannot be read.
        """
        outlook = await self._outlook(files, upcoming)
        is_new = self._decisions.frozen(files.name) is None and files.name not in self._backfilling.backlog
        if is_new and await self._attendance.puts_off(files, outlook.opening):
            return None
        self._decisions.foresee(files.name, outlook)
        return outlook.opening if self.turns.stalled_on(files.name) is None else None

    async def _outlook(self, files: SessionFiles, upcoming: Callable[[], Iterable[SessionFiles]]) -> Outlook:
        """Find out what is known about a session before it is read, and about those that will be read next.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """
        now = asyncio.get_running_loop().time()
        if files.name not in self._ahead or now - self._looked_ahead >= _FRESH:
            others = (each for each in upcoming() if each is not files and each.name not in self._sessions)
            together = [files, *islice(others, _AHEAD - 1)]
            found = await self._decisions.outlooks(together) if len(together) > 1 else {}
            self._ahead = {each.name: found.get(each.name) for each in together}
            self._looked_ahead = now
        return self._ahead.pop(files.name, None) or await self._decisions.outlook(files)

    async def _hand_over(self, outcome: ReadOutcome) -> None:
        """Note what became final in a slice, and queue its events."""
        pipeline = outcome.session.pipeline
        name, frozen, route = pipeline.files.name, pipeline.frozen, pipeline.route
        position = sum([tail.position for tail in pipeline.tails.values()])
        self._backfilling.backlog.read(name, position)
        if name in self._unread:
            self._note_unread(name, max(0, self._size(pipeline.files) - position))
        self._decisions.tell(pipeline.warnings)
        # This is stored before a line counts as settled whose events it forbids.
        await self._decisions.restrain([name], pipeline.restraint)
        wanted = [event for step in outcome.steps for event in self._settlement.note(pipeline, step)]
        if frozen is not None:
            self._decisions.freeze(name, frozen)
        if name not in self._backfilling.backlog:
            # The plugin's status file names the session that was sent last, and a backfill does not count as that.
            self._reporting.note_read(outcome, wanted)
        if wanted:
            self._backfilling.backlog.note_sent(event.uuid for event in wanted)
            assert route is not None
            groups: dict[Route, list[CaptureEvent]] = {}
            for event in wanted:
                groups.setdefault(self._settlement.route_of(event.identity) or route, []).append(event)
            old = self._is_old(pipeline.files)
            # What a worker has read takes little memory until it is settled: the worker has let go of it.
            bulk = old and isinstance(pipeline, Remote)
            for each, events in groups.items():
                self._deliveries.put(each, events, old=old, bulk=bulk)
        if pipeline.waiting:
            await self._decisions.hold_lines(name, [*pipeline.waiting])

    def _is_old(self, files: SessionFiles) -> bool:
        """Whether nobody waits for what is read of a session: it was not written to lately."""
        if files.name in self._backfilling.backlog and not self._reads_all:
            # No more of it is read while a request full of its events is on its way: the backlog itself waits for that.
            return False
        return time.time() - self._logs.touched(files) / 1e9 >= self._cadence.lately

    # ------------------------------------------------------------------ what workers read

    async def _crew(self, ordered: Sequence[Ordered]) -> Crew | None:
        """Return workers that read those of some sessions that they may read; None if they are not worth it."""
        size = sum(file.size for each in ordered for path in each.files.paths if (file := self._logs.files.get(path)))
        crew = self._hire(size, self._backfilling.backlog.jobs)
        if crew is None:
            return None
        running, opened = self._live.running(), set(self._sessions.names)
        try:
            tasks = await self._workers.read(partial(self._choice.tasks, ordered, running, opened))
        except sqlite3.OperationalError:
            # Whoever reads the first session finds that the store cannot be read, and waits.
            return None
        if not crew.is_worth(tasks):
            return None
        await crew.begin(tasks)
        return crew

    async def _take_over(self, crew: Crew, number: int, files: SessionFiles, most: int = _TAKEN) -> list[str]:
        """Hand over what workers have read of a session, and of those behind it: about *most* bytes.

        Returns:
            The names of those that are read to their end. If something is not as a worker assumed, or it cannot read a
            session, *crew* does not have that session any more, and it has to be read here.
        """
        slices = await crew.take(number, most)
        if not slices:
            self._leave_to_this_process(files.name)
            return []
        room = 0
        for part in slices:
            route = route_of(part)
            if route is not None and not self._deliveries.has_room(route):
                break
            room += 1
        if not room:
            crew.give_back(slices)
            await self._wait_for_room(crew, slices[0])
            return []
        tasks = {part.number: crew.task(part.number) for part in slices}
        remotes = {number: self._remote(task) for number, task in tasks.items()}
        fitting = self._fitting(slices[:room], remotes)
        count = await self._workers.read(partial(self._choice.accept, slices[:fitting], tasks))
        crew.give_back(slices[count:])
        ended = []
        for part in slices[:count]:
            remote = remotes[part.number]
            assert remote is not None
            if not await self._hand_over_slice(part, remote):
                crew.drop(part.number)
                ended.append(remote.files.name)
        if count < room:
            task = tasks[slices[count].number]
            crew.drop(task.number)
            self._leave_to_this_process(task.name)
        return ended

    def _leave_to_this_process(self, name: str) -> None:
        """Let a session be read here from its beginning, if a worker has read it so far."""
        session = self._sessions.get(name)
        if session is not None and isinstance(session.pipeline, Remote):
            self._reader.close(name)

    def _remote(self, task: Task) -> Remote | None:
        """Return what stands for a worker's pipeline; None if the session is read here meanwhile, or is gone."""
        session, files = self._sessions.get(task.name), self._logs.sessions.get(task.name)
        if session is not None:
            return session.pipeline if isinstance(session.pipeline, Remote) else None
        return Remote(files, again=task.again) if files is not None else None

    @staticmethod
    def _fitting(slices: Sequence[Slice], remotes: Mapping[int, Remote | None]) -> int:
        """Return how many slices go on where what was handed over of their session ends."""
        counts = {number: remote.count for number, remote in remotes.items() if remote is not None}
        for fitting, part in enumerate(slices):
            if counts.get(part.number) != part.index:
                return fitting
            counts[part.number] += 1
        return len(slices)

    async def _wait_for_room(self, crew: Crew, part: Slice) -> None:
        route = route_of(part)
        assert route is not None
        if self._staff is not None and crew is self._staff.crew:
            # Live sessions do not wait for it. It is read here when there is room.
            crew.drop(part.number)
        elif self._deliveries.is_stopped(route):
            # Sessions of other routes may be read here meanwhile, and this one waits.
            crew.close()
        else:
            await self._deliveries.wait_change([route])

    async def _hand_over_slice(self, part: Slice, remote: Remote) -> bool:
        """Hand over a slice that a worker has read. Return whether there is more of its session."""
        now, name = self._clock.now(), remote.files.name
        session = self._sessions.get(name) or self._sessions.add(OpenSession(remote, now))
        self.reading = name
        try:
            remote.take(part)
            # It has ended before it was read; only the worker knows when that is final.
            session.heard_at, session.ended = now, True
            state: ReadState = "more" if part.progress.more else "caught_up"
            outcome = ReadOutcome(session=session, state=state, steps=[part.progress])
            await self._hand_over(outcome)
            return self._reader.note(outcome, has_grown=remote.files in self.turns)
        finally:
            self.reading = None

    # ------------------------------------------------------------------ a backfill beside following

    async def _step_backlog(self, files: SessionFiles) -> bool:
        """Read a slice of a session of the backfill, here or by a worker. Return whether there was one to read."""
        staff = await self._staff_for(files)
        number = staff.numbers.get(files.name) if staff is not None else None
        if staff is None or number is None or number not in staff.crew:
            await self._step_history(files)
            return True
        if not staff.crew.is_ready(number):
            # It wakes the loop when it is.
            return False
        for name in await self._take_over(staff.crew, number, files, _TAKEN_BESIDE):
            self._backfilling.backlog.finish(name)
        return True

    async def _staff_for(self, files: SessionFiles) -> _Staff | None:
        """Return the workers that read the current backfill; None if it is read here."""
        backlog = self._backfilling.backlog
        if self._staff is not None and self._staff.backlog is not backlog:
            self._end_staff()
        if self._staff is None:
            crew = self._hire(backlog.headway().bytes, backlog.jobs) if self._staffed is not backlog else None
            self._staffed = backlog
            if crew is None:
                return None
            crew.on_news = self.wake
            self._staff = _Staff(backlog, crew)
        staff = self._staff
        if files.name not in staff.numbers:
            # A few at a time: to know which may have lines in common, their first lines are read.
            names = [files.name, *(name for name in backlog.left(_AT_ONCE) if name != files.name)]
            found = [each for name in names if (each := self._logs.sessions.get(name)) is not None]
            ordered = {each.files.name: each for each in await self._ordered(found)}
            now, first = time.time(), len(staff.numbers)
            for number, each in enumerate(found, first):
                staff.numbers[each.name] = number
            running, opened = self._live.running(), set(self._sessions.names)
            opened.update(each.name for each in found if not self._reader.is_long_over(each, now))
            try:
                chosen = [ordered[each.name] for each in found]
                tasks = await self._workers.read(partial(self._choice.tasks, chosen, running, opened, first))
            except sqlite3.OperationalError:
                return None
            await staff.crew.begin(tasks)
        return staff

    def _end_staff(self) -> None:
        if self._staff is not None:
            self._staff.crew.close()
            self._staff = None

    def tend_backlog(self) -> None:
        """End the workers of a backfill that is over, or was withdrawn."""
        if self._staff is not None and (
            self._staff.backlog is not self._backfilling.backlog or self._staff.backlog.next is None
        ):
            self._end_staff()

    async def _step_history(self, files: SessionFiles) -> None:
        """Read a slice of a session of the backfill."""
        session = self._sessions.get(files.name)
        if session is not None and not self._backfilling.has_begun(session.pipeline):
            # It was read from where history ended, and has to be read from its beginning.
            self._reader.close(files.name)
        if not await self._step(files):
            is_read = files.name in self._sessions and files.name not in self._reader.unreadable
            read: Ending = "read" if is_read else "missing"
            self._backfilling.backlog.finish(files.name, "held" if files.name in self._decisions.held else read)

    async def _drop_settled(self, but: Container[str]) -> None:
        """Drop from memory the sessions that are settled, *but* those that are not read to their end."""
        await self._commits.write()
        for session in self._sessions:
            if session.name not in but and self._reader.is_settled(session):
                self._reader.drop(session.files)

    def is_done(self, files: SessionFiles) -> bool | None:
        """Return whether a session has ended and everything of it is delivered; None if it is not in memory."""
        if files in self.turns or files.name == self.reading or files.name in self._settlement.owing:
            return False
        session = self._sessions.get(files.name)
        if session is None:
            return None
        return session.ended and session.pipeline.idle and self._reader.is_settled(session)
