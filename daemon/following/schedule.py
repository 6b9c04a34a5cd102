"""When to look at the files without a hint."""

from __future__ import annotations

from typing import Literal

from daemon.following.cadence import Cadence
from daemon.following.watcher import Watcher

__all__ = ["SweepKind", "SweepSchedule"]

SweepKind = Literal["hot", "full"]
"""`hot`: what was touched recently; `full`: everything."""


class SweepSchedule:
    """Tells when to look at the files without a hint.

    Args:
        cadence: how often.
        now: a steady clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, cadence: Cadence, now: float, wall: float) -> None:
        self._cadence = cadence
        self._hot_at = now + cadence.hot_sweep
        self._full_at = now + cadence.full_sweep
        self._last = (now, wall)

    @property
    def next_at(self) -> float:
        """When the next sweep is due, on the steady clock."""
        return self._hot_at

    def due(self, now: float, wall: float, watcher: Watcher, *, overflow: bool) -> SweepKind | None:
        """Return which sweep is due now, and count it as done; None if none is.

        Args:
            now: the steady clock.
            wall: the wall clock.
            watcher: gives the hints; what is broken of it is mended.
            overflow: whether hints were lost, so that everything has to be looked at.
        """
        before, wall_before = self._last
        # A clock that jumped means a suspend: no hint came for what was written meanwhile.
        resumed = abs((wall - wall_before) - (now - before)) > self._cadence.hot_sweep
        self._last = now, wall
        if not (now >= self._hot_at or overflow or resumed):
            return None
        full = watcher.ensure() or overflow or resumed or watcher.polling or now >= self._full_at
        self._hot_at = now + self._cadence.hot_sweep
        if full:
            self._full_at = now + self._cadence.full_sweep
        return "full" if full else "hot"
