"""The agents whose sessions the daemon follows."""

from __future__ import annotations

from functools import cache

from llma_core.agent import Agent
from llma_core.claude_code.agent import CLAUDE_CODE
from llma_core.outbox.agent import OUTBOX

__all__ = ["AGENTS", "asking_tools", "main_agents", "prefixes", "telling_arguments"]

AGENTS: tuple[Agent, ...] = (CLAUDE_CODE, OUTBOX)
"""All of them. A path that several would take for a log of theirs is that of the first one whose sessions are named
like it, else the first one's; below a root, it is the root's."""


def main_agents() -> frozenset[str]:
    """Return what events call the agents that users talk to; any other name is a subagent's."""
    return frozenset(agent.framework.name for agent in AGENTS)


def prefixes() -> tuple[str, ...]:
    """Return how the names of the agents' own event properties begin."""
    return _prefixes(AGENTS)


@cache
def _prefixes(among: tuple[Agent, ...]) -> tuple[str, ...]:
    # Whoever reads events back asks this for each of them.
    return tuple(agent.framework.prefix for agent in among)


def asking_tools() -> frozenset[str]:
    """Return the tools that do nothing but ask a person, of all agents."""
    return frozenset(tool for agent in AGENTS for tool in agent.asking_tools)


@cache
def telling_arguments() -> tuple[str, ...]:
    """Return the arguments that tell best what a call of a tool does, the best first, of all agents."""
    return tuple(dict.fromkeys(name for agent in AGENTS for name in agent.telling_arguments))
