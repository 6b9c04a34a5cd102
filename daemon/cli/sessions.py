"""The sessions with logs on this machine, the most recently active first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from daemon.following.log_roots import log_roots
from daemon.following.log_tree import root_logs
from daemon.following.session_files import unit_name
from llma_core.agent import Agent

__all__ = ["LoggedSession", "logged_sessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedSession:
    """A session with a log.

    Attributes:
        session: its id.
        unit: its name in the state directory.
        agent: whose session it is.
        path: its log; the one written to last if several folders have one.
        modified: when that was last written to, in seconds since the epoch.
    """

    session: str
    unit: str
    agent: Agent
    path: str
    modified: float


def logged_sessions(config_dirs: Iterable[Path], *, prefix: str = "") -> list[LoggedSession]:
    """List the sessions with a log, the most recently active first.

    Args:
        config_dirs: Claude Code's folders.
        prefix: list only sessions whose id starts with this.
    """
    found: dict[str, LoggedSession] = {}
    for root in log_roots(config_dirs):
        for path, status in root_logs(root):
            place = root.agent.classify(path)
            if place is None or place.kind != "session" or not (place.session or "").startswith(prefix):
                continue
            assert place.session is not None
            unit = unit_name(root.agent, place.session)
            if unit not in found or found[unit].modified < status.st_mtime:
                found[unit] = LoggedSession(
                    session=place.session, unit=unit, agent=root.agent, path=path, modified=status.st_mtime
                )
    return sorted(found.values(), key=lambda each: each.modified, reverse=True)
