"""The tables of the local file: bodies of events, a row for each call, and the texts that can be searched.

The bodies take the most room and are kept up to a number of bytes. The rows hold no content; they are kept far longer,
and every report reads only them. Words that repeat, such as ids and names, stand once in the table `words`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from daemon.delivering.local.call import (
    AGENT,
    ATTEMPT,
    EMBEDDING,
    GENERATION,
    TOOL,
    TRACE,
    Call,
    Searchable,
    call,
    searchable,
)
from llma_core import view

__all__ = [
    "IS_ATTEMPT",
    "IS_MODEL",
    "IS_TOOL",
    "TELLS_COST",
    "VERSION",
    "Words",
    "add",
    "drop_bodies",
    "prepare",
    "word_id",
]

VERSION = 4
"""The version of the tables, in SQLite's `user_version`. Files of version 0 have only bodies, those of version 2 lack
the index of sizes, those of version 3 the indexes of the kinds of calls."""
_WITH_CALLS = 2

IS_MODEL = f"kind IN ({GENERATION}, {EMBEDDING})"
"""SQL for the finished calls of a model. Indexes hold all that reports read of them, so these read no whole row; SQLite
knows a query that they answer by these words."""
IS_TOOL = f"kind IN ({TOOL}, {AGENT})"
"""SQL for the calls of tools and agents, as above."""
IS_ATTEMPT = f"kind = {ATTEMPT}"
"""SQL for failed attempts at a generation, as above."""
TELLS_COST = f"kind = {TRACE} AND client_cost IS NOT NULL"
"""SQL for what tells a cost by the client's own count, as above."""

# `received` gives the order of arrival. A replaced event gets a new number, as if it had just arrived. The index of
# sizes tells how much is kept without a look at every body.
_EVENTS = """
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
CREATE INDEX IF NOT EXISTS events_by_session ON events (session_id, timestamp);
CREATE INDEX IF NOT EXISTS events_by_size ON events (size);
"""
# The columns that end in _id hold numbers of `words`.
_CALLS = """
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    seconds REAL,
    session_id INTEGER,
    trace_id INTEGER,
    span TEXT,
    parent TEXT,
    name_id INTEGER,
    model_id INTEGER,
    provider_id INTEGER,
    tier_id INTEGER,
    project_id INTEGER,
    branch_id INTEGER,
    agent_id INTEGER,
    version_id INTEGER,
    status_id INTEGER,
    input INTEGER,
    output INTEGER,
    cache_read INTEGER,
    cache_write_5m INTEGER,
    cache_write_1h INTEGER,
    web_searches INTEGER,
    prices_id INTEGER,
    client_cost REAL
);
"""
_CALL_INDEXES = f"""
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (at);
DROP INDEX IF EXISTS calls_by_session;
CREATE INDEX calls_by_session ON calls (session_id, at, project_id);
CREATE INDEX calls_of_models ON calls (
    at, kind, session_id, project_id, branch_id, agent_id, model_id, provider_id, tier_id, prices_id, input, output,
    cache_read, cache_write_5m, cache_write_1h, web_searches
) WHERE {IS_MODEL};
CREATE INDEX calls_of_tools ON calls (kind, at, name_id, status_id, seconds, session_id, project_id) WHERE {IS_TOOL};
CREATE INDEX attempts ON calls (at, session_id, project_id, branch_id, agent_id, model_id) WHERE {IS_ATTEMPT};
CREATE INDEX client_costs ON calls (session_id, at, project_id, client_cost) WHERE {TELLS_COST};
"""
# One row for each text, so that a prompt that many events carry is found once. `digest` is of the session and the text.
_TEXTS = """
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    session_id INTEGER,
    trace_id INTEGER,
    digest BLOB NOT NULL UNIQUE
);
CREATE INDEX texts_by_arrival ON texts (received);
CREATE VIRTUAL TABLE text_index USING fts5 (text, tokenize = 'unicode61');
"""

