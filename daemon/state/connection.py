"""A connection to SQLite that keeps any text: names of files need not be UTF-8.

Python represents the bytes of such a name as lone surrogates, which SQLite refuses. They are stored as U+FFFF, which no
text contains, and four hexadecimal digits.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Connection"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_STORED = re.compile("\uffff([0-9a-f]{4})")


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
