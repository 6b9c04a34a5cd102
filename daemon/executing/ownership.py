"""Which sessions belong to a command: those of the clients that it, or what it started, runs.

The client's registry of live processes names the process of a session. Clients that keep none are known by their logs:
a log that appears while the command runs is one of its sessions if it was begun at or below the command's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from daemon.executing.descendants import Descendants
from daemon.following.catalog import Catalog
from daemon.following.live_sessions import LiveSessions, keeps_registry
from daemon.following.log_tree import project_folders
from daemon.following.opening import opening
from daemon.following.session_files import SessionFiles
from llma_core.claude_code.layout import classify

__all__ = ["Ownership"]


class Ownership:
    """Finds the sessions of one command while it runs. To be made before it is started. For one thread at a time.

    Args:
        config_dirs: the client's configuration folders.
        cwd: the command's working directory.
    """

    def __init__(self, config_dirs: Iterable[Path], cwd: Path) -> None:
        folders = tuple(config_dirs)
        self._live = LiveSessions(folders)
        self._roots = list(dict.fromkeys((folder / "projects").resolve() for folder in folders))
        self._cwd = Path(os.path.realpath(cwd))
        self._judged: dict[tuple[int, str], bool] = {}
        self._owned: set[str] = set()
        # Logs that were there before, and those that were found to be none of the command's.
        self._others = set(self._logs())

    @property
    def sessions(self) -> frozenset[str]:
        """The sessions found so far."""
        return frozenset(self._owned)

    def look_at_processes(self, descendants: Descendants) -> None:
        """Find the sessions whose processes run now. One that nobody looked at while it ran is not found."""
        for process in self._live.processes():
            pid, session = process
            if process not in self._judged:
                # Whose child a process is does not change; where it cannot be told yet it is asked again.
                owned = descendants.has(pid)
                if owned is None:
                    continue
                self._judged[process] = owned
            if self._judged[process]:
                self._owned.add(session)

    def look_at_logs(self) -> None:
        """Find the sessions of clients that keep no registry."""
        for path in self._logs():
            if path in self._others:
                continue
            unit = Catalog().add(path)
            judged = None if unit is None else self._judge(unit)
            if judged:
                assert unit is not None
                self._owned.add(unit.session)
            if judged is not None:
                self._others.add(path)

    def _judge(self, unit: SessionFiles) -> bool | None:
        """Whether a session is the command's by its log; None where that is not known yet."""
        began = opening(unit)
        if began.cwd is None:
            return None
        if self._live.has_registry and keeps_registry(began.version):
            return False
        return Path(os.path.realpath(began.cwd)).is_relative_to(self._cwd)

    def _logs(self) -> Iterator[str]:
        # By their names alone: this is done several times a second, and there may be thousands.
        for root in self._roots:
            for project in project_folders(root):
                try:
                    with os.scandir(project) as entries:
                        paths = [entry.path for entry in entries if entry.name.endswith(".jsonl")]
                except OSError:
                    continue
                for path in paths:
                    place = classify(path)
                    if place is not None and place.kind == "session":
                        yield path
