"""Connections to SQLite: one that keeps any text, and how a database is opened that other processes change.

Names of files need not be UTF-8. Python represents the bytes of such a name as lone surrogates, which SQLite refuses.
They are stored as U+FFFF, which no text contains, and four hexadecimal digits.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PATIENCE_SECONDS", "Connection", "UnwrittenError", "open_to_read", "version_of"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_STORED = re.compile("\uffff([0-9a-f]{4})")
PATIENCE_SECONDS = 1.0
"""How long whatever is wrong with a file may take to pass."""
_RETRY_SECONDS = 0.02
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""What SQLite says of a database that another process makes, replaces or removes just then."""


_NOTHING: dict[None, None] = {}
# Python asks every value that is neither a number nor a text how it wants to be stored, which takes longer than storing
# it: before 3.12 half of the time of a row. These say at once that they stay what they are.
sqlite3.register_adapter(type(None), _NOTHING.get)
sqlite3.register_adapter(bytes, bytes)


class UnwrittenError(sqlite3.OperationalError):
    """There is no database, or nobody has written anything to it."""


class Connection(sqlite3.Connection):
    """Takes and returns text with lone surrogates. Values are passed by position."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.text_factory = _restored

    def execute(self, statement: str, values: Sequence[object] = (), /) -> sqlite3.Cursor:  # type: ignore[override] # no mappings
        """Run one statement."""
        return super().execute(statement, [_storable(value) for value in values])

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> sqlite3.Cursor:  # type: ignore[override] # no mappings
        """Run one statement for each row."""
        return super().executemany(statement, ([_storable(value) for value in row] for row in rows))


def _storable(value: Any) -> Any:
    if not isinstance(value, str) or value.isascii():
        return value
    return _SURROGATE.sub(lambda found: f"\uffff{ord(found[0]):04x}", value)


def _restored(data: bytes) -> str:
    text = data.decode()
    return text if "\uffff" not in text else _STORED.sub(lambda found: chr(int(found[1], 16)), text)


def open_to_read(
    path: Path,
    *,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
    timeout: float = 10.0,
    patience: float = PATIENCE_SECONDS,
) -> sqlite3.Connection:
    """Open a database to read it, also while other processes make, replace, remove or close it.

    Whoever does that is done in a moment, so whatever is wrong with the file gets some time to pass. Once it is open,
    the connection sees one database, whatever becomes of the file.

    Args:
        path: the file. It has a version once it is written.
        factory: the class of the connection.
        timeout: seconds to wait while another process locks it.
        patience: seconds to wait for anything else that may pass.

    Raises:
        UnwrittenError: there is no file, or it is still empty.
        sqlite3.Error: the file cannot be read.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return _opened(path, factory, timeout)
        except sqlite3.Error as error:
            if _is_gone(path):
                raise UnwrittenError(str(error)) from None
            if not _may_pass(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_SECONDS)


def _opened(path: Path, factory: type[sqlite3.Connection], timeout: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(
        uri, uri=True, factory=factory, isolation_level=None, check_same_thread=False, timeout=timeout
    )
    try:
        is_written = version_of(connection) > 0
    except BaseException:
        connection.close()
        raise
    if not is_written:
        connection.close()
        raise UnwrittenError(f"nothing was written to {path} yet")
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a database's schema; 0 if nobody has written anything to it.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        # What is wrong with it, SQLite has said.
        pass
    return False


def _may_pass(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return isinstance(error, UnwrittenError) or code & 0xFF in _PASSING
