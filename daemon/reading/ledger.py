"""Which lines still have events that are not settled, and how far each file's offset may therefore be committed.

Pure. An offset is committed only over lines that are read, that the accumulator no longer needs, and on which no event
rests whose delivery is open. A later event that is settled first never carries the offset over an earlier one.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from llma_core.spans import LineRange

__all__ = ["Ledger", "LineEnd"]

LineEnd = tuple[int, bytes]
"""End of a line, and the bytes just before it, by which a file is known again."""


@dataclass(slots=True)
class _File:
    committed: int
    tail: bytes = b""
    needed: int | None = None
    ends: deque[LineEnd] = field(default_factory=deque)
    starts: list[tuple[int, str]] = field(default_factory=list)


class Ledger:
    """The open accounts of all files that are being followed."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._resting: dict[str, str] = {}

    def open(self, file: str, committed: int, tail: bytes = b"") -> None:
        """Begin or begin again with *file*, of which everything before *committed* is settled."""
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
        """Note the ends of lines that were read, in order. Lines before the committed offset count for nothing."""
        account = self._files[file]
        committed = account.committed
        account.ends.extend([end for end in ends if end[0] > committed])

    def need(self, file: str, start: int | None) -> None:
        """Note the oldest line that an accumulator still needs; None if it needs none."""
        self._files[file].needed = start

    def register(self, identity: str, lines: LineRange) -> None:
        """Note an event on its way and the lines it rests on."""
        self._resting[identity] = lines.file
        heapq.heappush(self._files[lines.file].starts, (lines.start, identity))

    def settle(self, identity: str) -> str | None:
        """Note that an event is settled; return the file it rests on, None if it rests on none that is open."""
        return self._resting.pop(identity, None)

    def offset(self, file: str) -> tuple[int, bytes]:
        """Return how far *file* may be committed, and the bytes just before that; advance to there."""
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
        """Return the offset up to which *file* was last found settled."""
        return self._files[file].committed

    def __contains__(self, file: str) -> bool:
        return file in self._files

    @property
    def waiting(self) -> int:
        """How many registered events are not settled."""
        return len(self._resting)
