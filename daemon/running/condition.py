"""The daemon's condition, assembled for `status` from its store, its lock, its health file and the logs.

It holds names, counts, sizes and times. Each problem comes with a hint what to do.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from daemon.config.claude_settings import cleanup_days
from daemon.config.table import APP_NAME
from daemon.following.log_roots import LogRoot, config_folder, is_spooled, log_roots, recognize, roots_below
from daemon.following.log_tree import root_logs
from daemon.following.opening import unknown_logs
from daemon.following.tailer import mark_at_end
from daemon.running.health import SIGN_SECONDS, HealthReport, RouteReport, read_report, reported_at
from daemon.running.problem import Problem
from daemon.running.recordings import Recordings
from daemon.state.lock import locked_since, look
from daemon.state.rows import HeldSession, RejectedEvent
from daemon.state.store import Store
from daemon.state.verification import Verification, read_verification
from daemon.system import disk
from daemon.system.process import is_suspended
from daemon.system.space import Room, room_at
from llma_core import __version__

__all__ = ["Condition", "Endangered", "condition_of", "rebuilding"]

SOON_DAYS = 3
"""How many days before the client removes a log its unsent lines are reported."""
LATE_SECONDS = 300.0
"""A receiver that fails, or a log that waits to be read, for longer than this is a problem."""
FAILURES = 3
"""A receiver that fails this often in a row does not just stumble: events do not arrive."""
SILENT_SECONDS = 4 * SIGN_SECONDS
"""A daemon that reports nothing for longer than this hangs, or cannot write its report."""
_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endangered:
    """A log with unsent lines that the client will remove soon.

    Attributes:
        path: the log's path.
        bytes: size of its whole lines that are not sent.
        days_left: days until the client may remove it; 0 if it may do so at any time.
    """

    path: str
    bytes: int
    days_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The daemon's condition. Times are in ISO 8601, UTC; totals cover the lifetime of the state directory.

    Attributes:
        started: whether a daemon has ever run with this state directory.
        running: whether the daemon runs.
        suspended: whether a signal has suspended it, as Ctrl-Z does.
        silent_seconds: for how long it has reported nothing while it runs; None while no daemon runs.
        reported: whether the running daemon has reported anything.
        room: the room on the disk of the state directory; None if unknown.
        pid: its process id, while it runs.
        since: when it started, while it runs.
        version: its version, while it runs and has reported it.
        state_dir: its state directory.
        files: number of known logs.
        sent: total of delivered events.
        rejected: total of events set aside.
        cut: total of events cut to the receiver's limit.
        bad_lines: total of lines that held no record.
        traces_owed: sessions and turns whose trace event is not sent yet.
        sessions: number of sessions with logs, as last reported.
        followed: how many of these it has in memory.
        unread_bytes: bytes in logs that are not read (or, while it does not run, not sent).
        unread_logs: how many logs they are in.
        unread_seconds: how long the oldest of them have waited, at most since the daemon started; None if there are
            none.
        read_seconds: how long ago the daemon last read one of the logs that wait; None if unknown.
        routes: where events went since the last start.
        held: sessions that wait for the user.
        endangered: logs whose unsent lines will be lost unless somebody acts.
        set_aside: the events that were set aside, newest first.
        unknown_logs: files that look like logs, in places where no log is followed.
        hanging: folders that do not answer, to the daemon or now.
        recordings: what programs have recorded of their own calls.
    """

    started: bool
    running: bool
    suspended: bool
    silent_seconds: float | None
    reported: bool
    room: Room | None
    pid: int | None
    since: str | None
    version: str | None
    state_dir: str
    files: int
    sent: int
    rejected: int
    cut: int
    bad_lines: int
    traces_owed: int
    sessions: int | None
    followed: int | None
    unread_bytes: int
    unread_logs: int
    unread_seconds: float | None
    read_seconds: float | None
    routes: tuple[RouteReport, ...]
    held: tuple[HeldSession, ...]
    endangered: tuple[Endangered, ...]
    set_aside: tuple[RejectedEvent, ...]
    unknown_logs: tuple[str, ...] = ()
    hanging: tuple[str, ...] = ()
    verified: Verification | None = None
    recordings: Recordings = field(default_factory=Recordings)

    def problems(self, now: float, *, expected: bool = True) -> Iterator[Problem]:
        """Yield each problem, with a hint what to do.

        Args:
            now: seconds since the epoch.
            expected: whether the daemon should be running.
        """
        if self.running:
            yield from self._of_process()
        elif not self.started:
            yield Problem(
                level="fail",
                message=f"no daemon has run yet with {self.state_dir}",
                hint=f"start it with `{APP_NAME} install`, or `{APP_NAME} run` in the foreground"
                if expected
                else f"start it with `{APP_NAME} run --local`",
            )
        elif expected:
            yield Problem(
                level="fail",
                message="the daemon is not running",
                hint=f"start it with `{APP_NAME} install`, or `{APP_NAME} run` in the foreground",
            )
        if self.room is not None and self.room.level == "none":
            yield Problem(
                level="fail",
                message=f"the disk is full: {self.room} free for {self.state_dir}",
                hint="make room; the daemon sends nothing while it cannot record what it sent, and then continues",
            )
        if self.silent_seconds is None or self.silent_seconds <= SILENT_SECONDS:
            yield from self._of_work(now)
        for (reason, what), number in Counter((row.reason, _what_waits(row.unit)) for row in self.held).items():
            yield Problem(level="warning", message=f"{_count(number, what)} waiting for you", hint=reason)
        yield from self.recordings.problems()
        for folder in self.hanging:
            yield Problem(
                level="fail",
                message=f"{folder} does not answer, so nothing there is read; everything else is",
                hint="get the disk it is on to work, or unmount it; the daemon then goes on by itself",
            )
        if self.unknown_logs:
            more = f" and {len(self.unknown_logs) - 1:,} more" if len(self.unknown_logs) > 1 else ""
            yield Problem(
                level="warning",
                message=f"not followed, as no log is known to be there: {self.unknown_logs[0]}{more}",
                hint=f"a newer version may know that place; `{APP_NAME} preview FOLDER` reads logs at any depth",
            )
        if self.endangered:
            days = min(log.days_left for log in self.endangered)
            yield Problem(
                level="fail",
                message=f"{_count(len(self.endangered), 'log')} with unsent lines, and Claude Code removes the first "
                + (f"in {_count(days, 'day')}" if days else "at any moment"),
                hint="let the daemon run and send them, or raise cleanupPeriodDays in Claude Code's settings.json",
            )

    def _of_process(self) -> Iterator[Problem]:
        silent = self.silent_seconds or 0.0
        who = "the daemon" if self.pid is None else f"the daemon (pid {self.pid})"
        if self.suspended:
            yield Problem(
                level="fail",
                message=f"{who} is suspended",
                hint=f"`kill -CONT {self.pid}` continues it, and so does `fg` in its terminal",
            )
        elif silent > SILENT_SECONDS and self.reported:
            yield Problem(
                level="fail",
                message=f"{who} has reported nothing for {silent:,.0f} s: it hangs, or it cannot write to "
                f"{self.state_dir}",
                hint=f"`{APP_NAME} logs` may show why; `{APP_NAME} restart` ends a daemon that hangs",
            )
        elif silent > SILENT_SECONDS:
            yield Problem(
                level="warning",
                message=f"{who} has used {self.state_dir} for {silent:,.0f} s and has reported nothing",
                hint=f"see `{APP_NAME} logs`",
            )
        if self.version is not None and self.version != __version__:
            yield Problem(
                level="warning",
                message=f"the running daemon has version {self.version}, but {__version__} is installed",
                hint=f"`{APP_NAME} restart`",
            )

    def _of_work(self, now: float) -> Iterator[Problem]:
        """Yield the problems that a running daemon has reported itself."""
        if not self.running:
            return
        waits = False
        for route in self.routes:
            for problem in _of_route(route, now):
                waits = waits or problem.level == "fail"
                yield problem
        if waits or self.unread_seconds is None or self.unread_seconds <= LATE_SECONDS:
            return
        message = f"{self.unread_bytes:,} bytes of logs have been waiting to be read for {self.unread_seconds:,.0f} s"
        if self.read_seconds is not None and self.read_seconds <= LATE_SECONDS:
            yield Problem(
                level="warning",
                message=message,
                hint="nothing to do: the daemon is reading, and there is more than it has read so far",
            )
        else:
            yield Problem(level="fail", message=message, hint=f"see `{APP_NAME} logs`, then `{APP_NAME} restart`")


