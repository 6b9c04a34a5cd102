"""The store: offsets, settled identities, owed traces, frozen routes, held sessions, counters.

It is one SQLite file in WAL mode with synchronous=FULL. A commit takes a fraction of a millisecond, which is little
next to the HTTP round trip of its batch. All changes of a batch are one transaction, so a crash leaves the state from
before it or after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from daemon.state import layout
from daemon.state.connection import Connection, UnwrittenError, open_to_read, version_of
from daemon.state.reader import StoreReader, mark_of
from daemon.state.rows import (
    Commit,
    Copies,
    Excerpt,
    FileMark,
    FrozenRoute,
    HeldSession,
    Hosted,
    Owed,
    RejectedEvent,
    Sighting,
)
from daemon.state.schema import IDENTITY_SLICES, SCHEMA, SCHEMA_VERSION, UPGRADES, identity_key, unit_name

__all__ = ["Store", "StoreError", "read_store"]

_log = structlog.get_logger(__name__)
_REMEMBERED = 1000
"""How many sessions' numbers to cache. Most sessions in the store are over."""


def _today() -> int:
    """Return the day, in days since the epoch, UTC."""
    return int(time.time() // 86_400)


class StoreError(Exception):
    """The store cannot be used. The message says why, and what to do."""


class NoStoreError(StoreError):
    """There is no store, or no daemon has written anything to it."""


class Store:
    """The store. Call its methods from one thread at a time; `reader` returns a reader for another thread.

    If there is no store, a new one is created. A damaged store is renamed, and a new one created.

    Args:
        folder: the state directory. It must exist and belong to the user.
        today: returns the current day, in days since the epoch.
        read_only: only read, possibly while a daemon uses the store. Nothing is created, upgraded or renamed.

    Attributes:
        lost: whether the store is new although this state directory had one before.

    Raises:
        StoreError: the store cannot be opened, or was written by a newer version. If *read_only*, also if it is damaged
            or was written by an older version, or if there is none.
    """

    def __init__(self, folder: Path, *, today: Callable[[], int] = _today, read_only: bool = False) -> None:
        self.folder = folder
        self._today = today
        self._read_only = read_only
        self._path = folder / layout.STORE
        self._marker = folder / layout.STORE_MARKER
        self.lost = False
        try:
            self._connection = self._open()
        except UnwrittenError as error:
            raise NoStoreError(f"there is no state store {self._path}; start the daemon, which makes it") from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_corruption(error):
                raise StoreError(f"cannot open the state store {self._path}: {error}; check the folder") from error
            if read_only:
                raise StoreError(
                    f"the state store {self._path} is damaged: {error}; start the daemon, which sets it aside"
                ) from error
            self._set_aside(error)
            self._connection = self._open()
        # If the store is new but the marker exists, an earlier store was lost, and this is not a first start.
        marked, begun = self._marker.exists(), self.first_start is not None
        self.lost = marked and not begun
        if begun and not marked and not read_only:
            # A crash came after the first transaction and before the marker.
            self._marker.touch(mode=0o600)
        self._units: dict[str, tuple[int, int]] = {}

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            connection = open_to_read(self._path, factory=Connection)
        else:
            connection = sqlite3.connect(
                self._path, factory=Connection, isolation_level=None, check_same_thread=False, timeout=10
            )
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
            raise sqlite3.DatabaseError("SQLite's integrity check failed")
        # The check has read every page into the cache, but few of them are needed soon.
        connection.execute("PRAGMA shrink_memory")
        version = self._version(connection)
        if version == 0:
            connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version < SCHEMA_VERSION:
            connection.create_function("identity_key", 1, identity_key, deterministic=True)
            connection.create_function("unit_name", 1, unit_name, deterministic=True)
            connection.create_function("today", 0, self._today)
            upgrade = "".join(UPGRADES[number] for number in range(version, SCHEMA_VERSION))
            connection.executescript(f"BEGIN;{upgrade}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = self._version(connection)
        if version < SCHEMA_VERSION:
            raise StoreError(
                f"the state store {self._path} was written by an older version (schema {version}); "
                "restart the daemon, which upgrades it",
            )

    def _version(self, connection: sqlite3.Connection) -> int:
        version = version_of(connection)
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the state store {self._path} was written by a newer version (schema {version}); "
                "update posthog-llma-daemon or use another POSTHOG_LLMA_STATE_DIR",
            )
        return version

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(layout.corrupt_store(int(time.time())))
        self._path.rename(aside)
        for suffix in layout.SQLITE_SUFFIXES:
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        _log.error("store_corrupt", reason=str(error), kept_as=str(aside), hint="starting with an empty store")

    def shrink(self) -> None:
        """Free the memory of cached pages."""
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
            # On a full disk SQLite has rolled back already, but not after a COMMIT that could not be written.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # Numbers that sessions got in this transaction are not in the store.
            self._units.clear()
            raise

    # ------------------------------------------------------------------ first start

    @property
    def first_start(self) -> int | None:
        """When a daemon first started on this state directory, in milliseconds since the epoch; None if none has."""
        row = self._connection.execute("SELECT value FROM meta WHERE key='first_start'").fetchone()
        return int(row[0]) if row else None

    def begin(self, at: int, history: Iterable[FileMark]) -> None:
        """Store the time of the first start, and the files that are history then, in one transaction."""
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
            units = dict.fromkeys([row.unit for row in commit.settled])
            numbers = {unit: self._unit(connection, unit) for unit in units}
            # These rows have no text, which `Connection` would look for in each of their values.
            sqlite3.Connection.executemany(
                connection,
                "INSERT OR IGNORE INTO settled VALUES (?, ?, ?)",
                [(identity_key(row.identity), numbers[row.unit], row.checksum) for row in commit.settled],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO copies VALUES (?, ?)",
                [(self._unit(connection, row.unit), self._unit(connection, row.original)) for row in commit.copies],
            )
            connection.executemany(
                "INSERT INTO hosted VALUES (?, ?, ?, ?, ?) "
                'ON CONFLICT DO UPDATE SET "offset"=max("offset", excluded."offset")',
                [(row.unit, row.host, row.device, row.inode, row.offset) for row in commit.hosted],
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
                "INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(r.uuid, r.name, r.bytes, r.reason, r.path, r.start, r.end, r.at, r.unit) for r in commit.rejected],
            )
            connection.executemany("DELETE FROM rejected WHERE uuid=?", [(uuid,) for uuid in commit.accepted])
            connection.executemany(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value=value+excluded.value",
                list(commit.counters.items()),
            )

    def freeze(self, routes: Mapping[str, FrozenRoute]) -> None:
        """Store the routes of sessions. If a session has a route already, replace only its host and key."""
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
        """Store the restraints of sessions, as text. They replace earlier ones."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM restraints WHERE unit=?", [(unit,) for unit in restraints])
            connection.executemany("INSERT INTO restraints VALUES (?, ?)", list(restraints.items()))

    def hold(self, held: Sequence[HeldSession]) -> None:
        """List sessions as held. Their entries replace earlier ones."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)",
                [(row.unit, row.session, row.folder, row.reason, row.since) for row in held],
            )

    def release(self, units: Sequence[str] | None = None) -> None:
        """Remove sessions from the list of held sessions; None removes all."""
        with self._transaction() as connection:
            if units is None:
                connection.execute("DELETE FROM held")
            else:
                connection.executemany("DELETE FROM held WHERE unit=?", [(unit,) for unit in units])

    def see(self, sightings: Sequence[Sighting]) -> None:
        """Store which sessions were seen in the client's registry. They replace earlier entries."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO sightings VALUES (?, ?, ?, ?, ?)",
                [(row.session, row.pid, row.ticks, row.foreign, row.gone_at) for row in sightings],
            )

    def forget_owed(self, units: Sequence[str]) -> None:
        """Drop the owed traces of sessions whose files are gone: these traces can no longer be built."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM owed WHERE unit=?", [(unit,) for unit in units])

    def rewind_history(self) -> None:
        """Set the offsets of history files to 0, and the first start to the epoch, so that history is sent."""
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
        """Return the number of a session, and note that it was settled today."""
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
        """Yield every session in the store that was not settled in the last *days* days.

        Each comes with the day on which it was last settled, in days since the epoch; 0 if it never was. Write nothing
        until the iterator is exhausted.
        """
        return self._connection.execute(
            "SELECT name, settled_on FROM units WHERE settled_on<? UNION SELECT unit, 0 FROM "
            "(SELECT unit FROM routes UNION SELECT unit FROM restraints UNION SELECT unit FROM files) "
            "WHERE unit NOT IN (SELECT name FROM units)",
            (self._today() - days,),
        )

    def copies(self) -> Iterator[Copies]:
        """Yield which sessions contain copies of other sessions. Write nothing until the iterator is exhausted."""
        rows = self._connection.execute(
            "SELECT mine.name, theirs.name FROM copies "
            "JOIN units AS mine ON mine.id=copies.unit JOIN units AS theirs ON theirs.id=copies.original"
        )
        return (Copies(unit=unit, original=original) for unit, original in rows)

    def forget_identities(self, units: Collection[str], number: int) -> int:
        """Forget the identities that *units* have settled, in one slice of the table. Return how many there were.

        Args:
            units: names of sessions whose files are all gone.
            number: the number of the slice, from 0 to IDENTITY_SLICES - 1.
        """
        # The sessions go into a temporary table, because the number of values in one statement is limited.
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
        """Forget everything else about *units*, and return those that were forgotten.

        A session that was settled in the last *days* days has come back, and is kept.
        """
        before = self._today() - days
        with self._transaction() as connection:
            returned = {name for (name,) in connection.execute("SELECT name FROM units WHERE settled_on>=?", (before,))}
            forgotten = [name for name in units if name not in returned]
            for name in forgotten:
                self._units.pop(name, None)
                for statement in (
                    "DELETE FROM copies WHERE unit IN (SELECT id FROM units WHERE name=?)",
                    "DELETE FROM files WHERE unit=?",
                    "DELETE FROM routes WHERE unit=?",
                    "DELETE FROM restraints WHERE unit=?",
                    "DELETE FROM former_names WHERE unit=?",
                    "DELETE FROM hosted WHERE unit=?",
                    "DELETE FROM hosted WHERE host=?",
                    "DELETE FROM units WHERE name=?",
                ):
                    connection.execute(statement, (name,))
            connection.execute("DELETE FROM copies WHERE original NOT IN (SELECT id FROM units)")
        return forgotten

    def forget_files(self, files: Collection[tuple[int, int]]) -> None:
        """Forget the files with these devices and inodes."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM files WHERE device=? AND inode=?", list(files))

    def forget_sightings(self, days: int) -> None:
        """Forget the sessions whose record has been gone for *days* days: their quiet has ended them since."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM sightings WHERE gone_at<?", ((self._today() - days) * 86_400_000,))

    def forget_rejected(self, before: str, keep: int) -> int:
        """Forget rejected events from before a time (ISO 8601), and all but the newest *keep*. Return how many."""
        with self._transaction() as connection:
            return connection.execute(
                "DELETE FROM rejected WHERE at<? OR uuid NOT IN (SELECT uuid FROM rejected ORDER BY at DESC LIMIT ?)",
                (before, keep),
            ).rowcount

    # ------------------------------------------------------------------ reading

    def files(self) -> Iterator[FileMark]:
        """Yield every file, one by one because there may be many. Write nothing until the iterator is exhausted."""
        return map(mark_of, self._connection.execute("SELECT * FROM files"))

    def owed(self) -> list[Owed]:
        """Return every owed trace."""
        rows = self._connection.execute("SELECT trace, ending, unit FROM owed")
        return [Owed(trace=trace, ending=ending, unit=unit) for trace, ending, unit in rows]

    def hosted(self) -> list[Hosted]:
        """Return which sessions have lines in the logs of others, and how far these are settled."""
        rows = self._connection.execute('SELECT unit, host, device, inode, "offset" FROM hosted')
        return [
            Hosted(unit=unit, host=host, device=device, inode=inode, offset=offset)
            for unit, host, device, inode, offset in rows
        ]

    def sightings(self) -> list[Sighting]:
        """Return the sessions that were seen in the client's registry."""
        rows = self._connection.execute("SELECT session, pid, ticks, is_foreign, gone_at FROM sightings")
        return [
            Sighting(session=session, pid=pid, ticks=ticks, foreign=bool(foreign), gone_at=gone_at)
            for session, pid, ticks, foreign, gone_at in rows
        ]

    def held(self) -> list[HeldSession]:
        """Return the held sessions, the longest waiting first."""
        rows = self._connection.execute("SELECT unit, session, folder, reason, since FROM held ORDER BY since, unit")
        return [
            HeldSession(unit=unit, session=session, folder=folder, reason=reason, since=since)
            for unit, session, folder, reason, since in rows
        ]

    def counters(self) -> dict[str, int]:
        """Return the counters since the store was created."""
        return dict(self._connection.execute("SELECT name, value FROM counters"))

    def rejected(self) -> list[RejectedEvent]:
        """Return the rejected events, newest first."""
        rows = self._connection.execute(
            'SELECT uuid, name, bytes, reason, path, start, "end", at, unit FROM rejected ORDER BY at DESC',
        )
        return [
            RejectedEvent(
                uuid=uuid, name=name, bytes=size, reason=reason, path=path, start=start, end=end, at=at, unit=unit
            )
            for uuid, name, size, reason, path, start, end, at, unit in rows
        ]

    # ------------------------------------------------------------------ excerpts

    def excerpts(self) -> Iterator[Excerpt]:
        """Yield what the store knows of each session, for another store. Write nothing until it is exhausted."""
        reader = self.reader()
        rejected: dict[str | None, list[RejectedEvent]] = {}
        for row in self.rejected():
            rejected.setdefault(row.unit, []).append(row)
        owed: dict[str, list[tuple[str, int]]] = {}
        for each in self.owed():
            owed.setdefault(each.unit, []).append((each.trace, each.ending))
        settled: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for identity, number, mark in self._connection.execute("SELECT identity, unit, mark FROM settled"):
            settled.setdefault(number, []).append((identity, mark))
        originals: dict[str, list[str]] = {}
        for copies in self.copies():
            originals.setdefault(copies.unit, []).append(copies.original)
        numbers = dict(self._connection.execute("SELECT name, id FROM units"))
        decided = self._connection.execute("SELECT unit FROM routes UNION SELECT unit FROM restraints")
        try:
            for unit in dict.fromkeys([*numbers, *(name for (name,) in decided), *owed]):
                yield Excerpt(
                    unit=unit,
                    settled=settled.pop(numbers.get(unit, -1), ()),
                    originals=originals.get(unit, ()),
                    owed=owed.get(unit, ()),
                    route=reader.route(unit),
                    restraints=reader.restraints(unit),
                    rejected=rejected.get(unit, ()),
                )
        finally:
            reader.close()

    def adopt(self, excerpts: Iterable[Excerpt]) -> None:
        """Take what another store knew of sessions. What is known here stays."""
        with self._transaction() as connection:
            for each in excerpts:
                number = self._unit(connection, each.unit)
                connection.executemany(
                    "INSERT OR IGNORE INTO settled VALUES (?, ?, ?)",
                    [(identity, number, mark) for identity, mark in each.settled],
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO copies VALUES (?, ?)",
                    [(number, self._unit(connection, original)) for original in each.originals],
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO owed VALUES (?, ?, ?)",
                    [(each.unit, trace, ending) for trace, ending in each.owed],
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO restraints VALUES (?, ?)", [(each.unit, text) for text in each.restraints]
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO rejected VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(r.uuid, r.name, r.bytes, r.reason, r.path, r.start, r.end, r.at, r.unit) for r in each.rejected],
                )
                if (route := each.route) is not None:
                    connection.execute(
                        "INSERT OR IGNORE INTO routes VALUES (?, ?, ?, ?, ?, ?)",
                        (each.unit, route.distinct_id, route.identified, route.grouping, route.host, route.key),
                    )

    def reader(self) -> StoreReader:
        """Return a reader for another thread. It waits for nobody: no other process replaces a store that is open."""
        return StoreReader(self._path, patience=0.0)


@contextlib.contextmanager
def read_store(folder: Path) -> Iterator[Store | None]:
    """Open the store in a state directory to read it, also while another process uses, makes, replaces or removes it.

    Yields:
        The store; None if there is none, or nothing was ever written to it.

    Raises:
        StoreError: it cannot be read, or another version has written it.
    """
    try:
        store = Store(folder, read_only=True)
    except NoStoreError:
        yield None
        return
    with contextlib.closing(store):
        yield store


def _is_corruption(error: sqlite3.OperationalError) -> bool:
    return "malformed" in str(error) or "not a database" in str(error) or "disk image" in str(error)
