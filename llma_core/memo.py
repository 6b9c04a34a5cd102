"""An LRU cache bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Memo"]

_OVERHEAD = 200
"""Bytes that an entry takes in addition to its contents."""


class Memo:
    """An LRU cache of bytes, bounded by its size. It is not safe for several threads at once.

    Args:
        limit: approximate bytes of memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._entries: OrderedDict[Hashable, tuple[bytes | None, int]] = OrderedDict()

    @property
    def size(self) -> int:
        """Approximate bytes of memory in use."""
        return self._used

    def get(self, key: Hashable, default: bytes | None) -> bytes | None:
        """Return the value of *key*, or *default* if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return default
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, value: bytes | None, cost: int) -> None:
        """Store *value*, unless it takes half of the limit or more; *cost* is the bytes of the value and its key."""
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
