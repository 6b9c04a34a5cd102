"""Classifies paths below a `projects` folder: a session's log, a subagent's log, its meta file, or something else.

The layouts by client version, seen from 1.0.128 to 2.1.332:

    <project>/<session>.jsonl                                       every version
    <project>/<session>/subagents/agent-<id>.jsonl                  from 2.1.25
    <project>/<session>/subagents/agent-<id>.meta.json              from 2.1.72
    <project>/<session>/subagents/workflows/<run>/agent-<id>.jsonl  2.1.332; `journal.jsonl` beside them is no log
    <project>/agent-<id>.jsonl                                      2.0.76 to 2.1.1; its lines name the session

A subagent's files are recognized at any depth below `subagents`.
"""

from __future__ import annotations

import re
from typing import Literal

from llma_core.agent import LogPath

__all__ = ["classify", "is_session_id"]

_LOG = ".jsonl"
_META = ".meta.json"
_AGENT = "agent-"
_SUBAGENTS = "subagents"
_SESSION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def is_session_id(name: str) -> bool:
    """Whether the client gives its sessions ids like *name*; a log with another name was named by a person."""
    return _SESSION_ID.fullmatch(name) is not None


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
        if _subagents(folder.split("/")) is not None:
            # What a workflow notes beside its subagents' logs.
            return None
        return LogPath(kind="session", folder=folder, session=name[: -len(_LOG)], agent=None)
    else:
        return None
    if not agent:
        return None
    parts = folder.split("/")
    place = _subagents(parts)
    if place is None:
        return LogPath(kind=kind, folder=folder, session=None, agent=agent)
    below = parts[place + 1 :]
    return LogPath(
        kind=kind,
        folder="/".join(parts[: place - 1]),
        session=parts[place - 1],
        agent=agent,
        runs=tuple(reversed(below)),
    )


def _subagents(parts: list[str]) -> int | None:
    """Return where the folder of a session's subagents is among the parts of a path; None if it is not there.

    A folder above the logs, or a run of a workflow, may be called like it: the one below a session's id is meant.
    """
    places = [place for place, part in enumerate(parts) if part == _SUBAGENTS and place > 0 and parts[place - 1]]
    # What is above the folder of all projects says nothing.
    first = max((place for place, part in enumerate(parts) if part == "projects"), default=0)
    below = [place for place in places if place > first]
    return next((place for place in places if is_session_id(parts[place - 1])), below[-1] if below else None)
