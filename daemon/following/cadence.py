"""The daemon's cadence: how often it looks, how much it reads at a time, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

from llma_core.lines import MAX_LINE_BYTES

__all__ = ["Cadence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """The times and sizes of following, reading and shutting down. Times are in seconds.

    The service, `tail` and `preview` each use one. Tests pass their own.

    Attributes:
        slice_bytes: bytes read of one session before another session gets its turn.
        line_bytes: a line longer than this is skipped and counted.
        spool_bytes: size up to which recorded files that PostHog has wait until the local file has them, too.
        tick: interval between checks for work that is due.
        hot_sweep: interval between sweeps over recently touched files. A wall clock that jumps by more than this counts
            as a suspend.
        full_sweep: interval between sweeps over all files.
        registry: least interval between two looks at the registry of live processes that changes in it cause.
        gone: how long a session must be quiet to count as ended if that is proved: its record in the client's registry
            is gone.
        rest: how long a session in which nothing is open must be quiet to count as ended if it is not known to run.
        idle: how long a session with nothing open must be quiet before it leaves memory. It is replayed when it grows.
        open_sessions: how many sessions may stay in memory, not counting those that have something open.
        young: a session younger than this is not read while a running command may still claim it.
        lately: how long after the last line of a session somebody may wait for its events.
        drain: how long a shutdown may take to deliver what was read.
        once_patience: how long `run --once` continues without an accepted batch.
        backlog_patience: whatever is open in a session of a backlog and becomes final within this time still belongs to
            the backlog.
        health: interval between checks for something new to tell `status`.
        prune: interval between searches for state that no log refers to any more.
        work: how long one piece of work in a thread may take. Only a hanging file system takes longer.
        store_retry: interval between attempts to write to a store that the disk refuses.
        late: how late anything that is due may be before the daemon counts as stuck.
        starting: how long a verb waits for a program that follows the logs, and has not yet read what was logged before
            that program started.
        status_line: how long a status line waits for another verb that reads the logs.
        look: interval between looks at a local file that another process writes.
        few_texts: of how many events the texts are left to be indexed later, where that may be.
    """

    slice_bytes: int = 4 * 1024 * 1024
    line_bytes: int = MAX_LINE_BYTES
    spool_bytes: int = 200_000_000
    tick: float = 1.0
    hot_sweep: float = 10.0
    full_sweep: float = 600.0
    registry: float = 0.1
    gone: float = 10.0
    rest: float = 300.0
    idle: float = 3600.0
    open_sessions: int = 256
    young: float = 3.0
    lately: float = 60.0
    drain: float = 10.0
    once_patience: float = 60.0
    backlog_patience: float = 5.0
    health: float = 5.0
    prune: float = 86_400.0
    work: float = 300.0
    store_retry: float = 5.0
    late: float = 60.0
    starting: float = 2.0
    status_line: float = 2.0
    look: float = 0.25
    few_texts: int = 500
