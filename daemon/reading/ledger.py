"""Decides how far each file's offset may be committed.

An offset may pass a line only if three things are true: the line was read, the accumulator no longer needs it, and no
unsettled event rests on it. So if a later event is settled first, the offset still stops before the earlier one.

Pure: no files, no clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from llma_core.spans import LineRange

__all__ = ["Ledger", "LineEnd"]

LineEnd = tuple[int, bytes]
"""The end of a line, in bytes, and the bytes just before it, which help to recognize the file after a restart."""


@dataclass(slots=True)
class _File:
    committed: int
    tail: bytes = b""
    needed: int | None = None
    ends: deque[LineEnd] = field(default_factory=deque)
    starts: list[tuple[int, str]] = field(default_factory=list)


class Ledger:
    """The lines of all open files, and the unsettled events that rest on them."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._resting: dict[str, str] = {}

    def open(self, file: str, committed: int, tail: bytes = b"") -> None:
        """Begin, or begin again, with *file*. Everything before *committed* is settled."""
        stale = self._files.get(file)
        if stale is not None:
            for _, identity in stale.starts:
                self._resting.pop(identity, None)
        self._files[file] = _File(committed=committed, tail=tail)

    def close(self, file: str) -> None:
        """Forget *file*."""
        self.open(file, 0)
        del self._files[file]

    def read(self, file: str, ends: Iterable[LineEnd]) -> None:
        """Note the ends of lines that were read, in order. Lines before the committed offset are ignored."""
        account = self._files[file]
        committed = account.committed
        account.ends.extend([end for end in ends if end[0] > committed])

    def need(self, file: str, start: int | None) -> None:
        """Note where the oldest line starts that the accumulator still needs; None if it needs none."""
        self._files[file].needed = start

    def register(self, identity: str, lines: LineRange) -> None:
        """Note an unsettled event and the lines it rests on."""
        self._resting[identity] = lines.file
        heapq.heappush(self._files[lines.file].starts, (lines.start, identity))

    def settle(self, identity: str) -> str | None:
        """Note that an event is settled. Return the file it rests on; None if it rests on no open file."""
        return self._resting.pop(identity, None)

    def offset(self, file: str) -> tuple[int, bytes]:
        """Return how far *file* may be committed, and the bytes just before; advance the committed offset to there."""
        account = self._files[file]
        starts = account.starts
        while starts and starts[0][1] not in self._resting:
            heapq.heappop(starts)
        limits = [start for start in (account.needed, starts[0][0] if starts else None) if start is not None]
        limit = min(limits, default=None)
        while account.ends and (limit is None or account.ends[0][0] <= limit):
            account.committed, account.tail = account.ends.popleft()
        return account.committed, account.tail

    def committed(self, file: str) -> int:
        """Return the offset that `offset` last returned for *file*."""
        return self._files[file].committed

    def __contains__(self, file: str) -> bool:
        return file in self._files

    @property
    def waiting(self) -> int:
        """How many events are registered and not settled."""
        return len(self._resting)
