"""Rejections: the events that are set aside, and the sessions that can build them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daemon.following.session_files import SessionFiles
from daemon.state import layout
from daemon.state.lock import AlreadyRunning, StateLock, is_locked
from daemon.state.rows import RejectedEvent
from daemon.state.store import Store, read_store

__all__ = ["Rejections", "rejected_events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejections:
    """The rejected events of the sessions that are on disk.

    Attributes:
        by_session: how many there are, by the session's name.
        lost: how many belong to no session that is on disk: their logs are gone, or an earlier version has set them
            aside, which did not store the session of a trace.
    """

    by_session: Counter[str]
    lost: int

    @classmethod
    def of(
        cls,
        events: Iterable[RejectedEvent],
        sessions: Collection[str],
        session_of: Callable[[str], SessionFiles | None],
    ) -> Self:
        """Find the sessions of *events*.

        Args:
            events: the rejected events.
            sessions: the names of the sessions that are on disk.
            session_of: returns the session of a log, by path; None if it belongs to none.
        """
        found: Counter[str] = Counter()
        lost = 0
        for event in events:
            name = event.unit
            if name is None and event.path is not None and (files := session_of(event.path)) is not None:
                name = files.name
            if name is not None and name in sessions:
                found[name] += 1
            else:
                lost += 1
        return cls(by_session=found, lost=lost)


def rejected_events(folder: Path) -> list[RejectedEvent]:
    """Return the rejected events that the store in a state directory lists, newest first.

    A store that an older version has left is upgraded, unless a daemon uses it.

    Raises:
        StoreError: the store cannot be used.
        sqlite3.Error: it cannot be read.
    """
    if not (folder / layout.STORE).is_file():
        return []
    if not is_locked(folder):
        try:
            with StateLock(folder, stage="ends", verb="backfill"), closing(Store(folder)) as store:
                return store.rejected()
        except AlreadyRunning:
            # A daemon has started just now.
            pass
    with read_store(folder) as store:
        return store.rejected() if store is not None else []
