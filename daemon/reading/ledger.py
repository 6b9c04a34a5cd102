"""Decides how far each file's offset may be committed.

An offset may pass a line only if three things are true: the line was read, the accumulator no longer needs it, and no
unsettled event rests on it. So if a later event is settled first, the offset still stops before the earlier one.

Pure: no files, no clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
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
    repeats: deque[tuple[int, str, int]] = field(default_factory=deque)


class Ledger:
    """The lines of all open files, and the unsettled events that rest on them."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._resting: dict[str, list[str]] = {}

    def open(self, file: str, committed: int, tail: bytes = b"") -> None:
        """Begin, or begin again, with *file*. Everything before *committed* is settled."""
        stale = self._files.get(file)
        if stale is not None:
            for _, identity in stale.starts:
                left = [other for other in self._resting.get(identity, ()) if other != file]
                if left:
                    self._resting[identity] = left
                else:
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
        """Note an event on its way and lines that it rests on, or that are copies of those.

        Copies may be all that is left of it at the next start.
        """
        self._resting.setdefault(identity, []).append(lines.file)
        heapq.heappush(self._files[lines.file].starts, (lines.start, identity))

    def repeat(self, lines: LineRange, file: str, end: int) -> None:
        """Note that the line of *file* that ends at *end* says the same as *lines*, which are settled with it."""
        if lines.end > self._files[lines.file].committed:
            self._files[lines.file].repeats.append((lines.start, file, end))

    def settle(self, identity: str) -> Sequence[str]:
        """Note that an event is settled; return the open files with lines that rest on it."""
        return self._resting.pop(identity, ())

    def resting(self, identity: str) -> Sequence[str]:
        """Return the open files with lines that rest on an event that is not settled."""
        return self._resting.get(identity, ())

    def advance(self, files: Iterable[str]) -> None:
        """Advance *files* as far as they may be committed, where one may have to wait for another."""
        accounts = [self._files[file] for file in files]
        while any(self._advance(account) for account in accounts) and any(account.repeats for account in accounts):
            pass

    def offset(self, file: str) -> tuple[int, bytes]:
        """Return how far *file* may be committed, and the bytes just before; advance the committed offset to there."""
        account = self._files[file]
        self._advance(account)
        return account.committed, account.tail

    def _advance(self, account: _File) -> bool:
        """Advance a file as far as it may be committed; return whether it got any further."""
        starts, repeats, before = account.starts, account.repeats, account.committed
        while starts and starts[0][1] not in self._resting:
            heapq.heappop(starts)
        while repeats and self._is_settled(*repeats[0][1:]):
            repeats.popleft()
        firsts = [account.needed, starts[0][0] if starts else None, repeats[0][0] if repeats else None]
        limit = min((start for start in firsts if start is not None), default=None)
        while account.ends and (limit is None or account.ends[0][0] <= limit):
            account.committed, account.tail = account.ends.popleft()
        return account.committed > before

    def _is_settled(self, file: str, end: int) -> bool:
        account = self._files.get(file)
        return account is None or account.committed >= end

    def committed(self, file: str) -> int:
        """Return the offset that `offset` last returned for *file*."""
        return self._files[file].committed

    def __contains__(self, file: str) -> bool:
        return file in self._files

    @property
    def waiting(self) -> int:
        """How many events are registered and not settled."""
        return len(self._resting)
