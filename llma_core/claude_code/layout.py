"""Classifies paths below a `projects` folder: a session's log, a subagent's log, its meta file, or something else.

The layouts by client version, seen from 1.0.128 to 2.1.329:

    <project>/<session>.jsonl                                 every version
    <project>/<session>/subagents/agent-<id>.jsonl            from 2.1.25
    <project>/<session>/subagents/agent-<id>.meta.json        from 2.1.72
    <project>/agent-<id>.jsonl                                2.0.76 to 2.1.1; its lines name the session
"""

from __future__ import annotations

from typing import Literal

from llma_core.agent import LogPath

__all__ = ["classify"]

_LOG = ".jsonl"
_META = ".meta.json"
_AGENT = "agent-"


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
