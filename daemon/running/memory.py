"""Memory that is not in use, given back to the system.

What a start or a long catching up has taken and freed, the C library keeps for the next time; in a process that rests
for hours there is none.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back"]


def give_back() -> None:
    """Return what was freed to the system, where the C library is one that can (glibc). Takes a few milliseconds."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
