"""What the C library does with memory that is freed (glibc; other libraries are left as they are).

It keeps memory that a start or a long catch-up freed, for the next time. A process that is idle for hours has no next
time soon. And it gives each thread a heap of its own, so that threads need not wait for each other. Threads of Python
do so anyway, and what one of them has freed, no other one could use.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

__all__ = ["give_back", "share_heap"]

_M_ARENA_MAX = -8
"""The option of `mallopt` for the number of heaps, from glibc's malloc.h."""


def give_back() -> None:
    """Return freed memory to the system. Takes a few milliseconds."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def share_heap() -> None:
    """Let all threads that will be started share one heap."""
    if (set_option := _function("mallopt")) is not None:
        set_option(_M_ARENA_MAX, 1)


def _function(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
