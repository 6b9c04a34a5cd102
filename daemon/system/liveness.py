"""Finds work that takes longer than it should: each operation that could hang has a deadline.

Waiting for an event (for lines, for room in a queue, for a receiver that is away) is not an operation. Whatever causes
such a wait has a limit of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Liveness"]


class Liveness:
    """Operations in progress, each with its deadline. Belongs to one event loop.

    Args:
        clock: returns seconds that only increase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doing: dict[object, tuple[str, float]] = {}

    @contextmanager
    def doing(self, what: str, seconds: float) -> Iterator[None]:
        """Register the operation *what* while the context lasts. It should take *seconds* at most."""
        key = object()
        self._doing[key] = (what, self._clock() + seconds)
        try:
            yield
        finally:
            del self._doing[key]

    def overdue(self) -> str | None:
        """Return the operation that is overdue for the longest time; None if none is overdue."""
        now = self._clock()
        late = [(until, what) for what, until in self._doing.values() if until < now]
        return min(late)[1] if late else None
