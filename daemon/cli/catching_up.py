"""Brings the local file up to date before a verb asks it: reads what the logs have grown since the last time."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from daemon.cli.message import say
from daemon.cli.startup import build_service, cadence, fail, open_local, prepare_local
from daemon.config.settings import Settings
from daemon.delivering.local.schema import VERSION
from daemon.delivering.local.sink import LocalSink
from daemon.following.growth import has_grown
from daemon.following.log_roots import log_roots
from daemon.state.layout import events_path, local_folder
from daemon.state.lock import AlreadyRunning, Holder, StateDirError, StateLock, look
from daemon.state.store import Store
from daemon.system import collector
from daemon.system.figures import count
from daemon.system.messages import system_reason

if TYPE_CHECKING:
    from rich.status import Status

    from daemon.delivering.delivery import EventOutcome
    from daemon.delivering.route import Route
    from daemon.following.tailer import Identity

__all__ = ["BEGINNING_SECONDS", "POLL_SECONDS", "CaughtUp", "Progress", "catch_up", "is_made", "prepare_file"]

_QUIET_SECONDS = 1.0
"""Catching up says nothing before this time."""
BEGINNING_SECONDS = 5.0
"""How long to wait for the file while another program holds the lock: first of all, it makes the file."""
POLL_SECONDS = 0.05
"""How often to look meanwhile."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The local file after `catch_up`.

    Attributes:
        path: the file.
        is_whole: whether everything that was asked for is in it.
    """

    path: Path
    is_whole: bool


def catch_up(
    settings: Settings,
    *,
    verb: str,
    since: float | None = None,
    session: str | None = None,
    patience: float = math.inf,
    meanwhile: Callable[[], object] | None = None,
) -> CaughtUp:
    """Read what the logs have grown, into the local file, and warn if that file does not hold everything then.

    If a daemon or a page that follows the logs writes the file now, it is up to date, and nothing is read. If another
    verb is reading, it may read less than is asked for here, so it is waited for.

    Args:
        settings: the settings in force.
        verb: the verb that asks, for others who wait for it.
        since: read only sessions that were written since then, in seconds since the epoch; None reads all.
        session: read only the session with this id.
        patience: seconds to wait for another verb that is reading.
        meanwhile: called in a thread once everything is read and the last of it is being written, if anything is.

    Raises:
        click.exceptions.Exit: with 1: the state directory or the file cannot be used.
    """
    path = events_path(settings.state_dir)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress())
        lock = StateLock(local_folder(settings.state_dir), stage="ends", verb=verb)
        other = _other(lock, path, progress, patience)
        if other is None:
            stack.callback(lock.release)
            store = stack.enter_context(open_local(lock))
            prepare_file(path)
            is_whole = _is_read(settings, store, since or 0.0) or asyncio.run(
                _read(settings, store, path, progress, since=since or 0.0, session=session, meanwhile=meanwhile)
            )
        else:
            is_whole = other.stage == "follows"
    if not is_whole and other is not None:
        say(f"note: {other} is still reading the logs; what is shown is not complete yet", err=True)
    elif not is_whole:
        say("warning: not everything could be read; the next call reads the rest", err=True)
    return CaughtUp(path, is_whole)


def _other(lock: StateLock, path: Path, progress: Progress, patience: float) -> Holder | None:
    """Take the lock and return None, or return who has it: it keeps the file current, or was waited for long enough.

    Raises:
        click.exceptions.Exit: with 1: the lock cannot be taken.
    """
    began = time.monotonic()
    while True:
        if (other := _holder(lock.folder)) is None:
            prepare_local(lock.folder.parent)
            try:
                lock.acquire()
            except AlreadyRunning as error:
                other = error.holder
            except StateDirError as error:
                raise fail(str(error)) from None
            else:
                return None
        limits = {"follows": 0.0, "starts": cadence().starting, "ends": patience}
        waited = time.monotonic() - began
        if waited >= limits[other.stage] and (waited >= BEGINNING_SECONDS or is_made(path)):
            return other
        progress.wait(other)
        time.sleep(POLL_SECONDS)


def _holder(folder: Path) -> Holder | None:
    try:
        return look(folder)
    except OSError:
        # Taking the lock fails, too, and says why.
        return None


def is_made(path: Path) -> bool:
    """Whether the local file exists and has this version's tables. Otherwise another program may be making it."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            [found] = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return False
    return bool(found == VERSION)


