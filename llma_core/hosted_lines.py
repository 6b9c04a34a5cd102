"""Which lines of a session's log belong to another session.

A client that goes on with another session (`/resume`) may write that session's lines into the log it has open. They
name their session, and go on with its conversation.

A fork's log may begin with lines that name another session, too (Claude Code 2.0.76 to 2.1.99): copies of a
conversation from its first line on, up to the fork's own first line. Copies belong to the log that they are in.

A subagent's log is one session's. If it is in the folder of another session, its first line names its own: it was
started by lines that stand in that other session's log. What names another session later on is a subagent that works on
after `/clear`, and stays with the session that started it.
"""

from __future__ import annotations

from llma_core.agent import Agent, Decoded

__all__ = ["HostedLines"]


class HostedLines:
    """Tells the lines of one log apart. Feed it all lines of the log in order, from the first one.

    Args:
        agent: whose log it is.
        session: the id of the session whose log it is, or in whose folder it is.
        is_main: whether it is a main log, and no subagent's.
    """

    def __init__(self, agent: Agent, session: str, *, is_main: bool = True) -> None:
        self._agent = agent
        self._session = session
        self._session_of = agent.session_of
        self._is_main = is_main
        self._copies: bool | None = None
        """Whether lines that name another session are copies for now; None before the conversation's first line."""

    @property
    def is_open(self) -> bool:
        """Whether there was no line of a conversation yet, so that nothing is known of the log."""
        return self._copies is None

    def has_none(self, lines: bytes) -> bool:
        """Whether no line of *lines* belongs to another session, so that they need not be fed; says so quickly."""
        if self._copies is not False:
            return bool(self._copies) and not self._is_main
        return not self._agent.names_another(lines, self._session)

    def owner_of(self, record: Decoded, line: bytes) -> str | None:
        """Return the id of the other session that a record belongs to; None if it belongs to the log it is in.

        Args:
            record: the record.
            line: the line that it was decoded from.
        """
        if self._copies and not self._is_main:
            return None
        named = self._session_of(record)
        if self._copies is False and (named is None or named == self._session):
            return None
        owner = self.owner(line)
        return owner if owner == named else None

    def owner(self, line: bytes) -> str | None:
        """Return the id of the other session that a line belongs to; None if it belongs to the log it is in."""
        if self.has_none(line):
            return None
        said = self._agent.glance(line)
        if said.session in (None, self._session):
            if said.goes_on is not None and said.session is not None and (self._is_main or self.is_open):
                self._copies = not self._is_main
            return None
        if self._copies is None and said.goes_on is not None:
            self._copies = said.goes_on is not self._is_main
        return said.session if self._copies is False and not said.is_copy else None
