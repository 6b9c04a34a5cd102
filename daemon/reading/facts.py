"""What the callers of agents know of sessions, by the lines that they have written to the outbox.

A caller of Claude Code knows whose session it is, and what it is about, as soon as the session has an id: before its
first answer. It knows how the session went when it has ended. The session itself is in Claude Code's own log. A file
of the outbox that says such a thing is read first at every start, and stays until the session is delivered.
"""

from __future__ import annotations

import threading

from daemon.following.session_files import session_name
from llma_core.spans import SessionFacts

__all__ = ["Facts"]


class Facts:
    """The facts of sessions, by the session's name. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], SessionFacts] = {}
        self._told: dict[str, set[str]] = {}

    def note(self, facts: SessionFacts, source: str) -> None:
        """Take what a line says; the newest counts.

        Args:
            facts: what it says.
            source: the name of the file of the outbox, as a session.
        """
        name = session_name(facts.agent, facts.session)
        with self._lock:
            self._found[name, facts.phase] = facts
            self._told.setdefault(source, set()).add(name)

    def start(self, name: str) -> SessionFacts | None:
        """Return what was known of a session, by name, when it began."""
        return self._found.get((name, "start"))

    def end(self, name: str) -> SessionFacts | None:
        """Return what was known of a session when it ended."""
        return self._found.get((name, "end"))

    def sessions(self, source: str) -> frozenset[str]:
        """Return the names of the sessions that a file of the outbox says something of."""
        with self._lock:
            return frozenset(self._told.get(source, ()))

    def forget(self, source: str) -> None:
        """Drop what a file said that is removed now."""
        with self._lock:
            for name in self._told.pop(source, ()):
                if not any(name in names for names in self._told.values()):
                    self._found.pop((name, "start"), None)
                    self._found.pop((name, "end"), None)
