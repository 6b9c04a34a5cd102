"""Decisions: what holds for a session besides its lines: its route, what restrains it, whether it has to wait.

What is decided with a session's first event holds for all others, also after a restart: it stands in the store, and is
kept in memory only while the session is. A session that has to wait for a word of the user's is held: noted in the
store, and looked at again from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.delivering.route import Route
from daemon.following.opening import Opening, opening
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
    """A session that has to wait, and why."""

    opening: Opening
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What can be said of a session before it is read.

    Attributes:
        opening: how it began.
        ruling: where its events will go; None where that cannot be said yet.
        held: why it has to wait, if it has.
    """

    opening: Opening
    ruling: Ruling | None = None
    held: Held | None = None


class Decisions:
    """What was decided of the sessions in memory.

    Args:
        routing: whose the events are, and which route they take.
        store: where decisions are kept.
        reader: looks them up.
        workers: the threads to do that in.
        units: the sessions that are there, by name.
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
        self._held_told: set[tuple[str | None, str]] = set()
        self._warnings_told: set[str] = set()

    # ------------------------------------------------------------------ what is known

    @property
    def held(self) -> Collection[str]:
        """The names of the sessions that have to wait."""
        return self._waiting.keys()

    @property
    def foreseen(self) -> Mapping[str, Route | None]:
        """Where the events of sessions will go whose beginning was looked at, by name; None where it is not decided."""
        return self._foreseen

    def frozen(self, name: str) -> FrozenRoute | None:
        """Return the route that was decided for a session; None if none was."""
        return self._frozen.get(name)

    def restraint(self, name: str) -> Restraint:
        """Return what the files of its project have made stricter for a session."""
        return self._restraints.get(name, UNRESTRAINED)

    def forget(self, names: Sequence[str]) -> None:
        """Keep nothing of sessions in memory; those that have to wait still do."""
        for name in names:
            for memory in (self._frozen, self._restraints, self._foreseen):
                memory.pop(name, None)

    # ------------------------------------------------------------------ deciding

    async def outlook(self, unit: SessionFiles) -> Outlook:
        """Find out, before a session is read, how it began and where its events will go; all of it in one go.

        What decides is what its pipeline finds with the first event; by this only, nothing is read in vain.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """
        return await self._workers.read(partial(self._outlook, unit))

    def _outlook(self, unit: SessionFiles) -> Outlook:
        name, began = unit.name, opening(unit)
        frozen = self._unwritten.get(name) or self._reader.route(name)
        if frozen is not None:
            self._frozen[name] = frozen
        if (restraint := self._reader.restraint(name)) is not None:
            self._restraints[name] = Restraint.load(restraint)
        try:
            return Outlook(opening=began, ruling=self._rule(name, began)() if began.cwd is not None else None)
        except Held as held:
            return Outlook(opening=began, held=held)

    def foresee(self, name: str, outlook: Outlook) -> None:
        """Go by *outlook* from now on.

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
        """Keep a session's route; `write` has to be awaited before its first event leaves."""
        if self._frozen.get(name) != route:
            self._frozen[name] = self._unwritten[name] = route

    async def write(self) -> None:
        """Write the routes that are not in the store yet: after a crash a session must not become someone else's.

        Those of many sessions are one transaction.

        Raises:
            sqlite3.OperationalError: the disk refuses it, and the service is to end.
        """
        async with self._write_lock:
            routes = dict(self._unwritten)
            if routes:
                await self._workers.write(partial(self._store.freeze, routes))
                for name, route in routes.items():
                    if self._unwritten[name] == route:
                        del self._unwritten[name]

    async def restrain(self, names: Sequence[str], restraint: Restraint) -> None:
        """Remember what sessions are restrained to: a file of their project may say less when they are read again."""
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
        """Say once what in the files of projects does not count."""
        for warning in warnings:
            if warning not in self._warnings_told:
                self._warnings_told.add(warning)
                _log.warning("project_setting_ignored", reason=warning)

    # ------------------------------------------------------------------ sessions that have to wait

    async def hold(self, names: Sequence[str], held: Held) -> None:
        """Let sessions wait for the user; their offsets stay, and what was read of them is to be forgotten."""
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
            if (began.cwd, reason) not in self._held_told:
                self._held_told.add((began.cwd, reason))
                _log.warning("session_held", session=unit.session, project=began.cwd, reason=reason)
        await self._workers.write(partial(self._store.hold, rows))

    async def release(self) -> list[SessionFiles]:
        """Return the sessions that no longer have to wait."""
        waiting: dict[tuple[str | None, str], list[str]] = {}
        for name, each in self._waiting.items():
            waiting.setdefault((each.opening.cwd, each.reason), []).append(name)
        released: list[SessionFiles] = []
        for (folder, reason), names in waiting.items():
            # What lets one go lets all go that wait in the same folder for the same reason, or they are held again.
            try:
                await self._workers.read(self._rule(names[0], self._waiting[names[0]].opening))
            except Held as held:
                if held.reason != reason:
                    await self.hold(names, held)
                continue
            for name in names:
                del self._waiting[name]
            released += self._there(names)
            await self._workers.write(partial(self._store.release, names))
            _log.info("sessions_released", project=folder, sessions=len(names))
        return released

    def _there(self, names: Sequence[str]) -> Iterator[SessionFiles]:
        return (unit for name in names if (unit := self._units.get(name)) is not None)
