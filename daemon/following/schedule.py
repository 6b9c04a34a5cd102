"""The schedule of sweeps: when to look at the files without a hint."""

from __future__ import annotations

from typing import Literal

from daemon.following.cadence import Cadence
from daemon.following.watcher import Watcher

__all__ = ["SweepKind", "SweepSchedule"]

SweepKind = Literal["hot", "full"]
"""`hot`: the recently touched files; `full`: all files."""


class SweepSchedule:
    """Decides when the next sweep is due, and which kind.

    Args:
        cadence: how often each kind is due.
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
        """Return which sweep is due now, and count it as done; None if none is due.

        When one is due, *watcher* is repaired first. Hints were lost while it was broken, so the sweep is a full one.

        Args:
            now: the steady clock.
            wall: the wall clock.
            watcher: the source of hints.
            overflow: whether hints were lost, so that a full sweep is due at once.
        """
        before, wall_before = self._last
        # A clock that jumped means the machine was suspended: files changed meanwhile without a hint.
        resumed = abs((wall - wall_before) - (now - before)) > self._cadence.hot_sweep
        self._last = now, wall
        if not (now >= self._hot_at or overflow or resumed):
            return None
        full = watcher.ensure() or overflow or resumed or watcher.polling or now >= self._full_at
        self._hot_at = now + self._cadence.hot_sweep
        if full:
            self._full_at = now + self._cadence.full_sweep
        return "full" if full else "hot"
