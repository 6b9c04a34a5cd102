"""The sessions in memory: one record for each.

A session is in memory while it is read, while something of it is open or unsettled, and for a while after. All others
are only entries in the catalog of logs, and are replayed from their files when they grow.
"""

from __future__ import annotations

from collections.abc import Iterator, KeysView

from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles
from daemon.reading.standing import Standing

__all__ = ["OpenSession", "OpenSessions"]


class OpenSession:
    """A session in memory.

    Attributes:
        pipeline: what reads its files: a `Pipeline`, or what stands for one in another process.
        heard_at: when a new line of it was last read, in seconds of a steady clock; at first, when it was opened.
        age: how many seconds before that its files were last written to, by the wall clock.
        ended: whether its end was given out. A new line makes it false again.
        due: when time alone makes something final, on the steady clock; None if nothing waits for that.
    """

    __slots__ = ("age", "due", "ended", "heard_at", "pipeline")

    def __init__(self, pipeline: Standing, now: float, age: float = 0.0) -> None:
        self.pipeline = pipeline
        self.heard_at = now
        self.age = age
        self.ended = False
        self.due: float | None = None

    @property
    def files(self) -> SessionFiles:
        """The session's files."""
        return self.pipeline.files

    @property
    def name(self) -> str:
        """The session's name."""
        return self.pipeline.files.name


class OpenSessions:
    """The sessions in memory, by name."""

    def __init__(self) -> None:
        self._sessions: dict[str, OpenSession] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[OpenSession]:
        """Yield the sessions of this moment. Sessions may be added and removed meanwhile."""
        return iter(list(self._sessions.values()))

    @property
    def names(self) -> KeysView[str]:
        """A live view of their names."""
        return self._sessions.keys()

    def get(self, name: str) -> OpenSession | None:
        """Return the session of that name; None if it is not in memory."""
        return self._sessions.get(name)

    def route(self, name: str) -> Route | None:
        """Return the route of a session; None if it is not in memory or its route is not decided yet."""
        session = self._sessions.get(name)
        return session.pipeline.route if session is not None else None

    def add(self, session: OpenSession) -> OpenSession:
        """Add *session* and return it."""
        self._sessions[session.name] = session
        return session

    def pop(self, name: str) -> OpenSession | None:
        """Remove a session and return it; None if it was not in memory."""
        return self._sessions.pop(name, None)
