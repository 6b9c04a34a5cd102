"""The local sink: events kept in an SQLite file on this machine, for looking at them without an account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from daemon.delivering.sink import AttemptOutcome, Delivered, Retryable, Stopped
from llma_core.events import CaptureEvent
from llma_core.view import EventView, read

__all__ = [
    "EVENT_LIMIT",
    "KEEP_BYTES",
    "LocalEvents",
    "LocalSink",
    "LocalTrace",
    "UnreadableEventsError",
]

EVENT_LIMIT = 32 * 1024 * 1024
KEEP_BYTES = 1_000_000_000

# received is the order of arrival; a replaced event counts as arrived again.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    received INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    trace_id TEXT,
    session_id TEXT,
    timestamp TEXT NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_trace ON events (trace_id, timestamp);
"""
_INSERT = """
INSERT OR REPLACE INTO events (uuid, name, trace_id, session_id, timestamp, size, body) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
# Seconds to wait for another process that holds the file; the delivery loop tries again anyway.
_BUSY_TIMEOUT = 0.5
# What passes, or what a person can make pass, without a change to the file itself.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)

_Row = tuple[str, str, str | None, str | None, str, int, bytes]


class LocalSink:
    """Keeps events in an SQLite file, newest first to stay. An event sent again replaces itself.

    A batch is one transaction, on disk before it counts as delivered. All work happens on one thread of the sink's
    own, so nothing waits for the disk on the event loop.

    Args:
        path: the file; it is created with mode 0600, missing folders above it with 0700.
        keep_bytes: how much event data to keep; the oldest events beyond it are deleted.
    """

    def __init__(self, path: Path, keep_bytes: int = KEEP_BYTES) -> None:
        self._path = path
        self._keep_bytes = keep_bytes
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-sink")
        self._closed = False
        # The rest belongs to the worker thread.
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._total = 0

    @property
    def event_limit(self) -> int:
        """Largest event body the sink takes, in bytes."""
        return EVENT_LIMIT

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Write *events* in one transaction.

        Returns:
            Delivered; Retryable when the disk is full, the file locked or not writable; Stopped when the file is
            damaged or not a database of this sink.
        """
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._send, tuple(events))

    async def aclose(self) -> None:
        """Close the file and end the thread. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._worker, self._disconnect)
        self._worker.shutdown(wait=True)

    def _send(self, events: tuple[CaptureEvent, ...]) -> AttemptOutcome:
        try:
            connection = self._connect()
            with connection:
                total = self._write(connection, [_row(event) for event in events])
        except sqlite3.Error as error:
            self._disconnect()
            # Extended codes carry the primary one in their low byte.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PASSING:
                return Retryable(reason=f"{self._path.name}: {error}")
            hint = f"move {self._path} away; the daemon starts a new one"
            return Stopped(reason=f"{self._path.name}: {error}", hint=hint)
        except OSError as error:
            self._disconnect()
            return Retryable(reason=f"{self._path.name}: {error.strerror}")
        self._total = total
        return Delivered()

    def _write(self, connection: sqlite3.Connection, rows: list[_Row]) -> int:
        """Write *rows* and delete what is too old; return how many bytes of events the file holds then."""
        total = self._total
        for row in rows:
            replaced = connection.execute("SELECT size FROM events WHERE uuid = ?", row[:1]).fetchone()
            total += row[5] - (replaced[0] if replaced else 0)
            connection.execute(_INSERT, row)
        if total > self._keep_bytes:
            last = 0
            for received, size in connection.execute("SELECT received, size FROM events ORDER BY received"):
                last, total = received, total - size
                if total <= self._keep_bytes:
                    break
            connection.execute("DELETE FROM events WHERE received <= ?", (last,))
        return total

    def _connect(self) -> sqlite3.Connection:
        """Return the open connection, or a new one when there is none or the file was deleted under it."""
        if self._connection is not None and self._is_same_file():
            return self._connection
        self._disconnect()
        for folder in reversed(self._path.parents):
            folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite gives the files it puts beside this one the same mode.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            self._inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        connection = self._connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT)
        connection.execute("PRAGMA journal_mode = WAL")
        # A delivered event's lines are never read again, so delivered has to mean on disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        self._total = connection.execute("SELECT coalesce(sum(size), 0) FROM events").fetchone()[0]
        return connection

    def _is_same_file(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing writes the log back into the file, which fails as the write before it did.
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _row(event: CaptureEvent) -> _Row:
    view = read(event.body)
    return event.uuid, event.name, view.trace_id or None, view.session_id, view.timestamp, len(event.body), event.body


class UnreadableEventsError(Exception):
    """The file of local events cannot be read.

    Attributes:
        reason: what SQLite or the system says.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTrace:
    """A trace of which the local sink holds events.

    Attributes:
        trace_id: the trace's id.
        session_id: a session it belongs to, or None if no event says.
        last: timestamp of its newest event, RFC 3339 UTC.
        events: how many events there are.
    """

    trace_id: str
    session_id: str | None
    last: str
    events: int


class LocalEvents:
    """Reads what a LocalSink wrote, also while it writes. Writes nothing.

    Args:
        path: the sink's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def traces(self, limit: int | None = None, *, prefix: str = "") -> list[LocalTrace]:
        """List traces, the one with the newest event first.

        Args:
            limit: how many at most; None for all.
            prefix: only traces whose id begins with it.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        rows = self._query(
            """
            SELECT trace_id, max(session_id), max(timestamp) AS last, count(*) FROM events
            WHERE trace_id IS NOT NULL AND substr(trace_id, 1, ?) = ?
            GROUP BY trace_id ORDER BY last DESC, max(received) DESC LIMIT ?
            """,
            (len(prefix), prefix, -1 if limit is None else limit),
        )
        return [LocalTrace(trace_id=row[0], session_id=row[1], last=row[2], events=row[3]) for row in rows]

    def events(self, trace_id: str) -> list[EventView]:
        """Return the events of one trace in the order they came.

        Raises:
            UnreadableEventsError: the file is missing, not readable or damaged.
        """
        rows = self._query("SELECT body FROM events WHERE trace_id = ? ORDER BY received", (trace_id,))
        return [read(body) for (body,) in rows]

    def _query(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT)) as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise UnreadableEventsError(str(error)) from error
