"""The local file behind the page of `view`: current for as long as the page is served."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog

from daemon.cli.catching_up import BEGINNING_SECONDS, POLL_SECONDS, is_made, prepare_file
from daemon.cli.startup import build_service, fail, open_local, prepare_local
from daemon.delivering.local.sink import LocalSink
from daemon.delivering.local.text_index import TextIndex
from daemon.following.cadence import Cadence
from daemon.page.changes import Changes
from daemon.state.layout import events_path, local_folder
from daemon.state.lock import AlreadyRunning, StateDirError, StateLock, look

if TYPE_CHECKING:
    from daemon.config.settings import Settings
    from daemon.service import Service

__all__ = ["FollowedFile"]

_log = structlog.get_logger(__name__)

_LOOKS_PER_TRY = 4
"""At every how many of these looks to find out whether that process still has the lock."""
_INDEXING_SECONDS = 0.5
"""For how long words are indexed in one go: whoever stops the page may have to wait for its end."""
_RETRY_SECONDS = 10.0
"""How long to wait after one that failed."""


class FollowedFile:
    """Keeps the local file current for the page: follows the logs, as soon as no other program does.

    A context manager: it gives the lock and the store back.

    Args:
        settings: the settings in force.
        pace: times and sizes.

    Attributes:
        changes: tells pages what has changed.
    """

    def __init__(self, settings: Settings, pace: Cadence | None = None) -> None:
        self.changes = Changes()
        self._pace = pace or Cadence()
        self._settings = settings
        self._path = events_path(settings.state_dir).absolute()
        self._lock = StateLock(local_folder(settings.state_dir), patience=0, stage="starts", verb="view")
        self._stack = ExitStack()
        self._service: Service | None = None
        self._is_current = False
        self._became_current = asyncio.Event()
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def begin(self) -> None:
        """Take the lock and prepare to follow. If another program has the lock, wait until that one has made the file.

        Raises:
            click.exceptions.Exit: with 1: the state directory or the file cannot be used.
        """
        until = time.monotonic() + BEGINNING_SECONDS
        while not await self._take_over() and not self.is_made() and time.monotonic() < until:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(POLL_SECONDS)

    def is_made(self) -> bool:
        """Whether the file exists and has this version's tables. Otherwise another program is making or updating it."""
        return self._service is not None or self._is_current or is_made(self._path)

    async def _take_over(self) -> bool:
        """Take the lock and prepare to follow; return False if another program has the lock.

        Raises:
            click.exceptions.Exit: as for `begin`.
        """
        prepare_local(self._settings.state_dir)
        try:
            self._lock.acquire()
        except AlreadyRunning as error:
            self._set_current(error.holder.stage == "follows")
            return False
        except StateDirError as error:
            raise fail(str(error)) from None
        self._set_current(False)
        self._stack.callback(self._lock.release)
        store = self._stack.enter_context(open_local(self._lock))
        # Pages are served meanwhile, and an old file, or one that was left without indexes, takes its time.
        await asyncio.to_thread(prepare_file, self._path)
        self._service = build_service(
            self._settings,
            store,
            lambda _route: LocalSink(
                self._path,
                tell=self.changes.note,
                defers=lambda: not self._is_current,
                few=self._pace.few_texts,
            ),
            purpose="local",
            on_current=self._note_current,
        )
        self._service.prepare("send" if store.first_start is None else "skip", time.time())
        return True

    async def run(self) -> None:
        """Follow until `stop` is called. While another program has the lock, tell pages what that one writes.

        Raises:
            click.exceptions.Exit: as for `begin`.
        """
        indexing = asyncio.create_task(self._index())
        try:
            await self._wait_for_turn()
            if self._service is not None and not self._stopping.is_set():
                await self._service.run()
        finally:
            indexing.cancel()

    async def _wait_for_turn(self) -> None:
        """Tell pages what another program writes, until that one has ended or this one is stopped."""
        with _Writes(self._path) as writes:
            looks = 0
            while self._service is None and not self._stopping.is_set():
                if writes.are_new():
                    self.changes.note(())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._pace.look)
                looks += 1
                if looks % _LOOKS_PER_TRY == 0 and not self._stopping.is_set():
                    await self._look()

    def stop(self) -> None:
        """End `run`, and all streams of changes."""
        self._stopping.set()
        self.changes.close()
        if self._service is not None:
            self._service.stop(drain=2)

    def reading(self) -> int | None:
        """Return how many sessions are still to be read, 0 if that is not known; None once the file is current."""
        if self._is_current:
            return None
        return self._service.waiting if self._service is not None else 0

    async def _look(self) -> None:
        """Find out whether the program that has the lock keeps the file current; take the lock if nobody has it."""
        other = look(self._lock.folder)
        if other is None:
            await self._take_over()
        else:
            self._set_current(other.stage == "follows")

    async def _index(self) -> None:
        """Whenever all logs have been read, index their words, so that no search has to wait for it. Never returns."""
        index = TextIndex(self._path)
        while True:
            await self._became_current.wait()
            self._became_current.clear()
            left = 1
            while left:
                try:
                    left = await asyncio.to_thread(index.complete, within=_INDEXING_SECONDS)
                except sqlite3.Error as error:
                    _log.debug("words_not_indexed", reason=str(error), action="trying again")
                    await asyncio.sleep(_RETRY_SECONDS)

    def _note_current(self) -> None:
        self._lock.note_current()
        self._set_current(True)

    def _set_current(self, is_current: bool) -> None:
        if is_current != self._is_current:
            self._is_current = is_current
            if is_current:
                self._became_current.set()
            self.changes.note(())


class _Writes:
    """Tells whether another process has written the local file. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._before: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def are_new(self) -> bool:
        """Whether another process has written the file since the previous call, or put another one in its place."""
        try:
            inode = self._path.stat().st_ino
            is_other = self._connection is not None and inode != self._inode
            if is_other:
                self._close()
            if self._connection is None:
                # The other process may not have made it yet.
                self._connection = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)
                self._inode = inode
            [version] = self._connection.execute("PRAGMA data_version").fetchone()
        except (sqlite3.Error, OSError):
            return False
        before, self._before = self._before, version
        return is_other or (before is not None and version != before)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._before = None
