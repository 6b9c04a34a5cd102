"""The store's schema, and the upgrades from older versions."""

from __future__ import annotations

import hashlib

__all__ = ["IDENTITY_SLICES", "identity_key", "unit_name"]

SCHEMA_VERSION = 8
IDENTITY_SLICES = 256
"""Work on the whole settled table is done in this many slices, by the first byte of its keys."""
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    path TEXT NOT NULL,
    unit TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    head BLOB NOT NULL,
    head_length INTEGER NOT NULL,
    tail BLOB NOT NULL,
    history INTEGER NOT NULL,
    PRIMARY KEY (device, inode)
) WITHOUT ROWID;
CREATE INDEX files_by_unit ON files (unit);
CREATE TABLE units (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, settled_on INTEGER NOT NULL DEFAULT 0);
CREATE TABLE former_names (unit TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (unit, name)) WITHOUT ROWID;
CREATE TABLE settled (
    identity BLOB PRIMARY KEY,
    unit INTEGER NOT NULL,
    mark BLOB
) WITHOUT ROWID;
CREATE TABLE copies (
    unit INTEGER NOT NULL,
    original INTEGER NOT NULL,
    PRIMARY KEY (unit, original)
) WITHOUT ROWID;
CREATE TABLE hosted (
    unit TEXT NOT NULL,
    host TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    PRIMARY KEY (unit, host, device, inode)
) WITHOUT ROWID;
CREATE TABLE owed (
    unit TEXT NOT NULL,
    trace TEXT NOT NULL,
    ending INTEGER NOT NULL,
    PRIMARY KEY (unit, trace, ending)
) WITHOUT ROWID;
CREATE TABLE routes (
    unit TEXT PRIMARY KEY,
    distinct_id TEXT NOT NULL,
    identified INTEGER NOT NULL,
    grouping TEXT NOT NULL,
    host TEXT,
    key TEXT
) WITHOUT ROWID;
CREATE TABLE held (
    unit TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    folder TEXT,
    reason TEXT NOT NULL,
    since TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE restraints (unit TEXT NOT NULL, restraint TEXT NOT NULL, PRIMARY KEY (unit, restraint)) WITHOUT ROWID;
CREATE TABLE rejected (
    uuid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    reason TEXT NOT NULL,
    path TEXT,
    start INTEGER,
    "end" INTEGER,
    at TEXT NOT NULL,
    unit TEXT
) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sightings (
    session TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    ticks INTEGER,
    is_foreign INTEGER NOT NULL,
    gone_at INTEGER
) WITHOUT ROWID;
"""
UPGRADES = {
    1: """
ALTER TABLE routes ADD COLUMN host TEXT;
ALTER TABLE routes ADD COLUMN key TEXT;
CREATE TABLE held (
    unit TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    folder TEXT,
    reason TEXT NOT NULL,
    since TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE restraints (unit TEXT PRIMARY KEY, restraint TEXT NOT NULL) WITHOUT ROWID;
""",
    # Version 2 did not store when a session was last settled. The upgrade sets today: nothing is forgotten too early.
    2: """
ALTER TABLE units ADD COLUMN settled_on INTEGER NOT NULL DEFAULT 0;
UPDATE units SET settled_on=today();
ALTER TABLE settled RENAME TO settled_by_text;
CREATE TABLE settled (
    identity BLOB PRIMARY KEY,
    unit INTEGER NOT NULL,
    mark BLOB
) WITHOUT ROWID;
INSERT INTO settled SELECT identity_key(identity), unit, mark FROM settled_by_text ORDER BY 1;
DROP TABLE settled_by_text;
CREATE TABLE copies (
    unit INTEGER NOT NULL,
    original INTEGER NOT NULL,
    PRIMARY KEY (unit, original)
) WITHOUT ROWID;
""",
    # Up to version 3 a session was named by its project's folder and its id: `-home-ada-orchard/<id>`. It is one
    # session in whatever folder its logs are, so the rows of several folders become one's: the route that was decided
    # first, and all restraints. Some settled identities end with the old name; that is why it is kept.
    3: """
CREATE TABLE former_names (unit TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (unit, name)) WITHOUT ROWID;
INSERT OR IGNORE INTO former_names SELECT unit_name(name), name FROM units;
CREATE TEMP TABLE named AS SELECT id, unit_name(name) AS name FROM units;
CREATE TEMP TABLE kept AS
    SELECT named.id AS id, firsts.unit AS unit
    FROM named JOIN (SELECT name, min(id) AS unit FROM named GROUP BY name) AS firsts ON firsts.name=named.name;
CREATE UNIQUE INDEX temp.kept_by_id ON kept (id);
UPDATE units SET settled_on=(
    SELECT max(twin.settled_on) FROM units AS twin JOIN kept ON kept.id=twin.id WHERE kept.unit=units.id
) WHERE id IN (SELECT unit FROM kept WHERE id<>unit);
UPDATE settled SET unit=(SELECT kept.unit FROM kept WHERE kept.id=settled.unit)
    WHERE unit IN (SELECT id FROM kept WHERE id<>unit);
CREATE TEMP TABLE copied AS
    SELECT DISTINCT mine.unit AS unit, theirs.unit AS original FROM copies
    JOIN kept AS mine ON mine.id=copies.unit JOIN kept AS theirs ON theirs.id=copies.original
    WHERE mine.unit<>theirs.unit;
DELETE FROM copies;
INSERT INTO copies SELECT unit, original FROM copied;
CREATE TEMP TABLE decided AS
    SELECT routes.*, unit_name(routes.unit) AS session, ifnull(units.id, 9223372036854775807) AS rank
    FROM routes LEFT JOIN units ON units.name=routes.unit;
DELETE FROM routes;
INSERT OR IGNORE INTO routes
    SELECT session, distinct_id, identified, grouping, host, key FROM decided ORDER BY rank, unit;
ALTER TABLE restraints RENAME TO limited;
CREATE TABLE restraints (unit TEXT NOT NULL, restraint TEXT NOT NULL, PRIMARY KEY (unit, restraint)) WITHOUT ROWID;
INSERT OR IGNORE INTO restraints SELECT unit_name(unit), restraint FROM limited;
DROP TABLE limited;
DELETE FROM units WHERE id IN (SELECT id FROM kept WHERE id<>unit);
UPDATE units SET name=unit_name(name);
UPDATE files SET unit=unit_name(unit);
CREATE INDEX files_by_unit ON files (unit);
UPDATE OR IGNORE owed SET unit=unit_name(unit);
DELETE FROM owed WHERE unit<>unit_name(unit);
UPDATE OR IGNORE held SET unit=unit_name(unit);
DELETE FROM held WHERE unit<>unit_name(unit);
DROP TABLE temp.named;
DROP TABLE temp.kept;
DROP TABLE temp.copied;
DROP TABLE temp.decided;
CREATE TABLE sightings (
    session TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    ticks INTEGER,
    is_foreign INTEGER NOT NULL,
    gone_at INTEGER
) WITHOUT ROWID;
""",
    # Version 4 did not store the session of a rejected event.
    4: """
ALTER TABLE rejected ADD COLUMN unit TEXT;
""",
    # Version 5 did not know that lines of one session may stand in the log of another.
    5: """
CREATE TABLE hosted (
    unit TEXT NOT NULL,
    host TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    PRIMARY KEY (unit, host, device, inode)
) WITHOUT ROWID;
""",
    # Of a session that a project's file had turned off, version 6 may have settled nothing. So a copy of it in a fork
    # counted as the fork's own. Its logs are read once more, which settles it and sends nothing: it stays off.
    6: """
UPDATE files SET "offset"=0, tail=x'', history=0
    WHERE unit IN (SELECT unit FROM restraints WHERE restraint LIKE '{"off":true%');
UPDATE hosted SET "offset"=0 WHERE unit IN (SELECT unit FROM restraints WHERE restraint LIKE '{"off":true%');
""",
    # Of what a project's file had left out of a session, version 7 may have settled nothing either. The logs of such a
    # session seem to have grown by a byte, so that they are read: what is left out is settled, and the lines keep
    # counting as read, so that nothing of them is sent.
    7: """
CREATE TEMP TABLE limited AS
    SELECT unit FROM restraints WHERE restraint LIKE '%"include":[[%' OR restraint LIKE '%"exclude":["%';
UPDATE files SET "offset"="offset"-1, tail=x'' WHERE "offset">0 AND unit IN (SELECT unit FROM temp.limited);
UPDATE hosted SET "offset"="offset"-1 WHERE "offset">0 AND unit IN (SELECT unit FROM temp.limited);
DROP TABLE temp.limited;
""",
}
"""The statements that upgrade a schema version to the next one."""


def unit_name(former: str) -> str:
    """Return the name of a session since schema 4, made of the one it had before: it was Claude Code's then."""
    _, _, session = former.rpartition("/")
    return f"claude-code/{session}"


def identity_key(identity: str) -> bytes:
    """Return the key of *identity* in the store: 16 bytes of its hash, so that a million of them stay small."""
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).digest()
