"""Pruning: drops the stored state of sessions whose logs are gone, long after they were last settled.

A settled identity is needed as long as some log may still hold its lines: the session's own log, or one that copied
from it. Claude Code removes logs that were not written to for 30 days. An identity that was settled more than KEPT_DAYS
ago and is in no log any more will never be looked up again.

A missing log may be away only for now: a home or a disk is not mounted, or a folder cannot be listed. So nothing at all
is forgotten while a root that has held logs is missing, empty or cannot be listed completely. And nothing of a project
is forgotten if its folder is empty although no log was removed from it: a mount point looks like that.

Pruning works in small steps, each one transaction or one part of a look at the disk, so that a batch waits for one step
at most.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import structlog

from daemon.following.log_roots import LogRoot, recognize, root_of
from daemon.following.logs import Logs
from daemon.following.sweep import FileStat, is_missing
from daemon.state.rows import Copies, FileMark
from daemon.state.schema import IDENTITY_SLICES
from daemon.state.store import Store
from daemon.system import disk
from daemon.system.workers import Workers

__all__ = ["KEPT_DAYS", "REJECTED_DAYS", "REJECTED_KEPT", "Forgettable", "Retained", "forgetting", "prune"]

_log = structlog.get_logger(__name__)

KEPT_DAYS = 45
"""Days after which a session's settled identities may be forgotten, once its logs are gone."""
REJECTED_DAYS = 90
"""How many days rejected events stay listed."""
REJECTED_KEPT = 1000
"""How many rejected events stay listed at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """The part of the store that may be too old. It is small, because most of the store belongs to existing sessions.

    Attributes:
        quiet: sessions without a log that were not settled for KEPT_DAYS, or never, each with the day on which it was
            last settled, in days since the epoch.
        copies: which existing sessions hold copies of lines that others have settled.
        files: the files the store knows, except files of existing sessions that are still at their known path.
    """

    quiet: Mapping[str, int]
    copies: Sequence[Copies]
    files: Sequence[FileMark]

    @classmethod
    def of(cls, store: Store, found: Mapping[str, FileStat], has_log: Callable[[str], bool]) -> Self:
        """Query *store*, in its thread.

        Args:
            store: the state.
            found: every log that was found, by path.
            has_log: whether a session, by name, has a log now.
        """

        def is_in_place(mark: FileMark) -> bool:
            file = found.get(mark.path)
            return file is not None and file.identity == (mark.device, mark.inode) and has_log(mark.unit)

        return cls(
            quiet={name: day for name, day in store.quiet_units(KEPT_DAYS) if not has_log(name)},
            copies=[row for row in store.copies() if has_log(row.unit)],
            files=[mark for mark in store.files() if not is_in_place(mark)],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgettable:
    """State that no log refers to any more.

    Attributes:
        sessions: names of sessions that may be forgotten completely.
        files: files, by device and inode, that another file has replaced and that are nowhere else.
    """

    sessions: frozenset[str] = frozenset()
    files: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def of(
        cls,
        kept: Retained,
        *,
        roots: Sequence[LogRoot],
        found: Mapping[str, FileStat],
        has_log: Callable[[str], bool],
    ) -> Self:
        """Compare *kept* with the logs that exist. Looks at the disk.

        Args:
            kept: the part of the store that may be too old.
            roots: the folders that hold logs.
            found: every log that was found, by path.
            has_log: whether a session, by name, has a log now.

        Raises:
            OSError: a folder cannot be looked at.
        """
        empty = _empty_projects(roots, {file.path for file in kept.files})
        if empty is None:
            return cls()
        existing = {file.identity for file in found.values()} if kept.files else set()
        paths: dict[str, list[str]] = {}
        moved = set()
        gone = set()
        for file in kept.files:
            paths.setdefault(file.unit, []).append(file.path)
            if (file.device, file.inode) in existing:
                # At its new path the file may belong to another session; this mark still tells its settled offset.
                moved.add(file.unit)
            elif file.path in found:
                gone.add((file.device, file.inode))
        needed = moved | {row.original for row in kept.copies if has_log(row.unit)}
        sessions = {
            name
            for name, settled_on in kept.quiet.items()
            if name not in needed
            and not has_log(name)
            and not any(day < settled_on for day in _emptied(empty, paths.get(name, ()), roots))
            and not any(_may_come_back(path, roots) for path in paths.get(name, ()))
        }
        return cls(sessions=frozenset(sessions), files=frozenset(gone))


async def prune(store: Store, workers: Workers, logs: Logs, *, forget: Callable[[Sequence[str]], None]) -> None:
    """Remove state that no log refers to any more. Batches are written in between; a failure does no harm.

    Args:
        store: the state.
        workers: run the work on the store and on files in their threads.
        logs: the logs that were found.
        forget: called with the names of sessions whose state is removed.
    """
    if not logs.is_complete:
        return
    has_log = logs.sessions.__contains__
    try:
        found = dict(logs.files)
        kept = await workers.change(partial(Retained.of, store, found, has_log))
        what = await workers.read(partial(Forgettable.of, kept, roots=logs.roots, found=found, has_log=has_log))
        # If a forgotten session comes back, its route is decided anew and stored anew.
        forget(_still_gone(what.sessions, has_log))
        for step in forgetting(store, what, has_log):
            await workers.change(step)
    except (sqlite3.OperationalError, OSError) as error:
        _log.warning("pruning_failed", reason=str(error), action="tried again tomorrow; nothing is lost")
    else:
        if what.sessions or what.files:
            _log.info("store_pruned", sessions=len(what.sessions), files=len(what.files))


def forgetting(store: Store, what: Forgettable, has_log: Callable[[str], bool]) -> Iterator[Callable[[], object]]:
    """Yield the steps of removing state, to be called one after the other in the store's thread.

    Args:
        store: the state.
        what: the state to remove.
        has_log: whether a session, by name, has a log now: one that has come back meanwhile is left alone.
    """
    since = datetime.now(UTC) - timedelta(days=REJECTED_DAYS)
    yield partial(store.forget_rejected, since.isoformat(timespec="seconds"), REJECTED_KEPT)
    if what.files:
        yield partial(store.forget_files, what.files)
    # Identities first: once a session's row is gone, nothing tells whose identities they are.
    for number in range(IDENTITY_SLICES):
        if left := _still_gone(what.sessions, has_log):
            yield partial(store.forget_identities, left, number)
    if what.sessions:
        yield lambda: store.forget_units(_still_gone(what.sessions, has_log), KEPT_DAYS)


def _still_gone(sessions: Collection[str], has_log: Callable[[str], bool]) -> list[str]:
    return [name for name in sessions if not has_log(name)]


def _empty_projects(roots: Sequence[LogRoot], away: Collection[str]) -> dict[str, int] | None:
    """Return the folders of projects that are there and empty; None where not everything can be seen.

    Each comes with the day on which its folder last changed, in days since the epoch. If a log was removed from it,
    that is the day of the removal.

    Args:
        roots: the folders that hold logs. An empty root is ignored if no known log was in it.
        away: known logs that are no longer at their path.
    """
    empty: dict[str, int] = {}
    for root in roots:
        if root.agent.is_spool:
            # It is empty whenever everything in it was delivered.
            continue
        projects = _projects(root)
        if not projects:
            if any(root.is_above(path) for path in away):
                return None
            continue
        for project in projects:
            entries = _listed(project)
            if entries is None:
                return None
            if not entries:
                day = int(disk.call(project, Path(project).stat).st_mtime // 86_400)
                empty |= {project: day, disk.call(project, partial(os.path.realpath, project)): day}
    return empty


def _emptied(empty: Mapping[str, int], paths: Collection[str], roots: Sequence[LogRoot]) -> Iterable[int]:
    """Return the days on which those *empty* folders were changed in which a session's logs stood.

    Where nobody knows any more where that was, as another file has its inode, it may have been any of them.
    """
    folders = {recognized[1].folder for path in paths if (recognized := recognize(path, roots)) is not None}
    return [empty[folder] for folder in folders & empty.keys()] if paths else empty.values()


def _may_come_back(path: str, roots: Sequence[LogRoot]) -> bool:
    """Whether a log that was not found is there after all, or may be away only for now."""
    if not is_missing(path):
        return True
    recognized = recognize(path, roots)
    if recognized is None or recognized[0].is_spool:
        return False
    # Its root may be one that is not followed now.
    return not _projects(root_of(*recognized))


def _projects(root: LogRoot) -> list[str]:
    """Return the project folders in a root, and its links, wherever they lead; none if it cannot be listed."""
    names = _listed(str(root.path))
    if names is None:
        return []
    if not root.agent.by_project:
        return [str(root.path)]
    return [path for path in (f"{root.path}/{name}" for name in names) if not _is_file(path)]


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(disk.call(path, partial(os.lstat, path)).st_mode)
    except OSError:
        # It may be a folder.
        return False


def _listed(folder: str) -> list[str] | None:
    try:
        return disk.call(folder, partial(os.listdir, folder))
    except OSError:
        return None
