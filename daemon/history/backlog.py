"""The backlog: existing sessions to send, which of them is next, and the progress.

It only keeps accounts; the service reads and delivers. The service reads the next session of a backlog when no live
session waits to be read, and only while few events of the backlog are on their way, so that live events hardly queue
behind old ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

__all__ = ["Backlog", "Ending", "Headway"]

Ending = Literal["read", "held", "stopped", "missing"]
"""How reading a session ended.

- `read`: everything was read.
- `held`: the session has to wait for the user.
- `stopped`: its route accepts nothing.
- `missing`: its logs are gone or cannot be read.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headway:
    """The progress of a backlog.

    Attributes:
        sessions: all its sessions.
        sessions_done: sessions whose reading has ended, in any way.
        held: of these, the ones that have to wait for the user.
        stopped: of these, the ones whose route accepts nothing.
        missing: of these, the ones whose logs are gone or cannot be read.
        bytes: bytes of all logs of its sessions.
        bytes_done: bytes of logs that are done.
        sent: events delivered.
        refused: events that were rejected.
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
    """Some sessions, in the order in which to read them.

    Args:
        sizes: bytes of each session's logs, by the session's name.
        resends: the uuids of settled events that were rejected, or that the receiver lost. Then only these are to be
            sent of the sessions, again; None: all that was never settled.
        jobs: how many processes may read them at a time; None: as many as whoever reads them thinks right.

    Attributes:
        jobs: as passed in.
        resends: those of them that are not on their way again yet; None like the argument.
    """

    def __init__(
        self,
        sizes: Mapping[str, int] | None = None,
        resends: Collection[str] | None = None,
        *,
        jobs: int | None = None,
    ) -> None:
        self.jobs = jobs
        self.resends = None if resends is None else set(resends)
        self._chosen = None if resends is None else frozenset(resends)
        self._sizes = dict(sizes or {})
        self._left = dict.fromkeys(self._sizes)
        self._positions: dict[str, int] = {}
        self._done = 0
        self._endings: Counter[Ending] = Counter()
        self._outcomes: Counter[str] = Counter()

    def __contains__(self, name: object) -> bool:
        """Whether the session of that name belongs to the backlog, read or not."""
        return name in self._sizes

    def __bool__(self) -> bool:
        """Whether it has any sessions."""
        return bool(self._sizes)

    @property
    def next(self) -> str | None:
        """The name of the session to read next; None once reading has ended for all."""
        return next(iter(self._left), None)

    def left(self, most: int) -> list[str]:
        """Return the names of the *most* sessions to read next."""
        return list(islice(self._left, most))

    def read(self, name: str, position: int) -> None:
        """Record how many bytes of a session have been read, if it belongs to the backlog."""
        if name in self._left:
            self._positions[name] = position

    def finish(self, name: str, ending: Ending = "read") -> None:
        """Record that reading a session has ended, if it belongs to the backlog and had not ended before."""
        if name in self._left:
            del self._left[name]
            self._positions.pop(name, None)
            self._done += self._sizes[name]
            self._endings[ending] += 1

    def note_sent(self, uuids: Iterable[str]) -> None:
        """Note that events are on their way, so that none of them is sent again once more."""
        if self.resends:
            self.resends.difference_update(uuids)

    def settle(self, name: str | None, uuid: str, outcome: Literal["delivered", "rejected", "superseded"]) -> None:
        """Count a settled event of a session, if it belongs to the backlog."""
        if name in self._sizes and (self._chosen is None or uuid in self._chosen):
            self._outcomes[outcome] += 1

    def headway(self) -> Headway:
        """Return the progress."""
        # A log that has grown since it was measured counts with its measured size at most.
        begun = sum(min(position, self._sizes[name]) for name, position in self._positions.items())
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
