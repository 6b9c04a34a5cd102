"""A verification: reads the chosen sessions, asks PostHog about them, and says how the two differ."""

from __future__ import annotations

import sqlite3
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
from daemon.state.store import StoreError
from daemon.state.verification import Verification, read_sent_again
from daemon.verifying.app import App, AppError, Project, Question, app_of
from daemon.verifying.comparison import YOUNG_SECONDS, ModelTotals, SessionResult, compare, unknown
from daemon.verifying.expectation import Expectation, ExpectedSession
from daemon.verifying.holding import EVENTS, SESSIONS, Holding, questions

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
    """

    host: str
    projects: list[Project] = field(default_factory=list)
    sessions: list[SessionResult] = field(default_factory=list)
    models: dict[str, ModelTotals] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """The uuids of all missing events."""
        return [uuid for session in self.sessions for uuid in session.missing]

    def summary(self, now: float) -> Verification:
        """Return the result in numbers.

        Args:
            now: seconds since the epoch.
        """
        compared = [session for session in self.sessions if session.unknown is None]
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
            not_yet=sum(session.not_yet for session in compared),
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

    Attributes:
        history: the sessions on disk.
        sessions: the chosen ones, in the order in which they began.
        host: PostHog's web app.

    Raises:
        VerificationError: there is no project key, so that no event can have been sent.
    """

    def __init__(self, settings: Settings, selection: Selection, now: float) -> None:
        self.history = History(settings.claude_config_dirs)
        self.sessions: Sequence[LoggedSession] = list(selection.among(self.history.sessions()))
        self.host = app_of(settings.host, settings.app_host)
        self._settings = settings
        self._now = now
        # The personal key is given to one host only.
        self._routes = [
            route
            for route in known_routes(settings)
            if route.host == settings.host or (settings.app_host is None and app_of(route.host, None) == self.host)
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
        holdings: dict[Route, Holding] = {}
        strays: set[str] = set()
        # Asked first, so that a wrong key is found before the logs are read.
        for route in self._routes:
            project = self._project(app, route, report)
            if project is not None:
                report.projects.append(project)
                holdings[route] = Holding(app, project)
        with self._expectation() as expectation:
            for route, batch in self._batches(expectation, report, show):
                holding = holdings.get(route)
                if holding is None:
                    for session in batch:
                        session.unknown = f"no project that your personal key can see has the key {route.key.masked()}"
                        report.add(unknown(session))
                    continue
                held = holding.of(batch, self._now)
                strays |= {
                    uuid
                    for session in batch
                    for uuid, event in session.events.items()
                    if event.session != session.session.files.session
                }
                for session in batch:
                    report.add(compare(session, held, self._now, elsewhere=strays, sent_again=sent_again))
        report.notes += dict.fromkeys(note for holding in holdings.values() for note in holding.notes)
        if report.missing and self._settled_lately():
            report.notes.append(
                "something was accepted less than ten minutes ago; if it was old, as after a backfill or an outage, "
                "PostHog may not show it yet: verify again in ten minutes"
            )
        return report

    def _project(self, app: App, route: Route, report: Report) -> Project | None:
        try:
            project = app.project(route.key)
        except AppError as error:
            if route is self._routes[0]:
                raise
            report.notes.append(str(error))
            return None
        if not project.is_certain:
            report.notes.append(
                "the personal key may not read projects (scope project:read), so nobody checked that its project is "
                f"the one with the key {route.key.masked()}"
            )
        return project

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

    def _batches(
        self, expectation: Expectation, report: Report, show: Callable[[int], None]
    ) -> Iterator[tuple[Route, list[ExpectedSession]]]:
        """Yield sessions that are asked for together. Those that cannot be compared are put into the report."""
        waiting: dict[Route, list[ExpectedSession]] = {}
        events: dict[Route, int] = {}
        read = 0
        for each in self.sessions:
            session = expectation.read(each)
            read += each.size
            show(read)
            if session.unknown is not None:
                report.add(unknown(session))
            elif session.route is not None:
                batch = waiting.setdefault(session.route, [])
                if batch and events[session.route] + len(session.events) > EVENTS:
                    yield session.route, waiting.pop(session.route)
                    batch = waiting.setdefault(session.route, [])
                    events[session.route] = 0
                batch.append(session)
                events[session.route] = events.get(session.route, 0) + len(session.events)
                if len(batch) == SESSIONS:
                    yield session.route, waiting.pop(session.route)
                    events[session.route] = 0
        yield from waiting.items()

    def _settled_lately(self) -> bool:
        store = self._settings.state_dir / layout.STORE
        paths = (store, *(Path(f"{store}{suffix}") for suffix in layout.SQLITE_SUFFIXES[:1]))
        return any(path.exists() and path.stat().st_mtime > self._now - YOUNG_SECONDS for path in paths)
