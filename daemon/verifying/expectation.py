"""The expectation: the events that the logs of a session give, and which of them were settled.

They are built as for delivery, by the same reader, with the decisions and the settled identities of the state
directory. So a copy in a fork is nobody's event here either, and every uuid is the one that was sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Container, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import reduce
from types import TracebackType
from typing import Literal, Self

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.config.settings import Settings
from daemon.delivering.route import Route
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import is_spooled
from daemon.history.history import History, LoggedSession
from daemon.reading.claims import Claims
from daemon.reading.emission import Emission
from daemon.reading.executions import Executions
from daemon.reading.reader import Reader
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.state.reader import StoreReader
from daemon.state.rows import FrozenRoute
from daemon.state.store import read_store
from daemon.usage.prices import event_dollars
from llma_core import view
from llma_core.events import CaptureEvent
from llma_core.hogql import Owner
from llma_core.timestamps import milliseconds

__all__ = ["Amounts", "Expectation", "ExpectedEvent", "ExpectedSession", "elsewhere"]

_DAY = 86_400.0
_State = Literal["settled", "refused", "unsent"]


class _Everything:
    """Contains every uuid: each event is built again, whatever became of it."""

    def __contains__(self, _: object) -> bool:
        return True


_EVERYTHING: Container[str] = _Everything()


@dataclass(slots=True, kw_only=True)
class Amounts:
    """Tokens by kind, and what they cost.

    Attributes:
        input: tokens sent, as the events count them.
        output: tokens that the model wrote.
        cache_read: tokens read from the cache.
        cache_write: tokens written to the cache.
        dollars: US dollars. Calls whose price is unknown cost nothing here.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    dollars: float = 0.0

    def add(self, other: Amounts) -> None:
        """Add *other* to these."""
        self.input += other.input
        self.output += other.output
        self.cache_read += other.cache_read
        self.cache_write += other.cache_write
        self.dollars += other.dollars

    @property
    def tokens(self) -> tuple[int, int, int, int]:
        """The tokens of every kind."""
        return self.input, self.output, self.cache_read, self.cache_write


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedEvent:
    """An event that the logs give.

    Attributes:
        kind: its name.
        session: the id of the session it says it belongs to; "" without one. A few old logs of subagents hold answers
            of a neighboring session.
        trace: the id of its trace.
        model: its model; "" without one.
        at: its time, in seconds since the epoch; None without one.
        amounts: what it used.
        is_priced: whether the price of its model is known.
        state: `settled`: it was accepted; `refused`: it was set aside; `unsent`: it was never settled.
        copies: how often it was sent on purpose: once, but for the trace of a session that went on.
        is_logged: whether a log gives it, so that it can be sent again.
    """

    kind: str
    session: str
    trace: str
    model: str
    at: float | None
    amounts: Amounts
    is_priced: bool
    state: _State
    copies: int = 1
    is_logged: bool = True


@dataclass(slots=True, kw_only=True)
class ExpectedSession:
    """What is expected of one session.

    Attributes:
        id: its id, or that of a trace which belongs to no session.
        folder: its first working directory; None if that is not known.
        began: when it began, in seconds since the epoch.
        events: its events, by uuid.
        by: whether it is asked for by the id of a session or of a trace.
        is_logged: whether there is a log that gives all its events. What programs have recorded is in none.
        route: where they go; None if that is none of the routes of interest, or there are none.
        unknown: why nothing can be said about it; None if its events are known.
    """

    id: str
    folder: str | None
    began: float
    events: dict[str, ExpectedEvent] = field(default_factory=dict)
    by: Owner = "session"
    is_logged: bool = True
    route: Route | None = None
    unknown: str | None = None

    @property
    def owners(self) -> set[str]:
        """Its id, and those of the sessions that its events say they belong to."""
        return {self.id} if self.by == "trace" else {self.id, *(event.session for event in self.events.values())}

    @property
    def times(self) -> list[float]:
        """The times of its events, in seconds since the epoch."""
        return [event.at for event in self.events.values() if event.at is not None]


class _Decided:
    """The decisions in the state directory, for the reader."""

    def __init__(self, reader: StoreReader | None) -> None:
        self._reader = reader

    def frozen(self, name: str) -> FrozenRoute | None:
        return None if self._reader is None else self._reader.route(name)

    def restraint(self, name: str) -> Restraint:
        texts = () if self._reader is None else self._reader.restraints(name)
        return reduce(Restraint.also, map(Restraint.load, texts), UNRESTRAINED)

    def restraint_of(self, name: str) -> Restraint:
        return self.restraint(name)

    def forget(self, names: Sequence[str]) -> None:
        del names


