"""The pace: what one worker is told by the receiver holds for all.

A receiver that has too much to do answers 429 or 503 with Retry-After. The worker that hears it writes down until when
to wait, where every worker looks before each of its requests: in a file, if all are on this machine, or in a variable
of Dask's scheduler.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from daemon.delivering.sink import AttemptOutcome, Retryable, Sink, Stopped
from daemon.system.private_file import write_private
from llma_core.events import CaptureEvent

__all__ = ["FilePace", "Pace", "PacedSink", "VariablePace"]

_LONGEST = 300.0
"""Seconds that a receiver's wish counts for at most, as for one delivery."""


class Pace(Protocol):
    """Until when nobody sends. Its methods may wait for a network, and raise nothing."""

    def until(self) -> float:
        """Return the time before which no request should start, in seconds since the epoch."""

    def wait(self, until: float) -> None:
        """Ask everybody to wait until a time, in seconds since the epoch."""


class FilePace:
    """A pace in a file, for workers on one machine.

    Args:
        path: the file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def until(self) -> float:
        """Return the time before which no request should start, in seconds since the epoch."""
        try:
            return float(self._path.read_text())
        except (OSError, ValueError):
            return 0.0

    def wait(self, until: float) -> None:
        """Ask everybody to wait until a time, in seconds since the epoch."""
        if until > self.until():
            with suppress(OSError):
                write_private(self._path, f"{until}".encode())


class VariablePace:
    """A pace in a variable of Dask's scheduler. Make it in the thread of a task.

    Args:
        name: the variable's name; it has to have a value.
    """

    def __init__(self, name: str) -> None:
        distributed: Any = importlib.import_module("distributed")
        self._variable = distributed.Variable(name, client=distributed.get_client())

    def until(self) -> float:
        """Return the time before which no request should start, in seconds since the epoch."""
        try:
            return float(self._variable.get(timeout=5))
        except Exception:  # noqa: BLE001 - without a scheduler the task is over soon; until then it goes on alone
            return 0.0

    def wait(self, until: float) -> None:
        """Ask everybody to wait until a time, in seconds since the epoch."""
        with suppress(Exception):
            if until > self.until():
                self._variable.set(until)


class PacedSink:
    """A sink that keeps the common pace. It also notes a receiver that accepts nothing.

    Args:
        sink: the sink itself.
        pace: the pace.
        stopped: called when the receiver accepts nothing until a person changes something.
        clock: returns the time in seconds since the epoch.
        sleep: waits that many seconds.

    Attributes:
        waited: seconds that were waited because of others.
    """

    def __init__(
        self,
        sink: Sink,
        pace: Pace,
        stopped: Callable[[Stopped], None],
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._sink = sink
        self._pace = pace
        self._stopped = stopped
        self.waited = 0.0

    @property
    def event_limit(self) -> int:
        """See `Sink`."""
        return self._sink.event_limit

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Send *events* as the sink does, once the pace allows it."""
        while (left := await asyncio.to_thread(self._pace.until) - self._clock()) > 0:
            left = min(left, _LONGEST)
            self.waited += left
            await self._sleep(left)
        outcome = await self._sink.send(events)
        if isinstance(outcome, Retryable) and outcome.after:
            await asyncio.to_thread(self._pace.wait, self._clock() + min(outcome.after, _LONGEST))
        elif isinstance(outcome, Stopped):
            self._stopped(outcome)
        return outcome

    async def aclose(self) -> None:
        """See `Sink`."""
        await self._sink.aclose()
