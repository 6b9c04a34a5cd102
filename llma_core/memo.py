"""What was worked out before, for as long as there is room: the least recently asked for goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Memo"]

_OVERHEAD = 200
"""Bytes that an entry takes beside what is in it."""


class Memo:
    """Bytes made of bytes, bounded by their size. For one thread at a time.

    Args:
        limit: bytes of memory, about.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._entries: OrderedDict[Hashable, tuple[bytes | None, int]] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of memory that are taken, about."""
        return self._used

    def get(self, key: Hashable, default: bytes | None) -> bytes | None:
        """Return what is noted under *key*, or *default*."""
        entry = self._entries.get(key)
        if entry is None:
            return default
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, value: bytes | None, cost: int) -> None:
        """Note *value*, which with its key has *cost* bytes; nothing happens if that alone is half of all room."""
        cost += _OVERHEAD
        if cost * 2 > self._limit:
            return
        if (before := self._entries.pop(key, None)) is not None:
            self._used -= before[1]
        self._entries[key] = value, cost
        self._used += cost
        while self._used > self._limit:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._used -= dropped
