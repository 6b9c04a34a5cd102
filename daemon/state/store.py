"""What must survive: offsets, settled identities, owed traces, frozen routes, what holds sessions, counters.

One SQLite file in WAL mode with synchronous=FULL: a commit costs a fraction of a millisecond, against one HTTP round
trip a batch. Everything a batch changes is one transaction, so that a crash leaves the state before it or after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from daemon.state import layout
from daemon.state.reader import StoreReader, mark_of
from daemon.state.rows import Commit, Copies, FileMark, FrozenRoute, HeldSession, Owed, RejectedEvent
from daemon.state.schema import IDENTITY_SLICES, SCHEMA, SCHEMA_VERSION, UPGRADES, identity_key

__all__ = ["Store", "StoreError"]

_log = structlog.get_logger(__name__)
_REMEMBERED = 1000
"""Sessions whose numbers are kept in memory; most of what the store knows is of sessions that are over."""


def _today() -> int:
    """Return the day, in days since the epoch, UTC."""
    return int(time.time() // 86_400)


class StoreError(Exception):
    """The state store cannot be used; the message says what and what to do."""


class Store:
    """The state file. Methods may be called from any one thread at a time; ``reader` serves a second one.

    Args:
        folder: the state directory; it must exist and be ours.
        today: the day, in days since the epoch.
        read_only: only look, beside the daemon that may use it: nothing is written, brought up to date or set aside.

    Raises:
        StoreError: it cannot be opened, or is of another version than this.
    """

    def __init__(self, folder: Path, *, today: Callable[[], int] = _today, read_only: bool = False) -> None:
        self._today = today
        self._read_only = read_only
        self._path = folder / layout.STORE
        self._marker = folder / layout.STORE_MARKER
        self.lost = False
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_corruption(error):
                raise StoreError(f"cannot open the state store {self._path}: {error}; check the folder") from error
            if read_only:
                raise StoreError(
                    f"the state store {self._path} is damaged: {error}; start the daemon, which sets it aside"
                ) from error
            self._set_aside(error)
            self._connection = self._open()
        # A store that is new although the marker says there was one has been lost, and this is no first start.
        marked, begun = self._marker.exists(), self.first_start is not None
        self.lost = marked and not begun
        if begun and not marked and not read_only:
            # A crash came between the first transaction and the marker.
            self._marker.touch(mode=0o600)
        self._units: dict[str, tuple[int, int]] = {}

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
        else:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        try:
            if self._read_only:
                self._check_version(connection)
            else:
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
        # The check has read every page, and hardly any of them is needed soon.
        connection.execute("PRAGMA shrink_memory")
        version = self._version(connection)
        if version == 0:
            connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version < SCHEMA_VERSION:
            connection.create_function("identity_key", 1, identity_key, deterministic=True)
            connection.create_function("today", 0, self._today)
            upgrade = "".join(UPGRADES[number] for number in range(version, SCHEMA_VERSION))
            connection.executescript(f"BEGIN;{upgrade}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version < SCHEMA_VERSION:
            raise StoreError(
                f"the state store {self._path} was written by an older version (schema {version}); "
                "start the daemon again, which brings it up to date",
            )

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the state store {self._path} was written by a newer version (schema {version}); "
                "update posthog-llma-daemon or use another POSTHOG_LLMA_STATE_DIR",
            )
        return version

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"{layout.STORE}.corrupt-{int(time.time())}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        _log.error("store_corrupt", reason=str(error), kept_as=str(aside), hint="starting with an empty one")

    def shrink(self) -> None:
        """Let go of the pages that are kept in memory for what may come next."""
        self._connection.execute("PRAGMA shrink_memory")

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

    def begin(self, at: int, history: Iterable[FileMark]) -> None:
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
                [
                    (identity_key(row.identity), self._unit(connection, row.unit), row.checksum)
                    for row in commit.settled
                ],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO copies VALUES (?, ?)",
                [(self._unit(connection, row.unit), self._unit(connection, row.original)) for row in commit.copies],
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

    def freeze(self, routes: Mapping[str, FrozenRoute]) -> None:
        """Keep sessions' routes. Of one that is kept already only host and key can change."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO routes VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT(unit) DO UPDATE SET host=excluded.host, key=excluded.key",
                [
                    (unit, route.distinct_id, route.identified, route.grouping, route.host, route.key)
                    for unit, route in routes.items()
                ],
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
    def _write_files(connection: sqlite3.Connection, files: Iterable[FileMark]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (f.device, f.inode, f.path, f.unit, f.offset, f.head, f.head_length, f.tail, f.history)
                for f in files
            ),
        )  # fmt: skip

    def _unit(self, connection: sqlite3.Connection, name: str) -> int:
        """Return the number of a session that something is written of today."""
        today = self._today()
        number, day = self._units.get(name, (None, 0))
        if number is None:
            if len(self._units) >= _REMEMBERED:
                self._units.clear()
            connection.execute("INSERT OR IGNORE INTO units (name) VALUES (?)", (name,))
            [[number, day]] = connection.execute("SELECT id, settled_on FROM units WHERE name=?", (name,))
            self._units[name] = number, day
        if day < today:
            connection.execute("UPDATE units SET settled_on=? WHERE id=?", (today, number))
            self._units[name] = number, today
        return int(number)

    # ------------------------------------------------------------------ forgetting

    def quiet_units(self, days: int) -> Iterator[tuple[str, int]]:
        """Yield every session that anything is kept of and that was not settled in the last *days* days.

        Each comes with the day on which it was last settled, in days since the epoch; 0 if it never was. Nothing may
        be written until the last was taken.
        """
        return self._connection.execute(
            "SELECT name, settled_on FROM units WHERE settled_on<? UNION SELECT unit, 0 FROM "
            "(SELECT unit FROM routes UNION SELECT unit FROM restraints UNION SELECT unit FROM files) "
            "WHERE unit NOT IN (SELECT name FROM units)",
            (self._today() - days,),
        )

    def copies(self) -> Iterator[Copies]:
        """Yield which sessions hold copies of what others have settled. Nothing may be written until then."""
        rows = self._connection.execute(
            "SELECT mine.name, theirs.name FROM copies "
            "JOIN units AS mine ON mine.id=copies.unit JOIN units AS theirs ON theirs.id=copies.original"
        )
        return (Copies(unit=unit, original=original) for unit, original in rows)

    def forget_identities(self, units: Collection[str], number: int) -> int:
        """Forget what *units* have settled, as far as it stands in one slice of the table; return how much it was.

        Args:
            units: sessions of which nothing is there any more.
            number: which slice, from 0; there are IDENTITY_SLICES.
        """
        # A table of them, as the number of values in one statement is limited.
        self._connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (unit INTEGER PRIMARY KEY)")
        end = bytes([number + 1]) if number + 1 < IDENTITY_SLICES else b"\xff" * 17
        with self._transaction() as connection:
            connection.execute("DELETE FROM temp.gone")
            connection.executemany(
                "INSERT OR IGNORE INTO temp.gone SELECT id FROM units WHERE name=?", [(name,) for name in units]
            )
            return connection.execute(
                "DELETE FROM settled WHERE identity>=? AND identity<? AND unit IN (SELECT unit FROM temp.gone)",
                (bytes([number]), end),
            ).rowcount

    def forget_units(self, units: Collection[str], days: int) -> list[str]:
        """Forget the rest of what is kept of *units*; return which were forgotten.

        One that was settled in the last *days* days after all has come back, and is kept.
        """
        before = self._today() - days
        with self._transaction() as connection:
            back = {name for (name,) in connection.execute("SELECT name FROM units WHERE settled_on>=?", (before,))}
            forgotten = [name for name in units if name not in back]
            for name in forgotten:
                self._units.pop(name, None)
                for statement in (
                    "DELETE FROM copies WHERE unit IN (SELECT id FROM units WHERE name=?)",
                    "DELETE FROM files WHERE unit=?",
                    "DELETE FROM routes WHERE unit=?",
                    "DELETE FROM restraints WHERE unit=?",
                    "DELETE FROM units WHERE name=?",
                ):
                    connection.execute(statement, (name,))
            connection.execute("DELETE FROM copies WHERE original NOT IN (SELECT id FROM units)")
        return forgotten

    def forget_files(self, files: Collection[tuple[int, int]]) -> None:
        """Forget files, by device and inode."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM files WHERE device=? AND inode=?", list(files))

    def forget_rejected(self, before: str, keep: int) -> int:
        """Forget set-aside events from before a time (ISO 8601), and all but the newest *keep*; return how many."""
        with self._transaction() as connection:
            return connection.execute(
                "DELETE FROM rejected WHERE at<? OR uuid NOT IN (SELECT uuid FROM rejected ORDER BY at DESC LIMIT ?)",
                (before, keep),
            ).rowcount

    # ------------------------------------------------------------------ reading

    def files(self) -> Iterator[FileMark]:
        """Yield every file known, one by one: there may be many. Nothing may be written until the last was taken."""
        return map(mark_of, self._connection.execute("SELECT * FROM files"))

    def owed(self) -> list[Owed]:
        """Return every trace that is owed."""
        rows = self._connection.execute("SELECT trace, ending, unit FROM owed")
        return [Owed(trace=trace, ending=ending, unit=unit) for trace, ending, unit in rows]

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

    def rejected(self) -> list[RejectedEvent]:
        """Return the events that were set aside, newest first."""
        rows = self._connection.execute(
            'SELECT uuid, name, bytes, reason, path, start, "end", at FROM rejected ORDER BY at DESC',
        )
        return [
            RejectedEvent(uuid=uuid, name=name, bytes=size, reason=reason, path=path, start=start, end=end, at=at)
            for uuid, name, size, reason, path, start, end, at in rows
        ]

    def reader(self) -> StoreReader:
        """Return what looks things up in another thread."""
        return StoreReader(self._path)


def _is_corruption(error: sqlite3.OperationalError) -> bool:
    return "malformed" in str(error) or "not a database" in str(error) or "disk image" in str(error)
