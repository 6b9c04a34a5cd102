"""A backfill: the sessions a user has chosen, what is unsent in them, and sending that.

The job prints nothing. It reports progress to functions it is given, and failures as exceptions.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from daemon.config.claude_settings import CLEANUP_DAYS, cleanup_days
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import log_roots
from daemon.following.session_files import SessionFiles
from daemon.history.backfill_request import BackfillDesk, BackfillReport, BackfillRequest, RequestExistsError
from daemon.history.backlog import Backlog, Headway
from daemon.history.estimate import CONTENT_DAYS, Estimate, estimate
from daemon.history.history import History, LoggedSession, Selection
from daemon.history.rejections import Rejections, rejected_events
from daemon.reading.claims import Claims
from daemon.reading.preview import NoLogError, find_logs
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.state import layout
from daemon.state.lock import holder, look
from daemon.state.rows import RejectedEvent
from daemon.state.store import StoreError, read_store
from daemon.system.messages import system_reason

__all__ = ["EXPIRING_DAYS", "BackfillError", "BackfillJob", "BackfillResult", "Deliver", "ExpiringSession"]

EXPIRING_DAYS = 7
"""A session that Claude Code removes within this many days counts as expiring."""

_DAY = 86_400
_POLL_SECONDS = 0.2
_ACCEPT_SECONDS = 30.0
"""How long a running daemon may take to notice a request."""

Deliver = Callable[[Backlog, Callable[[SessionFiles], bool]], Coroutine[Any, Any, bool]]
"""Reads and delivers the sessions of a backlog, selected by a predicate; returns whether everything is settled.

When it is cancelled, it delivers what it has read and ends.
"""


class BackfillError(Exception):
    """The backfill cannot be done or cannot continue; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiringSession:
    """A session that Claude Code will remove soon.

    Attributes:
        session: the session.
        days_left: days until its log may be removed; 0 if the next start of Claude Code removes it.
        unsent_events: its events that were not delivered yet.
    """

    session: LoggedSession
    days_left: float
    unsent_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillResult:
    """How a backfill ended.

    Attributes:
        headway: how far it got.
        settled: whether every session was read and all its events were accepted or refused.
        interrupted: whether the user interrupted it.
        waiting: what delivery waits for, in one line; None if it does not wait.
    """

    headway: Headway
    settled: bool = False
    interrupted: bool = False
    waiting: str | None = None


