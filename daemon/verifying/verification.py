"""A verification: reads the chosen sessions, asks PostHog about them, and says how the two differ."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import Route
from daemon.history.history import History, LoggedSession, Selection
from daemon.routing.routing import known_routes
from daemon.state import layout
from daemon.state.receipts import full_days, read_receipts
from daemon.state.store import StoreError
from daemon.state.verification import Verification, read_sent_again
from daemon.system.figures import count
from daemon.system.messages import system_reason
from daemon.verifying.app import App, NoProjectError, Project, Question, app_of
from daemon.verifying.comparison import YOUNG_SECONDS, ModelTotals, SessionResult, compare, unknown
from daemon.verifying.expectation import Expectation, ExpectedSession
from daemon.verifying.holding import Holding, questions
from daemon.verifying.recorded import Recorded
from llma_core.hogql import Owner

__all__ = ["Report", "VerificationError", "Verifier"]


class VerificationError(Exception):
    """Nothing can be verified. The message says why and what to do, in one line."""


@dataclass(slots=True, kw_only=True)
class Report:
    """The result of a verification.

    Attributes:
        host: the web app that was asked.
        projects: the projects that were asked.
        sessions: the result of each session that has events, or that cannot be compared.
        models: what all calls add up to, by model.
        notes: what the reader should know, in a line each.
        nowhere: how many sessions were sent with a key that no project has which the personal key may see.
    """

    host: str
    projects: list[Project] = field(default_factory=list)
    sessions: list[SessionResult] = field(default_factory=list)
    models: dict[str, ModelTotals] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    nowhere: int = 0

    @property
    def sendable(self) -> list[str]:
        """The uuids of all missing events that can be sent again."""
        gone = {uuid for session in self.sessions for uuid in session.gone}
        return [uuid for session in self.sessions for uuid in session.missing if uuid not in gone]

    @property
    def gone(self) -> int:
        """How many missing events cannot be sent again."""
        return sum(len(session.gone) for session in self.sessions)

    def summary(self, now: float) -> Verification:
        """Return the result in numbers.

        Args:
            now: seconds since the epoch.
        """
        compared = [session for session in self.sessions if session.is_judged]
        return Verification(
            at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            host=self.host,
            project=", ".join(project.id for project in self.projects),
            sessions=len(compared),
            equal=sum(session.is_equal for session in compared),
            events=sum(session.events for session in compared),
            missing=sum(len(session.missing) for session in compared),
            extra=sum(session.extra for session in compared),
            doubled=sum(session.doubled for session in compared),
            not_yet=sum(session.not_yet for session in self.sessions),
            nowhere=self.nowhere,
        )

    def add(self, result: SessionResult) -> None:
        """Add the result of a session."""
        if not (result.unknown or result.events or result.extra or result.not_yet or result.unsent or result.expired):
            return
        self.sessions.append(result)
        for model, totals in result.models.items():
            mine = self.models.setdefault(model, ModelTotals())
            mine.sent.add(totals.sent)
            mine.held.add(totals.held)


class Verifier:
    """The chosen sessions, and what can be found out about them.

    Args:
        settings: the settings in force.
        selection: which sessions to verify.
        now: seconds since the epoch.
        owners: how many sessions, or traces, one query is about, at most.
        events: how many events it is about, at most, unless one session has more: an answer holds the uuid of each.

    Attributes:
        history: the sessions on disk.
        sessions: the chosen ones, in the order in which they began.
        host: PostHog's web app.

    Raises:
        VerificationError: there is no project key, so that no event can have been sent.
    """

    def __init__(
        self, settings: Settings, selection: Selection, now: float, *, owners: int = 1000, events: int = 40_000
    ) -> None:
        self.history = History(settings.claude_config_dirs)
        self.sessions: Sequence[LoggedSession] = list(selection.among(self.history.sessions()))
        self._selection = selection
        self.host = app_of(settings.host, settings.app_host)
        self._settings = settings
        self._now = now
        self._owners = owners
        self._events = events
        # The personal key is given to one host only.
        self._routes = [
            route
            for route in known_routes(settings)
            if route.host == settings.host or app_of(route.host, None) == self.host
        ]
        if not self._routes:
            raise VerificationError(f"there is no POSTHOG_API_KEY, so nothing was sent; run `{APP_NAME} login`")

    @property
    def size(self) -> int:
        """Bytes of all logs of the chosen sessions."""
        return sum(session.size for session in self.sessions)

    def explain(self, show: Callable[[int], None]) -> Iterator[Question]:
        """Yield every question that `verify` would put to PostHog, unless an answer has more rows than fit into one.

        Args:
            show: called with the bytes of logs read so far.

        Raises:
            VerificationError: the state directory cannot be read.
        """
        with self._expectation() as expectation:
            for _, batch in self._batches(expectation, Report(host=self.host), show):
                yield from questions(batch, self._now)

    def verify(self, app: App, show: Callable[[int], None]) -> Report:
        """Ask PostHog and compare.

        Args:
            app: the API of PostHog's web app.
            show: called with the bytes of logs read so far.

        Raises:
            VerificationError: the state directory cannot be read.
            AppError: PostHog does not answer.
        """
        report = Report(host=self.host)
        sent_again = {
            uuid for uuid, at in read_sent_again(self._settings.state_dir).items() if at > self._now - YOUNG_SECONDS
        }
        strays: set[str] = set()
        # Asked first, so that a wrong key is found before the logs are read.
        holdings = self._holdings(app, report)
        with self._expectation() as expectation:
            for route, batch in self._batches(expectation, report, show):
                holding = holdings.get(route)
                if holding is None:
                    report.nowhere += len(batch)
                    for session in batch:
                        session.unknown = f"no project that your personal key can see has the key {route.key.masked()}"
                        report.add(unknown(session))
                    continue
                held = holding.of(batch, self._now)
                strays |= {
                    uuid for session in batch for uuid, event in session.events.items() if event.session != session.id
                }
                for session in batch:
                    report.add(compare(session, held, self._now, elsewhere=strays, sent_again=sent_again))
            report.notes += self._lost_logs(expectation)
        report.notes += dict.fromkeys(note for holding in holdings.values() for note in holding.notes)
        report.notes += [
            f"on {day} programs recorded more than the daemon keeps receipts of, so not everything of it was compared"
            for day in full_days(self._settings.state_dir)
        ]
        if any(session.missing for session in report.sessions) and self._settled_lately():
            report.notes.append(
                "something was accepted less than ten minutes ago; if it was old, as after a backfill or an outage, "
                "PostHog may not show it yet: verify again in ten minutes"
            )
        return report

    def _lost_logs(self, expectation: Expectation) -> Iterator[str]:
        if self._selection.projects:
            # Where a session worked, only its log tells.
            return
        meant = tuple(self._selection.sessions)
        lost = [each for each in expectation.lost_logs(self._selection.since or 0.0) if each.startswith(meant or "")]
        if lost:
            yield (
                f"{count(len(lost), 'session')} that the daemon has sent in this time cannot be compared: "
                "the logs are gone"
            )

    def _holdings(self, app: App, report: Report) -> dict[Route, Holding]:
        """Return the project of each route; note those that have none.

        Raises:
            NoProjectError: none of them has one.
            AppError: PostHog does not answer.
        """
        holdings: dict[Route, Holding] = {}
        problems: list[NoProjectError] = []
        for route in self._routes:
            try:
                project = app.project(route.key)
            except NoProjectError as error:
                problems.append(error)
                continue
            report.projects.append(project)
            holdings[route] = Holding(app, project)
            if not project.is_certain:
                report.notes.append(
                    "the personal key may not read projects (scope project:read), so nobody checked that its project "
                    f"is the one with the key {route.key.masked()}"
                )
        if not holdings:
            raise problems[0]
        report.notes += map(str, problems)
        return holdings

    @contextmanager
    def _expectation(self) -> Iterator[Expectation]:
        folder = self._settings.state_dir
        try:
            with Expectation(self._settings, self.history, self._routes) as expectation:
                yield expectation
        except StoreError as error:
            raise VerificationError(str(error)) from None
        except sqlite3.Error as error:
            raise VerificationError(
                f"{folder / layout.STORE} cannot be read ({error}); see `{APP_NAME} doctor`"
            ) from None
        except OSError as error:
            raise VerificationError(f"{error.filename or folder} cannot be read ({system_reason(error)})") from None

    def _batches(
        self, expectation: Expectation, report: Report, show: Callable[[int], None]
    ) -> Iterator[tuple[Route, list[ExpectedSession]]]:
        """Yield sessions that are asked for together. Those that cannot be compared are put into the report."""
        queues: dict[tuple[Route, Owner], list[ExpectedSession]] = {}
        events: Counter[tuple[Route, Owner]] = Counter()
        for session in self._expected(expectation, show):
            if session.unknown is not None:
                report.add(unknown(session))
            elif session.route is not None:
                key = session.route, session.by
                queue = queues.setdefault(key, [])
                if queue and (len(queue) == self._owners or events[key] + len(session.events) > self._events):
                    yield session.route, queue
                    queue = queues[key] = []
                    events[key] = 0
                queue.append(session)
                events[key] += len(session.events)
        for (route, _), queue in queues.items():
            yield route, queue

    def _expected(self, expectation: Expectation, show: Callable[[int], None]) -> Iterator[ExpectedSession]:
        """Yield the chosen sessions with what is expected of them, and then those of which programs have recorded."""
        recorded = Recorded(
            read_receipts(self._settings.state_dir),
            routes={(route.host, route.fingerprint): route for route in self._routes},
            refused=expectation.refused,
            selection=self._selection,
            logged={each.files.session for each in self.sessions},
        )
        read = 0
        for each in self.sessions:
            session = expectation.read(each)
            read += each.size
            show(read)
            if session.unknown is None and session.route is not None:
                session.events |= recorded.take(session.id, session.route)
            yield session
        yield from recorded.left()

    def _settled_lately(self) -> bool:
        store = self._settings.state_dir / layout.STORE
        paths = (store, *(Path(f"{store}{suffix}") for suffix in layout.SQLITE_SUFFIXES[:1]))
        return any(path.exists() and path.stat().st_mtime > self._now - YOUNG_SECONDS for path in paths)
