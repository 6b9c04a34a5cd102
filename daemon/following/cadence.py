"""How often the daemon looks, how much it reads at a time, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

from llma_core.lines import MAX_LINE_BYTES

__all__ = ["Cadence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """The times and sizes of following, reading and shutting down. Times are in seconds.

    Whoever looks on (`tail`), reads whole logs (`preview`) or follows (the service) goes by one of these; tests pass
    their own.

    Attributes:
        slice_bytes: bytes read of one session before another gets its turn.
        line_bytes: length of a line above which it is skipped and counted.
        tick: between two looks at what is due.
        hot_sweep: between two looks at the files that were touched recently.
        full_sweep: between two looks at all files.
        gone: quiet after which a session has ended if its client keeps a registry of live processes and the session is
            not in it.
        idle: quiet after which a session with nothing open leaves the memory; it is replayed when it grows.
        open_sessions: sessions kept in memory at most, apart from those that have something open.
        young: age up to which a session is not read while a running command may still claim it.
        drain: how long a shutdown delivers what was read.
        once_patience: how long `run --once` goes on without an accepted batch.
        backlog_patience: what is open in a session of a backlog, and is final within this time, still belongs to it.
        health: between two looks at whether `status` has something new to be told.
        prune: between two looks for what no log refers to any more.
        work: how long one piece of work may take in a thread; a file system that hangs takes longer.
        store_retry: between two attempts to write to a store that the disk refuses.
        late: by how much anything that is due may be late before the daemon counts as stuck.
    """

    slice_bytes: int = 4 * 1024 * 1024
    line_bytes: int = MAX_LINE_BYTES
    tick: float = 1.0
    hot_sweep: float = 10.0
    full_sweep: float = 600.0
    gone: float = 10.0
    idle: float = 3600.0
    open_sessions: int = 256
    young: float = 3.0
    drain: float = 10.0
    once_patience: float = 60.0
    backlog_patience: float = 5.0
    health: float = 5.0
    prune: float = 86_400.0
    work: float = 300.0
    store_retry: float = 5.0
    late: float = 60.0
