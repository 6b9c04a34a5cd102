"""The files of one session."""

from __future__ import annotations

from dataclasses import dataclass, field

from llma_core.agent import Agent

__all__ = ["SessionFiles", "session_name", "unit_name"]


def unit_name(agent: Agent, session: str) -> str:
    """Return the name of the unit that is *agent*'s session with this id, wherever its files are."""
    return session_name(agent.name, session)


def session_name(agent: str, session: str) -> str:
    """Return the name of the unit that is the session with this id of the agent called *agent*."""
    return f"{agent}/{session}"


@dataclass(slots=True)
class SessionFiles:
    """One session's files, wherever they are: the client moves them, and people copy them.

    Attributes:
        name: the unit's name: the agent's name and the session's id.
        folder: the project folder in which the session was first found.
        agent: whose session it is.
        mains: paths of the main logs, in the order in which they are read; more than one if the session has logs in
            several folders, none while only subagents' logs are there.
        agents: subagents' logs, by path, with the subagent's id.
        metas: subagents' meta files, by path, with the subagent's id.
        continued: subagents' logs that go on with another one, in the order in which they were written.
        hosts: other sessions whose main logs hold lines of this one: the client went on with this session while it had
            their log open.
        session: the session's id.
    """

    name: str
    folder: str
    agent: Agent
    mains: list[str] = field(default_factory=list)
    agents: dict[str, str] = field(default_factory=dict)
    metas: dict[str, str] = field(default_factory=dict)
    continued: list[str] = field(default_factory=list)
    hosts: list[SessionFiles] = field(default_factory=list)
    session: str = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.name.partition("/")[2]

    @property
    def guests(self) -> dict[str, SessionFiles]:
        """The logs that hold lines of this session, or may, by path, with the session whose they are otherwise."""
        return {path: host for host in self.hosts for path in (*host.mains, *sorted(host.agents))}

    @property
    def main(self) -> str | None:
        """Path of the first main log; None while only subagents' logs are there."""
        return self.mains[0] if self.mains else None

    @property
    def paths(self) -> list[str]:
        """The logs, the main ones first, and what goes on with another log last."""
        if not self.agents:
            return [*self.mains]
        return [*self.mains, *sorted(self.agents.keys() - self.continued), *self.continued]
