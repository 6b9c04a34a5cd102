"""Completes the index of words: a first catch-up leaves the texts of its events to whoever searches first."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from daemon.delivering.local import schema
from daemon.state.connection import open_to_read

__all__ = ["TextIndex"]

_AT_ONCE = 1000
"""Of how many events the texts are indexed in one transaction. Others who write wait for it, about 50 ms."""
_PAUSE_SECONDS = 0.02
"""How long to wait between two of these, so that others get to write: without it, they would hardly ever."""
_BUSY_TIMEOUT = 10.0
"""Seconds to wait while another process locks the file."""


class TextIndex:
    """The index of words in the local file. Several processes may complete it at the same time.

    Args:
        path: the file.
        patience: seconds to wait while another process locks it.
    """

    def __init__(self, path: Path, *, patience: float = _BUSY_TIMEOUT) -> None:
        self._path = path
        self._patience = patience

    def complete(self, tell: Callable[[int], None] | None = None, *, within: float = math.inf) -> int:
        """Index the texts of all events that the file holds now, or of as many as there is time for.

        Args:
            tell: called from time to time with about how many events are left.
            within: seconds after which to stop, also if others have locked the file all the time.

        Returns:
            About how many events are left, 0 if there are none.

        Raises:
            sqlite3.Error: the file is missing, damaged or of another version, or cannot be written.
        """
        deadline = time.monotonic() + within
        with closing(open_to_read(self._path, timeout=self._patience)) as connection:
            schema.check_version(connection)
            last = schema.last_received(connection)
            left = last - schema.indexed(connection)
        if left <= 0:
            return 0
        with closing(self._writing(min(self._patience, within))) as connection:
            words, is_behind = schema.Words(connection), True
            # What arrives meanwhile is not waited for.
            while is_behind and left > 0 and time.monotonic() < deadline:
                if tell is not None:
                    tell(left)
                try:
                    is_behind = _index_some(connection, words)
                except sqlite3.OperationalError as error:
                    if within == math.inf or _code(error) != sqlite3.SQLITE_BUSY:
                        raise
                    break
                left = last - schema.indexed(connection)
                if is_behind:
                    time.sleep(_PAUSE_SECONDS)
            return max(0, schema.last_received(connection) - schema.indexed(connection))

    def _writing(self, timeout: float) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout)
        # What a power failure takes from the index is indexed again, so no transaction waits for the disk. Without a
        # write-ahead log, as a first catch-up may leave the file while others read it, the file itself is at stake.
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _code(error: sqlite3.Error) -> int:
    # Extended codes carry the primary one in their low byte.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _index_some(connection: sqlite3.Connection, words: schema.Words) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        # A newer version may have come in between.
        schema.check_version(connection)
        return schema.index_more(connection, words, _AT_ONCE)
