"""What the system tells about another process."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["has_ended", "is_suspended"]

_SUSPENDED = frozenset("Tt")


_SLACK_S = 2.0
"""How much later than it says a process may seem to have started: the system tells when it began in whole seconds."""


def has_ended(pid: int, started: float) -> bool:
    """Whether the process *pid* has ended that had started at *started*, in seconds since the epoch, or before that.

    A process that is younger took over its number. Without /proc, any process with that number counts.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        # It is another user's.
        pass
    except OverflowError:
        return True
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return False
    return fields[0] in "ZX" or time.time() - age > started + _SLACK_S


def is_suspended(pid: int) -> bool:
    """Whether a signal or a debugger has suspended the process *pid*. Only Linux tells; elsewhere this is False."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The name in front of the state is in parentheses and may hold anything.
    return fields.rpartition(")")[2].split()[:1] in ([state] for state in _SUSPENDED)
