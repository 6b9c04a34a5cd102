"""Returns freed memory to the operating system.

The C library keeps memory that a start or a long catch-up freed, for the next time. A process that is idle for hours
has no next time soon.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back"]


def give_back() -> None:
    """Return freed memory to the system if the C library can (glibc). Takes a few milliseconds."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
