"""The sessions in memory: one record for each."""

from __future__ import annotations

from collections.abc import Iterator, KeysView

from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles
from daemon.reading.pipeline import Pipeline

__all__ = ["OpenSession", "OpenSessions"]


class OpenSession:
    """A session in memory.

    Attributes:
        pipeline: what reads it.
        heard_at: when something new was last read of it, on a steady clock, in seconds.
        seen_running: whether the client's registry of live processes has named it.
        ended: whether what is final because nothing more comes was given out since it was last heard of.
        due: when the time alone makes something final, on the steady clock; None while nothing waits for that.
    """

    __slots__ = ("due", "ended", "heard_at", "pipeline", "seen_running")

    def __init__(self, pipeline: Pipeline, now: float) -> None:
        self.pipeline = pipeline
        self.heard_at = now
        self.seen_running = False
        self.ended = False
        self.due: float | None = None

    @property
    def files(self) -> SessionFiles:
        """Its files."""
        return self.pipeline.unit

    @property
    def name(self) -> str:
        """Its name."""
        return self.pipeline.unit.name


class OpenSessions:
    """The sessions in memory, by name."""

    def __init__(self) -> None:
        self._sessions: dict[str, OpenSession] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[OpenSession]:
        """Yield those that are there now; they may come and go meanwhile."""
        return iter(list(self._sessions.values()))

    @property
    def names(self) -> KeysView[str]:
        """Their names, as they come and go."""
        return self._sessions.keys()

    def get(self, name: str) -> OpenSession | None:
        """Return the session of that name; None if it is not in memory."""
        return self._sessions.get(name)

    def route(self, name: str) -> Route | None:
        """Return the route of a session; None if it is not in memory, or has none yet."""
        session = self._sessions.get(name)
        return session.pipeline.route if session is not None else None

    def add(self, session: OpenSession) -> OpenSession:
        """Take *session* into memory, and return it."""
        self._sessions[session.name] = session
        return session

    def pop(self, name: str) -> OpenSession | None:
        """Take a session out of memory, and return it; None if it was not there."""
        return self._sessions.pop(name, None)
