"""The decisions about each session: its route, its restraint, and whether it has to wait.

What is decided with a session's first event applies to all its events, even after a restart. The store keeps it; memory
has it only while the session is open. A session that waits for the user's approval is held: the store lists it, and the
service checks it again from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, reduce

import structlog

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.delivering.route import Route
from daemon.following.opening import Opening, opening, openings
from daemon.following.session_files import SessionFiles
from daemon.routing.routing import Held, Routing, Ruling
from daemon.state.reader import StoreReader
from daemon.state.rows import FrozenRoute, HeldSession
from daemon.state.store import Store
from daemon.system.workers import Workers

__all__ = ["Decisions", "Outlook"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A held session: how it began, and why it waits."""

    opening: Opening
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known about a session before it is read.

    Attributes:
        opening: how it began.
        ruling: where its events will go; None if that is not known yet, or the session has to wait.
        held: why it has to wait; None if it does not.
    """

    opening: Opening
    ruling: Ruling | None = None
    held: Held | None = None


class Decisions:
    """The decisions about the sessions in memory.

    Args:
        routing: decides the route of a session, and who its events belong to.
        store: keeps the decisions.
        reader: looks decisions up in the store.
        workers: the threads that do both.
        units: the existing sessions, by name.
    """

    def __init__(
        self,
        *,
        routing: Routing,
        store: Store,
        reader: StoreReader,
        workers: Workers,
        units: Mapping[str, SessionFiles],
    ) -> None:
        self._routing = routing
        self._store = store
        self._reader = reader
        self._workers = workers
        self._units = units
        self._frozen: dict[str, FrozenRoute] = {}
        self._unwritten: dict[str, FrozenRoute] = {}
        self._write_lock = asyncio.Lock()
        self._restraints: dict[str, Restraint] = {}
        self._foreseen: dict[str, Route | None] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._lines: dict[str, tuple[str, ...]] = {}
        self._held_logged: set[tuple[str | None, str]] = set()
        self._warnings_logged: set[str] = set()

    # ------------------------------------------------------------------ state

    @property
    def held(self) -> Collection[str]:
        """The names of the held sessions."""
        return self._waiting.keys()

    @property
    def held_lines(self) -> Collection[str]:
        """The names of the sessions of which some lines are held, while the others are sent."""
        return self._lines.keys()

    @property
    def foreseen(self) -> Mapping[str, Route | None]:
        """The expected route of each session whose beginning was read, by name; None if its events go nowhere."""
        return self._foreseen

    def frozen(self, name: str) -> FrozenRoute | None:
        """Return the route that was decided for a session; None if there is no decision."""
        return self._frozen.get(name)

    def restraint(self, name: str) -> Restraint:
        """Return the restraint of a session."""
        return self._restraints.get(name, UNRESTRAINED)

    def restraint_of(self, name: str) -> Restraint:
        """Return the restraint of a session that may not be in memory. Call it from the reading thread.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """
        return self._restraints.get(name) or self._stored(name)

    def _stored(self, name: str) -> Restraint:
        return reduce(Restraint.also, map(Restraint.load, self._reader.restraints(name)), UNRESTRAINED)

    def forget(self, names: Sequence[str]) -> None:
        """Drop sessions from memory. Held sessions stay held."""
        for name in names:
            for memory in (self._frozen, self._restraints, self._foreseen):
                memory.pop(name, None)

    # ------------------------------------------------------------------ deciding

    async def outlook(self, unit: SessionFiles) -> Outlook:
        """Find out how a session began and where its events will go, before it is read.

        This only avoids reading a session whose events cannot be sent yet. The decision itself is made when its
        pipeline produces the first event.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """
        return await self._workers.read(lambda: self._outlook(unit, opening(unit)))

    async def outlooks(self, units: Sequence[SessionFiles]) -> dict[str, Outlook]:
        """Do the same for many sessions at once, which costs less; return what is known of each, by name.

        Those are left out that name no working directory yet, or have a folder that does not answer.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """
        return await self._workers.read(partial(self._outlooks, units))

    def _outlooks(self, units: Sequence[SessionFiles]) -> dict[str, Outlook]:
        began = openings(units)
        stored = self._reader.stored_of(list(began))
        with self._routing.ruling_on(began.values()):
            return {
                unit.name: self._outlook(unit, began[unit.name], is_stored=unit.name in stored)
                for unit in units
                if unit.name in began
            }

    def _outlook(self, unit: SessionFiles, began: Opening, *, is_stored: bool = True) -> Outlook:
        name = unit.name
        frozen = self._unwritten.get(name) or (self._reader.route(name) if is_stored else None)
        if frozen is not None:
            self._frozen[name] = frozen
        if is_stored and (restraint := self._stored(name)) != UNRESTRAINED:
            self._restraints[name] = restraint
        try:
            return Outlook(opening=began, ruling=self._rule(name, began)() if began.cwd is not None else None)
        except Held as held:
            return Outlook(opening=began, held=held)

    def foresee(self, name: str, outlook: Outlook) -> None:
        """Note the expected route of a session.

        Raises:
            Held: the session has to wait.
        """
        if outlook.held is not None:
            raise outlook.held
        if outlook.ruling is not None:
            self.tell(outlook.ruling.project.warnings)
            self._foreseen[name] = outlook.ruling.route

    def _rule(self, name: str, began: Opening) -> Callable[[], Ruling]:
        return partial(self._routing.rule, began, self._frozen.get(name), self.restraint(name))

    def freeze(self, name: str, route: FrozenRoute) -> None:
        """Keep a session's route. Await `write` before its first event is sent."""
        if self._frozen.get(name) != route:
            self._frozen[name] = self._unwritten[name] = route

    async def write(self) -> None:
        """Write the routes that are not in the store yet, in one transaction.

        Otherwise a session could be sent to another project after a crash.

        Raises:
            sqlite3.OperationalError: the disk refuses the write, and the service is stopping.
        """
        async with self._write_lock:
            routes = dict(self._unwritten)
            if routes:
                await self._workers.write(partial(self._store.freeze, routes))
                for name, route in routes.items():
                    if self._unwritten[name] == route:
                        del self._unwritten[name]

    async def restrain(self, names: Sequence[str], restraint: Restraint) -> None:
        """Add *restraint* to that of sessions, and store it: a file of their project may be less strict later."""
        fresh: dict[str, Restraint] = {}
        for name in names:
            known = self.restraint(name)
            if (both := known.also(restraint)) != known:
                fresh[name] = both
        if fresh:
            texts = {name: both.dump() for name, both in fresh.items()}
            await self._workers.write(partial(self._store.restrain, texts))
            self._restraints |= fresh

    def tell(self, warnings: Sequence[str]) -> None:
        """Log each warning about a project's files once."""
        for warning in warnings:
            if warning not in self._warnings_logged:
                self._warnings_logged.add(warning)
                _log.warning("project_setting_ignored", reason=warning)

    # ------------------------------------------------------------------ held sessions

    async def hold(self, names: Sequence[str], held: Held) -> None:
        """Hold sessions until the user acts. Their offsets stay; the caller discards what was read of them."""
        reason = held.reason
        await self.restrain(names, held.restraint)
        rows = []
        for name in names:
            self._foreseen.pop(name, None)
            unit = self._units.get(name)
            if unit is None:
                continue
            began = await self._workers.read(partial(opening, unit))
            self._waiting[name] = _Waiting(opening=began, reason=reason)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            rows.append(HeldSession(unit=name, session=unit.session, folder=began.cwd, reason=reason, since=since))
            if (began.cwd, reason) not in self._held_logged:
                self._held_logged.add((began.cwd, reason))
                _log.warning("session_held", session=unit.session, project=began.cwd, reason=reason)
        await self._workers.write(partial(self._store.hold, rows))

    async def hold_lines(self, name: str, reasons: Sequence[str]) -> None:
        """Hold some lines of a session that is read on, until the user acts.

        Args:
            name: the session.
            reasons: why lines of it wait, each reason once.
        """
        unit = self._units.get(name)
        if unit is None or self._lines.get(name) == (*reasons,):
            return
        self._lines[name] = (*reasons,)
        for reason in reasons:
            if (None, reason) not in self._held_logged:
                self._held_logged.add((None, reason))
                _log.warning("lines_held", session=unit.session, reason=reason)
        began = await self._workers.read(partial(opening, unit))
        since = datetime.now(UTC).isoformat(timespec="seconds")
        row = HeldSession(unit=name, session=unit.session, folder=began.cwd, reason="; ".join(reasons), since=since)
        await self._workers.write(partial(self._store.hold, [row]))

    async def release_lines(self, name: str) -> SessionFiles | None:
        """Forget that lines of a session are held; return the session, which has to be read again.

        What still has to wait is held again.
        """
        self._lines.pop(name, None)
        await self._workers.write(partial(self._store.release, [name]))
        return self._units.get(name)

    async def release(self) -> list[SessionFiles]:
        """Release the held sessions that no longer have to wait, and return them."""
        waiting: dict[tuple[str | None, str], list[str]] = {}
        for name, each in self._waiting.items():
            waiting.setdefault((each.opening.cwd, each.reason), []).append(name)
        released: list[SessionFiles] = []
        for (folder, reason), names in waiting.items():
            # What releases one session releases all that wait in the same folder for the same reason. If one of them
            # still has to wait, it is held again.
            try:
                await self._workers.read(self._rule(names[0], self._waiting[names[0]].opening))
            except Held as held:
                if held.reason != reason:
                    await self.hold(names, held)
                continue
            for name in names:
                del self._waiting[name]
            released += self._existing(names)
            await self._workers.write(partial(self._store.release, names))
            _log.info("sessions_released", project=folder, sessions=len(names))
        return released

    def _existing(self, names: Sequence[str]) -> Iterator[SessionFiles]:
        return (unit for name in names if (unit := self._units.get(name)) is not None)
