"""The backlog: sessions whose history is to be sent, which of them is next, and how far that is.

Only accounts; the service reads and delivers. It takes the next session of a backlog when nothing live waits to be
read, and only while few events of the backlog are on their way, so that what happens now hardly queues behind what was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Backlog", "Ending", "Headway"]

Ending = Literal["read", "held", "stopped", "missing"]
"""How the reading of a session ended: it is read; it has to wait for the user; its route takes nothing; it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headway:
    """How far a backlog is.

    Attributes:
        sessions: sessions in it.
        sessions_done: those whose reading has ended, however.
        held: those of them that have to wait for the user.
        stopped: those of them whose route takes nothing.
        missing: those of them whose logs are gone or cannot be read.
        bytes: bytes of their logs.
        bytes_done: bytes of them that are dealt with.
        sent: events delivered.
        refused: events set aside.
    """

    sessions: int = 0
    sessions_done: int = 0
    held: int = 0
    stopped: int = 0
    missing: int = 0
    bytes: int = 0
    bytes_done: int = 0
    sent: int = 0
    refused: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every session could be read."""
        return self.sessions_done == self.sessions and not (self.held or self.stopped or self.missing)


class Backlog:
    """Some sessions, in the order in which they are to be read.

    Args:
        sizes: bytes of the logs of each, by the unit's name.
    """

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        self._sizes = dict(sizes or {})
        self._left = dict.fromkeys(self._sizes)
        self._positions: dict[str, int] = {}
        self._done = 0
        self._endings: Counter[Ending] = Counter()
        self._outcomes: Counter[str] = Counter()

    def __contains__(self, unit: object) -> bool:
        """Whether the unit of that name is one of the backlog, read or not."""
        return unit in self._sizes

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self._sizes)

    @property
    def next(self) -> str | None:
        """The name of the unit to read next; None when the reading of all has ended."""
        return next(iter(self._left), None)

    def read(self, unit: str, position: int) -> None:
        """Note how many bytes of *unit* are read, if it is one of the backlog."""
        if unit in self._left:
            self._positions[unit] = position

    def finish(self, unit: str, ending: Ending = "read") -> None:
        """Note that the reading of *unit* has ended, if it is one of the backlog and has not ended before."""
        if unit in self._left:
            del self._left[unit]
            self._positions.pop(unit, None)
            self._done += self._sizes[unit]
            self._endings[ending] += 1

    def settle(self, unit: str | None, outcome: Literal["delivered", "rejected"]) -> None:
        """Count an event of *unit* that is settled, if that is one of the backlog."""
        if unit in self._sizes:
            self._outcomes[outcome] += 1

    def headway(self) -> Headway:
        """Return how far it is."""
        # A log that has grown since it was measured is not done by more than the whole of it.
        begun = sum(min(position, self._sizes[unit]) for unit, position in self._positions.items())
        return Headway(
            sessions=len(self._sizes),
            sessions_done=len(self._sizes) - len(self._left),
            held=self._endings["held"],
            stopped=self._endings["stopped"],
            missing=self._endings["missing"],
            bytes=sum(self._sizes.values()),
            bytes_done=self._done + begun,
            sent=self._outcomes["delivered"],
            refused=self._outcomes["rejected"],
        )
