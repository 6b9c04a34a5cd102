"""Batcher: which events are sent together, when, and in how many requests. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from llma_core.events import CaptureEvent, fit

__all__ = ["CROWD", "LARGE", "Batch", "BatchLimits", "Batcher", "Flight", "Piece"]


CROWD = 20
"""A batch of this many events is part of a catch-up: thousands of events arrive, and nobody waits for any of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """When a batch is full, and how long a batch that is not full waits for more events.

    Attributes:
        count: the maximum number of events in a batch.
        bytes: the maximum total size, in bytes, of the event bodies in a batch. A larger event is sent alone.
        count_bulk: the maximum number of events in a batch that holds bulk only; see `Batcher.add`.
        bytes_bulk: a batch that holds bulk only is full with this many bytes, so that several fit into memory.
        linger: seconds that an event waits for others before its batch is sent as it is.
        linger_old: the same while the batch holds old events only: nobody waits for one.
        patience: seconds that a batch of at least CROWD events waits, while each new event arrives within *linger* of
            the previous one.

    Raises:
        ValueError: a count or a number of bytes is below 1, or a time is negative.
    """

    count: int = 100
    bytes: int = 5 * 1024 * 1024
    count_bulk: int = 1000
    bytes_bulk: int = 2 * 1024 * 1024
    linger: float = 0.025
    linger_old: float = 1.0
    patience: float = 0.1

    def __post_init__(self) -> None:
        times = (self.linger, self.linger_old, self.patience)
        sizes = (self.count, self.bytes, self.count_bulk, self.bytes_bulk)
        if min(sizes) < 1 or not all(seconds >= 0 for seconds in times):
            raise ValueError(f"batch limits must be positive, and their times 0 or more, not {self}")


LARGE = BatchLimits(count=1000, bytes_bulk=5 * 1024 * 1024)
"""The limits where nobody waits for any event, and fewer batches are worth the memory that larger ones take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events that are sent together.

    Attributes:
        events: the events in the order in which they were added; never empty.
        size: total size of their bodies, in bytes.
        since: when the first of them was added.
        first: number of the first of them, counting all events ever added from 0.
    """

    events: tuple[CaptureEvent, ...]
    size: int
    since: float
    first: int = 0


