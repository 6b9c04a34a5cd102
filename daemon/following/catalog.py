"""Which log files there are and which session each belongs to.

A unit is one session: its main log, its subagents' logs and their meta files. It is what is read, accumulated and
replayed as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.following.log_roots import LogRoot, recognize
from daemon.following.opening import named_inside
from daemon.following.session_files import SessionFiles

__all__ = ["Catalog"]


class Catalog:
    """Sorts paths into units, as they are found.

    Args:
        roots: the folders that are followed; without them whose log a path is can only be told by its name.
    """

    def __init__(self, roots: Sequence[LogRoot] = ()) -> None:
        self._roots = roots
        self.units: dict[str, SessionFiles] = {}
        self._by_path: dict[str, SessionFiles] = {}
        self._folders: dict[str, str] = {}

    def add(self, path: str) -> SessionFiles | None:
        """Take a path that exists; return the unit it belongs to, None if it belongs to none (yet)."""
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
        unit = self.units.get(name)
        if unit is None:
            # One text for all of a folder: there may be thousands.
            folder = self._folders.setdefault(place.folder, place.folder)
            unit = self.units[name] = SessionFiles(name=name, folder=folder, agent=agent)
        if place.kind == "session":
            unit.main = path
        elif place.kind == "agent":
            assert place.agent is not None
            unit.agents[path] = place.agent
        else:
            assert place.agent is not None
            unit.metas[place.agent] = path
        self._by_path[path] = unit
        return unit

    def remove(self, path: str) -> SessionFiles | None:
        """Take a path that is gone; return the unit it belonged to."""
        unit = self._by_path.pop(path, None)
        if unit is None:
            return None
        if unit.main == path:
            unit.main = None
        unit.agents.pop(path, None)
        unit.metas = {agent: meta for agent, meta in unit.metas.items() if meta != path}
        if not unit.paths:
            for meta in unit.metas.values():
                self._by_path.pop(meta, None)
            self.units.pop(unit.name, None)
        return unit

    def find(self, path: str) -> SessionFiles | None:
        """Return the unit that *path* was found to belong to."""
        return self._by_path.get(path)

    def has_main(self, folder: str, session: str) -> bool:
        """Whether *session* has a main log in *folder*."""
        unit = self.units.get(f"{Path(folder).name}/{session}")
        return unit is not None and unit.main is not None
