"""Looks things up in the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.state.rows import FileMark, FrozenRoute
from daemon.state.schema import identity_key

__all__ = ["StoreReader"]

_READER_CACHE_KIB = 512


class StoreReader:
    """Looks up what is kept of one thing, on a connection of its own; sees what was committed.

    Nothing of it is kept in memory: nearly all of it is of sessions that are over. Belongs to one thread at a time.
    Every question may raise sqlite3.OperationalError: the file cannot be read for now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def _row(self, statement: str, values: Sequence[object]) -> Any:
        """Return the first row that *statement* gives, or None; the connection is made when it is first needed."""
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
            try:
                # What is asked for is hardly ever asked for again, and the system keeps the file's pages too.
                connection.execute(f"PRAGMA cache_size=-{_READER_CACHE_KIB}")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection.execute(statement, values).fetchone()

    def is_empty(self) -> bool:
        """Whether nothing was ever settled."""
        return self._row("SELECT 1 FROM settled LIMIT 1", ()) is None

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the session that settled *identity* and its checksum; None if none did."""
        row = self._row(
            "SELECT units.name, mark FROM settled JOIN units ON units.id=unit WHERE identity=?",
            (identity_key(identity),),
        )
        return (row[0], row[1]) if row else None

    def mark(self, identity: tuple[int, int]) -> FileMark | None:
        """Return how the file with this device and inode was last known, wherever it was then."""
        row = self._row("SELECT * FROM files WHERE device=? AND inode=?", identity)
        return mark_of(row) if row else None

    def offset(self, identity: tuple[int, int]) -> int:
        """Return up to where the file with this device and inode is settled, in bytes; 0 for one that is not known."""
        row = self._row('SELECT "offset" FROM files WHERE device=? AND inode=?', identity)
        return int(row[0]) if row else 0

    def route(self, unit: str) -> FrozenRoute | None:
        """Return a session's frozen route; None if it has none."""
        row = self._row("SELECT distinct_id, identified, grouping, host, key FROM routes WHERE unit=?", (unit,))
        if row is None:
            return None
        distinct_id, identified, grouping, host, key = row
        return FrozenRoute(distinct_id=distinct_id, identified=bool(identified), grouping=grouping, host=host, key=key)

    def restraint(self, unit: str) -> str | None:
        """Return what a session is restrained to, as it was given to `Store.restrain`; None if it is not."""
        row = self._row("SELECT restraint FROM restraints WHERE unit=?", (unit,))
        return str(row[0]) if row else None

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def mark_of(row: tuple[int, int, str, str, int, bytes, int, bytes, int]) -> FileMark:
    """Return what a row of the table of files, with its columns in the order of the schema, stands for."""
    device, inode, path, unit, offset, head, head_length, tail, history = row
    return FileMark(
        device=device,
        inode=inode,
        path=path,
        unit=unit,
        offset=offset,
        head=head,
        head_length=head_length,
        tail=tail,
        history=bool(history),
    )
