"""The rows of the store, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

__all__ = ["Commit", "Copies", "FileMark", "FrozenRoute", "HeldSession", "Owed", "RejectedEvent", "Settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """A file as it was last known: by its device and inode, and by what it says.

    Attributes:
        offset: end of the last settled line.
        head: hash of its first *head_length* bytes.
        head_length: how many bytes that is; grows with the file.
        tail: the bytes just before *offset*, hashed.
        history: whether it was there at the first start, so that what it held then is not sent.
    """

    device: int
    inode: int
    path: str
    unit: str
    offset: int
    head: bytes
    head_length: int
    tail: bytes
    history: bool = False


class Settled(Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened and has been dealt with, by the session that wrote it first."""

    identity: str
    unit: str
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A session whose logs hold copies of what another one has settled."""

    unit: str
    original: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A trace that has to be sent when its session or turn ends."""

    trace: str
    ending: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenRoute:
    """What was decided with a session's first event and holds for all others.

    Attributes:
        distinct_id: whose events they are.
        identified: whether that is a person.
        grouping: what one trace is.
        host: where they go; None where that was not kept yet.
        key: a fingerprint of the key they go with.
    """

    distinct_id: str
    identified: bool
    grouping: str
    host: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSession:
    """A session that is not sent, and not lost, until the user has done something.

    Attributes:
        unit: its unit.
        session: its id.
        folder: its first working directory, if that is known.
        reason: why, and what to do, in one line.
        since: when it was found to be so, in ISO 8601.
    """

    unit: str
    session: str
    folder: str | None
    reason: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent:
    """An event the receiver refuses for good: where it came from, never what it says."""

    uuid: str
    name: str
    bytes: int
    reason: str
    path: str | None
    start: int | None
    end: int | None
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One transaction."""

    files: Sequence[FileMark] = ()
    settled: Sequence[Settled] = ()
    copies: Sequence[Copies] = ()
    owed: Sequence[Owed] = ()
    paid: Sequence[Owed] = ()
    rejected: Sequence[RejectedEvent] = ()
    counters: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(
            self.files or self.settled or self.copies or self.owed or self.paid or self.rejected or self.counters
        )
