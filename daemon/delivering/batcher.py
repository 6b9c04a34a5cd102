"""Batcher: which events travel together, when, and in how many requests. Pure: the clock is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from llma_core.events import CaptureEvent, fit

__all__ = ["CROWD", "Batch", "BatchLimits", "Batcher", "Flight", "Piece"]


CROWD = 20
"""Events from which on a batch is part of a catch-up: they come by the thousand, and nobody waits for one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """When a batch is full, and how long one that is not waits for company.

    Attributes:
        count: events in a batch at most.
        bytes: bytes of event bodies in a batch at most; one event larger than that travels alone.
        linger: seconds an event waits for others before its batch goes as it is.
        patience: seconds that a crowd waits while more keep coming, each within the linger of the one before.

    Raises:
        ValueError: a limit under which nothing could travel.
    """

    count: int = 100
    bytes: int = 5 * 1024 * 1024
    linger: float = 0.025
    patience: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 1 or self.bytes < 1 or not self.linger >= 0 or not self.patience >= 0:
            raise ValueError(f"batch limits must be positive, not {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events that travel together.

    Attributes:
        events: in the order they were added; never empty.
        size: bytes of their bodies.
        since: when the first of them was added.
    """

    events: tuple[CaptureEvent, ...]
    size: int
    since: float


class Batcher:
    """Groups events into batches, first in, first out.

    Events are measured before they join: a batch never exceeds its limits, except one event that exceeds them alone.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._full: deque[Batch] = deque()
        self._open: list[CaptureEvent] = []
        self._open_size = 0
        self._open_since = 0.0
        self._open_latest = 0.0
        self._count = 0
        self._size = 0

    def __len__(self) -> int:
        """Events held."""
        return self._count

    @property
    def size(self) -> int:
        """Bytes of the bodies of all events held."""
        return self._size

    @property
    def oldest(self) -> float | None:
        """When the oldest event held was added; None when there is none."""
        if self._full:
            return self._full[0].since
        return self._open_since if self._open else None

    @property
    def due_at(self) -> float | None:
        """From when on `take` gives a batch; None when nothing is held. In the past when a batch is full."""
        if self._full:
            return self._full[0].since
        if not self._open:
            return None
        limits = self._limits
        soon = self._open_since + limits.linger
        if len(self._open) < CROWD:
            return soon
        return max(soon, min(self._open_latest + limits.linger, self._open_since + limits.patience))

    def add(self, event: CaptureEvent, now: float) -> bool:
        """Add *event* behind all others; return whether a full batch is there to take."""
        size = len(event.body)
        if self._open and self._open_size + size > self._limits.bytes:
            self._close()
        if not self._open:
            self._open_since = now
        self._open.append(event)
        self._open_latest = now
        self._open_size += size
        self._count += 1
        self._size += size
        if len(self._open) >= self._limits.count or self._open_size >= self._limits.bytes:
            self._close()
        return bool(self._full)

    def take(self, now: float) -> Batch | None:
        """Take out the next batch: a full one, or what has lingered; None when nothing is due at *now*.

        With `math.inf` for *now* nothing lingers any longer.
        """
        due = self.due_at
        if due is None or (not self._full and now < due):
            return None
        if not self._full:
            self._close()
        batch = self._full.popleft()
        self._count -= len(batch.events)
        self._size -= batch.size
        return batch

    def _close(self) -> None:
        self._full.append(Batch(events=tuple(self._open), size=self._open_size, since=self._open_since))
        self._open = []
        self._open_size = 0


@dataclass(slots=True)
class Piece:
    """The events of one request: a batch, or what halving left of one.

    Attributes:
        events: in order; never empty.
        size: bytes of their bodies.
        timeouts: requests with these events that timed out.
    """

    events: list[CaptureEvent]
    size: int
    timeouts: int = 0

    @classmethod
    def of(cls, events: Sequence[CaptureEvent]) -> Self:
        """Make a piece of *events*."""
        return cls(events=list(events), size=sum(len(event.body) for event in events))

    def fit(self, limit: int) -> None:
        """Cut the events that are larger than *limit*; what was cut stays so, and is sent again as it is."""
        if any(len(event.body) > limit for event in self.events):
            self.events = [fit(event, limit) if len(event.body) > limit else event for event in self.events]
            self.size = sum(len(event.body) for event in self.events)


@dataclass(slots=True)
class Flight:
    """A batch on its way, piece by piece, the first one next.

    Attributes:
        first: number of its first event, counting all events ever batched from 0.
        since: when that event was added.
        pieces: what is still to be sent.
    """

    first: int
    since: float
    pieces: deque[Piece]

    @classmethod
    def of(cls, batch: Batch, *, first: int) -> Self:
        """Put *batch* on its way, in one piece."""
        return cls(first=first, since=batch.since, pieces=deque([Piece.of(batch.events)]))

    def halve(self) -> None:
        """Replace the first piece by its two halves, in order."""
        events = self.pieces.popleft().events
        middle = len(events) // 2
        self.pieces.extendleft((Piece.of(events[middle:]), Piece.of(events[:middle])))

    @property
    def count(self) -> int:
        """Events still to be sent."""
        return sum(len(piece.events) for piece in self.pieces)

    @property
    def size(self) -> int:
        """Bytes of their bodies."""
        return sum(piece.size for piece in self.pieces)
