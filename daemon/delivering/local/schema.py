"""The tables of the local file: bodies of events, a row for each call, and the texts that can be searched.

The bodies take the most room and are kept up to a number of bytes. The rows hold no content; they are kept far longer,
and every report reads only them. Words that repeat, such as ids and names, stand once in the table `words`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Container, Iterable, Sequence
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
    session_of,
)
from daemon.state.connection import version_of
from llma_core import view
from llma_core.view import EventView

__all__ = [
    "IS_ATTEMPT",
    "IS_MODEL",
    "IS_TOOL",
    "TELLS_COST",
    "VERSION",
    "Kept",
    "Words",
    "add",
    "bytes_kept",
    "check_version",
    "drop_bodies",
    "drop_indexes",
    "forget_calls",
    "index_events",
    "index_more",
    "indexed",
    "keep_bytes",
    "last_received",
    "make_indexes",
    "note_indexed",
    "packed",
    "prepare",
    "word_id",
]

VERSION = 7
"""The version of the tables, in SQLite's `user_version`. Files of version 0 have only bodies. Those of versions 2 to 4
have other indexes, and numbers of calls that say nothing about their events. In those of version 5, all texts are
indexed. Those of versions up to 6 have indexes of bodies, and none of the traces of calls."""
_WITH_CALLS = 2
_NUMBERED_AS_EVENTS = 5
_NOTES_INDEXED = 6

_INDEXED_TOGETHER = 1000
"""How many events are indexed in one transaction."""

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
# are without a look at every one, and up to which number the texts of events are indexed. A file that an older version
# has made keeps its index of uuids.
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
CREATE TABLE kept (bytes INTEGER NOT NULL, indexed INTEGER NOT NULL DEFAULT 0);
INSERT INTO kept (bytes) SELECT coalesce(sum(size), 0) FROM events;
"""
# Bodies are found by the rows of their calls. To make an index of them, SQLite would read every one.
_WITHOUT_INDEXES = """
DROP INDEX IF EXISTS events_by_size;
DROP INDEX IF EXISTS events_by_trace;
DROP INDEX IF EXISTS events_by_session;
"""
_ALL_INDEXED = "UPDATE kept SET indexed = (SELECT coalesce(max(received), 0) FROM events)"
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
# A first catch-up puts the rows in without these, and makes them in the end: rows of many sessions would change pages
# all over them.
_INDEXES = {
    "calls_by_time": "calls (at)",
    "calls_by_session": "calls (session_id, at, project_id)",
    "calls_by_trace": "calls (trace_id, at, session_id)",
    "calls_of_models": f"""calls (
    at, kind, session_id, project_id, branch_id, agent_id, model_id, provider_id, tier_id, prices_id, input, output,
    cache_read, cache_write_5m, cache_write_1h, web_searches
) WHERE {IS_MODEL}""",
    "calls_of_tools": f"calls (kind, at, name_id, status_id, seconds, session_id, project_id) WHERE {IS_TOOL}",
    "attempts": f"calls (at, session_id, project_id, branch_id, agent_id, model_id) WHERE {IS_ATTEMPT}",
    "client_costs": f"calls (session_id, at, project_id, client_cost) WHERE {TELLS_COST}",
}
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
INSERT OR IGNORE INTO events (received, uuid, name, trace_id, session_id, timestamp, size, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_CALL = f"""
INSERT OR IGNORE INTO calls (
    id, uuid, kind, at, seconds, session_id, trace_id, span, parent, name_id, model_id, provider_id, tier_id,
    project_id, branch_id, agent_id, version_id, status_id, input, output, cache_read, cache_write_5m, cache_write_1h,
    web_searches, prices_id, client_cost
) VALUES ({", ".join("?" * 26)})
"""  # noqa: S608 - only question marks are put in
_LAST = "SELECT max((SELECT coalesce(max(id), 0) FROM calls), (SELECT coalesce(max(received), 0) FROM events))"


class Kept(msgspec.Struct, frozen=True, gc=False):
    """An event to be written.

    Attributes:
        row: its uuid, name, trace, session, timestamp, size and body, as they stand in the table of bodies.
        view: what it says.
    """

    row: tuple[str, str, str | None, str | None, str, int, bytes]
    view: EventView


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


def check_version(connection: sqlite3.Connection) -> None:
    """Check that the tables are those of this version.

    Raises:
        sqlite3.DatabaseError: another version has written the file; the message says what to do.
    """
    version = version_of(connection)
    if version > VERSION:
        raise sqlite3.DatabaseError(f"a newer version has written it (schema {version}); update posthog-llma-daemon")
    if version < VERSION:
        raise sqlite3.DatabaseError("an older version has written it; stop the daemon of that version")


def prepare(connection: sqlite3.Connection) -> None:
    """Create the tables and indexes, or bring those of an older version up to date, in one transaction.

    Indexes are missing where a first catch-up was killed.

    Raises:
        sqlite3.DatabaseError: a newer version has written the file.
    """
    version = version_of(connection)
    if version == VERSION:
        make_indexes(connection)
        return
    if version < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            _update(connection)
    check_version(connection)


def _update(connection: sqlite3.Connection) -> None:
    """Make the tables those of this version, in a transaction, unless another process was quicker."""
    version = version_of(connection)
    if version >= VERSION:
        return
    if version < _NUMBERED_AS_EVENTS:
        _renew(connection, version)
    elif version < _NOTES_INDEXED:
        connection.execute("ALTER TABLE kept ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0")
        connection.execute(_ALL_INDEXED)
    _run(connection, _WITHOUT_INDEXES)
    words = Words(connection)
    _add_missing(connection, words)
    while version < _WITH_CALLS and index_more(connection, words, _INDEXED_TOGETHER):
        pass
    _make(connection, _INDEXES)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _renew(connection: sqlite3.Connection, version: int) -> None:
    """Create what a new file, or one of an older version, lacks."""
    _run(connection, _EVENTS)
    if version < _WITH_CALLS:
        _run(connection, f"{_WORDS};{_CALLS};{_TEXTS};{_TEXT_INDEX}")
    else:
        _renumber(connection)
        connection.execute(_ALL_INDEXED)


def make_indexes(connection: sqlite3.Connection) -> None:
    """Make the indexes that are missing."""
    question = "SELECT name FROM sqlite_schema WHERE type = 'index'"
    there = {name for (name,) in connection.execute(question)}
    if missing := _INDEXES.keys() - there:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            _make(connection, missing)


def _make(connection: sqlite3.Connection, indexes: Iterable[str]) -> None:
    for name in indexes:
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {_INDEXES[name]}")


def drop_indexes(connection: sqlite3.Connection) -> bool:
    """Drop the indexes if the file holds nothing, and return whether it does. `make_indexes` makes them again."""
    if connection.execute(_LAST).fetchone() != (0,):
        return False
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        holds_nothing = connection.execute(_LAST).fetchone() == (0,)
        if holds_nothing:
            for name in _INDEXES:
                connection.execute(f"DROP INDEX IF EXISTS {name}")
    return bool(holds_nothing)


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


def _add_missing(connection: sqlite3.Connection, words: Words) -> None:
    """Make the rows of events that an older version has kept without one."""
    question = "SELECT received, uuid, body FROM events WHERE received NOT IN (SELECT id FROM calls) ORDER BY received"
    for received, uuid, body in connection.execute(question):
        seen = _seen(body)
        if seen is not None:
            # One whose uuid is none stays as it is, like a body that cannot be read: the rest of the file is of use.
            with contextlib.suppress(ValueError):
                _add_calls(connection, [_call_row(words, received, uuid, call(seen))])


def _seen(body: bytes) -> EventView | None:
    """Return what a stored event says; None if an older version has kept what this one cannot read. It stays so."""
    try:
        return view.read(body)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def add(
    connection: sqlite3.Connection, words: Words, events: Sequence[Kept], *, bodies: bool = True
) -> tuple[int, int]:
    """Write events with their rows, in their order. What was written for the same uuids before is replaced.

    Args:
        connection: the open file, in a transaction.
        words: its words.
        events: the events.
        bodies: whether to write their bodies, too. Where not, no older event may have one.

    Returns:
        The number of the first of them, and by how many bytes there is more of bodies now.
    """
    [first] = connection.execute(_LAST).fetchone()
    first += 1
    calls = [_call_row(words, number, each.row[0], call(each.view)) for number, each in enumerate(events, first)]
    replaced = 0
    there: Container[int] = range(first, first + len(calls))
    if _add_calls(connection, calls) < len(calls):
        there = _numbers(connection, "calls", "id", first)
        for number, each in enumerate(events, first):
            if number not in there:
                replaced += _drop(connection, words.number(session_of(each.view)) or 0, each.row[0])
                _add_calls(connection, [calls[number - first]])
        # Of an event that was given twice, the last one stays.
        there = _numbers(connection, "calls", "id", first)
    if not bodies:
        return first, -replaced
    rows = [(number, *each.row) for number, each in enumerate(events, first) if number in there]
    if connection.executemany(_INSERT_EVENT, rows).rowcount < len(rows):
        # A file of an older version may hold an event that could not be read, and so has no row of a call.
        there = _numbers(connection, "events", "received", first)
        for row in rows:
            if row[0] not in there:
                [[old]] = connection.execute("DELETE FROM events WHERE uuid = ? RETURNING size", row[1:2]).fetchall()
                replaced += old
                connection.execute(_INSERT_EVENT, row)
    return first, sum([row[6] for row in rows]) - replaced


def _numbers(connection: sqlite3.Connection, table: str, column: str, first: int) -> Container[int]:
    """Return the numbers of rows from *first* on."""
    question = f"SELECT {column} FROM {table} WHERE {column} >= ?"  # noqa: S608 - names from here
    return {number for (number,) in connection.execute(question, (first,))}


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


def _add_calls(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> int:
    """Write rows of events; return how many: where there is one of the same uuid, that one stays."""
    return connection.executemany(_INSERT_CALL, rows).rowcount


def _call_row(words: Words, received: int, uuid: str, row: Call) -> tuple[object, ...]:
    """Return the row of an event as `_INSERT_CALL` takes it.

    Args:
        words: the words of the file.
        received: the event's number.
        uuid: its uuid.
        row: what `call` makes of it.
    """
    number = words.number
    return (
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
    )


# ---------------------------------------------------------------------- texts


def indexed(connection: sqlite3.Connection) -> int:
    """Return the number up to which the texts of events are indexed."""
    return int(connection.execute("SELECT indexed FROM kept").fetchone()[0])


def note_indexed(connection: sqlite3.Connection, last: int) -> None:
    """Note that the texts of events are indexed up to number *last*, and no further."""
    connection.execute("UPDATE kept SET indexed = ?", (last,))


def last_received(connection: sqlite3.Connection) -> int:
    """Return the number of the event that arrived last; 0 if none has a body."""
    return int(connection.execute("SELECT coalesce(max(received), 0) FROM events").fetchone()[0])


def index_events(connection: sqlite3.Connection, words: Words, first: int, events: Sequence[Kept]) -> None:
    """Index the texts of events that were just added, numbered from *first* on; all before them must be indexed."""
    for number, each in enumerate(events, first):
        for text in searchable(each.view, each.row[6]):
            _add_text(connection, words, number, text)
    note_indexed(connection, first + len(events) - 1)


def index_more(connection: sqlite3.Connection, words: Words, most: int) -> bool:
    """Index the texts of the next events that are not indexed, in the order of their arrival.

    Args:
        connection: the open file, in a transaction.
        words: its words.
        most: of how many events at most.

    Returns:
        Whether there are more of them.
    """
    question = "SELECT received, body FROM events WHERE received > ? ORDER BY received LIMIT ?"
    last = count = 0
    for received, body in connection.execute(question, (indexed(connection), most)):
        last, count = received, count + 1
        seen = _seen(body)
        if seen is not None:
            for text in searchable(seen, body):
                _add_text(connection, words, received, text)
    if count:
        note_indexed(connection, last)
    return count == most


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
    old = "FROM calls WHERE at > 0 AND at < ? AND id NOT IN (SELECT received FROM events)"
    # Whoever has nothing to delete does not wait for others who write.
    if connection.execute(f"SELECT EXISTS (SELECT 1 {old})", (before,)).fetchone() == (1,):
        connection.execute(f"DELETE {old}", (before,))


def bytes_kept(connection: sqlite3.Connection) -> int:
    """Return how many bytes of bodies there are."""
    return int(connection.execute("SELECT bytes FROM kept").fetchone()[0])


def keep_bytes(connection: sqlite3.Connection, number: int) -> None:
    """Note how many bytes of bodies there are."""
    connection.execute("UPDATE kept SET bytes = ?", (number,))