class BackfillJob:
    """The chosen sessions, and what can be done with them.

    Args:
        settings: the settings in force.
        history: the sessions on disk.
        sessions: the chosen ones, in the order in which to send them.
        rejected: the events that are set aside, if only these are to be sent, again; else None.
        lost: the uuids of settled events that the receiver does not have, if only these are to be sent, again.
        jobs: how many processes may read them at a time; None: as many as are worth it.

    Attributes:
        history: as passed in.
        sessions: as passed in.
        rejections: which of the chosen sessions the rejected events belong to; None like *rejected*.
    """

    def __init__(
        self,
        settings: Settings,
        history: History,
        sessions: Sequence[LoggedSession],
        rejected: Sequence[RejectedEvent] | None = None,
        lost: Collection[str] | None = None,
        jobs: int | None = None,
    ) -> None:
        self._jobs = jobs
        self.history = history
        self.rejections: Rejections | None = None
        self._resends = lost
        if rejected is not None:
            self._resends = [event.uuid for event in rejected]
            on_disk = history.logs.sessions.keys()
            self.rejections = Rejections.of(rejected, on_disk, history.logs.session_of)
            sessions = [each for each in sessions if each.files.name in self.rejections.by_session]
        self.sessions = sessions
        self._settings = settings
        self._folder = settings.state_dir

    @classmethod
    def choose(
        cls,
        settings: Settings,
        selection: Selection,
        paths: Sequence[Path],
        *,
        expiring: bool = False,
        rejected: bool = False,
        jobs: int | None = None,
    ) -> Self:
        """Choose among the sessions on disk.

        Args:
            settings: the settings in force.
            selection: which sessions the user means, apart from *paths*.
            paths: logs, or folders of logs; only their sessions are chosen. Empty: all.
            expiring: choose only sessions that Claude Code removes soon, and order them by when it does.
            rejected: choose only sessions with rejected events, to send these again and nothing else.
            jobs: how many processes may read them at a time; None: as many as are worth it.

        Raises:
            BackfillError: a path holds no log or none that the daemon follows, or the state store cannot be read.
        """
        history = History(settings.claude_config_dirs)
        sessions = list(replace(selection, logs=_logs(paths, history)).among(history.sessions()))
        with _store_errors(settings.state_dir):
            events = rejected_events(settings.state_dir) if rejected else None
            job = cls(settings, history, sessions, events, jobs=jobs)
        if expiring:
            soon = [each for each in job.sessions if job.seconds_left(each) <= EXPIRING_DAYS * _DAY]
            job.sessions = sorted(soon, key=lambda each: each.written)
        return job

    @property
    def size(self) -> int:
        """Bytes of all logs of the chosen sessions."""
        return sum(session.size for session in self.sessions)

    @property
    def old_sessions(self) -> int:
        """How many chosen sessions began so long ago that PostHog keeps no content of their first events."""
        oldest = time.time() - CONTENT_DAYS * _DAY
        return sum(session.began < oldest for session in self.sessions)

    def seconds_left(self, session: LoggedSession) -> float:
        """Return the seconds until Claude Code may remove the log of *session*; negative if it may do so already."""
        folders = self._settings.claude_config_dirs
        paths = session.files.mains or session.files.paths
        own = [each for each in folders if any(root.is_above(path) for root in log_roots([each]) for path in paths)]
        days = min((cleanup_days(each) for each in own or folders), default=CLEANUP_DAYS)
        return session.written + days * _DAY - time.time()

    # ------------------------------------------------------------------ counting

    def count(self, show: Callable[[int], None]) -> Estimate:
        """Read the sessions and count their unsent events. Works beside a running daemon.

        Args:
            show: called with the bytes read so far.

        Raises:
            BackfillError: the state store cannot be read.
        """
        done = 0

        def add(read: int) -> None:
            nonlocal done
            done += read
            show(done)

        with _claims(self._folder) as claims:
            return estimate(
                self.sessions,
                routing=Routing(self._settings, Repositories(), purpose="preview"),
                claims=claims,
                logs=self.history.logs,
                running=LiveSessions(self._settings.claude_config_dirs).running(),
                now=time.time(),
                on_read=add,
            )

    def period(self, found: Estimate) -> tuple[float, float]:
        """Return when the sessions with unsent events began and ended, in seconds since the epoch.

        Args:
            found: what `count` returned; it must have counted at least one event.
        """
        counted = [session for session in self.sessions if found.by_session[session.files.name]]
        return min(session.began for session in counted), max(session.ended for session in counted)

    def expiring(self, found: Estimate) -> list[ExpiringSession]:
        """Return each chosen session with its remaining days and unsent events, in their order.

        Args:
            found: what `count` returned.
        """
        return [
            ExpiringSession(
                session=session,
                days_left=round(max(0.0, self.seconds_left(session)) / _DAY, 1),
                unsent_events=found.by_session[session.files.name],
            )
            for session in self.sessions
        ]

    # ------------------------------------------------------------------ sending

    @property
    def chosen_resends(self) -> int:
        """How many settled events of the chosen sessions are to be sent again."""
        if self.rejections is None:
            return len(self._resends or ())
        return sum(self.rejections.by_session[each.files.name] for each in self.sessions)

    @property
    def resends(self) -> bool:
        """Whether only settled events are to be sent, again."""
        return self._resends is not None

    @property
    def has_daemon(self) -> bool:
        """Whether a daemon runs on the state directory, so that it has to do the sending."""
        found = look(self._folder)
        return found is not None and found.stage != "ends"

    def send_here(
        self, deliver: Deliver, *, show: Callable[[Headway], None], stopping: Callable[[], None]
    ) -> BackfillResult:
        """Send the sessions from this process, until it is done or Ctrl-C interrupts it.

        Args:
            deliver: reads and delivers.
            show: called with the progress, several times a second.
            stopping: called when an interrupt has come and what was read is still being delivered.
        """
        backlog = Backlog(self._sizes, self._resends, jobs=self._jobs)

        async def report() -> None:
            while True:
                show(backlog.headway())
                await asyncio.sleep(_POLL_SECONDS)

        async def send() -> bool:
            reporting = asyncio.create_task(report())
            work = asyncio.create_task(deliver(backlog, lambda files: files.name in backlog))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                stopping()
                work.cancel()
                await asyncio.wait({work})
                raise
            finally:
                reporting.cancel()

        try:
            return BackfillResult(settled=asyncio.run(send()), headway=backlog.headway())
        except KeyboardInterrupt:
            return BackfillResult(interrupted=True, headway=backlog.headway())

    def send_by_daemon(
        self, *, accepted: Callable[[str], None], show: Callable[[BackfillReport], None]
    ) -> BackfillResult:
        """Ask the running daemon to send the sessions, and wait until it is done or Ctrl-C cancels the request.

        Args:
            accepted: called with the daemon's name, such as `the daemon (pid 123)`, once the request is made.
            show: called with each report of the daemon.

        Raises:
            BackfillError: the daemon has another request, drops this one, ignores it, or ends before it is done.
        """
        desk = BackfillDesk(self._folder)
        resends = None if self._resends is None else list(self._resends)
        request = BackfillRequest(id=uuid.uuid4().hex, units=self._sizes, resends=resends, jobs=self._jobs)
        pid = holder(self._folder)
        daemon = f"the daemon (pid {pid})" if pid else "the daemon"
        try:
            desk.ask(request)
        except RequestExistsError as error:
            raise BackfillError(str(error)) from None
        except OSError as error:
            why = system_reason(error)
            raise BackfillError(f"{desk.request_path} cannot be written ({why}); fix that and try again") from None
        report: BackfillReport | None = None
        try:
            accepted(daemon)
            for report in self._reports(desk, request, daemon):
                show(report)
        except KeyboardInterrupt:
            report = desk.report(request) or report
            return BackfillResult(interrupted=True, headway=report.headway if report is not None else Headway())
        finally:
            desk.withdraw(request)
        assert report is not None
        return BackfillResult(headway=report.headway, settled=report.headway.is_whole, waiting=report.waiting)

    def _reports(self, desk: BackfillDesk, request: BackfillRequest, daemon: str) -> Iterator[BackfillReport]:
        """Yield the daemon's reports until it is done.

        Raises:
            BackfillError: no more reports will come.
        """
        began = time.monotonic()
        report = None
        while True:
            # In this order, so that the last report of a daemon that has ended since is still read.
            lives, pending = self.has_daemon, desk.is_pending(request)
            report = desk.report(request)
            if report is not None:
                yield report
                if report.done:
                    return
            if not lives:
                raise BackfillError(
                    f"{daemon} has ended before it was done ({_progress(report)}); see `{APP_NAME} logs`, start it and "
                    "run this again"
                )
            if not pending:
                raise BackfillError(f"{daemon} has dropped the request {desk.request_path}; see `{APP_NAME} logs`")
            if report is None and time.monotonic() > began + _ACCEPT_SECONDS:
                raise BackfillError(
                    f"{daemon} on {self._folder} does not take requests: it is another backfill, `run --once` or an "
                    "older version; wait until it ends, or restart it"
                )
            time.sleep(_POLL_SECONDS)

    @property
    def _sizes(self) -> dict[str, int]:
        return {session.files.name: session.size for session in self.sessions}


