"""Reads sessions, one slice at a time, and reports each slice as one outcome.

Everything that reads sessions drives this: the service, `tail`, `preview` and the estimate of a backfill. The reader
decides when a session has ended, when it leaves memory, and what to do if its files were replaced, cannot be read or
have to wait for the user. What happens to the events is up to the driver:

    session = reader.session(files, now)            the session in memory, or a new one
    outcome = reader.read(session, now, ...)        reads the files; may run in another thread
    for step in outcome.steps: ...                  the driver takes what became final
    again = reader.note(outcome)                    draws the consequences; True: read it again at once

From time to time, the driver asks for the sessions that have to be read although nothing was written: `tend` returns
those whose time has come, `retry_unreadable` those that could not be read.

A session has ended when one of these is true. A new line takes it back. Time in which this process could not run does
not count.

    1. It is not in the client's registry of live processes, although it was before or its client keeps one on this
       machine; and nothing came for `Cadence.gone`.
    2. Nothing came for the session timeout.
    3. All its logs were deleted, and none came back for `Cadence.gone`.
    4. It belongs to a command under `exec` that has ended, and its process is gone.
    5. The driver reads with *finish*, and the session does not run.

A log whose name tells its writer has ended when that process has, and not before.

As long as a session runs, or a command of it does, it has not ended.

Synchronous: it waits for nothing and sends nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import structlog

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.following.cadence import Cadence
from daemon.following.glances import Glances
from daemon.following.live_sessions import LiveSessions
from daemon.following.logs import Logs
from daemon.following.opening import Opening
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Marks, unknown
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress, Replaced
from daemon.reading.executions import Executions
from daemon.reading.facts import Facts
from daemon.reading.logged_history import LoggedHistory
from daemon.reading.open_sessions import OpenSession, OpenSessions
from daemon.reading.pipeline import Pipeline
from daemon.reading.settlement import Settlement
from daemon.reading.unreadable import Unreadable
from daemon.reading.writing import is_finished
from daemon.routing.routing import Held, Routing
from daemon.state.rows import FileMark, FrozenRoute

__all__ = ["Decided", "ReadOutcome", "ReadState", "Reader"]

_log = structlog.get_logger(__name__)

ReadState = Literal["more", "caught_up", "replaced", "held", "unreadable", "store_unreadable"]
"""How reading a slice of a session ended.

- `more`: there is more to read at once.
- `caught_up`: everything in the files is read.
- `replaced`: a file was truncated or replaced. The session is read again from its beginning.
- `held`: the session has to wait for the user.
- `unreadable`: a file cannot be read.
- `store_unreadable`: the store cannot be read, so nothing tells what of the session is settled.
"""


class Decided(Protocol):
    """Knows what was decided about sessions before they are read. The service has `Decisions`."""

    def frozen(self, name: str) -> FrozenRoute | None:
        """Return the route of a session; None if it is not decided."""

    def restraint(self, name: str) -> Restraint:
        """Return what the files of the session's project have made stricter."""

    def restraint_of(self, name: str) -> Restraint:
        """Return the same for a session that may not be read now. Called from the reading thread.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """

    def forget(self, names: Sequence[str]) -> None:
        """Drop sessions from memory. They are looked up again when they are read."""


class _Undecided:
    """Nothing was decided before, for readers without a store."""

    def frozen(self, name: str) -> FrozenRoute | None:
        del name
        return None

    def restraint(self, name: str) -> Restraint:
        del name
        return UNRESTRAINED

    def restraint_of(self, name: str) -> Restraint:
        return self.restraint(name)

    def forget(self, names: Sequence[str]) -> None:
        del names


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOutcome:
    """The result of reading a slice of a session.

    Attributes:
        session: the session.
        state: how reading ended.
        steps: what became final, in order. The driver takes it whatever the state is.
        held: why the session has to wait; None unless the state is `held`.
        error: the error; None unless a file or the store cannot be read.
    """

    session: OpenSession
    state: ReadState
    steps: Sequence[Progress]
    held: Held | None = None
    error: OSError | sqlite3.OperationalError | None = None


