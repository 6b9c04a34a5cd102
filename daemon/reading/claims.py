"""Which session wrote what first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from daemon.reading.sieve import Sieve
from daemon.state.rows import Owed

__all__ = ["Claims", "Owners"]

_REMEMBERED = 1000
"""Answers of the settled table that are kept."""


class Owners(Protocol):
    """Where settled identities are looked up."""

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the unit that settled *identity* and its checksum; None if none did."""


class Claims:
    """Who wrote what first: settled identities, and those on their way.

    Args:
        settled: the settled table; None where nothing was ever settled.
        fresh: tells, before anything is taken, whether nothing is in that table yet, so that all that ever will be is
            taken here first. Then it is not asked for what was not: catching up with a whole history asks it for little
            else.
    """

    def __init__(self, settled: Owners | None = None, *, fresh: Callable[[], bool] | None = None) -> None:
        self._settled = settled
        self._fresh = fresh
        self._taken: Sieve | None = None
        self._pending: dict[str, tuple[str, bytes | None]] = {}
        self._owing: dict[str, Owed] = {}
        self._met: dict[str, tuple[str, bytes]] = {}
        self._free: set[str] = set()
        self._endings: dict[str, int] = {}

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the unit that *identity* belongs to and its checksum; None if it belongs to none yet."""
        pending = self._pending.get(identity)
        if pending is not None or self._settled is None or identity in self._free:
            return pending
        if self._fresh is not None:
            self._begin(self._fresh)
        if self._taken is not None and identity not in self._taken:
            return None
        owner = self._settled.owner(identity)
        if owner is None:
            # Most are asked for twice, as a copy and as an event. Nothing is settled that was not taken before.
            if len(self._free) >= _REMEMBERED:
                self._free.clear()
            self._free.add(identity)
        return owner

    def _begin(self, fresh: Callable[[], bool]) -> None:
        # Asked late: a daemon to which nothing happens neither opens the table nor has a sieve.
        self._taken = Sieve() if fresh() else None
        self._fresh = None

    def take(self, identity: str, unit: str, checksum: bytes | None, owes: Owed | None = None) -> None:
        """Note that *identity* is on its way for *unit*, and the trace that will be owed once it is settled."""
        if self._fresh is not None:
            self._begin(self._fresh)
        self._pending[identity] = (unit, checksum)
        if self._taken is not None:
            self._taken.add(identity)
        self._free.discard(identity)
        self._endings.pop(identity.rpartition("|")[0], None)
        if owes is not None:
            self._owing[identity] = owes
        self._met.pop(identity, None)

    def ending(self, trace: str) -> int:
        """Return the number of the ending of *trace* that is to come: how often it was given out, and one."""
        ending = self._endings.get(trace)
        if ending is None:
            ending = 1
            while self.owner(f"{trace}|{ending}") is not None:
                ending += 1
            if len(self._endings) >= _REMEMBERED:
                self._endings.clear()
            self._endings[trace] = ending
        return ending

    def owes(self, identity: str) -> Owed | None:
        """Return the trace that will be owed once *identity*, which is on its way, is settled."""
        return self._owing.get(identity)

    def is_pending(self, identity: str) -> bool:
        """Whether *identity* is on its way."""
        return identity in self._pending

    def met(self, identity: str) -> tuple[str, bytes] | None:
        """Return the unit in which the message *identity* was begun to be read first, and its checksum."""
        return self._met.get(identity)

    def meet(self, identity: str, unit: str, checksum: bytes) -> None:
        """Note that *unit* has begun to read a message: a copy of it elsewhere may be complete before it is."""
        self._met.setdefault(identity, (unit, checksum))

    def forget(self, unit: str) -> None:
        """Forget what *unit* has begun to read: nobody reads it to its end."""
        for identity, (name, _) in list(self._met.items()):
            if name == unit:
                self._met.pop(identity, None)

    def release(self, identity: str) -> None:
        """Forget what is on its way: it is in the settled table now, or will be sent again."""
        self._pending.pop(identity, None)
        self._owing.pop(identity, None)
        self._endings.pop(identity.rpartition("|")[0], None)
