"""Looks up single rows of the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daemon.state.connection import PATIENCE_SECONDS, Connection, open_to_read
from daemon.state.rows import FileMark, FrozenRoute
from daemon.state.schema import identity_key

__all__ = ["StoreReader"]

_READER_CACHE_KIB = 512


class StoreReader:
    """Looks up single rows, on a connection of its own. It sees everything that is committed.

    It caches nothing, because nearly all rows belong to sessions that are over. Use it from one thread at a time. Every
    method but `close` raises sqlite3.OperationalError if the file cannot be read for now.

    Args:
        path: the file of the store.
        patience: seconds to wait while another process makes, replaces or removes it.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self._path = path
        self._patience = patience
        self._connection: sqlite3.Connection | None = None

    def _row(self, statement: str, values: Sequence[object]) -> Any:
        """Return the first row of *statement*, or None."""
        return self._rows(statement, values).fetchone()

    def _rows(self, statement: str, values: Sequence[object]) -> sqlite3.Cursor:
        """Run *statement*. The first call opens the connection."""
        if self._connection is None:
            connection = open_to_read(self._path, factory=Connection, patience=self._patience)
            try:
                # Rows are hardly ever looked up twice, and the operating system caches the file's pages anyway.
                connection.execute(f"PRAGMA cache_size=-{_READER_CACHE_KIB}")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection.execute(statement, values)

    def is_empty(self) -> bool:
        """Whether the store has no settled identities."""
        return self._row("SELECT 1 FROM settled LIMIT 1", ()) is None

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the name of the session that settled *identity*, and its checksum; None if none did."""
        row = self._row(
            "SELECT units.name, mark FROM settled JOIN units ON units.id=unit WHERE identity=?",
            (identity_key(identity),),
        )
        return (row[0], row[1]) if row else None

    def touched_units(self) -> set[str]:
        """Return the names of the sessions of which more is stored than how far their files are settled."""
        rows = self._rows(
            "SELECT name FROM units WHERE settled_on>0 UNION SELECT unit FROM routes UNION SELECT unit FROM restraints "
            "UNION SELECT unit FROM owed UNION SELECT unit FROM hosted",
            (),
        )
        return {str(name) for (name,) in rows}

    def sent_since(self, day: int) -> set[str]:
        """Return the names of the sessions that have a route, and of which something was settled since then.

        Args:
            day: days since the epoch, UTC.
        """
        statement = "SELECT name FROM units JOIN routes ON routes.unit=name WHERE settled_on>=? AND host IS NOT NULL"
        return {str(name) for (name,) in self._rows(statement, (day,))}

    def marked_units(self) -> set[str]:
        """Return the names of the sessions with files that the store knows."""
        return {str(name) for (name,) in self._rows("SELECT DISTINCT unit FROM files", ())}

    def stored_of(self, units: Sequence[str]) -> set[str]:
        """Return those of some sessions, by name, of which anything is stored but settled identities."""
        names = ",".join("?" * len(units))
        tables = ("files", "routes", "restraints", "hosted")
        statement = " UNION ".join(f"SELECT unit FROM {table} WHERE unit IN ({names})" for table in tables)  # noqa: S608 - only our own names
        return {str(name) for (name,) in self._rows(statement, [*units] * len(tables))}

    def mark(self, identity: tuple[int, int]) -> FileMark | None:
        """Return the mark of the file with this device and inode, whatever its path was; None for an unknown file."""
        row = self._row("SELECT * FROM files WHERE device=? AND inode=?", identity)
        return mark_of(row) if row else None

    def files_of(self, unit: str) -> list[FileMark]:
        """Return the marks of all files of a session, those that are gone too."""
        return [mark_of(row) for row in self._rows("SELECT * FROM files WHERE unit=?", (unit,))]

    def former_names(self, unit: str) -> list[str]:
        """Return the names that a session had in schema 3 and before; see `schema`."""
        return [name for (name,) in self._rows("SELECT name FROM former_names WHERE unit=?", (unit,))]

    def hosts(self, unit: str) -> list[str]:
        """Return the names of the sessions that have lines of *unit* in their main logs."""
        return [host for (host,) in self._rows("SELECT DISTINCT host FROM hosted WHERE unit=?", (unit,))]

    def offset(self, identity: tuple[int, int]) -> int:
        """Return the settled offset, in bytes, of the file with this device and inode; 0 for an unknown file."""
        row = self._row('SELECT "offset" FROM files WHERE device=? AND inode=?', identity)
        return int(row[0]) if row else 0

    def history(self, folder: str) -> list[tuple[str, int]]:
        """Return the path and settled offset, in bytes, of each file below *folder* that existed at the first start.

        All of them are below the folder "".
        """
        above = f"{folder}/"
        statement = 'SELECT path, "offset" FROM files WHERE history=1 AND substr(path, 1, length(?))=?'
        return [(str(path), int(offset)) for path, offset in self._rows(statement, (above, above))]

    def route(self, unit: str) -> FrozenRoute | None:
        """Return a session's frozen route; None if it has none."""
        row = self._row("SELECT distinct_id, identified, grouping, host, key FROM routes WHERE unit=?", (unit,))
        if row is None:
            return None
        distinct_id, identified, grouping, host, key = row
        return FrozenRoute(distinct_id=distinct_id, identified=bool(identified), grouping=grouping, host=host, key=key)

    def restraints(self, unit: str) -> list[str]:
        """Return a session's restraints, as text from `Store.restrain`. After an upgrade several may hold."""
        return [text for (text,) in self._rows("SELECT restraint FROM restraints WHERE unit=?", (unit,))]

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def mark_of(row: tuple[int, int, str, str, int, bytes, int, bytes, int]) -> FileMark:
    """Return the mark in a row of the table of files, whose columns are in the order of the schema."""
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
