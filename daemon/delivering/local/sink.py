"""The local sink keeps events in an SQLite file on this machine, so that you can look at them without an account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from daemon.delivering.local import schema
from daemon.delivering.local.call import session_of
from daemon.delivering.sink import AttemptOutcome, Delivered, Rejected, Retryable, Stopped
from daemon.system.messages import system_reason
from llma_core.events import CaptureEvent
from llma_core.view import read

__all__ = [
    "EVENT_LIMIT",
    "KEEP_BYTES",
    "LocalSink",
]

EVENT_LIMIT = 32 * 1024 * 1024
KEEP_BYTES = 1_000_000_000

_BUSY_TIMEOUT = 2.0
"""Seconds to wait with a batch while another process locks the file. The delivery tries again, and says so."""
_PREPARE_TIMEOUT = 10.0
"""The same with what has to be done before the first batch: nobody tries again."""
# SQLite's codes for errors that can go away, by themselves or by what the user does, while the file stays as it is.
_TRANSIENT = frozenset(
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

_PAGE = 16 * 1024
"""Bytes of a page of a new file. A body has 4 KB, and takes the fewest pages that way: half of the usual ones."""
_CACHE_KB = 8_000
_SORT_KB = 2_000
_CHECKPOINT = 16 * 1024 * 1024
"""With more pages in memory, and more bytes of the write-ahead log before they are copied into the file, a first
catch-up waits a third as long for the disk."""

_FEW = 500

_SPARE = 1.25
"""By how much more than is kept must be expected to come, before bodies are left out for it."""
_MEASURED = 16
"""Nothing is expected before a part of what is kept, one in so many, has come."""

_DAYS = 400
"""How long the rows of calls are kept; longer where the bodies are."""


class LocalSink:
    """Keeps events in an SQLite file. An event that is sent again replaces the stored one.

    A batch is one transaction, and it is on disk before it counts as delivered. The sink does all its work on a thread
    of its own, so the event loop never waits for the disk.

    Args:
        path: the file. It is created with mode 0600, and missing folders above it with 0700.
        keep_bytes: how many bytes of events to keep. The sink deletes the oldest events beyond that.
        tell: called in the event loop once events are kept, with the ids of their sessions; see `session_of`.
        defers: returns whether the texts of many events may be left for `TextIndex`, which whoever searches completes.
        alone: whether nobody needs the file to answer quickly before it is closed. Then a new one gets its indexes, and
            its write-ahead log, in the end.
        logs: returns how many bytes of logs were read for this sink, and how many will be. Events whose bodies would be
            deleted for what is still to come get only their rows.
        patience: seconds to wait with a batch while another process locks the file.
        few: the texts of a batch of fewer events are indexed with it, even by a sink that may leave them for later.
            Whoever has left some for later indexes as many more with each batch, until none are left.
    """

    def __init__(
        self,
        path: Path,
        keep_bytes: int = KEEP_BYTES,
        *,
        tell: Callable[[frozenset[str]], None] | None = None,
        defers: Callable[[], bool] = lambda: False,
        alone: bool = False,
        logs: Callable[[], tuple[int, int]] = lambda: (0, 0),
        patience: float = _BUSY_TIMEOUT,
        few: int = _FEW,
    ) -> None:
        self._path = path
        self._keep_bytes = keep_bytes
        self._tell = tell
        self._defers = defers
        self._alone = alone
        self._logs = logs
        self._patience = patience
        self._few = few
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-sink")
        self._closed = False
        # Only the worker thread uses the fields below.
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._words: schema.Words | None = None
        self._came = 0  # bytes of bodies that this sink was given

    @property
    def event_limit(self) -> int:
        """The largest event body, in bytes, that the sink accepts."""
        return EVENT_LIMIT

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        """Write *events* in one transaction.

        Returns:
            Delivered. Rejected if an event is over the limit or cannot be read. Retryable if the disk is full, or the
            file is locked or not writable. Stopped if the file is damaged or is not a database of this sink.

        Raises:
            RuntimeError: the sink is closed.
        """
        if self._closed:
            raise RuntimeError("the sink is closed")
        if not events:
            return Delivered()
        outcome, sessions = await asyncio.get_running_loop().run_in_executor(self._worker, self._send, tuple(events))
        if self._tell is not None and sessions:
            self._tell(sessions)
        return outcome

    def prepare(self) -> None:
        """Create the file if it is missing, and bring one of an older version up to date. Call this before `send`.

        Raises:
            sqlite3.Error: the file is damaged, or the disk is full.
            OSError: the file cannot be created.
        """
        try:
            self._connect(_PREPARE_TIMEOUT)
        finally:
            # The connection belongs to the thread that opened it.
            self._disconnect()

    async def aclose(self) -> None:
        """Close the file and end the thread. Idempotent."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._worker, self._end)
        # The thread does what it was given, then ends: even if this call is cancelled, nothing stays open.
        self._worker.shutdown(wait=False)
        await asyncio.shield(closing)
        self._worker.shutdown(wait=True)

    def _send(self, events: tuple[CaptureEvent, ...]) -> tuple[AttemptOutcome, frozenset[str]]:
        """Write *events*; return what came of it, and the ids of the sessions of which something is kept now."""
        try:
            kept = [_kept(event) for event in events]
        except ValueError as error:
            return Rejected(reason=str(error)), frozenset()
        failure = self._keep(kept)
        if failure is not None:
            return failure, frozenset()
        return Delivered(), frozenset(session for event in kept if (session := event.row[3]) is not None)

    def _keep(self, kept: Sequence[schema.Kept]) -> Retryable | Stopped | None:
        """Write events in one transaction; return what failed."""
        try:
            connection = self._connect(self._patience)
            # Another process may write, too: a daemon keeps here what may not leave the machine.
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                self._write(connection, kept)
        except sqlite3.Error as error:
            self._disconnect()
            # Extended codes carry the primary one in their low byte.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _TRANSIENT:
                return Retryable(reason=f"{self._path.name}: {error}")
            hint = f"move {self._path} away; the daemon starts a new one"
            return Stopped(reason=f"{self._path.name}: {error}", hint=hint)
        except OSError as error:
            self._disconnect()
            return Retryable(reason=f"{self._path.name}: {system_reason(error)}")
        self._came += sum([each.row[5] for each in kept])
        return None

    def _write(self, connection: sqlite3.Connection, events: Sequence[schema.Kept]) -> None:
        """Write *events*, and delete the oldest bodies beyond the limit."""
        words = self._words = self._words or schema.Words(connection)
        indexed = schema.indexed(connection)
        is_behind = schema.last_received(connection) > indexed
        if self._expects_enough():
            schema.drop_bodies(connection, schema.last_received(connection))
            schema.add(connection, words, events, bodies=False)
            schema.keep_bytes(connection, 0)
            return
        first, more = schema.add(connection, words, events)
        if self._defers() and (is_behind or len(events) >= self._few):
            # Where the last bodies and calls have gone, their numbers are used again.
            schema.note_indexed(connection, min(indexed, first - 1))
        elif is_behind:
            schema.index_more(connection, words, len(events) + self._few)
        else:
            schema.index_events(connection, words, first, events)
        total = schema.bytes_kept(connection) + more
        if total > self._keep_bytes:
            last = 0
            for received, size in connection.execute("SELECT received, size FROM events ORDER BY received"):
                last, total = received, total - size
                if total <= self._keep_bytes:
                    break
            schema.drop_bodies(connection, last)
        schema.keep_bytes(connection, total)

    def _expects_enough(self) -> bool:
        """Whether the logs that are still unread will fill the file, so that all bodies up to now would be deleted."""
        read, unread = self._logs()
        # Events arrive later than their lines are read, so this expects too few bodies rather than too many.
        return (
            read > 0
            and self._came >= self._keep_bytes // _MEASURED
            and unread * self._came / read >= self._keep_bytes * _SPARE
        )

    def _connect(self, timeout: float) -> sqlite3.Connection:
        """Return the open connection. Open a new one if there is none, or if the file was deleted or replaced.

        Args:
            timeout: seconds for which a new one waits while another process locks the file.
        """
        if self._connection is not None and self._is_same_file():
            return self._connection
        self._disconnect()
        for folder in reversed(self._path.parents):
            folder.mkdir(mode=0o700, exist_ok=True)
        # SQLite creates its files next to this one with the same mode.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            self._inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        connection = self._connection = sqlite3.connect(self._path, timeout=timeout)
        # A file that has pages keeps their size.
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        # The daemon never reads the lines of a delivered event again, so delivered must mean on disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        [page] = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT // page}")
        schema.prepare(connection)
        oldest = int((time.time() - _DAYS * 86_400) * 1000)
        with connection:
            schema.forget_calls(connection, oldest)
        if self._alone and schema.drop_indexes(connection):
            # What is added to an empty file need not be written twice. While somebody else reads it, it stays as it is.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = TRUNCATE")
        return connection

    def _is_same_file(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _end(self) -> None:
        if self._alone and self._connection is not None and self._is_same_file():
            # If this fails, whoever opens the file next does it.
            with contextlib.suppress(sqlite3.Error):
                # SQLite sorts in as much memory, which makes an index no sooner.
                self._connection.execute(f"PRAGMA cache_size = -{_SORT_KB}")
                schema.make_indexes(self._connection)
                self._connection.execute("PRAGMA journal_mode = WAL")
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection, self._words = self._connection, None, None
        if connection is not None:
            # Closing writes the WAL back into the file. If the last write failed, this can fail for the same reason.
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _kept(event: CaptureEvent) -> schema.Kept:
    """Return what to write for *event*.

    Raises:
        ValueError: the event cannot be stored; the message says why, without its content.
    """
    if len(event.body) > EVENT_LIMIT:
        raise ValueError(f"an event has {len(event.body)} bytes, over the limit of {EVENT_LIMIT}")
    try:
        seen = read(event.body)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        # The error is not repeated: it may quote the event.
        raise ValueError("an event is not JSON, or a field of it has the wrong type") from None
    row = (event.uuid, event.name, seen.trace_id or None, session_of(seen), seen.timestamp, len(event.body), event.body)
    return schema.Kept(row, seen)