def _what_waits(unit: str) -> str:
    return "file with recorded calls" if is_spooled(unit) else "session"


def condition_of(
    store: Store | None, folder: Path, config_dirs: Sequence[Path], now: float, *, outboxes: Sequence[Path] = ()
) -> Condition:
    """Return the condition of the daemon that uses a state directory.

    Args:
        store: its store, opened for reading; None if there is none yet.
        folder: the state directory.
        config_dirs: Claude Code's config folders.
        now: seconds since the epoch.
        outboxes: folders in which programs record their own calls.

    Raises:
        sqlite3.Error: the store cannot be read.
    """
    config_dirs = [*map(config_folder, config_dirs)]
    found = look(folder)
    # Other commands hold the lock, too; they report nothing.
    running = found is not None and found.is_daemon
    pid = found.pid if found is not None and running else None
    since = locked_since(folder) if running else None
    report = read_report(folder)
    current = report if running and report is not None and report.pid == pid else None
    unsent = list(_unsent(store, config_dirs, outboxes, now)) if store is not None else []
    counters = store.counters() if store is not None else {}
    unread_bytes, unread_logs, unread_seconds = _unread(current, running=running, unsent=unsent, now=now)
    heard = max(
        (at for at in (since, reported_at(folder) if current is not None else None) if at is not None), default=now
    )
    if unread_seconds is not None and since is not None:
        # What was written before the daemon started could not be read any earlier.
        unread_seconds = min(unread_seconds, max(0.0, now - since))
    return Condition(
        started=store is not None,
        running=running,
        suspended=pid is not None and is_suspended(pid),
        silent_seconds=max(0.0, now - heard) if running else None,
        reported=current is not None,
        room=_room(folder),
        pid=pid,
        since=None if since is None else datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
        version=current.version if current is not None else None,
        state_dir=str(folder),
        files=sum(1 for _ in store.files()) if store is not None else 0,
        sent=counters.get("sent", 0),
        rejected=counters.get("rejected", 0),
        cut=counters.get("cut", 0),
        bad_lines=counters.get("bad_lines", 0),
        traces_owed=len(store.owed()) if store is not None else 0,
        sessions=current.sessions if current is not None else None,
        followed=current.followed if current is not None else None,
        unread_bytes=unread_bytes,
        unread_logs=unread_logs,
        unread_seconds=unread_seconds,
        read_seconds=_seconds_since(current.read_at, now) if current is not None else None,
        # After the daemon has ended, its last report still tells why nothing is sent.
        routes=report.routes if report is not None and (current is not None or not running) else (),
        held=tuple(store.held()) if store is not None else (),
        endangered=tuple(
            Endangered(path=log.path, bytes=log.bytes, days_left=max(0, int(log.days_left)))
            for log in sorted(unsent, key=lambda log: log.days_left)
            if log.days_left <= SOON_DAYS
        ),
        set_aside=tuple(store.rejected()) if store is not None else (),
        unknown_logs=tuple(unknown_logs(log_roots(config_dirs))),
        recordings=Recordings.of(
            outboxes,
            unknown_lines=counters.get("unknown_lines", 0),
            ignored_fields=counters.get("ignored_fields", 0),
            kept_local=counters.get("kept_local", 0),
        ),
        hanging=tuple(dict.fromkeys([*(current.hanging if current is not None else ()), *disk.hanging()])),
        verified=read_verification(folder),
    )


