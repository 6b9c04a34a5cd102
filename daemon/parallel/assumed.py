"""What a worker assumes about other sessions, and whether it holds."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from daemon.reading.claims import Claims
from daemon.state.rows import Owed

__all__ = ["AssumedClaims", "Fact", "Unknowable", "agree", "apply"]

_REMEMBERED = 50_000
"""How many identities a worker remembers. What it has forgotten, it assumes wrongly, and the session is read again."""


class Unknowable(Exception):  # noqa: N818 - the worker's limit; nothing is wrong
    """A question that only the store can answer: the session cannot be read by a worker."""


class Fact(Struct, array_like=True, gc=False):
    """What happened to one identity while a slice was read. What happens to one does not depend on others.

    Attributes:
        identity: the identity.
        asked: whether it was asked whose it is, or begun, before it was taken.
        owner: whose it was then; see `Claims.owner`.
        met: who had begun it then; see `Claims.met`.
        begun: its checksum, if the session has begun it.
        passed: whether the session has passed it over.
        taken: whether the session has taken it.
        checksum: with which checksum it was taken.
        owes: what is owed once it is settled.
        alias_of: of which identity it is the second name; None if it is none.
    """

    identity: str
    asked: bool = False
    owner: tuple[str, bytes | None] | None = None
    met: tuple[str, bytes] | None = None
    begun: bytes | None = None
    passed: bool = False
    taken: bool = False
    checksum: bytes | None = None
    owes: tuple[Owed, ...] = ()
    alias_of: str | None = None


class AssumedClaims(Claims):
    """Claims over nothing but what one worker has read. They note what was asked of them and what was claimed."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: dict[str, Fact] = {}

    def facts(self) -> list[Fact]:
        """Return what happened since the last call."""
        found, self._facts = list(self._facts.values()), {}
        if len(self._pending) > _REMEMBERED:
            for memory in (self._pending, self._aliases, self._owing, self._met, self._endings):
                memory.clear()
        return found

    def _fact(self, identity: str, *, asks: bool) -> Fact:
        fact = self._facts.get(identity)
        if fact is None:
            fact = self._facts[identity] = Fact(identity)
        if asks and not fact.asked and not fact.taken:
            fact.asked = True
            fact.owner, fact.met = self._pending.get(identity), self._met.get(identity)
        return fact

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return what is assumed: that nobody has taken it whose session was not read here."""
        pending = self._pending.get(identity)
        fact = self._facts.get(identity)
        if fact is None:
            # Like `_fact`, which would ask for the same things again.
            self._facts[identity] = Fact(identity, asked=True, owner=pending, met=self._met.get(identity))
        elif not fact.asked and not fact.taken:
            fact.asked, fact.owner, fact.met = True, pending, self._met.get(identity)
        return pending

    def met(self, identity: str) -> tuple[str, bytes] | None:
        """Return what is assumed: that nobody has begun it whose session was not read here."""
        self._fact(identity, asks=True)
        return self._met.get(identity)

    def take(self, identity: str, unit: str, checksum: bytes | None, owes: tuple[Owed, ...] = ()) -> None:
        """Note that *identity* is taken."""
        fact = self._fact(identity, asks=False)
        fact.taken, fact.checksum, fact.owes = True, checksum, owes
        super().take(identity, unit, checksum, owes)

    def take_also(self, alias: str, identity: str) -> None:
        """Note that what was taken as *identity* has a second name."""
        super().take_also(alias, identity)
        self._facts[alias].alias_of = identity

    def meet(self, identity: str, unit: str, checksum: bytes) -> None:
        """Note that a message was begun, unless it was taken here before: then nothing passes it over any more.

        By now the other process may have settled it. It must not take it for one that is begun and never ends.
        """
        fact = self._fact(identity, asks=True)
        if identity not in self._pending:
            fact.begun = checksum
        super().meet(identity, unit, checksum)

    def pass_over(self, identity: str, unit: str) -> bool:
        """Note that a message that was begun is passed over; return whether it was."""
        passed = super().pass_over(identity, unit)
        if passed:
            self._fact(identity, asks=False).passed = True
        return passed

    def own_name(self, identity: str, unit: str) -> str:
        """Never return: only the store knows former names of sessions.

        Raises:
            Unknowable: always.
        """
        raise Unknowable(f"{identity} of {unit}")


def agree(claims: Claims, facts: Sequence[Fact]) -> bool:
    """Return whether *claims* give the answers that were assumed.

    Raises:
        sqlite3.OperationalError: the store cannot be read.
    """
    return all(
        not fact.asked or (claims.owner(fact.identity) == fact.owner and claims.met(fact.identity) == fact.met)
        for fact in facts
    )


def apply(claims: Claims, facts: Sequence[Fact], unit: str) -> None:
    """Let the session *unit* claim what it has claimed according to *facts*."""
    for fact in facts:
        if fact.begun is not None:
            claims.meet(fact.identity, unit, fact.begun)
        if fact.passed:
            claims.pass_over(fact.identity, unit)
        if fact.alias_of is not None:
            claims.take_also(fact.identity, fact.alias_of)
        elif fact.taken:
            claims.take(fact.identity, unit, fact.checksum, fact.owes)
