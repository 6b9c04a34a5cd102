"""The rows of the store, as values. A unit is a session with all its files; its name is unique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

__all__ = [
    "Commit",
    "Copies",
    "Excerpt",
    "FileMark",
    "FrozenRoute",
    "HeldSession",
    "Hosted",
    "Owed",
    "RejectedEvent",
    "Settled",
    "Sighting",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """What identifies a log file, even under another path, and how far it is settled.

    Attributes:
        device: its device number.
        inode: its inode number.
        path: its last known path.
        unit: name of the session it belongs to.
        offset: end of the last settled line, in bytes.
        head: hash of its first *head_length* bytes.
        head_length: number of these bytes; grows with the file.
        tail: hash of the bytes just before *offset*.
        history: whether the file existed at the first start, so that its contents from then are not sent.
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


class Settled(Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """A settled identity: something in the logs that has been delivered, or is not to be sent.

    Attributes:
        identity: what happened, unique among all events of all sessions.
        unit: name of the session that settled it first.
        checksum: a hash to recognize copies in other sessions by, or None.
    """

    identity: str
    unit: str
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A session whose logs contain copies of lines that another session has settled.

    Attributes:
        unit: name of the session with the copies.
        original: name of the session that settled the lines.
    """

    unit: str
    original: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A session of which lines stand in a main log of another session, and how far that log is settled for it.

    Attributes:
        unit: name of the session that the lines belong to.
        host: name of the session whose log it is.
        device: the log's device number.
        inode: the log's inode number.
        offset: end of the last line up to which all lines of *unit* are settled, in bytes.
    """

    unit: str
    host: str
    device: int
    inode: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A trace event that must be sent when its session or turn ends.

    Attributes:
        trace: the trace's key, from `events.trace_key`.
        ending: number of the trace's ending, from 1. A trace that goes on after its end is sent again at the next one.
        unit: name of the session.
    """

    trace: str
    ending: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenRoute:
    """The decision made with a session's first event. It applies to all its events.

    Attributes:
        distinct_id: who the events belong to.
        identified: whether *distinct_id* is a person.
        grouping: what one trace is: "session" or "message".
        host: the host the events go to; None in a row from before hosts were stored.
        key: fingerprint of the key they are sent with; None like *host*.
    """

    distinct_id: str
    identified: bool
    grouping: str
    host: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSession:
    """A session that waits for the user. It is not sent until then, and not lost.

    Attributes:
        unit: name of the session.
        session: its id.
        folder: its first working directory; None if that is not known.
        reason: why it waits, and what to do, in one line.
        since: when it began to wait, in ISO 8601.
    """

    unit: str
    session: str
    folder: str | None
    reason: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent:
    """An event that the receiver refuses for good: where it came from, never its content.

    Attributes:
        uuid: the event's uuid.
        name: the event's name.
        bytes: size of its body.
        reason: why the receiver refuses it.
        path: the log file of its lines; None if it has none.
        start: offset of its first line, in bytes; None like *path*.
        end: end of its last line, in bytes; None like *path*.
        at: when it was set aside, in ISO 8601.
        unit: name of its session; None in a row from before it was stored.
    """

    uuid: str
    name: str
    bytes: int
    reason: str
    path: str | None
    start: int | None
    end: int | None
    at: str = ""
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A session that was seen in the client's registry of live processes.

    Attributes:
        session: its id.
        pid: the number of its process.
        ticks: when that process started, in clock ticks after the system's start; None if its record does not say it.
        foreign: whether *pid* counts in another space than the daemon's.
        gone_at: when its record was found to be gone, or its process dead, in milliseconds since the epoch; else None.
    """

    session: str
    pid: int
    ticks: int | None = None
    foreign: bool = False
    gone_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The changes of one transaction.

    Attributes:
        files: files whose offset or path has changed.
        settled: identities that are settled now.
        copies: sessions found to contain copies.
        hosted: sessions found to have lines in logs of others, or of which more of these lines are settled.
        owed: traces that are owed from now on.
        paid: traces that are not owed any more.
        rejected: events that were set aside.
        accepted: uuids of events that were set aside before and have been delivered now.
        counters: how much to add to each counter.
    """

    files: Sequence[FileMark] = ()
    settled: Sequence[Settled] = ()
    copies: Sequence[Copies] = ()
    hosted: Sequence[Hosted] = ()
    owed: Sequence[Owed] = ()
    paid: Sequence[Owed] = ()
    rejected: Sequence[RejectedEvent] = ()
    accepted: Sequence[str] = ()
    counters: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(
            (
                self.files,
                self.settled,
                self.copies,
                self.hosted,
                self.owed,
                self.paid,
                self.rejected,
                self.accepted,
                self.counters,
            )
        )


class Excerpt(Struct, frozen=True, kw_only=True):
    """Everything that a store knows of one session and another store has to know, but for its files.

    Attributes:
        unit: name of the session.
        settled: the keys of the identities that it settled first (16 bytes each), with their checksums.
        originals: names of the sessions of which it has copies.
        owed: its owed traces, each with the number of its ending.
        route: its frozen route; None without one.
        restraints: its restraints, as text.
        rejected: its rejected events.
    """

    unit: str
    settled: Sequence[tuple[bytes, bytes | None]] = ()
    originals: Sequence[str] = ()
    owed: Sequence[tuple[str, int]] = ()
    route: FrozenRoute | None = None
    restraints: Sequence[str] = ()
    rejected: Sequence[RejectedEvent] = ()