def rebuilding(row: RejectedEvent) -> str | None:
    """Return the command that builds an event that was set aside once more; None if no line belongs to it alone."""
    if row.path is None:
        return None
    path, recognized = row.path, recognize(row.path)
    if recognized is not None and recognized[1].kind == "agent":
        agent, place = recognized
        # The session's own log tells which call started the subagent.
        path = f"{place.folder}/{place.session}{agent.log_suffix}" if place.session else place.folder
    return f"{APP_NAME} preview --event {row.uuid} {shlex.quote(path)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unsent:
    path: str
    bytes: int
    age: float
    days_left: float


def _unsent(store: Store, config_dirs: Sequence[Path], outboxes: Sequence[Path], now: float) -> Iterator[_Unsent]:
    """Yield the logs that have whole lines which are not settled."""
    marks = {(mark.device, mark.inode): mark.offset for mark in store.files()}
    places: list[tuple[float, LogRoot]] = [
        (cleanup_days(folder), root) for folder in config_dirs for root in roots_below(folder)
    ]
    # Nobody but the daemon removes what programs record.
    places += [(math.inf, root) for root in log_roots((), outboxes)]
    for days, root in places:
        for path, status in root_logs(root):
            offset = marks.get((status.st_dev, status.st_ino), 0)
            if status.st_size <= offset:
                continue
            # A last line without its line end is still being written.
            end = mark_at_end(path, "")
            if end is not None and end.offset > offset:
                age = max(0.0, now - status.st_mtime)
                yield _Unsent(path=path, bytes=end.offset - offset, age=age, days_left=days - age / _DAY)