def _logs(paths: Sequence[Path], history: History) -> frozenset[str] | None:
    """Return the logs at *paths*; None if there are no paths.

    Raises:
        BackfillError: a path holds no log, or none that the daemon follows.
    """
    if not paths:
        return None
    try:
        found = frozenset(find_logs(paths))
    except NoLogError as error:
        raise BackfillError(str(error)) from None
    if not found & history.paths:
        roots = ", ".join(str(root.path) for root in history.roots)
        raise BackfillError(
            f"{paths[0]}: its logs are not below {roots}; set CLAUDE_CONFIG_DIR to the folder that holds them"
        )
    return found


@contextmanager
def _claims(folder: Path) -> Iterator[Claims]:
    """Yield what is settled already, read from the state directory *folder*.

    Raises:
        BackfillError: the state store cannot be read.
    """
    with _store_errors(folder), read_store(folder) as store:
        if store is None:
            yield Claims()
            return
        with closing(store.reader()) as reader:
            yield Claims(reader)


@contextmanager
def _store_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise BackfillError(str(error)) from None
    except sqlite3.Error as error:
        raise BackfillError(f"{folder / layout.STORE} cannot be read ({error}); see `{APP_NAME} doctor`") from None


def _progress(report: BackfillReport | None) -> str:
    if report is None:
        return "nothing was sent"
    headway = report.headway
    return f"sessions read: {headway.sessions_done:,} of {headway.sessions:,}; events sent: {headway.sent:,}"
