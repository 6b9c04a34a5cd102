"""The tables of the local file: bodies of events, a row for each call, and the texts that can be searched.

The bodies take the most room and are kept up to a number of bytes. The rows hold no content; they are kept far longer,
and every report reads only them. Words that repeat, such as ids and names, stand once in the table `words`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from uuid import UUID

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
    "bytes_kept",
    "drop_bodies",
    "forget_calls",
    "keep_bytes",
    "packed",
    "prepare",
    "word_id",
]

VERSION = 5
"""The version of the tables, in SQLite's `user_version`. Files of version 0 have only bodies. Those of versions 2 to 4
have other indexes, and numbers of calls that say nothing about their events."""
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

# `received` gives the order of arrival, and is the number of the event's row in `calls`, by which an event is found by
# its uuid. A replaced event gets a new number, as if it had just arrived. `kept` tells how many bytes of bodies there
# are without a look at every one. A file that an older version has made keeps its index of uuids.
_EVENTS = """
CREATE TABLE IF NOT EXISTS events (
    received INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    trace_id TEXT,
    session_id TEXT,
    timestamp TEXT NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_trace ON events (trace_id, timestamp);
CREATE INDEX IF NOT EXISTS events_by_session ON events (session_id, timestamp);
CREATE TABLE kept (bytes INTEGER NOT NULL);
INSERT INTO kept SELECT coalesce(sum(size), 0) FROM events;
DROP INDEX IF EXISTS events_by_size;
"""
# The columns that end in _id hold numbers of `words`. An index of uuids alone, which are random, would cost the most of
# all that is written: each would change a page of its own. Sessions are written one after another, and each event has
# one of them for good, so behind it in an index the uuids are side by side. 0 is no session.
_WORDS = "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)"
_CALLS = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL,
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
CREATE UNIQUE INDEX calls_by_uuid ON calls (coalesce(session_id, 0), uuid);
"""
_IS_CALL = "coalesce(session_id, 0) = ? AND uuid = ?"
_CALL_INDEXES = f"""
CREATE INDEX calls_by_time ON calls (at);
CREATE INDEX calls_by_session ON calls (session_id, at, project_id);
CREATE INDEX calls_of_models ON calls (
    at, kind, session_id, project_id, branch_id, agent_id, model_id, provider_id, tier_id, prices_id, input, output,
    cache_read, cache_write_5m, cache_write_1h, web_searches
) WHERE {IS_MODEL};
CREATE INDEX calls_of_tools ON calls (kind, at, name_id, status_id, seconds, session_id, project_id) WHERE {IS_TOOL};
CREATE INDEX attempts ON calls (at, session_id, project_id, branch_id, agent_id, model_id) WHERE {IS_ATTEMPT};
CREATE INDEX client_costs ON calls (session_id, at, project_id, client_cost) WHERE {TELLS_COST};
"""
# The old calls get the numbers of their events. Those whose events are gone get numbers below all others.
_RENUMBERED = """
INSERT INTO calls SELECT coalesce(events.received, -calls_before.id), {columns}
FROM calls_before LEFT JOIN events ON events.uuid = hyphenated(calls_before.uuid)
"""
# One row for each text, so that a prompt that many events carry is found once. `digest` is of the session and the text.
# The session stands first in the index, so that the texts of one are written side by side; 0 is none. Later texts
# have higher numbers.
_TEXTS = """
CREATE TABLE texts (
    id INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    session_id INTEGER NOT NULL,
    trace_id INTEGER,
    digest BLOB NOT NULL,
    UNIQUE (session_id, digest)
);
"""
# Nothing asks for the lengths of texts (`columnsize`). A batch of history is put into the index at once (`hashsize`).
_TEXT_INDEX = """
CREATE VIRTUAL TABLE text_index USING fts5 (text, tokenize = 'unicode61', columnsize = 0);
INSERT INTO text_index (text_index, rank) VALUES ('hashsize', 16777216);
"""

# No statement that adds anything is REPLACE: that begins a savepoint, before which SQLite writes down what the index of
# texts holds in memory. For each event, this took a third of the time that one takes.
_INSERT_EVENT = """
INSERT INTO events (received, uuid, name, trace_id, session_id, timestamp, size, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_CALL = f"""
INSERT OR IGNORE INTO calls (
    id, uuid, kind, at, seconds, session_id, trace_id, span, parent, name_id, model_id, provider_id, tier_id,
    project_id, branch_id, agent_id, version_id, status_id, input, output, cache_read, cache_write_5m, cache_write_1h,
    web_searches, prices_id, client_cost
) VALUES (coalesce(?, 1 + max(
    (SELECT coalesce(max(id), 0) FROM calls), (SELECT coalesce(max(received), 0) FROM events)
)), {", ".join("?" * 25)})
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
        _run(connection, _EVENTS)
        if version < _WITH_CALLS:
            _run(connection, f"{_WORDS};{_CALLS};{_TEXTS};{_TEXT_INDEX}")
            _fill(connection)
        else:
            _renumber(connection)
        _run(connection, _CALL_INDEXES)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements of *script*; `executescript` would end the transaction."""
    for part in script.split(";"):
        if part.strip():
            connection.execute(part)


def _renumber(connection: sqlite3.Connection) -> None:
    """Make the tables of calls and texts anew from those of an older version. The bodies and their index stay."""
    connection.create_function("hyphenated", 1, lambda uuid: str(UUID(bytes=uuid)), deterministic=True)
    _run(connection, "ALTER TABLE calls RENAME TO calls_before; ALTER TABLE texts RENAME TO texts_before")
    _run(connection, _CALLS + _TEXTS)
    [_, *columns] = [name for _, name, *_ in connection.execute("PRAGMA table_info (calls)")]
    connection.execute(_RENUMBERED.format(columns=", ".join(f"calls_before.{name}" for name in columns)))
    connection.execute(
        "INSERT INTO texts SELECT id, received, coalesce(session_id, 0), trace_id, digest FROM texts_before ORDER BY id"
    )
    _run(connection, "DROP TABLE calls_before; DROP TABLE texts_before")


def _fill(connection: sqlite3.Connection) -> None:
    """Make the rows of events that an older version has kept."""
    words = Words(connection)
    for received, uuid, body in connection.execute("SELECT received, uuid, body FROM events ORDER BY received"):
        try:
            seen = view.read(body)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            # An older version has kept what this one cannot read. It stays as it is.
            continue
        _add_call(connection, words, received, uuid, call(seen))
        for text in searchable(seen, body):
            _add_text(connection, words, received, text)


def add(
    connection: sqlite3.Connection,
    words: Words,
    event: tuple[str, str, str | None, str | None, str, int, bytes],
    row: Call,
    texts: Iterator[Searchable],
) -> int:
    """Write an event with its row and its texts. What was written for the same uuid before is replaced.

    Args:
        connection: the open file, in a transaction.
        words: its words.
        event: uuid, name, trace, session, timestamp, size and body.
        row: what `call` makes of it.
        texts: what `searchable` finds in it.

    Returns:
        By how many bytes there is more of bodies now.
    """
    replaced = 0
    received = _add_call(connection, words, None, event[0], row)
    if not received:
        replaced = _drop(connection, words.number(row.session) or 0, event[0])
        received = _add_call(connection, words, None, event[0], row)
    try:
        connection.execute(_INSERT_EVENT, (received, *event))
    except sqlite3.IntegrityError:
        # A file of an older version may hold an event that could not be read, and so has no row of a call.
        replaced = connection.execute("DELETE FROM events WHERE uuid = ? RETURNING size", event[:1]).fetchone()[0]
        connection.execute(_INSERT_EVENT, (received, *event))
    for text in texts:
        _add_text(connection, words, received, text)
    return event[5] - replaced


def _drop(connection: sqlite3.Connection, session: int, uuid: str) -> int:
    """Delete an event and its row; return the bytes of its body."""
    deletion = f"DELETE FROM calls WHERE {_IS_CALL} RETURNING id"  # noqa: S608 - only the names of columns are put in
    [old] = connection.execute(deletion, (session, packed(uuid))).fetchall()
    return sum(size for (size,) in connection.execute("DELETE FROM events WHERE received = ? RETURNING size", old))


def packed(uuid: str) -> bytes:
    """Return a uuid as it stands in `calls`.

    Raises:
        ValueError: it is none.
    """
    return bytes.fromhex(uuid.replace("-", ""))


def _add_call(connection: sqlite3.Connection, words: Words, received: int | None, uuid: str, row: Call) -> int:
    """Write the row of an event; return its number, or 0 if there is one of the same uuid, which stays.

    Args:
        connection: the open file, in a transaction.
        words: its words.
        received: the number; None makes one above all others.
        uuid: the event's uuid.
        row: what `call` makes of the event.
    """
    number = words.number
    added = connection.execute(
        _INSERT_CALL,
        (
            received,
            packed(uuid),
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
    return added.lastrowid or 0 if added.rowcount else 0


def _add_text(connection: sqlite3.Connection, words: Words, received: int, text: Searchable) -> None:
    added = connection.execute(
        "INSERT OR IGNORE INTO texts (received, session_id, trace_id, digest) VALUES (?, ?, ?, ?)",
        (received, words.number(text.session) or 0, words.number(text.trace), text.digest),
    )
    if added.rowcount:
        connection.execute("INSERT INTO text_index (rowid, text) VALUES (?, ?)", (added.lastrowid, text.text))


def drop_bodies(connection: sqlite3.Connection, last: int) -> None:
    """Delete the bodies that arrived up to number *last*, and their texts. The rows of calls stay."""
    connection.execute("DELETE FROM events WHERE received <= ?", (last,))
    # Looks only at what goes: later texts have higher numbers.
    kept = connection.execute("SELECT id FROM texts WHERE received > ? ORDER BY id LIMIT 1", (last,)).fetchone()
    [below] = kept or connection.execute("SELECT coalesce(max(id), 0) + 1 FROM texts").fetchone()
    connection.execute("DELETE FROM text_index WHERE rowid < ?", (below,))
    connection.execute("DELETE FROM texts WHERE id < ?", (below,))


def forget_calls(connection: sqlite3.Connection, before: int) -> None:
    """Delete the rows of calls that ended before a time, in milliseconds since the epoch, and have no body any more."""
    connection.execute(
        "DELETE FROM calls WHERE at > 0 AND at < ? AND id NOT IN (SELECT received FROM events)", (before,)
    )


def bytes_kept(connection: sqlite3.Connection) -> int:
    """Return how many bytes of bodies there are."""
    return int(connection.execute("SELECT bytes FROM kept").fetchone()[0])


def keep_bytes(connection: sqlite3.Connection, number: int) -> None:
    """Note how many bytes of bodies there are."""
    connection.execute("UPDATE kept SET bytes = ?", (number,))
