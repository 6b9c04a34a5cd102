"""The folders that session logs are in, each with the agent whose logs these are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llma_core import agents
from llma_core.agent import Agent, LogPath

__all__ = ["LogRoot", "log_roots", "recognize", "root_of", "roots_at", "roots_below"]


@dataclass(frozen=True, slots=True)
class LogRoot:
    """A folder that one agent's logs are in: one folder for each project, or the logs themselves.

    Attributes:
        agent: the agent.
        path: the folder, which may not exist yet.
    """

    agent: Agent
    path: Path

    def is_above(self, path: str) -> bool:
        """Whether *path* is below this folder, by its name."""
        return path.startswith(f"{self.path}/")


def roots_below(config_dir: Path) -> Iterator[LogRoot]:
    """Yield the roots below a configuration folder, as the folder is spelled."""
    for agent in agents.AGENTS:
        for name in agent.root_folders:
            yield LogRoot(agent, config_dir / name)


def log_roots(config_dirs: Iterable[Path]) -> list[LogRoot]:
    """Return the roots below some configuration folders, each once and by its real path.

    Hints and sweeps must name a file alike, however the user reaches it.
    """
    roots = (root for folder in config_dirs for root in roots_below(folder))
    return list(dict.fromkeys(LogRoot(root.agent, root.path.resolve()) for root in roots))


def roots_at(path: Path) -> list[LogRoot]:
    """Return what a folder may be: a root of each agent."""
    return [LogRoot(agent, path) for agent in agents.AGENTS]


def recognize(path: str, roots: Sequence[LogRoot] = ()) -> tuple[Agent, LogPath] | None:
    """Return whose log or meta file *path* is, and which.

    Below one of *roots* it can only be one of that root's agent. Elsewhere, as in a project's folder that a link leads
    to, it is the first agent's that knows such a path.

    Returns:
        None for anything that is no log or meta file.
    """
    above = [root.agent for root in roots if root.is_above(path)]
    for agent in above or agents.AGENTS:
        place = agent.classify(path)
        if place is not None:
            return agent, place
    return None


def root_of(agent: Agent, place: LogPath) -> LogRoot:
    """Return the root that a log is in, unless a link leads from there to its project's folder."""
    folder = Path(place.folder)
    return LogRoot(agent, folder.parent if agent.by_project else folder)
