"""Version 7 UUIDs and times, as the line format writes them."""

from __future__ import annotations

import os
import time

__all__ = ["moment", "uuid7"]


def uuid7(milliseconds: int) -> str:
    """Return a new version 7 UUID in lower case for a time in *milliseconds* since the epoch."""
    random = os.urandom(10).hex()
    stamp = f"{milliseconds & 0xFFFFFFFFFFFF:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{random[:3]}-{'89ab'[int(random[3], 16) & 3]}{random[4:7]}-{random[7:19]}"


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