def prepare_file(path: Path) -> None:
    """Create the local file if it is missing, and bring one of an older version up to date.

    Raises:
        click.exceptions.Exit: with 1: it cannot be written.
    """
    try:
        LocalSink(path).prepare()
    except (sqlite3.Error, OSError) as error:
        why = system_reason(error) if isinstance(error, OSError) else str(error)
        raise fail(f"cannot write {path}: {why}; check the disk, or move the file away to start over") from None


def _is_read(settings: Settings, store: Store, since: float) -> bool:
    """Whether the local file holds all that was logged from *since* on, in seconds since the epoch.

    Then all that a service would do costs a second for nothing: that of ten thousand sessions is half a second.
    """
    if store.first_start is None or store.owed():
        return False
    guests: dict[str, set[str]] = {}
    read: dict[tuple[str, Identity], int] = {}
    for row in store.hosted():
        guests.setdefault(row.host, set()).add(row.unit)
        read[row.unit, (row.device, row.inode)] = row.offset
    with closing(store.reader()) as reader:

        def is_settled(identity: Identity, size: int) -> bool:
            mark = reader.mark(identity)
            # A session's lines in another one's log are settled for themselves.
            return (mark.offset if mark is not None else 0) == size and (
                mark is None or all(read.get((unit, identity)) == size for unit in guests.get(mark.unit, ()))
            )

        roots = log_roots(settings.claude_config_dirs, settings.outboxes)
        return not has_grown(roots, is_settled, since=int(since * 1e9))


async def _read(
    settings: Settings,
    store: Store,
    path: Path,
    progress: Progress,
    *,
    since: float,
    session: str | None,
    meanwhile: Callable[[], object] | None,
) -> bool:
    def make_sink(_route: Route) -> LocalSink:
        # Few who ask what was used ever search, and whoever does completes the index.
        return LocalSink(path, defers=lambda: True, alone=True, logs=service.progress, few=cadence().few_texts)

    def watch(outcomes: Sequence[EventOutcome]) -> None:
        nonlocal meanwhile
        progress.count(outcomes)
        _, unread = service.progress()
        if meanwhile is not None and not unread:
            # SQLite makes the indexes now. Python's threads can run meanwhile.
            threading.Thread(target=meanwhile, daemon=True).start()
            meanwhile = None

    service = build_service(settings, store, make_sink, purpose="local", watch=watch)
    service.prepare("send" if store.first_start is None else "skip", time.time())
    collector.pass_over()
    return await service.run_once(lambda files: session in (None, files.session), since=since)


class Progress:
    """Says on a terminal what takes longer than a second: reading, indexing, or waiting for another program that reads.

    A context manager.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._events = 0
        self._status: Status | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def count(self, outcomes: Sequence[EventOutcome]) -> None:
        """Say how many events were read."""
        self._events += len(outcomes)
        self._tell(f"reading session logs: {count(self._events, 'event')}")

    def wait(self, other: Holder) -> None:
        """Say that another program is waited for."""
        self._tell(f"waiting for {other}, which reads the logs")

    def index(self, left: int) -> None:
        """Say that the words of this many events are still to be indexed."""
        self._tell(f"indexing words for the search: {count(left, 'event')} left")

    def _tell(self, told: str) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self._began < _QUIET_SECONDS:
            return
        if self._status is None:
            from rich.console import Console

            self._status = self._stack.enter_context(Console(stderr=True).status(told))
        else:
            self._status.update(told)
