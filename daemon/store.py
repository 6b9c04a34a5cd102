"""What must survive: offsets, settled identities, owed traces, frozen routes, what holds sessions, counters.

One SQLite file in WAL mode with synchronous=FULL: a commit costs a fraction of a millisecond, against one HTTP round
trip a batch. Everything a batch changes is one transaction, so that a crash leaves the state before it or after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

__all__ = [
    "Commit",
    "FileMark",
    "FrozenRoute",
    "HeldSession",
    "Owed",
    "Rejected",
    "Settled",
    "SettledReader",
    "Store",
    "StoreError",
]

_log = structlog.get_logger(__name__)

SCHEMA_VERSION = 2
_MARKER = "store-exists"
_SCHEMA = """
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
CREATE TABLE units (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE settled (
    identity TEXT PRIMARY KEY,
    unit INTEGER NOT NULL,
    mark BLOB
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
_UPGRADES = {
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
}
"""What makes the next schema version of one."""


class StoreError(Exception):
    """The state store cannot be used; the message says what and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """A file as it was last known: by its device and inode, and by what it says.

    Attributes:
        offset: end of the last settled line.
        head: hash of its first *head_length* bytes.
        head_length: how many bytes that is; grows with the file.
        tail: the bytes just before *offset*, hashed.
        history: whether it was there at the first start, so that what it held then is not sent.
    """

    device: int
    inode: int
    path: str
    unit: str
    offset: int
    head: bytes
    head_length: int
    tail: bytes
    history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Something that happened and has been dealt with, by the session that wrote it first."""

    identity: str
    unit: str
    mark: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A trace that has to be sent when its session or turn ends."""

    trace: str
    ending: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenRoute:
    """What was decided with a session's first event and holds for all others.

    Attributes:
        distinct_id: whose events they are.
        identified: whether that is a person.
        grouping: what one trace is.
        host: where they go; None where that was not kept yet.
        key: a fingerprint of the key they go with.
    """

    distinct_id: str
    identified: bool
    grouping: str
    host: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSession:
    """A session that is not sent, and not lost, until the user has done something.

    Attributes:
        unit: its unit.
        session: its id.
        folder: its first working directory, if that is known.
        reason: why, and what to do, in one line.
        since: when it was found to be so, in ISO 8601.
    """

    unit: str
    session: str
    folder: str | None
    reason: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An event the receiver refuses for good: where it came from, never what it says."""

    uuid: str
    name: str
    bytes: int
    reason: str
    path: str | None
    start: int | None
    end: int | None
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One transaction."""

    files: Sequence[FileMark] = ()
    settled: Sequence[Settled] = ()
    owed: Sequence[Owed] = ()
    paid: Sequence[Owed] = ()
    rejected: Sequence[Rejected] = ()
    counters: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.files or self.settled or self.owed or self.paid or self.rejected or self.counters)


class Store:
    """The state file. Methods may be called from any one thread at a time; ``reader` serves a second one.

    Args:
        folder: the state directory; it must exist and be ours.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.db"
        self._marker = folder / _MARKER
        self.lost = False
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_corruption(error):
                raise StoreError(f"cannot open the state store {self._path}: {error}; check the folder") from error
            self._set_aside(error)
            self._connection = self._open()
        # A store that is new although the marker says there was one has been lost, and this is no first start.
        marked, begun = self._marker.exists(), self.first_start is not None
        self.lost = marked and not begun
        if begun and not marked:
            # A crash came between the first transaction and the marker.
            self._marker.touch(mode=0o600)
        self._units: dict[str, int] = {
            name: number for number, name in self._connection.execute("SELECT id, name FROM units")
        }

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            self._path.chmod(0o600)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its own check fails")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version < SCHEMA_VERSION:
            upgrade = "".join(_UPGRADES[number] for number in range(version, SCHEMA_VERSION))
            connection.executescript(f"BEGIN;{upgrade}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version > SCHEMA_VERSION:
            raise StoreError(
                f"the state store {self._path} was written by a newer version (schema {version}); "
                "update posthog-llma-daemon or use another POSTHOG_LLMA_STATE_DIR",
            )

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"state.db.corrupt-{int(time.time())}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        _log.error("store_corrupt", reason=str(error), kept_as=str(aside), hint="starting with an empty one")

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled back already; a COMMIT that could not be written has not.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # Numbers given to sessions within it are not theirs.
            self._units.clear()
            raise

    # ------------------------------------------------------------------ first start

    @property
    def first_start(self) -> int | None:
        """When this state directory was first used, in milliseconds since the epoch; None if it never was."""
        row = self._connection.execute("SELECT value FROM meta WHERE key='first_start'").fetchone()
        return int(row[0]) if row else None

    def begin(self, at: int, history: Sequence[FileMark]) -> None:
        """Note the first start, and what is history with it, in one transaction."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('first_start', ?)", (str(at),))
            self._write_files(connection, history)
        self._marker.touch(mode=0o600)

    # ------------------------------------------------------------------ writing

    def commit(self, commit: Commit) -> None:
        """Write everything in *commit*, or nothing.

        Raises:
            sqlite3.Error: the disk is full, or the file cannot be written.
        """
        with self._transaction() as connection:
            self._write_files(connection, commit.files)
            connection.executemany(
                "INSERT OR IGNORE INTO settled VALUES (?, ?, ?)",
                [(row.identity, self._unit(connection, row.unit), row.mark) for row in commit.settled],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO owed VALUES (?, ?, ?)",
                [(row.unit, row.trace, row.ending) for row in commit.owed],
            )
            connection.executemany(
                "DELETE FROM owed WHERE unit=? AND trace=? AND ending=?",
                [(row.unit, row.trace, row.ending) for row in commit.paid],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(r.uuid, r.name, r.bytes, r.reason, r.path, r.start, r.end, r.at) for r in commit.rejected],
            )
            connection.executemany(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value=value+excluded.value",
                list(commit.counters.items()),
            )

    def freeze(self, unit: str, route: FrozenRoute) -> None:
        """Keep a session's route. Of one that is kept already only host and key can change."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO routes VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT(unit) DO UPDATE SET host=excluded.host, key=excluded.key",
                (unit, route.distinct_id, route.identified, route.grouping, route.host, route.key),
            )

    def restrain(self, restraints: Mapping[str, str]) -> None:
        """Remember what sessions are restrained to, as text; what was remembered of them before is replaced."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO restraints VALUES (?, ?)", list(restraints.items()))

    def hold(self, held: Sequence[HeldSession]) -> None:
        """Note that sessions have to wait; what was noted of them before is replaced."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)",
                [(row.unit, row.session, row.folder, row.reason, row.since) for row in held],
            )

    def release(self, units: Sequence[str] | None = None) -> None:
        """Note that sessions have to wait no longer; None: that it is not known of any."""
        with self._transaction() as connection:
            if units is None:
                connection.execute("DELETE FROM held")
            else:
                connection.executemany("DELETE FROM held WHERE unit=?", [(unit,) for unit in units])

    def forget_owed(self, units: Sequence[str]) -> None:
        """Drop the traces owed by sessions whose files are gone: nothing can be said of them any more."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM owed WHERE unit=?", [(unit,) for unit in units])

    def rewind_history(self) -> None:
        """Set the offsets of what was history to 0, and the first start to the epoch, so that it is sent."""
        with self._transaction() as connection:
            connection.execute("UPDATE files SET \"offset\"=0, tail=x'', history=0 WHERE history=1")
            connection.execute("UPDATE meta SET value='0' WHERE key='first_start'")

    @staticmethod
    def _write_files(connection: sqlite3.Connection, files: Sequence[FileMark]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (f.device, f.inode, f.path, f.unit, f.offset, f.head, f.head_length, f.tail, f.history)
                for f in files
            ],
        )  # fmt: skip

    def _unit(self, connection: sqlite3.Connection, name: str) -> int:
        number = self._units.get(name)
        if number is None:
            connection.execute("INSERT OR IGNORE INTO units (name) VALUES (?)", (name,))
            number = int(connection.execute("SELECT id FROM units WHERE name=?", (name,)).fetchone()[0])
            self._units[name] = number
        return number

    # ------------------------------------------------------------------ reading

    def files(self) -> list[FileMark]:
        """Return every file known."""
        rows = self._connection.execute(
            'SELECT device, inode, path, unit, "offset", head, head_length, tail, history FROM files',
        )
        return [
            FileMark(
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
            for device, inode, path, unit, offset, head, head_length, tail, history in rows
        ]

    def owed(self) -> list[Owed]:
        """Return every trace that is owed."""
        rows = self._connection.execute("SELECT trace, ending, unit FROM owed")
        return [Owed(trace=trace, ending=ending, unit=unit) for trace, ending, unit in rows]

    def routes(self) -> dict[str, FrozenRoute]:
        """Return the frozen route of every session that has one."""
        rows = self._connection.execute("SELECT unit, distinct_id, identified, grouping, host, key FROM routes")
        return {
            unit: FrozenRoute(
                distinct_id=distinct_id, identified=bool(identified), grouping=grouping, host=host, key=key
            )
            for unit, distinct_id, identified, grouping, host, key in rows
        }

    def restraints(self) -> dict[str, str]:
        """Return what each session is restrained to, of those that are."""
        return dict(self._connection.execute("SELECT unit, restraint FROM restraints"))

    def held(self) -> list[HeldSession]:
        """Return the sessions that have to wait, those that wait longest first."""
        rows = self._connection.execute("SELECT unit, session, folder, reason, since FROM held ORDER BY since, unit")
        return [
            HeldSession(unit=unit, session=session, folder=folder, reason=reason, since=since)
            for unit, session, folder, reason, since in rows
        ]

    def counters(self) -> dict[str, int]:
        """Return the counters since the store began."""
        return dict(self._connection.execute("SELECT name, value FROM counters"))

    def rejected(self) -> list[Rejected]:
        """Return the events that were set aside, newest first."""
        rows = self._connection.execute(
            'SELECT uuid, name, bytes, reason, path, start, "end", at FROM rejected ORDER BY at DESC',
        )
        return [
            Rejected(uuid=uuid, name=name, bytes=size, reason=reason, path=path, start=start, end=end, at=at)
            for uuid, name, size, reason, path, start, end, at in rows
        ]

    def reader(self) -> SettledReader:
        """Return a view of the settled table for another thread."""
        return SettledReader(self._path)


class SettledReader:
    """Looks identities up, on a connection of its own; sees what was committed."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        """Return the session that settled *identity* and its mark; None if none did."""
        row = self._connection.execute(
            "SELECT units.name, mark FROM settled JOIN units ON units.id=unit WHERE identity=?",
            (identity,),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._connection.close()


def _is_corruption(error: sqlite3.OperationalError) -> bool:
    return "malformed" in str(error) or "not a database" in str(error) or "disk image" in str(error)
