"""What a service does for the commands that `exec` runs.

It finds their sessions, puts off brand-new sessions that a command may still claim, and removes the record of a command
when all its sessions are delivered. `exec` waits for that.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from daemon.following.logs import Changes, Logs
from daemon.following.opening import Opening
from daemon.following.session_files import SessionFiles
from daemon.reading.executions import Executions
from daemon.state.reader import StoreReader
from daemon.system import disk
from daemon.system.messages import system_reason
from daemon.system.workers import Workers

__all__ = ["Attendance"]

_log = structlog.get_logger(__name__)


class Attendance:
    """Attends to the commands and their sessions. Use it from one event loop only.

    Args:
        executions: the records of the commands.
        logs: the logs.
        lookup: looks up how far logs are settled.
        workers: has the thread that looks at files.
        only_named: whether to follow only the sessions that a command has claimed.
        young: age in seconds up to which a session is put off while a running command may still claim it.
    """

    def __init__(
        self,
        executions: Executions,
        *,
        logs: Logs,
        lookup: StoreReader,
        workers: Workers,
        only_named: bool,
        young: float,
    ) -> None:
        self.executions = executions
        self.only_named = only_named
        self._logs = logs
        self._lookup = lookup
        self._workers = workers
        self._young = young
        self._put_off: set[str] = set()
        self._version = 0

    def follows(self, files: SessionFiles) -> bool:
        """Return whether a session is read at all."""
        return not self.only_named or self.executions.names(files.session)

    # ------------------------------------------------------------------ brand-new sessions

    @property
    def put_off(self) -> frozenset[str]:
        """The names of the brand-new sessions that are put off because a running command may still claim them."""
        return frozenset(self._put_off)

    async def puts_off(self, files: SessionFiles, began: Opening) -> bool:
        """Put a session off if it is brand-new and a running command may still claim it. Return whether it was put off.

        The next `look` returns it.

        Args:
            files: the session's files.
            began: how it began.
        """
        if began.at is not None and not self._is_recent(began.at):
            # As with nearly all: nobody has to be asked, nor another thread.
            return False
        if await self._workers.read(partial(self._may_be_claimed, files, began)):
            self._put_off.add(files.name)
            return True
        return False

    def _may_be_claimed(self, files: SessionFiles, began: Opening) -> bool:
        if not self._is_young(files, began):
            return False
        self.executions.refresh()
        return self.executions.any_runs and not self.executions.names(files.session)

    def _is_young(self, files: SessionFiles, began: Opening) -> bool:
        if began.at is not None:
            return self._is_recent(began.at)
        # No line says when it began. A client makes its log before it writes to it: while that is empty, nothing is
        # lost by waiting, and if it were read now, its first lines would be, too, before the command claims it.
        seen = []
        for path in files.paths:
            with suppress(OSError):
                seen.append(disk.call(path.rpartition("/")[0], Path(path).stat))
        is_empty = not any(each.st_size for each in seen)
        return is_empty or any(abs(time.time() - each.st_mtime) < self._young for each in seen)

    def _is_recent(self, at: int) -> bool:
        return abs(time.time() - at / 1000) < self._young

    # ------------------------------------------------------------------ commands

    async def look(self) -> tuple[Changes, list[SessionFiles]]:
        """Look at the commands again.

        Returns:
            The changes of logs that were found, if the commands have changed; and the sessions to read: those that were
            put off, and if the commands have changed, all that they claim.
        """
        sessions = self._logs.sessions
        claimed = [sessions[name] for name in self._put_off if name in sessions]
        self._put_off.clear()
        if self.executions.may_be_new:
            await self._workers.read(self.executions.refresh)
        if self.executions.version == self._version:
            return Changes(), claimed
        self._version, ended = self.executions.version, self.executions.ended
        # The processes of an ended command are gone, so this sweep finds everything they wrote. Its sessions are over
        # only when the logs are known: one of them may be being read.
        scan = await self._workers.read(partial(self._logs.sweep, "full"))
        changes = self._logs.apply(scan)
        self.executions.close(ended)
        return changes, claimed + [files for files in sessions.values() if self.executions.names(files.session)]

    async def remove_delivered(self, is_done: Callable[[SessionFiles], bool | None]) -> None:
        """Remove the records of ended commands whose sessions are all delivered.

        Args:
            is_done: returns whether everything of a session is delivered; None if it is not in memory. Then it is
                delivered if its logs are settled to their end.
        """
        ended = self.executions.ended
        if not ended:
            return
        named = [files for files in self._logs.sessions.values() if self.executions.names(files.session)]
        resting = [files for files in named if is_done(files) is None]
        try:
            unread = await self._workers.read(partial(self._logs.unread, resting, self._lookup.offset))
        except sqlite3.OperationalError:
            # The next look asks again. Reading a session logs the problem.
            return
        waiting = set()
        for files in named:
            # Asked again: a session may have grown while the store was asked.
            done = is_done(files)
            if done is False or (done is None and not unread.keys().isdisjoint(files.paths)):
                waiting.add(files.session)
        for name, ids in ended.items():
            if waiting.isdisjoint(ids) and all(map(self.executions.is_over, ids)):
                await self._workers.read(partial(self._remove, name))

    def _remove(self, name: str) -> None:
        try:
            self.executions.remove(name)
        except OSError as error:
            _log.warning("execution_not_removed", path=name, reason=system_reason(error), action="trying again")
