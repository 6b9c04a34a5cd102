"""Tells which sessions belong to a command: those of every client that it, or a process below it, runs.

The client's registry of live processes names each session's process. Some versions keep no registry. Their sessions are
known by their logs: a new log belongs to the command if its session started at or below the command's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from daemon.executing.descendants import Descendants
from daemon.following.catalog import Catalog
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import log_roots
from daemon.following.log_tree import project_folders, root_logs
from daemon.following.opening import opening
from daemon.following.session_files import SessionFiles
from daemon.system import disk
from llma_core.agent import Agent

__all__ = ["Ownership"]


def _named_like_logs(agent: Agent, folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.name.endswith(agent.log_suffix)]


class Ownership:
    """Finds a command's sessions while it runs. Create it before you start the command. Not thread-safe.

    Args:
        config_dirs: the client's configuration folders.
        cwd: the command's working directory.
        outbox: the folder in which only the command records its own calls; None if it has none.
    """

    def __init__(self, config_dirs: Iterable[Path], cwd: Path, outbox: Path | None = None) -> None:
        folders = tuple(config_dirs)
        self._live = LiveSessions(folders)
        self._roots = log_roots(folders)
        self._recorded = log_roots((), [] if outbox is None else [outbox])
        self._cwd = Path(os.path.realpath(cwd))
        self._judged: dict[tuple[int, str], bool] = {}
        self._owned: set[str] = set()
        # Logs that existed before, and logs already judged.
        self._known = set(self._logs())

    @property
    def sessions(self) -> frozenset[str]:
        """The sessions found so far."""
        return frozenset(self._owned)

    def look_at_processes(self, descendants: Descendants) -> None:
        """Find the sessions whose processes run now; one that ran only between two calls is missed."""
        for process in self._live.processes():
            pid, session = process
            if process not in self._judged:
                # A process keeps its ancestors, so the answer is final. Without an answer, ask again next time.
                owned = descendants.has(pid)
                if owned is None:
                    continue
                self._judged[process] = owned
            if self._judged[process]:
                self._owned.add(session)

    def look_at_logs(self) -> None:
        """Find the sessions of clients that keep no registry, by their logs, and what the command records itself."""
        self._owned.update(
            place.session
            for root in self._recorded
            for path, _ in root_logs(root)
            if (place := root.agent.classify(path)) is not None and place.session is not None
        )
        for path in self._logs():
            if path in self._known:
                continue
            unit = Catalog(self._roots).add(path)
            judged = None if unit is None else self._judge(unit)
            if judged:
                assert unit is not None
                self._owned.add(unit.session)
            if judged is not None:
                self._known.add(path)

    def _judge(self, unit: SessionFiles) -> bool | None:
        """Whether the log says that a session is the command's; None if it does not say yet."""
        began = opening(unit)
        if began.cwd is None:
            return None
        if self._live.has_registry and unit.agent.keeps_registry(began.version):
            return False
        return Path(os.path.realpath(began.cwd)).is_relative_to(self._cwd)

    def _logs(self) -> Iterator[str]:
        # Names only: this runs several times a second, and there may be thousands of logs.
        for root in self._roots:
            for project in project_folders(root):
                try:
                    paths = disk.call(project, partial(_named_like_logs, root.agent, project))
                except OSError:
                    continue
                for path in paths:
                    place = root.agent.classify(path)
                    if place is not None and place.kind == "session":
                        yield path
