"""Reads a slice of one session, and says in one outcome what that came to.

Everything that reads sessions drives this: the service, `tail`, `preview`, the estimate of a backfill. It decides when
a session has ended, when it can leave the memory, and what becomes of one whose files were replaced, cannot be read or
have to wait; what is done with the events is for the driver:

    session = reader.session(files, now)            in memory, or begun
    outcome = reader.read(session, now, ...)        files are read here and nowhere else; may be in another thread
    for step in outcome.steps: ...                  the driver hands over what became final
    again = reader.note(outcome)                    what follows for the session

Synchronous; it waits for nothing and sends nothing.
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
from daemon.following.live_sessions import LiveSessions
from daemon.following.logs import Logs
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Marks, unknown
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress, Replaced
from daemon.reading.executions import Executions
from daemon.reading.open_sessions import OpenSession, OpenSessions
from daemon.reading.pipeline import Pipeline
from daemon.reading.settlement import Settlement
from daemon.reading.unreadable import Unreadable
from daemon.routing.routing import Held, Routing
from daemon.state.rows import FrozenRoute

__all__ = ["Decided", "ReadOutcome", "ReadState", "Reader"]

_log = structlog.get_logger(__name__)

ReadState = Literal["more", "caught_up", "replaced", "held", "unreadable", "store_unreadable"]
"""How reading a slice of a session ended.

- `more`: there is more to read at once.
- `caught_up`: everything that is there is read.
- `replaced`: a file is another one than it was; the session is read again from the beginning.
- `held`: the session has to wait for the user.
- `unreadable`: a file cannot be read.
- `store_unreadable`: nobody can say what of it is settled.
"""


class Decided(Protocol):
    """Where it is known what was decided for a session before it is read."""

    def frozen(self, name: str) -> FrozenRoute | None:
        """Return the session's route; None if it was not decided."""

    def restraint(self, name: str) -> Restraint:
        """Return what its project's files have made stricter."""

    def forget(self, names: Sequence[str]) -> None:
        """Keep nothing of sessions in memory: they are looked up again when they are read."""


class _Undecided:
    """Nothing was decided before."""

    def frozen(self, name: str) -> FrozenRoute | None:
        del name
        return None

    def restraint(self, name: str) -> Restraint:
        del name
        return UNRESTRAINED

    def forget(self, names: Sequence[str]) -> None:
        del names


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOutcome:
    """What reading a slice of a session came to.

    Attributes:
        session: which.
        state: how it ended.
        steps: what became final, in order; to be handed over whatever the state is.
        held: why the session has to wait, if it has.
        error: what was wrong, if a file or the store cannot be read.
    """

    session: OpenSession
    state: ReadState
    steps: Sequence[Progress]
    held: Held | None = None
    error: OSError | sqlite3.OperationalError | None = None


