"""A Bloom filter of names: one megabyte, however many names there are.

A name that was added is always found. A name that was not added is rarely found by mistake. The more names were added,
the more often this happens.
"""

from __future__ import annotations

__all__ = ["Sieve"]

_BITS = 1 << 23
_STEP = 23


class Sieve:
    """Tells names that were certainly never added from names that probably were.

    After a million names, one in twenty of the others looks as if it had been added. After a hundred thousand, hardly
    any does.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)

    def add(self, name: str) -> None:
        """Add *name*."""
        bits, rest = self._bits, hash(name)
        for _ in range(2):
            bits[(rest & (_BITS - 1)) >> 3] |= 1 << (rest & 7)
            rest >>= _STEP

    def __contains__(self, name: str) -> bool:
        bits, first = self._bits, hash(name)
        if not bits[(first & (_BITS - 1)) >> 3] & 1 << (first & 7):
            return False
        second = first >> _STEP
        return bool(bits[(second & (_BITS - 1)) >> 3] & 1 << (second & 7))
