"""The files of one session."""

from __future__ import annotations

from dataclasses import dataclass, field

from llma_core.agent import Agent

__all__ = ["SessionFiles"]


@dataclass(slots=True)
class SessionFiles:
    """One session's files.

    Attributes:
        name: the session's name: the name of its project folder, a slash, and its id. The store's rows call it `unit`.
        folder: the path of the project folder.
        agent: whose session it is.
        main: path of the main log; None while only subagents' logs exist.
        agents: subagents' logs, by path, with the subagent's id.
        metas: subagents' meta files, by the subagent's id.
    """

    name: str
    folder: str
    agent: Agent
    main: str | None = None
    agents: dict[str, str] = field(default_factory=dict)
    metas: dict[str, str] = field(default_factory=dict)

    @property
    def session(self) -> str:
        """The session's id."""
        return self.name.partition("/")[2]

    @property
    def paths(self) -> list[str]:
        """The logs, the main one first."""
        return [*([self.main] if self.main else []), *sorted(self.agents)]