class Expectation:
    """Reads sessions. A context manager: it has the state directory's store open, for reading.

    Args:
        settings: the settings in force.
        history: the sessions on disk.
        routes: the routes of interest: other projects and hosts are not asked.

    Attributes:
        refused: the uuids of the events that are set aside.

    Raises:
        StoreError: the store cannot be used.
        sqlite3.Error: it cannot be read.
    """

    def __init__(self, settings: Settings, history: History, routes: Sequence[Route]) -> None:
        self._routes = {(route.host, route.fingerprint): route for route in routes}
        self._stack = ExitStack()
        self._store: StoreReader | None = None
        self.refused: Collection[str] = ()
        store = self._stack.enter_context(read_store(settings.state_dir))
        if store is not None:
            self.refused = {event.uuid for event in store.rejected()}
            self._store = self._stack.enter_context(closing(store.reader()))
        executions = Executions(settings.state_dir)
        executions.refresh()
        self._logged = {files.name for files in history.logs.sessions.values() if files.paths}
        self._running = LiveSessions(settings.claude_config_dirs).running()
        self._decided = _Decided(self._store)
        self._reader = Reader(
            logs=history.logs,
            routing=Routing(settings, Repositories(), purpose="preview"),
            claims=Claims(self._store),
            decided=self._decided,
            executions=executions,
            resends=lambda _name: _EVERYTHING,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, session: LoggedSession) -> ExpectedSession:
        """Read a session's logs to their end.

        Raises:
            sqlite3.Error: the store cannot be read.
        """
        found = ExpectedSession(id=session.files.session, folder=session.cwd, began=session.began)
        known = self._decided.frozen(session.files.name)
        if known is not None and known.host is not None and not self._note_route(found, known):
            return found
        for outcome in self._reader.read_whole(session.files, running=self._running):
            if outcome.held is not None:
                found.unknown = f"waits for you: {outcome.held.reason}"
            elif isinstance(outcome.error, sqlite3.Error):
                raise outcome.error
            elif outcome.error is not None:
                found.unknown = f"cannot be read: {outcome.error.strerror or outcome.error}"
            frozen = outcome.session.pipeline.frozen
            if frozen is not None:
                self._note_route(found, frozen)
            for step in outcome.steps:
                for emission in step.emissions:
                    if emission.event is not None and emission.leaves:
                        found.events[emission.event.uuid] = self._event(emission, emission.event)
        if known is not None and not found.events and found.unknown is None:
            # What PostHog holds of it is no surprise, and what is not to be sent any more counts as settled, too.
            found.unknown = "was sent, and now its folder is excluded or off"
        return found

    def lost_logs(self, since: float) -> set[str]:
        """Return the ids of the sessions that were sent since then and have no log any more.

        What programs record is not among them: its files are meant to go.

        Args:
            since: seconds since the epoch.

        Raises:
            sqlite3.Error: the store cannot be read.
        """
        if self._store is None:
            return set()
        sent = self._store.sent_since(int(since // _DAY))
        return {name.partition("/")[2] for name in sent - self._logged if not is_spooled(name)}

    def _note_route(self, found: ExpectedSession, frozen: FrozenRoute) -> bool:
        """Note where a session goes, and return whether that is of interest."""
        found.route = self._routes.get((frozen.host or "", frozen.key or ""))
        if found.route is None:
            found.unknown = elsewhere(frozen.host)
        return found.route is not None

    def _event(self, emission: Emission, event: CaptureEvent) -> ExpectedEvent:
        said = view.read(event.body)
        at = milliseconds(said.timestamp)
        price = event_dollars(said)
        endings = self._endings(emission, event)
        return ExpectedEvent(
            kind=event.name,
            session=said.session_id or "",
            trace=said.trace_id,
            model=said.model or "",
            at=None if at is None else at / 1000,
            amounts=Amounts(
                input=said.given_input_tokens or 0,
                output=said.output_tokens or 0,
                cache_read=said.cache_read_tokens or 0,
                cache_write=said.cache_write_tokens or 0,
                dollars=price.known,
            ),
            is_priced=not price.unpriced,
            state="refused" if event.uuid in self.refused else "settled" if endings else "unsent",
            copies=max(1, endings),
        )

    def _endings(self, emission: Emission, event: CaptureEvent) -> int:
        """Return how often an event was settled: the trace of a session may have been at each of its endings."""
        if self._store is None:
            return 0
        identity = emission.settled.identity
        owner = self._store.owner(identity)
        own = owner is not None and owner[0] == emission.settled.unit
        if event.name != view.TRACE_EVENT or emission.lines is not None:
            return int(own)
        ending = int(identity.rpartition("|")[2])
        return ending if own else ending - 1


def elsewhere(host: str | None) -> str:
    """Return why a session is not compared whose route is none of the routes of interest."""
    return f"goes to {host} with a key of another project"
