"""Whether what the service does gets done: each thing that could hang has a time by which it must have ended.

A part that waits for something to happen (for lines, for room, for a receiver that is away) does nothing, and is not in
here; who makes it wait has a limit of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Liveness"]


class Liveness:
    """What is being done now, and until when it may take. Belongs to one event loop.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doing: dict[object, tuple[str, float]] = {}

    @contextmanager
    def doing(self, what: str, seconds: float) -> Iterator[None]:
        """Note that *what* is being done while the context lasts, and should take *seconds* at most."""
        key = object()
        self._doing[key] = (what, self._clock() + seconds)
        try:
            yield
        finally:
            del self._doing[key]

    def overdue(self) -> str | None:
        """Return what has taken too long, the longest overdue first; None if nothing has."""
        now = self._clock()
        late = [(until, what) for what, until in self._doing.values() if until < now]
        return min(late)[1] if late else None
