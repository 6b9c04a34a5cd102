"""The daemon's health: a small file with what only the running daemon knows, for `status`.

It holds names, counts, sizes and times; never content, never a key. It is written only when something changed, and only
when the service asks; in between, the time of the file shows that the daemon is alive. The daemon works without it, so
a failure to write it is logged once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from daemon.delivering.delivery import BackingOff, Closed, Delivery
from daemon.delivering.route import Route
from daemon.delivering.sink import Stopped
from daemon.state import layout
from daemon.system import disk
from daemon.system.messages import system_reason
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_regular
from llma_core import __version__

__all__ = ["SIGN_SECONDS", "Health", "HealthReport", "LogBehind", "RouteReport", "read_report", "reported_at"]

_log = structlog.get_logger(__name__)

SIGN_SECONDS = 30.0
"""How often the file gets a new time while there is nothing new to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBehind:
    """A log that is not yet read to its end.

    Attributes:
        path: the log's path.
        position: bytes read so far.
        size: the log's size in bytes.
        modified: when it was last written to, in seconds since the epoch.
    """

    path: str
    position: int
    size: int
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """The deliveries to one host and key since the daemon started to use them. Times are in ISO 8601, UTC.

    Attributes:
        host: where events go.
        key: the first digits of the key's fingerprint.
        state: `sending`; `backing_off`: the receiver fails, the same events are sent again; `stopped`: the receiver
            wants nothing, and is asked again from time to time; `closed`: the delivery has ended.
        reason: why the state is not `sending`.
        hint: what to do if the state is `stopped`.
        asks_again_at: when the receiver is asked again, if the state is `stopped`.
        attempt: failed attempts in a row.
        sent: events accepted.
        waiting: events waiting or in flight.
        oldest_waiting_at: when the oldest of them started to wait.
        last_success_at: when a request was last accepted.
        last_error: why the last failed attempt failed.
        rejected: events refused for good and set aside.
        resent: failed requests that were to be sent again.
        quota_limited: accepted events that the receiver reported as dropped.
    """

    host: str
    key: str
    state: str
    reason: str | None = None
    hint: str | None = None
    asks_again_at: str | None = None
    attempt: int = 0
    sent: int = 0
    waiting: int = 0
    oldest_waiting_at: str | None = None
    last_success_at: str | None = None
    last_error: str | None = None
    rejected: int = 0
    resent: int = 0
    quota_limited: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What the running daemon knows.

    Attributes:
        pid: its process id.
        version: its version.
        sessions: number of sessions with logs.
        followed: how many of these are in memory.
        unread_bytes: bytes in logs that are not yet read.
        unread_logs: how many logs they are in.
        unread_since: when the oldest of them started to wait, in ISO 8601, UTC.
        read_at: when some of these logs were last read, in ISO 8601, UTC; None if there are none, or if none was read
            since there are.
        routes: where events went.
        hanging: the folders that do not answer.
        written_at: when this was written, in ISO 8601, UTC.
    """

    pid: int
    version: str
    sessions: int
    followed: int
    unread_bytes: int = 0
    unread_logs: int = 0
    unread_since: str | None = None
    read_at: str | None = None
    routes: tuple[RouteReport, ...] = ()
    hanging: tuple[str, ...] = ()
    written_at: str = ""


class Health:
    """Writes the health file. Use it from one event loop only.

    Args:
        folder: the state directory.
        wall: returns seconds since the epoch.
        clock: returns seconds of the clock that the deliveries use.
    """

    def __init__(
        self, folder: Path, *, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / layout.HEALTH
        self._wall = wall
        self._clock = clock
        self._written: HealthReport | None = None
        self._signed_at = clock()
        self._read_at: float | None = None
        self._positions: dict[str, int] = {}
        self._routes: dict[Route, RouteReport] = {}
        self._times: dict[float, str] = {}
        self._behind: dict[str, tuple[int, float]] = {}
        self._failing = False

    def observe(
        self, *, sessions: int, followed: int, unread: Iterable[LogBehind], deliveries: Mapping[Route, Delivery]
    ) -> HealthReport:
        """Return the report as of now.

        Args:
            sessions: number of sessions with logs.
            followed: number of sessions in memory.
            unread: logs that may not be read to their end.
            deliveries: the delivery of each route.
        """
        logs = [log for log in unread if log.position < log.size]
        self._note_progress(logs)
        self._note_behind(logs)
        since = min((at for _, at in self._behind.values()), default=None)
        used = dict(self._times)
        self._times = {}
        for route, delivery in deliveries.items():
            self._routes[route] = self._of(route, delivery, used)
        return HealthReport(
            pid=os.getpid(),
            version=__version__,
            sessions=sessions,
            followed=followed,
            unread_bytes=sum(log.size - log.position for log in logs),
            unread_logs=len(logs),
            unread_since=None if since is None else _text(since),
            read_at=None if self._read_at is None else _text(self._read_at),
            routes=tuple(self._routes.values()),
            hanging=tuple(disk.hanging()),
        )

    async def tell(self, report: HealthReport) -> None:
        """Write *report*. If it equals the last one written, at most give the file a new time."""
        same = report == self._written
        if same and self._clock() - self._signed_at < SIGN_SECONDS:
            return
        try:
            await asyncio.to_thread(self._sign if same else self._write, report)
        except OSError as error:
            if not self._failing:
                self._failing = True
                reason = system_reason(error)
                _log.warning("status_unwritable", path=str(self._path), reason=reason, action="continuing without it")
            return
        self._failing = False
        self._written = report
        self._signed_at = self._clock()

    def _write(self, report: HealthReport) -> None:
        document = msgspec.json.encode(_encodable(msgspec.to_builtins(replace(report, written_at=_text(self._wall())))))
        write_private(self._path, msgspec.json.format(document, indent=2) + b"\n")

    def _sign(self, report: HealthReport) -> None:
        """Give the file a new time, without a write that the disk has to wait for."""
        try:
            os.utime(self._path, (self._wall(),) * 2)
        except FileNotFoundError:
            self._write(report)

    def _note_progress(self, logs: Iterable[LogBehind]) -> None:
        """Record when a log that was behind was last read."""
        positions = {log.path: log.position for log in logs}
        if any(positions.get(path) != position for path, position in self._positions.items()):
            self._read_at = self._wall()
        if not positions:
            self._read_at = None
        self._positions = positions

    def _note_behind(self, logs: Iterable[LogBehind]) -> None:
        """Record since when each log has been behind; one that is being read has only just fallen behind."""
        now = self._wall()
        behind: dict[str, tuple[int, float]] = {}
        for log in logs:
            size, since = self._behind.get(log.path, (0, 0.0))
            behind[log.path] = (size, since) if log.position < size else (log.size, min(now, log.modified))
        self._behind = behind

    def _of(self, route: Route, delivery: Delivery, used: Mapping[float, str]) -> RouteReport:
        stats, state = delivery.stats, delivery.state
        report = RouteReport(
            host=route.host,
            key=route.fingerprint[:8],
            state="sending",
            sent=stats.sent,
            waiting=delivery.queued_events,
            oldest_waiting_at=self._when(delivery.oldest_since, used),
            last_success_at=self._when(stats.last_success_at, used),
            last_error=stats.last_error,
            rejected=stats.rejected,
            resent=stats.retries,
            quota_limited=stats.quota_limited,
        )
        match state:
            case BackingOff():
                return replace(report, state="backing_off", reason=state.reason, attempt=state.attempt)
            case Stopped():
                again = self._when(state.until, used)
                return replace(report, state="stopped", reason=state.reason, hint=state.hint, asks_again_at=again)
            case Closed():
                # The state before it closed says more.
                before = self._routes.get(route)
                if before is not None and before.state != "sending":
                    return replace(
                        report, state=before.state, reason=before.reason, hint=before.hint, attempt=before.attempt
                    )
                return replace(report, state="closed", reason=state.error)
            case _:
                return report

    def _when(self, at: float | None, used: Mapping[float, str]) -> str | None:
        """Convert a time of the deliveries' clock to a time of day; the same time always gives the same text."""
        if at is None:
            return None
        said = used.get(at) or _text(self._wall() - (self._clock() - at))
        self._times[at] = said
        return said


def read_report(folder: Path) -> HealthReport | None:
    """Return the last report of the daemon that uses the state directory *folder*; None if it cannot be read."""
    try:
        data = read_regular(folder / layout.HEALTH)
        return None if data is None else msgspec.json.decode(data, type=HealthReport)
    except (UnreadableFileError, msgspec.MsgspecError):
        # `status` then shows less, and the next change writes the file again.
        return None


def reported_at(folder: Path) -> float | None:
    """Return when the daemon that uses the state directory *folder* last reported; None if it never did.

    Returns:
        Seconds since the epoch.
    """
    try:
        return (folder / layout.HEALTH).stat().st_mtime
    except OSError:
        return None


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _encodable(value: Any) -> Any:
    """Return *value* with what is no UTF-8 escaped: names of files need not be."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _encodable(part) for name, part in value.items()}
    return [_encodable(part) for part in value] if isinstance(value, list | tuple) else value
