"""The store's schema, and the upgrades from older versions."""

from __future__ import annotations

import hashlib

__all__ = ["IDENTITY_SLICES", "identity_key"]

SCHEMA_VERSION = 3
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
CREATE TABLE units (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, settled_on INTEGER NOT NULL DEFAULT 0);
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
CREATE TABLE restraints (unit TEXT PRIMARY KEY, restraint TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rejected (
    uuid TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    reason TEXT NOT NULL,
    path TEXT,
    start INTEGER,
    "end" INTEGER,
    at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
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
}
"""The statements that upgrade a schema version to the next one."""


def identity_key(identity: str) -> bytes:
    """Return the key of *identity* in the store: 16 bytes of its hash, so that a million of them stay small."""
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).digest()
