"""What a path below a `projects` folder is: a session, a subagent, its meta file, or none of these.

Layouts by client version (session-format of 1.0.128 to 2.1.329):

    <project>/<session>.jsonl                                 every version
    <project>/<session>/subagents/agent-<id>.jsonl            from 2.1.25
    <project>/<session>/subagents/agent-<id>.meta.json        from 2.1.72
    <project>/agent-<id>.jsonl                                2.0.76 to 2.1.1; the session is named inside
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
    """What one path is.

    Attributes:
        kind: `session` (a main transcript), `agent` (a subagent's transcript) or `meta` (a subagent's link).
        folder: the project folder, the part of the path that sessions of one project share.
        session: the session's id by the path; None for an agent file that names its session only inside.
        agent: the subagent's id; None for a session.
    """

    kind: Literal["session", "agent", "meta"]
    folder: str
    session: str | None
    agent: str | None


def classify(path: str) -> LogPath | None:
    """Say what *path* (with `/` between its parts) is; None for anything that is no log."""
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
