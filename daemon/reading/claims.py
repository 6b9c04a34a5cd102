"""Which session wrote what first.

Forks and resumed sessions copy lines of another session into their own logs. Everything that happens has an identity,
and it counts for the session that claims the identity first. Copies in other sessions are not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from daemon.reading.sieve import Sieve
from daemon.state.rows import Owed

__all__ = ["Claims", "Owners"]

_REMEMBERED = 1000
"""Largest number of cached answers of the settled table."""


class Owners(Protocol):
    """Looks up settled identities."""

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the name of the session that settled *identity*, and the checksum; None if none did."""

    def former_names(self, unit: str) -> Sequence[str]:
        """Return the names that *unit* had before the store was upgraded."""


class Claims:
    """The identities that are settled or on their way, and the sessions they belong to. Sessions go by name ("unit").

    Args:
        settled: the settled table; None if nothing is ever settled.
        fresh: returns whether the settled table is still empty; called before the first identity is taken. If it is
            empty, every identity that gets into it is taken here first, and the table is asked about those only. This
            spares nearly all questions while a whole history is read.
    """

    def __init__(self, settled: Owners | None = None, *, fresh: Callable[[], bool] | None = None) -> None:
        self._settled = settled
        self._fresh = fresh
        self._taken: Sieve | None = None
        self._pending: dict[str, tuple[str, bytes | None]] = {}
        self._aliases: dict[str, str] = {}
        self._owing: dict[str, tuple[Owed, ...]] = {}
        self._met: dict[str, tuple[str, bytes]] = {}
        self._free: set[str] = set()
        self._endings: dict[str, int] = {}

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the name of the session that *identity* belongs to, and the checksum; None if it is not taken."""
        pending = self._pending.get(identity)
        if pending is not None or self._settled is None or identity in self._free:
            return pending
        if self._fresh is not None:
            self._begin(self._fresh)
        if self._taken is not None and identity not in self._taken:
            return None
        owner = self._settled.owner(identity)
        if owner is None:
            # Most identities are asked for twice: by the check for copies and by their event. The answer stays true,
            # because nothing is settled that was not taken before.
            if len(self._free) >= _REMEMBERED:
                self._free.clear()
            self._free.add(identity)
        return owner

    def _begin(self, fresh: Callable[[], bool]) -> None:
        # Asked as late as possible, so that an idle daemon neither opens the table nor allocates a sieve.
        self._taken = Sieve() if fresh() else None
        self._fresh = None

    def take(self, identity: str, unit: str, checksum: bytes | None, owes: tuple[Owed, ...] = ()) -> None:
        """Note that *identity* is on its way for *unit*, and the traces that will be owed once it is settled."""
        if self._fresh is not None:
            self._begin(self._fresh)
        self._pending[identity] = (unit, checksum)
        if self._taken is not None:
            self._taken.add(identity)
        self._free.discard(identity)
        self._endings.pop(identity.rpartition("|")[0], None)
        if owes:
            self._owing[identity] = owes
        self._met.pop(identity, None)

    def ending(self, trace: str) -> int:
        """Return the number of the next ending of *trace*, from 1: one more than it was given out."""
        ending = self._endings.get(trace)
        if ending is None:
            ending = 1
            while self.owner(f"{trace}|{ending}") is not None:
                ending += 1
            if len(self._endings) >= _REMEMBERED:
                self._endings.clear()
            self._endings[trace] = ending
        return ending

    def take_also(self, alias: str, identity: str) -> None:
        """Note that what is on its way as *identity* has a second name, by which some copies know it."""
        self._aliases[alias] = identity
        self.take(alias, self._pending[identity][0], None)

    def name_of(self, alias: str) -> str:
        """Return the name under which *alias* is on its way; *alias* itself if that is no second name."""
        return self._aliases.get(alias, alias)

    def owes(self, identity: str) -> tuple[Owed, ...]:
        """Return the traces that will be owed once *identity*, which is on its way, is settled."""
        return self._owing.get(identity, ())

    def is_pending(self, identity: str) -> bool:
        """Whether *identity* is on its way."""
        return identity in self._pending

    def met(self, identity: str) -> tuple[str, bytes] | None:
        """Return the name of the session in which the first line of a message was read first, and its checksum."""
        return self._met.get(identity)

    def meet(self, identity: str, unit: str, checksum: bytes) -> None:
        """Note that the first line of a message was read in *unit*. A copy may be complete before its original.

        If the message is on its way already, its lines wait for that, and not for *unit*.
        """
        if identity not in self._pending:
            self._met.setdefault(identity, (unit, checksum))

    def pass_over(self, identity: str, unit: str) -> bool:
        """Note that *unit*, which was reading *identity*, will not send it; return whether it was."""
        met = self._met.get(identity)
        if met is None or met[0] != unit:
            return False
        del self._met[identity]
        return True

    def own_name(self, identity: str, unit: str) -> str:
        """Return under which name *unit* settles what another session settles under the same *identity*.

        Units had other names in earlier versions of the store.
        """
        former = () if self._settled is None else self._settled.former_names(unit)
        names = (f"{identity}|{name}" for name in former)
        return next((name for name in names if self.owner(name) is not None), f"{identity}|{unit}")

    def forget(self, unit: str) -> list[str]:
        """Forget the messages of *unit* that were begun and not taken: nothing reads them to their end.

        Returns:
            Their identities.
        """
        begun = [identity for identity, (name, _) in self._met.items() if name == unit]
        for identity in begun:
            del self._met[identity]
        return begun

    def release(self, identity: str) -> None:
        """Forget that *identity* is on its way: it is in the settled table now, or it will be sent again."""
        self._pending.pop(identity, None)
        # Few have any of these, and a whole batch is released at once.
        if self._aliases:
            self._aliases.pop(identity, None)
        if self._owing:
            self._owing.pop(identity, None)
        if self._endings:
            self._endings.pop(identity.rpartition("|")[0], None)
