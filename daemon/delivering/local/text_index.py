"""Completes the index of words: a first catch-up leaves the texts of its events to whoever searches first."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from daemon.delivering.local import schema
from daemon.state.connection import open_to_read

__all__ = ["TextIndex"]

_AT_ONCE = 1000
"""Of how many events the texts are indexed in one transaction. Others who write wait for it, about 50 ms."""
_BUSY_TIMEOUT = 10.0
"""Seconds to wait while another process locks the file."""


class TextIndex:
    """The index of words in the local file. Several processes may complete it at the same time.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def complete(self, tell: Callable[[int], None] | None = None) -> None:
        """Index the texts of all events that the file holds now.

        Args:
            tell: called from time to time with about how many events are left.

        Raises:
            sqlite3.Error: the file is missing, damaged or of another version, or cannot be written.
        """
        with closing(open_to_read(self._path, timeout=_BUSY_TIMEOUT)) as connection:
            last = schema.last_received(connection)
            if schema.indexed(connection) >= last:
                return
        with closing(self._writing()) as connection:
            words, is_behind = schema.Words(connection), True
            # What arrives meanwhile is not waited for.
            while is_behind and (left := last - schema.indexed(connection)) > 0:
                if tell is not None:
                    tell(left)
                is_behind = _index_some(connection, words)

    def advance(self) -> bool:
        """Index the texts of some events.

        Returns:
            Whether more are left.

        Raises:
            sqlite3.Error: as for `complete`.
        """
        with closing(self._writing()) as connection:
            return _index_some(connection, schema.Words(connection))

    def _writing(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT)
        # What a power failure takes from the index is indexed again, so no transaction waits for the disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection


def _index_some(connection: sqlite3.Connection, words: schema.Words) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        return schema.index_more(connection, words, _AT_ONCE)
