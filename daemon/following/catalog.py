"""The catalog: which log files exist, and which session each one belongs to.

A session consists of its main log, its subagents' logs and their meta files. These are read, accumulated and replayed
as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.following.log_roots import LogRoot, recognize
from daemon.following.opening import named_inside
from daemon.following.session_files import SessionFiles

__all__ = ["Catalog"]


class Catalog:
    """Sorts paths into sessions, as they are found.

    Args:
        roots: the folders that are followed. Without them, only a path's name tells whose log it is.

    Attributes:
        sessions: the files of every session that has any, by the session's name.
    """

    def __init__(self, roots: Sequence[LogRoot] = ()) -> None:
        self._roots = roots
        self.sessions: dict[str, SessionFiles] = {}
        self._by_path: dict[str, SessionFiles] = {}
        self._folders: dict[str, str] = {}

    def add(self, path: str) -> SessionFiles | None:
        """Add a path that exists; return the session it belongs to, None if it belongs to none (yet)."""
        known = self._by_path.get(path)
        if known is not None:
            return known
        recognized = recognize(path, self._roots)
        if recognized is None:
            return None
        agent, place = recognized
        session = place.session or named_inside(path, agent, place)
        if session is None:
            return None
        name = f"{Path(place.folder).name}/{session}"
        files = self.sessions.get(name)
        if files is None:
            # All sessions of a folder share one string: there may be thousands.
            folder = self._folders.setdefault(place.folder, place.folder)
            files = self.sessions[name] = SessionFiles(name=name, folder=folder, agent=agent)
        if place.kind == "session":
            files.main = path
        elif place.kind == "agent":
            assert place.agent is not None
            files.agents[path] = place.agent
        else:
            assert place.agent is not None
            files.metas[place.agent] = path
        self._by_path[path] = files
        return files

    def remove(self, path: str) -> SessionFiles | None:
        """Remove a path that is gone; return the session it belonged to."""
        files = self._by_path.pop(path, None)
        if files is None:
            return None
        if files.main == path:
            files.main = None
        files.agents.pop(path, None)
        files.metas = {agent: meta for agent, meta in files.metas.items() if meta != path}
        if not files.paths:
            for meta in files.metas.values():
                self._by_path.pop(meta, None)
            self.sessions.pop(files.name, None)
        return files

    def find(self, path: str) -> SessionFiles | None:
        """Return the session that *path* was found to belong to."""
        return self._by_path.get(path)

    def has_main(self, folder: str, session: str) -> bool:
        """Whether *session* has a main log in *folder*."""
        files = self.sessions.get(f"{Path(folder).name}/{session}")
        return files is not None and files.main is not None
