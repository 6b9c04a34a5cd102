"""A clock for what is final once nothing came for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["RunningClock"]

LATE_SECONDS = 0.5
"""How much later than planned this process may run without anything being wrong."""
_SHARE = 0.1


class RunningClock:
    """A steady clock that all but stands still while this process is kept from running.

    A container that is frozen, a virtual machine that is paused and a machine that is much too busy keep the program
    that writes the logs from running, too. The machine's steady clock goes on, but that nothing was written meanwhile
    means nothing. When both run again, the reader may be the first.

    The time between two calls of `now` does not count if the second comes later than planned. A tenth of the plan does,
    so that on a machine that is always late everything is final at some time.

    Args:
        pause: see the attribute.
        clock: a steady clock, in seconds.

    Attributes:
        pause: the most seconds until the next call of `now`, as planned.
    """

    def __init__(self, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.pause = pause
        self._clock = clock
        self._before = clock()
        self._lost = 0.0

    def now(self) -> float:
        """Return the time, in seconds."""
        at = self._clock()
        gap, self._before = at - self._before, at
        if gap > self.pause + LATE_SECONDS:
            self._lost += gap - self.pause * _SHARE
        return at - self._lost

    def steady(self, at: float) -> float:
        """Return when it will be *at* if this process runs until then, on the steady clock."""
        return at + self._lost
