"""Files of events as older versions made them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

__all__ = ["age"]

_EVENTS = """
CREATE TABLE events (
    received INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, trace_id TEXT,
    session_id TEXT, timestamp TEXT NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL
);
INSERT INTO events SELECT * FROM new.events;
"""
_BODIES = """
CREATE INDEX events_by_trace ON events (trace_id, timestamp);
CREATE INDEX events_by_session ON events (session_id, timestamp);
"""
_COLUMNS = """
kind, at, seconds, session_id, trace_id, span, parent, name_id, model_id, provider_id, tier_id, project_id, branch_id,
agent_id, version_id, status_id, input, output, cache_read, cache_write_5m, cache_write_1h, web_searches, prices_id,
client_cost
"""
# The numbers of calls say nothing about their events.
_ROWS = f"""
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, kind INTEGER NOT NULL, at INTEGER NOT NULL, seconds REAL,
    session_id INTEGER, trace_id INTEGER, span TEXT, parent TEXT, name_id INTEGER, model_id INTEGER,
    provider_id INTEGER, tier_id INTEGER, project_id INTEGER, branch_id INTEGER, agent_id INTEGER, version_id INTEGER,
    status_id INTEGER, input INTEGER, output INTEGER, cache_read INTEGER, cache_write_5m INTEGER,
    cache_write_1h INTEGER, web_searches INTEGER, prices_id INTEGER, client_cost REAL
);
CREATE INDEX calls_by_time ON calls (at);
CREATE INDEX calls_by_session ON calls (session_id, at);
CREATE TABLE texts (
    id INTEGER PRIMARY KEY, received INTEGER NOT NULL, session_id INTEGER, trace_id INTEGER, digest BLOB NOT NULL UNIQUE
);
CREATE INDEX texts_by_arrival ON texts (received);
CREATE VIRTUAL TABLE text_index USING fts5 (text, tokenize = 'unicode61');
INSERT INTO words SELECT * FROM new.words;
INSERT INTO calls SELECT NULL, uuid, {_COLUMNS} FROM new.calls ORDER BY uuid;
INSERT INTO texts SELECT id, received, nullif(session_id, 0), trace_id, digest FROM new.texts;
INSERT INTO text_index (rowid, text) SELECT rowid, text FROM new.text_index;
"""
_SIZES = "CREATE INDEX events_by_size ON events (size);"
_KINDS = """
DROP INDEX calls_by_session;
CREATE INDEX calls_by_session ON calls (session_id, at, project_id);
CREATE INDEX calls_of_models ON calls (
    at, kind, session_id, project_id, branch_id, agent_id, model_id, provider_id, tier_id, prices_id, input, output,
    cache_read, cache_write_5m, cache_write_1h, web_searches
) WHERE kind IN (1, 6);
CREATE INDEX calls_of_tools ON calls (kind, at, name_id, status_id, seconds, session_id, project_id)
WHERE kind IN (3, 4);
CREATE INDEX attempts ON calls (at, session_id, project_id, branch_id, agent_id, model_id) WHERE kind = 2;
CREATE INDEX client_costs ON calls (session_id, at, project_id, client_cost)
WHERE kind = 5 AND client_cost IS NOT NULL;
"""


def age(path: Path, version: int, *, without: str | None = None) -> None:
    """Make the file at *path* what the given version of its tables, 0 or 2 to 6, would have made of the same events.

    Args:
        path: the file; nobody has it open.
        version: the version.
        without: the uuid of an event whose body is gone, while its call is still there.
    """
    if version > 4:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            if version == 5:
                connection.execute("ALTER TABLE kept DROP COLUMN indexed")
            connection.executescript(f"DROP INDEX calls_by_trace; {_BODIES}")
            connection.execute(f"PRAGMA user_version = {version}")
        return
    old = path.with_name("old.db")
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS new", (str(path),))
        wanted = [
            _EVENTS,
            _BODIES,
            _ROWS if version else "",
            _SIZES if version > 2 else "",
            _KINDS if version > 3 else "",
        ]
        connection.executescript("".join(wanted))
        if without is not None:
            [[gone]] = connection.execute("DELETE FROM events WHERE uuid = ? RETURNING received", (without,)).fetchall()
            connection.execute("DELETE FROM texts WHERE received = ?", (gone,))
            assert connection.execute("SELECT 1 FROM calls WHERE uuid = ?", (UUID(without).bytes,)).fetchone()
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("DETACH new")
        connection.execute("PRAGMA journal_mode = WAL")
    old.replace(path)