def _room(folder: Path) -> Room | None:
    try:
        return disk.call(str(folder), partial(room_at, folder))
    except OSError:
        # `doctor` reports a folder that cannot be examined.
        return None


def _unread(
    report: HealthReport | None, *, running: bool, unsent: Sequence[_Unsent], now: float
) -> tuple[int, int, float | None]:
    if report is not None:
        return report.unread_bytes, report.unread_logs, _seconds_since(report.unread_since, now)
    if running:
        return 0, 0, None
    return sum(log.bytes for log in unsent), len(unsent), max((log.age for log in unsent), default=None)


def _of_route(route: RouteReport, now: float) -> Iterator[Problem]:
    waited = _seconds_since(route.oldest_waiting_at, now) or 0.0
    if route.state == "stopped":
        yield Problem(
            level="fail",
            message=f"nothing is sent to {route.host}: {route.reason}",
            hint=f"{route.hint}; {_asking_again(route, now)}",
        )
    elif route.state == "backing_off":
        failed = f"{route.host} has failed {_count(route.attempt, 'time')} in a row"
        since = f", and events have waited for {waited:,.0f} s" if waited > LATE_SECONDS else ""
        yield Problem(
            level="fail" if waited > LATE_SECONDS or route.attempt >= FAILURES else "warning",
            message=f"{failed}{since}: {route.reason}",
            hint="check the network; nothing is lost, the daemon keeps trying",
        )
    if route.quota_limited:
        yield Problem(
            level="warning",
            message=f"{route.host} dropped {_count(route.quota_limited, 'event')}: the project is over its quota",
            hint="raise the billing limit of the PostHog project",
        )


def _asking_again(route: RouteReport, now: float) -> str:
    """Return when the daemon asks a receiver again that wants nothing, as a part of a hint."""
    if route.asks_again_at is None:
        return f"then `{APP_NAME} restart`"
    left = datetime.fromisoformat(route.asks_again_at).timestamp() - now
    when = f"in {_count(math.ceil(left / 60), 'minute')}" if left > 0 else "now"
    return f"the daemon asks again {when}, and `{APP_NAME} restart` does at once"


def _seconds_since(at: str | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - datetime.fromisoformat(at).timestamp())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
