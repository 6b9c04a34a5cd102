"""What was worked out before, for as long as there is room: the least recently asked for goes first."""

from __future__ import annotations

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
        self._held = 0
        self._entries: dict[Hashable, tuple[bytes | None, int]] = {}

    @property
    def size(self) -> int:
        """Bytes of memory that are taken, about."""
        return self._held

    def get(self, key: Hashable, default: bytes | None) -> bytes | None:
        """Return what is noted under *key*, or *default*."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return default
        # To the end: a dictionary keeps the order in which its keys came.
        self._entries[key] = entry
        return entry[0]

    def put(self, key: Hashable, value: bytes | None, cost: int) -> None:
        """Note *value*, which with its key has *cost* bytes; nothing happens if that alone is half of all room."""
        cost += _OVERHEAD
        if cost * 2 > self._limit:
            return
        if (before := self._entries.pop(key, None)) is not None:
            self._held -= before[1]
        self._entries[key] = value, cost
        self._held += cost
        while self._held > self._limit:
            _, dropped = self._entries.pop(next(iter(self._entries)))
            self._held -= dropped
