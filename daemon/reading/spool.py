"""The outbox's files at their end: each is read to its end and removed once its process is done with it.

A program writes them for the daemon alone, so nobody else removes them. A file goes when three things are true: its
process has ended or goes on in another file, everything in it is settled and nothing of it was rejected, and it has not
grown since. Where somebody uses the local file, that has to have it first, as long as there is room: a full outbox
takes no more calls. A process that only seems to be gone, as in a container with numbers of its own, notices that its
file was removed, and makes another one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import structlog

from daemon.following.logs import Logs
from daemon.following.session_files import SessionFiles
from daemon.following.sweep import FileStat
from daemon.reading.facts import Facts
from daemon.reading.writing import finished
from daemon.state.reader import StoreReader
from daemon.system import disk
from daemon.system.messages import system_reason
from daemon.system.workers import Workers

__all__ = ["Spool"]

_log = structlog.get_logger(__name__)

_UNBORN_SECONDS = 3600.0
"""For how long a session that a file says something of may have no log."""
_SHOWN_SECONDS = 7 * 86_400.0
"""Age up to which a file waits for the local file."""


class Spool:
    """Looks after the files whose process is done with them. Use it from one event loop only.

    Args:
        logs: the logs.
        lookup: looks up how far files are settled.
        workers: has the thread that looks at files.
        is_done: returns whether a session has ended and everything of it is delivered; None if it is not in memory.
        facts: what the files say of sessions that other logs hold. They stay until those are delivered.
        was_rejected: returns whether something of a session, by name, was rejected.
        shown: the store of the local file, which may not exist. A file waits until that has it, too, for as long as
            anybody can be expected to look at what is recorded here.
        quiet: seconds for which a file must not have been written to.
        most: size of all files, in bytes, up to which they wait for the local file. Programs stop recording at 1 GB.
        empties: whether files are removed. Without it, they are only read to their end.
    """

    def __init__(
        self,
        *,
        logs: Logs,
        lookup: StoreReader,
        workers: Workers,
        is_done: Callable[[SessionFiles], bool | None],
        facts: Facts,
        was_rejected: Callable[[str], bool],
        shown: Path,
        quiet: float,
        most: int,
        empties: bool,
    ) -> None:
        self._shown = shown
        self._logs = logs
        self._lookup = lookup
        self._workers = workers
        self._is_done = is_done
        self._facts = facts
        self._was_rejected = was_rejected
        self._quiet = quiet
        self._most = most
        self._empties = empties
        self._failed: set[str] = set()

    async def tend(self) -> tuple[list[SessionFiles], list[str]]:
        """Look at every file whose process is done with it.

        Returns:
            The sessions that are to be read to their end, and the paths that were removed.
        """
        spooled = list(self._logs.spools.values())
        if not spooled:
            return [], []
        try:
            over = await self._workers.read(partial(finished, spooled))
            resting = [files for files in over if self._is_done(files) is None]
            unread = await self._workers.read(partial(self._logs.unread, resting, self._lookup.offset))
        except sqlite3.OperationalError:
            # The next look asks again. Reading a session logs the problem.
            return [], []
        to_read = [files for files in resting if not unread.keys().isdisjoint(files.paths)]
        if not self._empties:
            return to_read, []
        done = [
            files
            for files in over
            # Asked again: a session may have been read while the store was asked.
            if files not in to_read and self._is_done(files) is not False and not self._was_rejected(files.name)
        ]
        known = self._logs.files
        told = [(files, names) for files in done if (names := self._facts.sessions(files.name))]
        if told:
            about = [self._logs.sessions[name] for _, names in told for name in names if name in self._logs.sessions]
            late = await self._workers.read(partial(self._logs.unread, about, self._lookup.offset))
            done = [files for files in done if not self._is_needed(files, late)]
        settled = {path: known[path] for files in done for path in files.paths if path in known}
        return to_read, await self._workers.read(partial(self._remove, settled)) if settled else []

    def _is_needed(self, files: SessionFiles, unread: Mapping[str, int]) -> bool:
        """Whether a session is not delivered yet that a file says something of, or has no log yet.

        Args:
            files: the file.
            unread: the logs of such sessions that are not settled to their end.
        """
        for name in self._facts.sessions(files.name):
            session = self._logs.sessions.get(name)
            if session is None:
                if time.time() - self._logs.touched(files) / 1e9 < _UNBORN_SECONDS:
                    return True
            elif self._is_done(session) is False or not set(session.paths).isdisjoint(unread):
                return True
        return False

    def _seen_here(self, known: Mapping[str, FileStat]) -> Mapping[str, FileStat]:
        """Return the files that the local file has all of, if anybody uses it, and those that are old or too many."""
        if not self._shown.exists() or sum(file.size for file in known.values()) > self._most:
            return known
        since = (time.time() - _SHOWN_SECONDS) * 1e9
        try:
            with closing(StoreReader(self._shown, patience=0.0)) as store:
                return {
                    path: file
                    for path, file in known.items()
                    if file.modified < since or store.offset(file.identity) >= file.size
                }
        except sqlite3.Error:
            return {path: file for path, file in known.items() if file.modified < since}

    def _remove(self, known: Mapping[str, FileStat]) -> list[str]:
        removed = []
        for path, file in self._seen_here(known).items():
            try:
                status = disk.call(path.rpartition("/")[0], partial(os.lstat, path))
                if FileStat.of(status) == file and time.time() - status.st_mtime >= self._quiet:
                    Path(path).unlink()
                    removed.append(path)
            except FileNotFoundError:
                removed.append(path)
            except OSError as error:
                if path not in self._failed:
                    self._failed.add(path)
                    _log.warning("recording_not_removed", path=path, reason=system_reason(error), action="trying again")
        for folder in {path.rpartition("/")[0] for path in removed} - {str(root.path) for root in self._logs.roots}:
            with suppress(OSError):  # the folder of a command that still has files
                Path(folder).rmdir()
        return removed
