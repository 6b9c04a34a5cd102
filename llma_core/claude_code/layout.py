"""Classifies paths below a `projects` folder: a session's log, a subagent's log, its meta file, or something else.

The layouts by client version, seen from 1.0.128 to 2.1.329:

    <project>/<session>.jsonl                                 every version
    <project>/<session>/subagents/agent-<id>.jsonl            from 2.1.25
    <project>/<session>/subagents/agent-<id>.meta.json        from 2.1.72
    <project>/agent-<id>.jsonl                                2.0.76 to 2.1.1; its lines name the session
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LogPath", "classify"]

_LOG = ".jsonl"
_META = ".meta.json"
_AGENT = "agent-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPath:
    """A path of a log or a meta file.

    Attributes:
        kind: `session` (a main log), `agent` (a subagent's log) or `meta` (a subagent's meta file).
        folder: the project folder, which the sessions of one project share.
        session: the session's id from the path; None for a subagent's file whose path does not name its session.
        agent: the subagent's id; None for a session.
    """

    kind: Literal["session", "agent", "meta"]
    folder: str
    session: str | None
    agent: str | None


def classify(path: str) -> LogPath | None:
    """Return what *path* is, a path with `/` between its parts; None if it is neither a log nor a meta file."""
    folder, _, name = path.rpartition("/")
    if name.endswith(_META) and name.startswith(_AGENT):
        kind: Literal["agent", "meta"] = "meta"
        agent = name[len(_AGENT) : -len(_META)]
    elif name.endswith(_LOG) and name.startswith(_AGENT):
        kind = "agent"
        agent = name[len(_AGENT) : -len(_LOG)]
    elif name.endswith(_LOG) and len(name) > len(_LOG):
        return LogPath(kind="session", folder=folder, session=name[: -len(_LOG)], agent=None)
    else:
        return None
    if not agent:
        return None
    above, _, parent = folder.rpartition("/")
    if parent == "subagents":
        project, _, session = above.rpartition("/")
        return LogPath(kind=kind, folder=project, session=session, agent=agent) if session else None
    return LogPath(kind=kind, folder=folder, session=None, agent=agent)