class Reader:
    """Reads sessions. One at a time.

    Args:
        logs: where the logs are.
        routing: whose the events are, and which route they take.
        claims: which session wrote what first.
        sessions: the sessions in memory.
        settlement: what is on its way and what is settled; None: nothing is ever delivered.
        marks: tells how a file was last known.
        decided: what was decided for sessions before.
        executions: the commands that `exec` runs.
        live: which sessions run now; None: that is not known of any.
        session_timeout: seconds of quiet after which a session without a live process has ended.
        first_start: milliseconds; what is older is history and not sent. None: everything is sent.
        again: whether settled lines of a session, by name, are read once more for what was never sent of them.
        cadence: times and sizes.
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
        decided: Decided | None = None,
        executions: Executions | None = None,
        live: LiveSessions | None = None,
        session_timeout: float = float("inf"),
        first_start: int | None = None,
        again: Callable[[str], bool] = lambda _name: False,
        cadence: Cadence | None = None,
    ) -> None:
        self.sessions = OpenSessions() if sessions is None else sessions
        self.unreadable = Unreadable()
        self.first_start = first_start
        self._logs = logs
        self._routing = routing
        self._claims = claims
        self._settlement = settlement
        self._marks = marks
        self._decided: Decided = decided or _Undecided()
        self._executions = executions or Executions(None)
        self._live = live
        self._timeout = session_timeout
        self._again = again
        self._cadence = cadence or Cadence()

    # ------------------------------------------------------------------ reading

    def session(self, files: SessionFiles, now: float) -> OpenSession:
        """Return the session in memory, begun if it is not there.

        Args:
            files: its files.
            now: a steady clock, in seconds: since then something was heard of it.
        """
        return self.sessions.get(files.name) or self.sessions.add(OpenSession(self._pipeline(files), now))

    def read(
        self,
        session: OpenSession,
        now: float,
        *,
        running: Container[str] = frozenset(),
        finish: bool = False,
        budget: int | None = None,
    ) -> ReadOutcome:
        """Read a slice of a session, and return what it came to. The only method that may be called in another thread.

        Args:
            session: which.
            now: the steady clock.
            running: ids of the sessions that run now.
            finish: whether a session that does not run has ended once everything is read.
            budget: bytes to read, about; None: as many as the cadence says.

        Raises:
            sqlite3.DatabaseError: the store is damaged.
        """
        pipeline = session.pipeline
        steps: list[Progress] = []

        def outcome(
            state: ReadState, held: Held | None = None, error: OSError | sqlite3.OperationalError | None = None
        ) -> ReadOutcome:
            return ReadOutcome(session=session, state=state, steps=steps, held=held, error=error)

        try:
            # Whether it has ended is asked as of when it was last heard of: what is there to be read says more.
            last = self._is_over(session, session.heard_at, running, finish=finish)
            progress = pipeline.advance(now, self._cadence.slice_bytes if budget is None else budget, last=last)
            steps.append(progress)
            if progress.lines:
                session.heard_at, session.ended = now, False
            session.ended = session.ended or progress.ended
            if progress.more:
                return outcome("more")
            if self._is_over(session, now, running, finish=finish):
                # That is known only now: by its version, its silence, or because its lines were the first after an end.
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

    def _salvage(self, session: OpenSession, now: float) -> ReadOutcome:
        try:
            steps = [session.pipeline.salvage(now)]
        except Held as held:
            return ReadOutcome(session=session, state="held", steps=(), held=held)
        except sqlite3.OperationalError as error:
            return ReadOutcome(session=session, state="store_unreadable", steps=(), error=error)
        return ReadOutcome(session=session, state="replaced", steps=steps)

    def note(self, outcome: ReadOutcome, *, has_grown: bool = False) -> bool:
        """Draw the consequences of *outcome*, once its steps were handed over; return whether to read again at once.

        Args:
            outcome: what `read` returned.
            has_grown: whether more of the session was found meanwhile.
        """
        session, files = outcome.session, outcome.session.files
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

    def read_whole(
        self, files: SessionFiles, *, running: Container[str] = frozenset(), finish: bool = True
    ) -> Iterator[ReadOutcome]:
        """Read a session to its end, slice by slice, and take it out of memory.

        Yields:
            What each slice came to; each has to be dealt with before the next is asked for.
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
            frozen=self._decided.frozen(name),
            restraint=self._decided.restraint(name),
            owed=tuple if settlement is None else partial(settlement.owed_by, name),
            first_start=self.first_start or None,
            again=self._again(name),
            has_main=partial(self._logs.has_main, files.folder),
            kept=self._logs.kept,
            added=partial(self._executions.of, files.session),
            line_bytes=self._cadence.line_bytes,
        )

    # ------------------------------------------------------------------ leaving the memory

    def close(self, name: str) -> None:
        """Take a session out of memory; what is on its way of it stays on its way."""
        session = self.sessions.pop(name)
        if session is None:
            return
        if self._settlement is not None:
            self._settlement.drop(session.pipeline)
        else:
            self._claims.forget(name)

    def drop(self, files: SessionFiles) -> None:
        """Take a session out of memory, and forget what was deleted of it."""
        self.close(files.name)
        # What was decided of it stands in the store, and is looked up when it grows.
        self._decided.forget([files.name])
        self.tell_removed(self._logs.forget_gone(files))

    def tell_removed(self, removed: Iterable[SessionFiles]) -> None:
        """Say of sessions whose last log is gone that a trace they owe will not be sent."""
        for files in removed:
            if self._settlement is not None and files.name in self._settlement.owing:
                _log.info("session_removed", session=files.session, action="its trace is not sent")

    def _put_off(self, session: OpenSession, error: OSError) -> bool:
        """Leave a session for later of which a file cannot be read; return whether to try at once."""
        files = session.files
        # Whatever is due in it has to wait for what cannot be read, until a sweep tries again.
        session.due = None
        if not any(tail.position for tail in session.pipeline.tails.values()):
            # Nothing of it is known. Otherwise it stays: what was read may be in no file any more.
            self.close(files.name)
        path = str(error.filename or files.session)
        if path in files.paths and self._logs.look(path):
            self.drop(files)
            return bool(files.paths)
        self.unreadable.note(files, path, error)
        return False

    def retry_unreadable(self) -> list[SessionFiles]:
        """Return the sessions that could not be read, to be tried again; forget those that are gone."""
        again = []
        for name in self.unreadable.names:
            files = self._logs.sessions.get(name)
            if files is None:
                self.unreadable.forget(name)
            else:
                again.append(files)
        return again

    def may_leave(self, session: OpenSession, now: float) -> bool:
        """Whether a session can leave the memory: nothing of it is open or unsettled, and it will hardly grow."""
        unlikely = session.ended or (
            # A deleted one has its end still to come, and could not be taken up again for that.
            self._logs.exists(session.files)
            and (now >= session.heard_at + self._cadence.idle or len(self.sessions) > self._cadence.open_sessions)
        )
        return unlikely and session.pipeline.idle and self.is_settled(session)

    def is_settled(self, session: OpenSession) -> bool:
        """Whether everything that was read of a session is settled and written."""
        return self._settlement is None or self._settlement.is_settled(session.pipeline)

    # ------------------------------------------------------------------ the end of a session

    def tend(self, now: float, running: Container[str], *, reading: str | None = None) -> list[SessionFiles]:
        """Return the sessions in memory that have to be read because of the time, and drop those that can leave.

        Args:
            now: the steady clock.
            running: ids of the sessions that run now.
            reading: the name of one that is being read, and therefore left alone.
        """
        due = []
        for session in self.sessions:
            if session.files.session in running:
                session.seen_running = True
            if session.name == reading or session.name in self.unreadable:
                continue
            if (session.due is not None and session.due <= now) or (
                not session.ended and self._has_ended(session, now, running)
            ):
                due.append(session.files)
            elif self.may_leave(session, now):
                self.drop(session.files)
        return due

    def _is_over(self, session: OpenSession, now: float, running: Container[str], *, finish: bool) -> bool:
        """Whether a session has ended that had not before; with *finish*, unless it is known to go on.

        Silence counts up to *now*; how long its files have been untouched counts in any case.
        """
        name = session.files.session
        return not session.ended and (
            self._has_ended(session, now, running)
            or (finish and name not in running and not self._executions.of(name).waits)
        )

    def _has_ended(self, session: OpenSession, now: float, running: Container[str]) -> bool:
        name = session.files.session
        if name in running or self._executions.of(name).waits:
            return False
        if self._executions.is_over(name):
            return True
        # What has been untouched for long does not have to wait because it was read only now.
        touched = self._logs.touched(session.files)
        if not touched:
            # All of it was deleted, if nothing takes its place soon.
            return now - session.heard_at >= min(self._cadence.gone, self._timeout)
        quiet = max(now - session.heard_at, time.time() - touched / 1e9)
        if session.seen_running or self._is_registered(session):
            return quiet >= min(self._cadence.gone, self._timeout)
        return quiet >= self._timeout

    def _is_registered(self, session: OpenSession) -> bool:
        """Whether the client of a session keeps a registry of live processes here."""
        return (
            self._live is not None
            and self._live.has_registry
            and session.files.agent.keeps_registry(session.pipeline.last_version)
        )
