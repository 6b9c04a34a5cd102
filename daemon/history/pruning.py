"""Pruning: what the store keeps of sessions whose logs are gone is forgotten, long after they were last settled.

A settled identity is needed for as long as some log may still hold what it stands for: the session's own, or one that
copied from it. Claude Code removes logs that were not written to for 30 days; what was settled longer ago than
KEPT_DAYS and is in no log any more will not be asked for.

What is not there may be away only for now: a home or a disk that is not mounted, a folder that cannot be listed. So
nothing at all is forgotten while a root in which logs have stood is missing, empty or not to be read as a
whole, and nothing of a project whose folder is empty although no log was removed from it: a mount point looks like
that.

Everything is done in small steps, each one transaction or a part of a look at the disk, so that a batch waits for one
of them at most.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import structlog

from daemon.following.log_roots import LogRoot, recognize, root_of
from daemon.following.logs import Logs
from daemon.following.sweep import FileStat
from daemon.state.rows import Copies, FileMark
from daemon.state.schema import IDENTITY_SLICES
from daemon.state.store import Store
from daemon.system.workers import Workers

__all__ = ["KEPT_DAYS", "REJECTED_DAYS", "REJECTED_KEPT", "Forgettable", "Retained", "forgetting", "prune"]

_log = structlog.get_logger(__name__)

KEPT_DAYS = 45
"""Days after which what a session has settled may be forgotten, once its logs are gone."""
REJECTED_DAYS = 90
"""Days for which events that were set aside are listed."""
REJECTED_KEPT = 1000
"""Set-aside events that are listed at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What the store keeps that may be too old: little, as most of what it keeps is of sessions that are there.

    Attributes:
        quiet: sessions without a log that were not settled for KEPT_DAYS, or never, with the day on which they were,
            in days since the epoch.
        copies: which sessions that are there hold copies of what others have settled.
        files: the files it knows, but for those that stand where it knows them, in sessions that are there.
    """

    quiet: Mapping[str, int]
    copies: Sequence[Copies]
    files: Sequence[FileMark]

    @classmethod
    def of(cls, store: Store, found: Mapping[str, FileStat], is_there: Callable[[str], bool]) -> Self:
        """Ask *store*, in its thread.

        Args:
            store: the state.
            found: every log that was found, by path.
            is_there: whether a session has a log now.
        """

        def stands(mark: FileMark) -> bool:
            file = found.get(mark.path)
            return file is not None and file.identity == (mark.device, mark.inode) and is_there(mark.unit)

        return cls(
            quiet={unit: day for unit, day in store.quiet_units(KEPT_DAYS) if not is_there(unit)},
            copies=[row for row in store.copies() if is_there(row.unit)],
            files=[mark for mark in store.files() if not stands(mark)],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgettable:
    """What nothing refers to any more.

    Attributes:
        units: sessions of which everything may be forgotten.
        files: files, by device and inode, in whose place another one stands, and which are nowhere else.
    """

    units: frozenset[str] = frozenset()
    files: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def of(
        cls,
        kept: Retained,
        *,
        roots: Sequence[LogRoot],
        found: Mapping[str, FileStat],
        is_there: Callable[[str], bool],
    ) -> Self:
        """Compare what is kept with what is there. Looks at the disk.

        Args:
            kept: what the store keeps.
            roots: the folders that logs are in.
            found: every log that was found, by path.
            is_there: whether a session has a log now.

        Raises:
            OSError: a folder cannot be looked at.
        """
        empty = _empty_projects(roots, {file.path for file in kept.files})
        if empty is None:
            return cls()
        there = {file.identity for file in found.values()} if kept.files else set()
        paths: dict[str, list[str]] = {}
        moved = set()
        gone = set()
        for file in kept.files:
            paths.setdefault(file.unit, []).append(file.path)
            if (file.device, file.inode) in there:
                # In another place it may be another session's by now; how far it is settled is still known by this.
                moved.add(file.unit)
            elif file.path in found:
                gone.add((file.device, file.inode))
        needed = moved | {row.original for row in kept.copies if is_there(row.unit)}
        units = {
            name
            for name, settled_on in kept.quiet.items()
            if name not in needed
            and not is_there(name)
            and empty.get(name.rpartition("/")[0], settled_on) >= settled_on
            and not any(_may_be_back(path, roots) for path in paths.get(name, ()))
        }
        return cls(units=frozenset(units), files=frozenset(gone))


async def prune(store: Store, workers: Workers, logs: Logs, *, forget: Callable[[Sequence[str]], None]) -> None:
    """Forget what no log refers to any more. Batches are written in between; a failure harms nothing.

    Args:
        store: the state.
        workers: the threads of the store and of looking at files.
        logs: the logs that were found.
        forget: told the names of sessions of which nothing is kept any more.
    """
    if not logs.is_complete:
        return
    is_there = logs.sessions.__contains__
    try:
        found = dict(logs.files)
        kept = await workers.change(partial(Retained.of, store, found, is_there))
        what = await workers.read(partial(Forgettable.of, kept, roots=logs.roots, found=found, is_there=is_there))
        # Should one come back, it is decided anew, and kept anew.
        forget([name for name in what.units if not is_there(name)])
        for step in forgetting(store, what, is_there):
            await workers.change(step)
    except (sqlite3.OperationalError, OSError) as error:
        _log.warning("pruning_failed", reason=str(error), action="tried again tomorrow; nothing is lost")
    else:
        if what.units or what.files:
            _log.info("store_pruned", sessions=len(what.units), files=len(what.files))


def forgetting(store: Store, what: Forgettable, is_there: Callable[[str], bool]) -> Iterator[Callable[[], object]]:
    """Yield the steps that forget, each for the store's thread, one after the other.

    Args:
        store: the state.
        what: what nothing refers to any more.
        is_there: whether a session has a log now: one that has come back meanwhile is let alone.
    """
    since = datetime.now(UTC) - timedelta(days=REJECTED_DAYS)
    yield partial(store.forget_rejected, since.isoformat(timespec="seconds"), REJECTED_KEPT)
    if what.files:
        yield partial(store.forget_files, what.files)
    # What they have settled comes first: without its row in the table of sessions nobody would know whose it is.
    for number in range(IDENTITY_SLICES):
        if left := _left(what.units, is_there):
            yield partial(store.forget_identities, left, number)
    if what.units:
        yield lambda: store.forget_units(_left(what.units, is_there), KEPT_DAYS)


def _left(units: Collection[str], is_there: Callable[[str], bool]) -> list[str]:
    return [name for name in units if not is_there(name)]


def _empty_projects(roots: Sequence[LogRoot], away: Collection[str]) -> dict[str, int] | None:
    """Return the names of the projects whose folders are there and empty; None where not everything can be seen.

    Each comes with the day on which its folder was last changed: the day of a removal, if a log was removed from it.

    Args:
        roots: the folders that logs are in; one that has nothing, and in which nothing is known to have stood, says
            nothing.
        away: the logs that are known and do not stand where they did.
    """
    empty: dict[str, int] = {}
    for root in roots:
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
                day = int(Path(project).stat().st_mtime // 86_400)
                empty |= {Path(project).name: day, Path(os.path.realpath(project)).name: day}
    return empty


def _may_be_back(path: str, roots: Sequence[LogRoot]) -> bool:
    """Whether a log that was not found is there after all, or may be away only for now."""
    if os.path.lexists(path):
        return True
    recognized = recognize(path, roots)
    # The root it stood in may be one that is not followed now.
    return recognized is not None and not _projects(root_of(*recognized))


def _projects(root: LogRoot) -> list[str]:
    """Return the folders of a root's projects, and the links, wherever they lead; none where it cannot be listed."""
    entries = _listed(str(root.path))
    if entries is None:
        return []
    if not root.agent.by_project:
        return [str(root.path)]
    return [entry.path for entry in entries if entry.is_symlink() or not entry.is_file()]


def _listed(folder: str) -> list[os.DirEntry[str]] | None:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return None