class Batcher:
    """Groups events into batches, first in, first out.

    An event joins a batch only if it fits. So a batch never exceeds its limits, unless a single event exceeds them.

    It holds one body of a uuid: before another one is added, the first is withdrawn.

    Attributes:
        added: number of events ever added.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._full: deque[Batch] = deque()
        self._open: list[CaptureEvent] = []
        self._open_size = 0
        self._open_is_old = True
        self._open_is_bulk = True
        self._open_since = 0.0
        self._open_latest = 0.0
        self._open_first = 0
        self._by_uuid: dict[str, CaptureEvent] = {}
        self._size = 0
        self.added = 0

    def __len__(self) -> int:
        """Return the number of events in the batcher."""
        return len(self._by_uuid)

    @property
    def size(self) -> int:
        """Total size, in bytes, of the bodies of all events in the batcher."""
        return self._size

    @property
    def oldest(self) -> float | None:
        """When the oldest event in the batcher was added; None if it is empty."""
        if self._full:
            return self._full[0].since
        return self._open_since if self._open else None

    @property
    def due_at(self) -> float | None:
        """When `take` will return a batch: in the past if one is full, None if the batcher is empty."""
        if self._full:
            return self._full[0].since
        if not self._open:
            return None
        limits = self._limits
        if self._open_is_old:
            return self._open_since + limits.linger_old
        soon = self._open_since + limits.linger
        if len(self._open) < CROWD:
            return soon
        return max(soon, min(self._open_latest + limits.linger, self._open_since + limits.patience))

    @property
    def first(self) -> int:
        """Number of the first event in the batcher, counting all events ever added from 0; `added` if it is empty."""
        if self._full:
            return self._full[0].first
        return self._open_first if self._open else self.added

    def find(self, uuid: str) -> CaptureEvent | None:
        """Return the event with *uuid* in the batcher; None if there is none."""
        return self._by_uuid.get(uuid)

    def add(self, event: CaptureEvent, now: float, *, old: bool = False, bulk: bool = False) -> bool:
        """Add *event* behind all others, and return whether a full batch can be taken.

        Args:
            event: the event.
            now: the time.
            old: whether it happened a while ago, so that nobody waits for it.
            bulk: whether many such events may be sent at once, as each request has its cost: they are old, and nothing
                but the events themselves stays in memory while they wait.

        Raises:
            ValueError: an event with its uuid is in the batcher.
        """
        if event.uuid in self._by_uuid:
            raise ValueError(f"one batch may get two bodies of {event.uuid}: withdraw the first")
        size, limits = len(event.body), self._limits
        if self._open and (
            self._open_size + size > limits.bytes
            or (not bulk and self._open_is_bulk and len(self._open) >= limits.count)
        ):
            self._close()
        if not self._open:
            self._open_since = now
            self._open_is_old = self._open_is_bulk = True
            self._open_first = self.added
        self._open.append(event)
        self._open_is_old = self._open_is_old and old
        self._open_is_bulk = self._open_is_bulk and bulk
        self._by_uuid[event.uuid] = event
        self.added += 1
        self._open_latest = now
        self._open_size += size
        self._size += size
        if self._open_is_bulk:
            is_full = len(self._open) >= limits.count_bulk or self._open_size >= min(limits.bytes, limits.bytes_bulk)
        else:
            is_full = len(self._open) >= limits.count or self._open_size >= limits.bytes
        if is_full:
            self._close()
        return bool(self._full)

    def take(self, now: float) -> Batch | None:
        """Remove and return the next batch that is full or has lingered long enough; None if none is due at *now*.

        Pass `math.inf` as *now* to take events that still linger.
        """
        due = self.due_at
        if due is None or (not self._full and now < due):
            return None
        if not self._full:
            self._close()
        batch = self._full.popleft()
        for event in batch.events:
            del self._by_uuid[event.uuid]
        self._size -= batch.size
        return batch

    def withdraw(self, uuid: str) -> tuple[CaptureEvent, int] | None:
        """Remove the event with *uuid*.

        Returns:
            The event, and a number that is at most its own; None if there is no such event.
        """
        event = self._by_uuid.pop(uuid, None)
        if event is None:
            return None
        size = len(event.body)
        self._size -= size
        if event in self._open:
            self._open.remove(event)
            self._open_size -= size
            return event, self._open_first
        place, batch = next((place, batch) for place, batch in enumerate(self._full) if event in batch.events)
        if len(batch.events) == 1:
            del self._full[place]
        else:
            left = tuple(other for other in batch.events if other is not event)
            self._full[place] = replace(batch, events=left, size=batch.size - size)
        return event, batch.first

    def _close(self) -> None:
        batch = Batch(events=tuple(self._open), size=self._open_size, since=self._open_since, first=self._open_first)
        self._full.append(batch)
        self._open = []
        self._open_size = 0


@dataclass(slots=True)
class Piece:
    """The events of one request: a batch, or a part of one after halving.

    Attributes:
        events: the events in order; never empty.
        size: total size of their bodies, in bytes.
        timeouts: number of requests with these events that timed out.
        again: whether each of these events was refused before, by a receiver that then refused everything.
    """

    events: list[CaptureEvent]
    size: int
    timeouts: int = 0
    again: bool = False

    @classmethod
    def of(cls, events: Sequence[CaptureEvent], *, again: bool = False) -> Self:
        """Make a piece of *events*."""
        return cls(events=list(events), size=sum(len(event.body) for event in events), again=again)

    def fit(self, limit: int) -> None:
        """Cut events that are larger than *limit*. A cut event stays cut, so that each retry sends the same bytes."""
        if any(len(event.body) > limit for event in self.events):
            self.events = [fit(event, limit) if len(event.body) > limit else event for event in self.events]
            self.size = sum(len(event.body) for event in self.events)


@dataclass(slots=True)
class Flight:
    """A batch that is being sent, piece by piece, the first piece next.

    Attributes:
        first: number of its first event, counting all events ever batched from 0.
        since: when that event was added.
        pieces: the pieces that are still to be sent.
    """

    first: int
    since: float
    pieces: deque[Piece]

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Make a flight of *batch*, in one piece."""
        return cls(first=batch.first, since=batch.since, pieces=deque([Piece.of(batch.events)]))

    @property
    def events(self) -> Iterator[CaptureEvent]:
        """The events that are still to be sent, in order."""
        return (event for piece in self.pieces for event in piece.events)

    def withdraw(self, uuid: str) -> CaptureEvent | None:
        """Remove the event with *uuid* and return it; None if there is none. Nothing of the flight may be under way."""
        for piece in self.pieces:
            for event in piece.events:
                if event.uuid == uuid:
                    piece.events.remove(event)
                    piece.size -= len(event.body)
                    if not piece.events:
                        self.pieces.remove(piece)
                    return event
        return None

    def halve(self) -> None:
        """Replace the first piece by its two halves, in order."""
        piece = self.pieces.popleft()
        middle = len(piece.events) // 2
        halves = (piece.events[middle:], piece.events[:middle])
        self.pieces.extendleft(Piece.of(half, again=piece.again) for half in halves)

    @property
    def count(self) -> int:
        """Number of events that are still to be sent."""
        return sum(len(piece.events) for piece in self.pieces)

    @property
    def size(self) -> int:
        """Total size of their bodies, in bytes."""
        return sum(piece.size for piece in self.pieces)
