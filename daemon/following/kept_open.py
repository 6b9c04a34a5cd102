"""Logs kept open until they are read to their end, so that a deleted one can still be read.

A descriptor keeps a file's bytes even when its path is gone or leads to another file. The daemon opens one when it
finds that a log has grown and closes it when the log has been read, so logs at rest cost none. It keeps a few hundred
at most, those of the newest logs. Any other log that is deleted before it was read is lost; so is every unread log that
is deleted while no daemon runs.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from daemon.following.tailer import Identity, open_log
from daemon.system import disk

__all__ = ["MAX_DESCRIPTORS", "KeptOpen"]

MAX_DESCRIPTORS = 256
"""How many logs are kept open at most."""


@dataclass(slots=True)
class _Open:
    descriptor: int
    identity: Identity
    modified: int


class KeptOpen:
    """The logs that have something to read, by path. A path has several where one log replaced another.

    May be used from several threads.

    Args:
        limit: how many descriptors to keep at most; None: MAX_DESCRIPTORS, or a quarter of what the process may have
            open if that is less.
    """

    def __init__(self, limit: int | None = None) -> None:
        if limit is None:
            allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            limit = MAX_DESCRIPTORS if allowed == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, allowed // 4)
        self._limit = limit
        self._lock = threading.Lock()
        self._open: dict[str, list[_Open]] = {}
        # No log kept open was modified before this. At the limit, it spares a search through all of them for each log.
        self._oldest = 0

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def __contains__(self, path: str) -> bool:
        return path in self._open

    def keep(self, path: str, identity: Identity, modified: int) -> None:
        """Keep the log at *path* open.

        At the limit, it replaces the one that was modified the longest time ago, if that one is older. A log that
        cannot be opened is not kept; reading it will tell why.

        Args:
            path: where it is.
            identity: its device and inode, as they were found.
            modified: when it was modified, in nanoseconds on any clock that all logs share.
        """
        with self._lock:
            for known in self._open.get(path, ()):
                if known.identity == identity:
                    known.modified = modified
                    self._oldest = min(self._oldest, modified)
                    return
            if not self._make_room(modified):
                return
            with contextlib.suppress(OSError), disk.call(_folder(path), partial(open_log, path)) as file:
                status = os.fstat(file.fileno())
                # Another file may have replaced it already. A file kept twice would be read twice.
                found = (status.st_dev, status.st_ino)
                if all(known.identity != found for known in self._open.get(path, ())):
                    self._open.setdefault(path, []).append(_Open(os.dup(file.fileno()), found, modified))

    def borrow(self, path: str, identity: Identity | None = None) -> BinaryIO | None:
        """Return the log with this *identity* at *path*, positioned at its first byte; without *identity*, the oldest.

        The caller closes it before anybody borrows the same log again: both would share one position.

        Returns:
            None if it is not kept open.
        """
        with self._lock:
            for known in self._open.get(path, ()):
                if identity in (None, known.identity):
                    os.lseek(known.descriptor, 0, os.SEEK_SET)
                    return os.fdopen(os.dup(known.descriptor), "rb", buffering=0)
        return None

    def drop(self, path: str, identity: Identity) -> None:
        """Close one log, which has been read."""
        with self._lock:
            kept = self._open.get(path, [])
            for known in [known for known in kept if known.identity == identity]:
                self._close(path, known)

    def release(self, path: str) -> None:
        """Close every log at *path*: all of them have been read, or nobody will read them."""
        with self._lock:
            for known in self._open.pop(path, ()):
                _close(path, known)

    def close(self) -> None:
        """Close everything. Idempotent."""
        for path in list(self._open):
            self.release(path)

    def _make_room(self, modified: int) -> bool:
        """Make room for a log modified at this time; return False if all logs kept open are newer."""
        # Each path has one at least, so for most of thousands of logs nothing is counted.
        if len(self._open) < self._limit and len(self) < self._limit:
            self._oldest = min(self._oldest, modified)
            return True
        if modified <= self._oldest:
            return False
        oldest = min(
            ((path, known) for path, kept in self._open.items() for known in kept),
            key=lambda entry: entry[1].modified,
            default=None,
        )
        if oldest is None:
            return False
        self._oldest = oldest[1].modified
        if self._oldest >= modified:
            return False
        self._close(*oldest)
        return True

    def _close(self, path: str, known: _Open) -> None:
        _close(path, known)
        self._open[path].remove(known)
        if not self._open[path]:
            del self._open[path]


def _close(path: str, known: _Open) -> None:
    # A network file system may not answer that either. Then the descriptor stays open for good.
    with contextlib.suppress(disk.Unanswered):
        disk.call(_folder(path), partial(os.close, known.descriptor))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