_INSERT_EVENT = """
INSERT OR REPLACE INTO events (uuid, name, trace_id, session_id, timestamp, size, body) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_CALL = f"""
INSERT OR REPLACE INTO calls (
    uuid, kind, at, seconds, session_id, trace_id, span, parent, name_id, model_id, provider_id, tier_id, project_id,
    branch_id, agent_id, version_id, status_id, input, output, cache_read, cache_write_5m, cache_write_1h,
    web_searches, prices_id, client_cost
) VALUES ({", ".join("?" * 25)})
"""  # noqa: S608 - only question marks are put in


class Words:
    """Numbers of the words in `words`, remembered while one connection writes.

    Args:
        connection: the open file.
    """

    _REMEMBERED = 20_000

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, int] = {}

    def number(self, word: str | None) -> int | None:
        """Return the number of *word*, which is stored if it is new; None for None."""
        if word is None:
            return None
        known = self._known.get(word)
        if known is None:
            if len(self._known) >= self._REMEMBERED:
                self._known.clear()
            known = word_id(self._connection, word)
            if known is None:
                known = self._connection.execute("INSERT INTO words (word) VALUES (?)", (word,)).lastrowid or 0
            self._known[word] = known
        return known


def word_id(connection: sqlite3.Connection, word: str) -> int | None:
    """Return the number of a stored word; None if it is not stored."""
    row = connection.execute("SELECT id FROM words WHERE word = ?", (word,)).fetchone()
    return int(row[0]) if row else None


def prepare(connection: sqlite3.Connection) -> None:
    """Create the tables, or bring those of an older version up to date, in one transaction.

    Raises:
        sqlite3.DatabaseError: a newer version has written the file.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == VERSION:
        return
    if version > VERSION:
        raise sqlite3.DatabaseError(f"a newer version has written it (schema {version}); update posthog-llma-daemon")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        # Another process may have been quicker.
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version == VERSION:
            return
        fills = version < _WITH_CALLS
        for statement in _statements(_EVENTS + (_CALLS + _TEXTS if fills else "")):
            connection.execute(statement)
        if fills:
            _fill(connection)
        for statement in _statements(_CALL_INDEXES):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _statements(script: str) -> Iterator[str]:
    """Split *script*: `executescript` would end the transaction."""
    return (part for part in script.split(";") if part.strip())


def _fill(connection: sqlite3.Connection) -> None:
    """Make the rows of events that an older version has kept."""
    words = Words(connection)
    for received, uuid, body in connection.execute("SELECT received, uuid, body FROM events ORDER BY received"):
        try:
            seen = view.read(body)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            # An older version has kept what this one cannot read. It stays as it is.
            continue
        _add_call(connection, words, uuid, call(seen))
        for text in searchable(seen, body):
            _add_text(connection, words, received, text)


def add(
    connection: sqlite3.Connection,
    words: Words,
    event: tuple[str, str, str | None, str | None, str, int, bytes],
    row: Call,
    texts: Iterator[Searchable],
) -> None:
    """Write an event with its row and its texts. What was written for the same uuid before is replaced.

    Args:
        connection: the open file, in a transaction.
        words: its words.
        event: uuid, name, trace, session, timestamp, size and body.
        row: what `call` makes of it.
        texts: what `searchable` finds in it.
    """
    received = connection.execute(_INSERT_EVENT, event).lastrowid or 0
    _add_call(connection, words, event[0], row)
    for text in texts:
        _add_text(connection, words, received, text)


def _add_call(connection: sqlite3.Connection, words: Words, uuid: str, row: Call) -> None:
    number = words.number
    connection.execute(
        _INSERT_CALL,
        (
            bytes.fromhex(uuid.replace("-", "")),
            row.kind,
            row.at,
            row.seconds,
            number(row.session),
            number(row.trace),
            row.span,
            row.parent,
            number(row.name),
            number(row.model),
            number(row.provider),
            number(row.tier),
            number(row.project),
            number(row.branch),
            number(row.agent),
            number(row.version),
            number(row.status),
            row.input,
            row.output,
            row.cache_read,
            row.cache_write_5m,
            row.cache_write_1h,
            row.web_searches,
            number(row.prices),
            row.client_cost,
        ),
    )


def _add_text(connection: sqlite3.Connection, words: Words, received: int, text: Searchable) -> None:
    added = connection.execute(
        "INSERT OR IGNORE INTO texts (received, session_id, trace_id, digest) VALUES (?, ?, ?, ?)",
        (received, words.number(text.session), words.number(text.trace), text.digest),
    )
    if added.rowcount:
        connection.execute("INSERT INTO text_index (rowid, text) VALUES (?, ?)", (added.lastrowid, text.text))


def drop_bodies(connection: sqlite3.Connection, last: int) -> None:
    """Delete the bodies that arrived up to number *last*, and their texts. The rows of calls stay."""
    connection.execute("DELETE FROM events WHERE received <= ?", (last,))
    connection.execute("DELETE FROM text_index WHERE rowid IN (SELECT id FROM texts WHERE received <= ?)", (last,))
    connection.execute("DELETE FROM texts WHERE received <= ?", (last,))