class Reader:
    """Reads sessions, one at a time.

    Args:
        logs: the logs.
        routing: decides the route of a session, and who its events belong to.
        claims: which session wrote what first.
        sessions: the sessions in memory; None to begin with none.
        settlement: knows which events are on their way and which are settled; None if nothing is ever delivered.
        marks: returns how a file was last known.
        former: returns the files that the store knows of a session by its name.
        stored_of: returns those of some sessions, by name, of which *former* or *hosts* may return something.
        hosts: returns the names of the sessions in whose logs a session, by name, has lines, as far as the store knows.
        decided: knows what was decided about sessions before; None if nothing was.
        executions: the records of the commands under `exec`; None if there are none.
        live: proves which sessions have ended; None if nothing is proved.
        session_timeout: seconds of quiet after which a session ends in which something is open, unless it is known to
            run.
        first_start: milliseconds since the epoch. Only what is older can be history. None to send everything.
        history: tells which of the older lines are history. None if all are.
        again: returns whether to read settled lines of a session, by name, once more and send what was never sent of
            them.
        resends: returns the uuids of the events of a session, by name, that are to be sent again although they are
            settled; None if there are none.
        facts: what callers know of sessions; None to learn it from the logs alone.
        dated: whether lines are read with the time at which they were written as *now*. Otherwise the age of a
            session's files adds to its quiet.
        cadence: times and sizes.

    Attributes:
        sessions: the sessions in memory.
        unreadable: the sessions that cannot be read at the moment.
        first_start: as passed in. May be set until the first session is read.
    """

    def __init__(
        self,
        *,
        logs: Logs,
        routing: Routing,
        claims: Claims,
        sessions: OpenSessions | None = None,
        settlement: Settlement | None = None,
        marks: Marks = unknown,
        former: Callable[[str], Iterable[FileMark]] = lambda _name: (),
        hosts: Callable[[str], Iterable[str]] = lambda _name: (),
        stored_of: Callable[[Sequence[str]], Iterable[str]] = lambda names: names,
        decided: Decided | None = None,
        executions: Executions | None = None,
        live: LiveSessions | None = None,
        session_timeout: float = float("inf"),
        first_start: int | None = None,
        history: LoggedHistory | None = None,
        again: Callable[[str], bool] = lambda _name: False,
        resends: Callable[[str], Container[str] | None] = lambda _name: None,
        facts: Facts | None = None,
        dated: bool = False,
        cadence: Cadence | None = None,
    ) -> None:
        self._facts = facts or Facts()
        self._glances = Glances(logs.kept)
        self.sessions = OpenSessions() if sessions is None else sessions
        self.unreadable = Unreadable()
        self.first_start = first_start
        self._logs = logs
        self._routing = routing
        self._claims = claims
        self._settlement = settlement
        self._marks = marks
        self._former = former
        self._hosts = hosts
        self._stored_of = stored_of
        self._unstored: set[str] = set()
        self._closed: dict[str, Restraint] = {}
        self._called: dict[str, SessionFiles] = {}
        self._decided: Decided = decided or _Undecided()
        self._executions = executions or Executions(None)
        self._live = live
        self._history = history
        self._timeout = session_timeout
        self._again = again
        self._resends = resends
        self._dated = dated
        self._cadence = cadence or Cadence()

    # ------------------------------------------------------------------ reading

    def session(self, files: SessionFiles, now: float) -> OpenSession:
        """Return a session, and take it into memory if it is not there.

        Args:
            files: its files.
            now: a steady clock, in seconds. The quiet of a new session counts from here.
        """
        session = self.sessions.get(files.name)
        if session is not None and session.pipeline.is_spent:
            self.close(files.name)
            session = None
        return session or self.sessions.add(OpenSession(self._pipeline(files), now, self._age(files)))

    def read(
        self,
        session: OpenSession,
        now: float,
        *,
        running: Container[str] = frozenset(),
        finish: bool = False,
        budget: int | None = None,
    ) -> ReadOutcome:
        """Read a slice of a session. This is the only method that may run in another thread than the others.

        Args:
            session: the session.
            now: the steady clock, in seconds.
            running: ids of the sessions that run now.
            finish: whether the session, if it does not run, has ended once everything is read.
            budget: about how many bytes to read; None for as many as the cadence says.

        Raises:
            sqlite3.DatabaseError: the store is damaged.
        """
        pipeline = session.pipeline
        assert isinstance(pipeline, Pipeline), "`session` has built one where another process has read"
        steps: list[Progress] = []

        def outcome(
            state: ReadState, held: Held | None = None, error: OSError | sqlite3.OperationalError | None = None
        ) -> ReadOutcome:
            return ReadOutcome(session=session, state=state, steps=steps, held=held, error=error)

        try:
            # The quiet counts only up to the last line that was read: there may be new lines to read now.
            # What is open in it is known only then, so its rest does not count yet.
            # If its command is found to be over only while this reads, there may be logs that this does not read yet.
            over = self._executions.is_over(session.files.session)
            last = self._is_over(session, session.heard_at, running, over=over, finish=finish, rests=False)
            before = pipeline.read_bytes
            progress = pipeline.advance(now, self._cadence.slice_bytes if budget is None else budget, last=last)
            steps.append(progress)
            if pipeline.read_bytes != before:
                session.heard_at, session.age, session.ended = now, self._age(session.files), False
            session.ended = session.ended or progress.ended
            if progress.more:
                return outcome("more")
            if self._is_over(session, now, running, over=over, finish=finish, rests=pipeline.at_rest):
                # This is known only now: nothing is open in it, there were no lines, or they were the first after an
                # end.
                steps.append(pipeline.end(now))
                session.ended = True
        except Replaced as replaced:
            _log.info("file_replaced", path=str(replaced), action="reading its session again from the beginning")
            return self._salvage(session, now)
        except Held as held:
            return outcome("held", held=held)
        except OSError as error:
            return outcome("unreadable", error=error)
        except sqlite3.OperationalError as error:
            return outcome("store_unreadable", error=error)
        return outcome("caught_up")

    def read_together(
        self,
        sessions: Sequence[OpenSession],
        now: float,
        openings: Iterable[Opening] = (),
        *,
        running: Container[str] = frozenset(),
        finish: bool = False,
    ) -> list[ReadOutcome]:
        """Read a slice of each of some sessions, up to the first that is not read to its end. Otherwise like `read`.

        Of several, the files are looked at together.

        Args:
            sessions: the sessions, in the order in which they count. Several must be small, and new in memory.
            now: the steady clock, in seconds.
            openings: how they began, as far as that is known.
            running: ids of the sessions that run now.
            finish: whether each that does not run has ended once everything is read.

        Returns:
            The outcomes of the first sessions. The others were not begun.

        Raises:
            sqlite3.DatabaseError: the store is damaged.
        """
        if len(sessions) == 1:
            return [self.read(sessions[0], now, running=running, finish=finish)]
        outcomes: list[ReadOutcome] = []
        names = [session.name for session in sessions]
        try:
            self._unstored = {*names} - {*self._stored_of(names)}
        except sqlite3.OperationalError as error:
            return [ReadOutcome(session=sessions[0], state="store_unreadable", steps=(), error=error)]
        try:
            with self._routing.ruling_on(openings), self._glances.over(session.files for session in sessions):
                for session in sessions:
                    outcomes.append(self.read(session, now, running=running, finish=finish))
                    if outcomes[-1].state != "caught_up":
                        break
        finally:
            self._unstored = set()
        return outcomes

    def _salvage(self, session: OpenSession, now: float) -> ReadOutcome:
        """Save what is open in files that were replaced. Reading the new files would not find it."""
        assert isinstance(session.pipeline, Pipeline)
        try:
            steps = [session.pipeline.salvage(now)]
        except Held as held:
            return ReadOutcome(session=session, state="held", steps=(), held=held)
        except sqlite3.OperationalError as error:
            return ReadOutcome(session=session, state="store_unreadable", steps=(), error=error)
        return ReadOutcome(session=session, state="replaced", steps=steps)

    def note(self, outcome: ReadOutcome, *, has_grown: bool = False) -> bool:
        """Draw the consequences of *outcome*, after its steps were taken. Return whether to read again at once.

        Args:
            outcome: the return value of `read`.
            has_grown: whether the session was found to have grown since.
        """
        session, files = outcome.session, outcome.session.files
        for step in outcome.steps:
            self._note_hosted(files, step)
        session.due = session.pipeline.due()
        match outcome.state:
            case "more":
                return True
            case "caught_up":
                self.unreadable.note_read(files)
                if not has_grown:
                    self._logs.note_read(files)
                return False
            case "replaced":
                self.drop(files)
                return bool(files.paths)
            case "unreadable":
                assert isinstance(outcome.error, OSError)
                return self._put_off(session, outcome.error)
            case "store_unreadable":
                assert isinstance(outcome.error, sqlite3.OperationalError)
                self.close(files.name)
                self.unreadable.note_store(files, outcome.error)
                return False
            case "held":
                self.close(files.name)
                self.tell_removed(self._logs.forget_gone(files))
                return False

    def _note_hosted(self, files: SessionFiles, step: Progress) -> None:
        for other, _ in step.hosted:
            hosted = self._logs.note_host(files, other)
            if hosted is not None and other in step.called:
                self._called[hosted.name] = hosted

    def called(self) -> list[SessionFiles]:
        """Return the sessions of which new lines were read in the logs of others, since the last call: read them."""
        called, self._called = list(self._called.values()), {}
        return called

    def read_whole(
        self, files: SessionFiles, *, running: Container[str] = frozenset(), finish: bool = True
    ) -> Iterator[ReadOutcome]:
        """Read a session to its end, slice by slice, and take it out of memory.

        Yields:
            The outcome of each slice. Take its steps before you ask for the next one.
        """
        again = True
        while again:
            outcome = self.read(self.session(files, 0.0), 0.0, running=running, finish=finish)
            yield outcome
            again = self.note(outcome)
        self.close(files.name)

    def _pipeline(self, files: SessionFiles) -> Pipeline:
        settlement, name = self._settlement, files.name
        return Pipeline(
            files,
            claims=self._claims,
            routing=self._routing,
            marks=self._marks,
            former=self._former_files,
            find_hosts=partial(self._find_hosts, files),
            frozen=self._decided.frozen(name),
            restraint=self._decided.restraint(name),
            restraint_of=self._restraint_of,
            owed=tuple if settlement is None else partial(settlement.owed_by, name),
            first_start=None if files.agent.is_spool else self.first_start or None,
            history=None if files.agent.is_spool else self._history,
            again=self._again(name),
            resends=self._resends(name),
            has_main=partial(self._logs.has_main, files.agent),
            is_visited=partial(self._logs.is_visited, files.agent, files.session),
            kept=self._logs.kept,
            glances=self._glances,
            added=partial(self._executions.of, files.session),
            facts=self._facts,
            line_bytes=self._cadence.line_bytes,
        )

    def _restraint_of(self, name: str) -> Restraint:
        """Return the restraint of another session. Of one that was just read, what was found need not be stored yet."""
        session = self.sessions.get(name)
        known = self._decided.restraint_of(name).also(self._closed.get(name, UNRESTRAINED))
        return known if session is None else known.also(session.pipeline.restraint)

    def _former_files(self, name: str) -> Iterable[FileMark]:
        return () if name in self._unstored else self._former(name)

    def _find_hosts(self, files: SessionFiles) -> None:
        if files.name in self._unstored:
            return
        for host in map(self._logs.sessions.get, self._hosts(files.name)):
            if host is not None:
                self._logs.note_host(host, files.session)

    # ------------------------------------------------------------------ leaving the memory

    def close(self, name: str) -> None:
        """Take a session out of memory. Its events that are on their way stay on their way."""
        session = self.sessions.pop(name)
        if session is None:
            return
        if self._settlement is not None:
            self._settlement.drop(session.pipeline)
        else:
            self._claims.forget(name)
            if session.pipeline.restraint != UNRESTRAINED:
                # Nobody stores it, and copies of the session come later.
                self._closed[name] = session.pipeline.restraint

    def drop(self, files: SessionFiles) -> None:
        """Take a session out of memory, and forget its deleted files."""
        self.close(files.name)
        # The decisions about it are in the store, and are looked up when it grows.
        self._decided.forget([files.name])
        self.tell_removed(self._logs.forget_gone(files))

    def tell_removed(self, removed: Iterable[SessionFiles]) -> None:
        """Log that the owed traces of sessions without any log will not be sent."""
        for files in removed:
            if self._settlement is not None and files.name in self._settlement.owing:
                _log.info("session_removed", session=files.session, action="its trace is not sent")

    def _put_off(self, session: OpenSession, error: OSError) -> bool:
        """Put off a session with a file that cannot be read. Return whether to read it again at once."""
        files = session.files
        # Even if something in it is due, it waits until a sweep tries the file again.
        session.due = None
        if session.pipeline.is_spent or not any(tail.position for tail in session.pipeline.tails.values()):
            # Nothing of it was read. Otherwise it stays in memory: what was read may be in no file any more.
            self.close(files.name)
        path = str(error.filename or files.session)
        if path in files.paths and self._logs.look(path):
            self.drop(files)
            return bool(files.paths)
        self.unreadable.note(files, path, error)
        return False

    def may_leave(self, session: OpenSession, now: float) -> bool:
        """Return whether a session can leave memory: nothing of it is open or unsettled, and it is unlikely to grow."""
        unlikely = session.ended or (
            # A deleted session has not ended yet, and without files it could not be read again for its end.
            self._logs.exists(session.files)
            and (now >= session.heard_at + self._cadence.idle or len(self.sessions) > self._cadence.open_sessions)
        )
        return unlikely and session.pipeline.idle and self.is_settled(session)

    def is_settled(self, session: OpenSession) -> bool:
        """Return whether everything that was read of a session is settled and written."""
        return self._settlement is None or self._settlement.is_settled(session.pipeline)

    # ------------------------------------------------------------------ what to read without a hint

    def tend(self, now: float, running: Container[str], *, reading: str | None = None) -> list[SessionFiles]:
        """Return the sessions in which something is due, and those that have ended. Drop those that can leave memory.

        Args:
            now: the steady clock, in seconds.
            running: ids of the sessions that run now.
            reading: the name of the session that is being read in another thread, which is left alone.
        """
        due = []
        for session in self.sessions:
            if session.name == reading or session.name in self.unreadable:
                continue
            if (session.due is not None and session.due <= now) or (
                not session.ended
                and self._has_ended(
                    session,
                    now,
                    running,
                    over=self._executions.is_over(session.files.session),
                    rests=session.pipeline.at_rest,
                )
            ):
                due.append(session.files)
            elif self.may_leave(session, now):
                self.drop(session.files)
        return due

    def retry_unreadable(self) -> list[SessionFiles]:
        """Return the sessions that could not be read, so that they are tried again. Forget those that are gone."""
        again = []
        for name in self.unreadable.names:
            files = self._logs.sessions.get(name)
            if files is None:
                self.unreadable.forget(name)
            else:
                again.append(files)
        return again

    def retry_stranded(self, *, reading: str | None = None) -> list[SessionFiles]:
        """Return the sessions with copies of what no other session will send any more, so that they send it.

        Args:
            reading: the name of the session that is being read in another thread, which is left alone.
        """
        if self._settlement is None:
            return []
        stranded = self._settlement.stranded(self._logs.sessions, but=reading)
        for name in stranded:
            self.close(name)
        return [files for name in sorted(stranded) if (files := self._logs.sessions.get(name)) is not None]

    # ------------------------------------------------------------------ the end of a session

    def is_long_over(self, files: SessionFiles, wall: float) -> bool:
        """Return whether a session that does not run has ended because nothing came for it for so long.

        Args:
            files: its files.
            wall: the wall clock, in seconds since the epoch.
        """
        return wall - self._logs.touched(files) / 1e9 >= self._timeout and is_finished(files) is not False

    def _age(self, files: SessionFiles) -> float:
        """Return how many seconds ago the files of a session were last written to."""
        touched = self._logs.touched(files)
        return max(0.0, time.time() - touched / 1e9) if touched and not self._dated else 0.0

    def _is_over(
        self, session: OpenSession, now: float, running: Container[str], *, over: bool, finish: bool, rests: bool
    ) -> bool:
        """Return whether a session has ended whose end was not given out yet.

        With *finish*, it has ended unless it is known to go on. Otherwise a proof decides, or its quiet up to *now*.
        """
        name = session.files.session
        goes_on = name in running or self._executions.of(name).waits or is_finished(session.files) is False
        return not session.ended and (
            self._has_ended(session, now, running, over=over, rests=rests) or (finish and not goes_on)
        )

    def _has_ended(self, session: OpenSession, now: float, running: Container[str], *, over: bool, rests: bool) -> bool:
        """Return whether a session has ended, by a proof or by its quiet.

        Args:
            session: the session.
            now: the steady clock, in seconds.
            running: ids of the sessions that run now.
            over: whether its command was over, and all its logs known, before they were read.
            rests: whether its end would give nothing up.
        """
        name = session.files.session
        if name in running or self._executions.of(name).waits:
            return False
        finished = is_finished(session.files)
        if finished is not None:
            return finished
        if over:
            return True
        touched = self._logs.touched(session.files) / 1e9
        if not touched:
            # All its logs were deleted. It ends if no others take their place soon.
            return now - session.heard_at >= min(self._cadence.gone, self._timeout)
        # Old files do not have to wait just because they were read only now. From then on the wall clock does not
        # count: it goes on while the machine sleeps, and the client does, too.
        quiet = now - session.heard_at + session.age
        proof = None if self._live is None else self._live.ending(name)
        # A proof says nothing about what was written after it: the session goes on where nobody registers it.
        if proof is not None and touched <= proof.at + self._cadence.gone and (proof.certain or rests):
            return quiet >= min(self._cadence.gone, self._timeout)
        return quiet >= (min(self._cadence.rest, self._timeout) if rests else self._timeout)
