"""Which sessions a worker may read, and which of its slices count."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Protocol

from daemon.following.logs import Logs
from daemon.following.opening import Ordered
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Identity
from daemon.parallel.assumed import agree, apply
from daemon.parallel.wire import Slice, Task
from daemon.reading.claims import Claims
from daemon.reading.executions import Executions
from daemon.reading.facts import Facts
from daemon.state.rows import FileMark

__all__ = ["Choice", "NothingStored"]


class Lookup(Protocol):
    """Looks up what is stored of sessions. The service has `StoreReader`."""

    def touched_units(self) -> Container[str]:
        """Return the names of the sessions of which something is stored but marks that do not count."""

    def marked_units(self) -> Container[str]:
        """Return the names of the sessions of which marks are stored."""

    def mark(self, identity: Identity) -> FileMark | None:
        """Return how a file was last known; None if it was not."""


class NothingStored:
    """Nothing is stored, for readers without a store."""

    def touched_units(self) -> Container[str]:
        """Return no name."""
        return ()

    def marked_units(self) -> Container[str]:
        """Return no name."""
        return ()

    def mark(self, identity: Identity) -> FileMark | None:
        """Return None."""
        del identity
        return None


class Choice:
    """Chooses sessions for workers, and checks what comes of them. Call it from the reading thread.

    A worker may read a session of which nothing is stored but marks that do not count: it knows no store.

    Args:
        logs: the logs.
        lookup: looks things up in the store.
        claims: which session wrote what first.
        executions: the records of the commands under `exec`.
        again: returns whether settled lines of a session, by name, are read once more.
        resends: returns the uuids of the events of a session, by name, that are to be sent again; None if none are.
        facts: what callers know of sessions, which no worker knows.
        first_start: returns what only older lines than it can be history; None or 0 if nothing is.
    """

    def __init__(
        self,
        *,
        logs: Logs,
        lookup: Lookup,
        claims: Claims,
        executions: Executions,
        again: Callable[[str], bool],
        resends: Callable[[str], Container[str] | None],
        facts: Facts,
        first_start: Callable[[], int | None],
    ) -> None:
        self._logs = logs
        self._lookup = lookup
        self._claims = claims
        self._executions = executions
        self._again = again
        self._resends = resends
        self._facts = facts
        self._first_start = first_start

    def tasks(
        self, ordered: Sequence[Ordered], running: Container[str], opened: Container[str], first: int = 0
    ) -> list[Task]:
        """Return tasks for those of *ordered* that a worker may read. Their numbers are their places in it.

        Args:
            ordered: sessions in the order in which they count.
            running: ids of the sessions that run.
            opened: names of the sessions that are in memory.
            first: the number of the first of them.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
        """
        if self._executions.any_runs:
            return []
        known, marked = self._lookup.touched_units(), self._lookup.marked_units()
        leaders: dict[str, str] = {}
        groups: list[str] = []
        for files, roots in ordered:
            group = next((leaders[root] for root in roots if root in leaders), files.name)
            for root in roots:
                leaders.setdefault(root, group)
            groups.append(group)
        several = {group for each, group in zip(ordered, groups, strict=True) if group != each.files.name}
        found = []
        for number, (each, group) in enumerate(zip(ordered, groups, strict=True), first):
            files = each.files
            if (
                files.name in known
                or files.session in running
                or files.name in opened
                or not self._may_be_read(files, marked)
            ):
                continue
            sizes = [self._logs.files[path].size for path in files.paths if path in self._logs.files]
            if len(sizes) < len(files.paths):
                continue
            found.append(
                Task(
                    number=number,
                    group=group,
                    alone=group not in several,
                    name=files.name,
                    folder=files.folder,
                    agent=files.agent.name,
                    mains=files.mains,
                    agents=files.agents,
                    metas=files.metas,
                    continued=files.continued,
                    size=sum(sizes),
                    again=self._again(files.name),
                    marks=self._marks(files) if files.name in marked else [],
                    is_visited=self._logs.is_visited(files.agent, files.session),
                )
            )
        return found

    def _may_be_read(self, files: SessionFiles, marked: Container[str]) -> bool:
        again = self._again(files.name)
        return (
            not files.agent.is_spool
            and not files.hosts
            and not self._executions.names(files.session)
            and self._resends(files.name) is None
            and (again or (not self._first_start() and files.name not in marked))
        )

    def _marks(self, files: SessionFiles) -> list[FileMark]:
        found = (self._lookup.mark(self._logs.files[path].identity) for path in files.paths)
        return [mark for mark in found if mark is not None]

    def accept(self, slices: Sequence[Slice], tasks: Mapping[int, Task]) -> int:
        """Let *slices* count as long as everything is as the worker assumed, up to the first for which it is not.

        Returns:
            How many count.
        """
        for count, part in enumerate(slices):
            task = tasks[part.number]
            try:
                if part.failed or not self._is_as_assumed(part, task):
                    return count
            except sqlite3.OperationalError:
                # Whoever reads the session here finds that the store cannot be read, and waits.
                return count
            apply(self._claims, part.facts, task.name)
        return len(slices)

    def _is_as_assumed(self, part: Slice, task: Task) -> bool:
        files = self._logs.sessions.get(task.name)
        return (
            files is not None
            and not files.hosts
            and files.mains == task.mains
            and files.agents == task.agents
            and self._again(task.name) == task.again
            and not self._executions.names(files.session)
            and self._facts.start(task.name) is None
            and self._facts.end(task.name) is None
            and not any(self._logs.has_main(files.agent, session) for session in part.neighbors)
            and not any(map(self._is_private, part.relied_on))
            and agree(self._claims, part.facts)
        )

    def _is_private(self, name: str) -> bool:
        """Whether a caller says that a session is private, which no worker knows."""
        start = self._facts.start(name)
        return start is not None and start.is_private
