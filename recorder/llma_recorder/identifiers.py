"""Version 7 UUIDs and times, as the line format writes them."""

from __future__ import annotations

import os
import time

__all__ = ["moment", "uuid7"]


def uuid7(milliseconds: int) -> str:
    """Return a new version 7 UUID in lower case for a time in *milliseconds* since the epoch."""
    random = int.from_bytes(os.urandom(10), "big")
    # 48 bits of time, 4 of the version, 12 random ones, 2 of the variant, 62 random ones.
    digits = f"{milliseconds & _TIME:012x}7{random >> 68:03x}{random & _RANDOM | _VARIANT:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_TIME = (1 << 48) - 1
_VARIANT = 2 << 62
_RANDOM = (1 << 62) - 1


def moment(milliseconds: int) -> str:
    """Return a time in *milliseconds* since the epoch as RFC 3339 in UTC."""
    global _second  # noqa: PLW0603 -- a cache of one value, replaced as a whole, so that threads need no lock
    second, rest = divmod(milliseconds, 1000)
    known, shown = _second
    if known != second:
        shown = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _second = (second, shown)
    return f"{shown}{rest:03d}Z"


_second = (-1, "")
