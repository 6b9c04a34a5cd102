"""The manifest: which sources are done, in which version, and what was settled of their sessions.

It is one SQLite file. Each chain that is done is one transaction, so that a run that is killed goes on where it was.
What a session has settled is one value (16 to 40 bytes for each event), which workers take and give back as it is.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from daemon.archiving.chains import Chain
from daemon.archiving.source import (
    MissingExtraError,
    Source,
    SourceError,
    local_path,
    open_url,
    reason_of,
    save_url,
    shown,
)
from daemon.state.connection import Connection
from daemon.state.layout import MANIFEST
from daemon.state.lock import StateLock, prepare_state_dir

__all__ = ["Manifest", "ManifestError", "open_manifest"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE sources (
    url TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    since REAL,
    settled_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sessions (unit TEXT PRIMARY KEY, settled BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (root TEXT NOT NULL, unit TEXT NOT NULL, PRIMARY KEY (root, unit)) WITHOUT ROWID;
CREATE INDEX roots_by_unit ON roots (unit);
"""
_SAVE_SECONDS = 60.0


class ManifestError(Exception):
    """The manifest cannot be used. The message says why, in one line."""


class Manifest:
    """A manifest. Use it from one thread.

    Args:
        path: its file, which need not exist.

    Raises:
        ManifestError: it cannot be opened, or a newer version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, factory=Connection, isolation_level=None)
        path.chmod(0o600)
        try:
            [[version]] = self._connection.execute("PRAGMA user_version")
            if version > _VERSION:
                raise ManifestError(f"{path} was written by a newer version; update posthog-llma-daemon")
            if not version:
                self._connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={_VERSION};COMMIT;")
        except sqlite3.Error as error:
            self._connection.close()
            raise ManifestError(
                f"{path} cannot be used as the manifest ({error}); move it away to send everything again"
            ) from None

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    def is_done(self, source: Source, since: float | None) -> bool:
        """Whether *source* was settled as it is now, with all sessions that ended at *since* or later."""
        rows = self._connection.execute(
            "SELECT since FROM sources WHERE url=? AND version=?", (source.url, source.version)
        ).fetchall()
        return any(before is None or (since is not None and before <= since) for (before,) in rows)

    def family(self, names: Iterable[str]) -> set[str]:
        """Return *names* (of sessions, and roots) and everything that belongs together with them."""
        family: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in family:
                family.add(name)
                waiting += [
                    unit for (unit,) in self._connection.execute("SELECT unit FROM roots WHERE root=?", (name,))
                ]
                waiting += [
                    root for (root,) in self._connection.execute("SELECT root FROM roots WHERE unit=?", (name,))
                ]
        return family

    def settled(self, names: Iterable[str]) -> list[bytes]:
        """Return what was settled of the sessions among *names*, encoded; see `Excerpt`."""
        found = (
            self._connection.execute("SELECT settled FROM sessions WHERE unit=?", (name,)).fetchone() for name in names
        )
        return [row[0] for row in found if row is not None]

    def settle(
        self, chain: Chain, settled: Mapping[str, bytes], *, done: bool, since: float | None, now: float
    ) -> None:
        """Note in one transaction what is settled of *chain*.

        Args:
            chain: the chain.
            settled: what is known of each session now, by its name, encoded; see `Excerpt`.
            done: whether its sources are done.
            since: only sessions that ended then or later were sent; None: all were.
            now: the time, in seconds since the epoch.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?)", list(settled.items()))
            connection.executemany(
                "INSERT OR IGNORE INTO roots VALUES (?, ?)",
                [(root, session.unit) for session in chain.sessions for root in session.roots],
            )
            if done:
                connection.executemany(
                    "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?)",
                    [(part.source.url, part.source.version, since, int(now)) for part in chain.parts],
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def skip(self, source: Source, since: float | None, now: float) -> None:
        """Note that *source* holds nothing to send."""
        self._connection.execute(
            "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?)", (source.url, source.version, since, int(now))
        )

    def copy_to(self, path: Path) -> None:
        """Write all of it into another file."""
        with sqlite3.connect(path) as other:
            self._connection.backup(other)
        other.close()


class _Kept:
    """A manifest that is kept at a URL.

    Args:
        manifest: the manifest, in a file of its own.
        url: where it is kept; None: the file is all there is.
    """

    def __init__(self, manifest: Manifest, url: str | None) -> None:
        self.manifest = manifest
        self._url = url
        self._saved = time.monotonic()

    def save(self, *, now: bool = False) -> None:
        """Write the manifest to its URL, if it is time.

        Raises:
            ManifestError: it cannot be written.
        """
        if self._url is None or not (now or time.monotonic() - self._saved > _SAVE_SECONDS):
            return
        with tempfile.TemporaryDirectory(prefix="posthog-llma-manifest-") as name:
            copy = Path(name, MANIFEST)
            self.manifest.copy_to(copy)
            try:
                save_url(self._url, copy.read_bytes())
            except Exception as error:  # noqa: BLE001 - every library of a storage has its own errors
                raise ManifestError(
                    f"{shown(self._url)}: the manifest cannot be written ({reason_of(error)})"
                ) from None
        self._saved = time.monotonic()


@contextmanager
def open_manifest(folder: Path, url: str | None) -> Iterator[_Kept]:
    """Open the manifest in *folder*, or the one at *url*. Only one run may have it open on this machine.

    Raises:
        ManifestError: it cannot be opened.
        StateDirError: the folder cannot be used.
        AlreadyRunning: another run has it open.
    """
    here = folder if url is None else local_path(url)
    if url is None or here is not None:
        folder = here or folder
        prepare_state_dir(folder)
        with StateLock(folder, stage="ends", verb="archive"):
            manifest = Manifest(folder / MANIFEST)
            try:
                yield _Kept(manifest, None)
            finally:
                manifest.close()
        return
    url = url if url.endswith(".db") else f"{url.rstrip('/')}/{MANIFEST}"
    with tempfile.TemporaryDirectory(prefix="posthog-llma-manifest-") as name:
        path = Path(name, MANIFEST)
        try:
            with open_url(url) as file:
                path.write_bytes(file.read())
        except FileNotFoundError:
            pass
        except (SourceError, MissingExtraError) as error:
            raise ManifestError(str(error)) from None
        except Exception as error:  # noqa: BLE001 - every library of a storage has its own errors
            raise ManifestError(f"{shown(url)}: the manifest cannot be read ({reason_of(error)})") from None
        manifest = Manifest(path)
        kept = _Kept(manifest, url)
        try:
            yield kept
            kept.save(now=True)
        finally:
            manifest.close()
