"""What surely never passed: a set of names in a megabyte, however many they are.

A name that was added is always found; one that was not is found by mistake rarely, and more often the more there are.
"""

from __future__ import annotations

__all__ = ["Sieve"]

_BITS = 1 << 23
_STEP = 23


class Sieve:
    """Names that were added, or look as if (a Bloom filter).

    Of a million names one of twenty that were never added looks as if it had been; of a hundred thousand hardly any.
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
