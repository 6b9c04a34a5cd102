"""Log roots: the folders that hold session logs, each with the agent that writes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.system import disk
from llma_core import agents
from llma_core.agent import Agent, LogPath

__all__ = [
    "LogRoot",
    "agent_named",
    "config_folder",
    "is_session_folder",
    "is_spooled",
    "log_roots",
    "recognize",
    "root_of",
    "roots_at",
    "roots_below",
]


@dataclass(frozen=True, slots=True)
class LogRoot:
    """A folder that holds one agent's logs: a subfolder for each project, or the logs themselves.

    Attributes:
        agent: the agent.
        path: the folder, which may not exist yet.
    """

    agent: Agent
    path: Path

    def is_above(self, path: str) -> bool:
        """Whether *path* is below this folder, judged by its name alone."""
        return path.startswith(f"{self.path}/")


def roots_below(config_dir: Path) -> Iterator[LogRoot]:
    """Yield the roots below a configuration folder. Their paths begin with *config_dir* as given, unresolved."""
    for agent in agents.AGENTS:
        for name in agent.root_folders:
            yield LogRoot(agent, config_dir / name)


def agent_named(name: str) -> Agent:
    """Return the agent of that name, one that the daemon follows."""
    return next(agent for agent in agents.AGENTS if agent.name == name)


def config_folder(folder: Path) -> Path:
    """Return the configuration folder that *folder* is, or in which it is the folder of the logs."""
    roots = {root for agent in agents.AGENTS for root in agent.root_folders}
    for root in roots:
        above = folder.parents[root.count("/")] if folder.as_posix().endswith(f"/{root}") else None
        # A configuration folder may have this name, too, but then it holds no logs by itself.
        if above is not None and not disk.is_folder(str(folder / root)) and _holds_logs(folder):
            return above
    return folder


def _holds_logs(folder: Path) -> bool:
    suffixes = tuple(agent.log_suffix for agent in agents.AGENTS)

    def look() -> bool:
        for name in os.listdir(folder):  # noqa: PTH208 - names are enough
            place = f"{folder}/{name}"
            disk.at(place)
            if os.path.isdir(place) and any(each.endswith(suffixes) for each in os.listdir(place)):  # noqa: PTH112, PTH208
                return True
        return False

    try:
        return disk.call(str(folder), look)
    except OSError:
        return False


def log_roots(config_dirs: Iterable[Path], outboxes: Iterable[Path] = ()) -> list[LogRoot]:
    """Return the roots below some configuration folders, and the outboxes, each once and by its real path.

    Hints and sweeps must use the same name for a file, whatever path the user configured.

    Args:
        config_dirs: the configuration folders.
        outboxes: folders that programs write lines into for the daemon.
    """
    roots = [root for folder in config_dirs for root in roots_below(config_folder(folder))]
    roots += [LogRoot(agent, folder) for folder in outboxes for agent in agents.AGENTS if agent.is_spool]
    return list(dict.fromkeys(LogRoot(root.agent, _real(root.path)) for root in roots))


def _real(folder: Path) -> Path:
    try:
        return disk.call(str(folder), folder.resolve)
    except disk.Unanswered:
        return folder.absolute()


def roots_at(path: Path) -> list[LogRoot]:
    """Return *path* as a root of each agent: it may belong to any of them."""
    return [LogRoot(agent, path) for agent in agents.AGENTS]


def recognize(path: str, roots: Sequence[LogRoot] = ()) -> tuple[Agent, LogPath] | None:
    """Return the agent that a log or meta file belongs to, and which of its files it is.

    Below one of *roots*, only that root's agent counts. Elsewhere, as in a project folder behind a link, the first
    agent wins whose sessions are named like it, else the first that recognizes the path.

    Returns:
        None if *path* is no log or meta file.
    """
    above = [root.agent for root in roots if root.is_above(path)]
    found = [(agent, place) for agent in above or agents.AGENTS if (place := agent.classify(path)) is not None]
    named = (each for each in found if each[1].session is None or each[0].is_session_id(each[1].session))
    return next(named, found[0] if found else None)


def is_spooled(unit: str) -> bool:
    """Whether a unit, by its name, is a file that a program wrote for the daemon alone."""
    name = unit.partition("/")[0]
    return any(agent.is_spool and agent.name == name for agent in agents.AGENTS)


def is_session_folder(folder: Path) -> bool:
    """Whether *folder* is a session's own: it is named by a session's id, or holds folders of further logs."""
    return any(
        agent.is_session_id(folder.name) or any(disk.is_folder(str(folder / name)) for name in agent.session_folders)
        for agent in agents.AGENTS
        if agent.session_folders
    )


def root_of(agent: Agent, place: LogPath) -> LogRoot:
    """Return the root that holds a log. Wrong if the root reaches the log's project folder through a link."""
    folder = Path(place.folder)
    return LogRoot(agent, folder.parent if agent.by_project else folder)
