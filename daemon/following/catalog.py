"""The catalog: which log files exist, and which session each one belongs to.

A unit is one session, by its id: its main log, its subagents' logs and their meta files, in whatever folders they are.
It is what is read, accumulated and replayed as one. The client moves a running session's log to another project's
folder, a subagent in a work tree of its own has its log there, and people copy logs: none of that makes another
session. A subagent that works on when the user starts a new conversation is logged in the new session's folder from
then on, and still belongs to the session that started it.
"""

from __future__ import annotations

from collections.abc import Sequence

from daemon.following.log_roots import LogRoot, recognize
from daemon.following.opening import began_at, goes_on, named_inside
from daemon.following.session_files import SessionFiles, unit_name
from llma_core.agent import Agent

__all__ = ["Catalog"]


class Catalog:
    """Sorts paths into sessions, as they are found.

    Args:
        roots: the folders that are followed. Without them, only a path's name tells whose log it is.

    Attributes:
        sessions: the files of every session that has any, by the session's name.
        spools: those of them that programs have recorded. There are few, and they are looked at all the time.
    """

    def __init__(self, roots: Sequence[LogRoot] = ()) -> None:
        self._roots = roots
        self.sessions: dict[str, SessionFiles] = {}
        self.spools: dict[str, SessionFiles] = {}
        self._by_path: dict[str, SessionFiles] = {}
        self._folders: dict[str, str] = {}
        self._agents: dict[str, list[str]] = {}
        self._visited: set[str] = set()

    def add(self, path: str) -> SessionFiles | None:
        """Add a path that exists; return the session it belongs to, None if it belongs to none (yet)."""
        known = self._by_path.get(path)
        if known is not None:
            return known
        recognized = recognize(path, self._roots)
        if recognized is None:
            return None
        agent, place = recognized
        session = place.session
        if session is None or (place.kind == "session" and not agent.is_session_id(session)):
            session = named_inside(path, agent, place) or session
        if session is None:
            return None
        name = unit_name(agent, session)
        files = self.sessions.get(name)
        if files is None:
            # One text for all of a folder: there may be thousands.
            folder = self._folders.setdefault(place.folder, place.folder)
            files = self.sessions[name] = SessionFiles(name=name, folder=folder, agent=agent)
            if agent.is_spool:
                self.spools[name] = files
        if place.kind == "session":
            self._add_main(files, path)
        elif place.kind == "agent":
            assert place.agent is not None
            owner = self._of_agent(path, place.agent, files)
            if owner is not files and not files.paths:
                self._forget(name)
            if owner is None:
                return None
            files = owner
            files.agents[path] = place.agent
        else:
            assert place.agent is not None
            files.metas[path] = place.agent
        self._by_path[path] = files
        return files

    def remove(self, path: str) -> SessionFiles | None:
        """Remove a path that is gone; return the session it belonged to."""
        files = self._by_path.pop(path, None)
        if files is None:
            return None
        if path in files.mains:
            files.mains.remove(path)
        agent = files.agents.pop(path, None)
        if agent is not None and path in self._agents.get(agent, ()):
            self._agents[agent].remove(path)
        if path in files.continued:
            files.continued.remove(path)
        files.metas.pop(path, None)
        if not files.paths:
            for meta in files.metas:
                self._by_path.pop(meta, None)
            self._forget(files.name)
        return files

    def _forget(self, name: str) -> None:
        self.sessions.pop(name, None)
        self.spools.pop(name, None)

    def find(self, path: str) -> SessionFiles | None:
        """Return the session that *path* was found to belong to."""
        return self._by_path.get(path)

    def has_main(self, agent: Agent, session: str) -> bool:
        """Whether *agent*'s session with this id has a main log."""
        files = self.sessions.get(unit_name(agent, session))
        return files is not None and files.main is not None

    def is_visited(self, agent: Agent, session: str) -> bool:
        """Whether another session's subagent works on in the folder of *agent*'s session with this id, or did."""
        return unit_name(agent, session) in self._visited

    def _of_agent(self, path: str, agent: str, files: SessionFiles) -> SessionFiles | None:
        """Return whose a subagent's log in the folder of *files* is: another session's if it goes on there.

        Return None while it has no line that tells.

        Subagents' ids are unique, so nearly always no log has to be looked into.
        """
        known = self._agents.setdefault(agent, [])
        others = [other for other in known if self._by_path[other] is not files]
        on = goes_on(files.agent, path) if others else False
        if on is None:
            return None
        known.append(path)
        if on:
            begun = self._by_path[others[0]]
            self._visited.add(files.name)
            self._continue(begun, path)
            return begun
        for other in others:
            continued = self._by_path[other]
            if other not in continued.continued and goes_on(files.agent, other):
                self._visited.add(continued.name)
                continued.agents.pop(other, None)
                files.agents[other] = agent
                self._by_path[other] = files
                self._continue(files, other)
        return files

    @staticmethod
    def _continue(files: SessionFiles, path: str) -> None:
        files.continued.append(path)
        files.continued.sort(key=lambda each: (began_at(files.agent, each), each))

    @staticmethod
    def _add_main(files: SessionFiles, path: str) -> None:
        """Add a main log; of several, the one that began first is read first, on every machine and at every start."""
        files.mains.append(path)
        if len(files.mains) > 1:
            files.mains.sort(key=lambda main: (began_at(files.agent, main), main))
