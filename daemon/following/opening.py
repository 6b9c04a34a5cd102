"""How a session began, from the first lines of its logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from daemon.following.session_files import SessionFiles
from daemon.following.tailer import open_log
from llma_core.agent import Agent, LogPath

__all__ = ["Opening", "by_first_line", "first_cwd", "named_inside", "opening"]

_GLANCE_LINES = 50
"""Lines looked at to find a file's first time or session; both stand in one of the first few."""
_GLANCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a session began.

    Attributes:
        agent: the name of the agent whose session it is.
        session: its id.
        cwd: its first working directory, or None where that is not known yet.
        at: the time of its first line, in milliseconds since the epoch, or None.
        version: the version of the client that says its working directory, or None.
    """

    agent: str
    session: str
    cwd: str | None = None
    at: int | None = None
    version: str | None = None


def _first_lines(path: str) -> Iterator[bytes]:
    try:
        with open_log(path, buffered=True) as file:
            left = _GLANCE_BYTES
            for _ in range(_GLANCE_LINES):
                line = file.readline(left)
                if not line.endswith(b"\n"):
                    return
                yield line
                left -= len(line)
    except OSError:
        return


def named_inside(path: str, agent: Agent, place: LogPath) -> str | None:
    """Return the session an agent's log names (2.0.76 to 2.1.1 put it beside the sessions)."""
    if place.kind == "meta":
        return None
    for line in _first_lines(path):
        if session := agent.glance(line).session:
            return session
    return None


def first_cwd(agent: Agent, path: str) -> str | None:
    """Return the working directory that the first lines of a log name; None where they name none."""
    return next((origin.cwd for line in _first_lines(path) if (origin := agent.origin(line)) is not None), None)


def opening(unit: SessionFiles) -> Opening:
    """Return how a session began, as far as the first lines of its logs tell it."""
    agent = unit.agent
    at = None
    for path in unit.paths:
        for line in _first_lines(path):
            if at is None:
                at = agent.glance(line).at
            if (origin := agent.origin(line)) is not None:
                return Opening(agent=agent.name, session=unit.session, cwd=origin.cwd, at=at, version=origin.version)
    return Opening(agent=agent.name, session=unit.session, at=at)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What a session begins with.

    Attributes:
        at: the first time in it, in milliseconds since the epoch.
        path: the log in which that stands; None where there is none.
        own: whether the line it stands in carries the session's name: a fork's own lines follow its copies.
    """

    at: int
    path: str | None
    own: bool


def _beginning(unit: SessionFiles) -> _Beginning:
    for path in unit.paths:
        for line in _first_lines(path):
            said = unit.agent.glance(line)
            if said.at is not None:
                return _Beginning(said.at, path, said.session == unit.session)
    return _Beginning(2**62, None, True)


def _is_copy(agent: Agent, path: str | None) -> bool:
    """Whether one of a log's first lines says that it is a copy."""
    return path is not None and any(agent.glance(line).is_copy for line in _first_lines(path))


def by_first_line(units: Iterable[SessionFiles]) -> list[SessionFiles]:
    """Return units in the order in which they began, so that an original comes before its copies.

    What counts is the first time in the order of the file: a fork copies old lines, but its own first line is younger.
    Where that is equal, the one that is no copy and the one whose lines carry its name comes first.
    """
    begun = {unit.name: (unit, _beginning(unit)) for unit in units}
    at_once = Counter(beginning.at for _, beginning in begun.values())

    def key(name: str) -> tuple[int, bool, bool, str]:
        unit, beginning = begun[name]
        # Only where two began at the same moment more than their beginnings has to be looked at.
        is_copy = at_once[beginning.at] > 1 and _is_copy(unit.agent, beginning.path)
        return beginning.at, is_copy, not beginning.own, name

    return [begun[name][0] for name in sorted(begun, key=key)]
