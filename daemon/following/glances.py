"""Looks at the small files of many sessions at once, before they are read one by one.

Each question to the disk is answered in another thread. For small sessions, these threads would wait for each other
longer than it takes to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress

from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Glance, KeepsNothing, KeepsOpen, glance
from daemon.system import disk

__all__ = ["Glances"]


class Glances:
    """What was found of logs a moment ago. Belongs to one thread.

    Args:
        kept: keeps files open.
    """

    def __init__(self, kept: KeepsOpen | None) -> None:
        self._kept: KeepsOpen = KeepsNothing() if kept is None else kept
        self._seen: dict[str, Glance] = {}

    def take(self, path: str) -> Glance | None:
        """Return what was found at *path*, once; None if nothing was, or nobody has looked."""
        return self._seen.pop(path, None)

    @contextmanager
    def over(self, sessions: Iterable[SessionFiles]) -> Iterator[None]:
        """Look at the logs of small sessions, and read them, so that `take` knows them in this context."""
        # Whoever keeps them open may wait for the disk.
        kept = {path: self._kept.borrow(path) for files in sessions for path in files.paths}

        def look() -> dict[str, Glance]:
            found = {}
            for path, file in kept.items():
                # Whoever opens it finds out what is wrong.
                with suppress(OSError), file or nullcontext():
                    disk.at(path.rpartition("/")[0])
                    found[path] = glance(path, file, begins=True)
            return found

        try:
            with suppress(disk.Unanswered):
                self._seen = disk.call("the logs of small sessions", look)
            yield
        finally:
            self._seen = {}
