"""What the logs that existed at the first start say: which messages and lines are history, wherever their copies are.

A time proves nothing: the clock of whoever writes may be behind, and any clock may be set back. But a fork copies lines
from a log that was there, and some versions (2.1.100 to 2.1.300) do not mark the copies. So lines from before the first
start in a log that appeared later are looked up in the logs that were there: those of its project, and any that began
with the same line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import structlog

from daemon.following.opening import roots_of
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import open_log
from daemon.system import disk

__all__ = ["LoggedHistory"]

_log = structlog.get_logger(__name__)
_ID = re.compile(rb'"(?:uuid|id)":\s?"([^"\\]{1,200})"')
_SETS = 8
"""How many folders' and sessions' history to remember. Most sessions hold no line from before the first start."""


class _Lookup(Protocol):
    """Where the files that existed at the first start are looked up."""

    def history(self, folder: str) -> Iterable[tuple[str, int]]:
        """Return the path and settled length, in bytes, of each history file below *folder*; of all below ""."""


class LoggedHistory:
    """Tells which lines are history. Use it from one thread at a time.

    Args:
        lookup: knows the files that existed at the first start.
    """

    def __init__(self, lookup: _Lookup) -> None:
        self._lookup = lookup
        self._ids: dict[str, set[int]] = {}
        self._by_root: dict[str, list[tuple[str, int]]] | None = None
        self._has_warned = False

    def holds(self, files: SessionFiles, identity: str) -> bool:
        """Return whether the history that a session may be a copy of has a message, call or line.

        Args:
            files: the session.
            identity: that of the message, call or line.

        Raises:
            sqlite3.OperationalError: the store cannot be read.
            disk.Unanswered: a folder does not answer.
        """
        wanted = hash(identity.split("|")[1].encode("utf-8", "surrogatepass"))
        return wanted in self._known(files.folder, lambda: self._lookup.history(files.folder)) or wanted in self._known(
            files.name, lambda: self._originals(files)
        )

    def _known(self, key: str, logs: Callable[[], Iterable[tuple[str, int]]]) -> set[int]:
        ids = self._ids.get(key)
        if ids is None:
            if len(self._ids) >= _SETS:
                self._ids.clear()
            ids = set[int]()
            for path, length in logs():
                ids |= disk.call(path.rpartition("/")[0], partial(_ids_in, path, length))
            self._ids[key] = ids
        return ids

    def _originals(self, files: SessionFiles) -> Iterable[tuple[str, int]]:
        """Return the history files in other folders that begin as a session does."""
        if self._by_root is None:
            self._by_root = {}
            for path, length in self._lookup.history(""):
                place = files.agent.classify(path)
                if place is not None and place.kind == "session":
                    for root in roots_of(files.agent, path):
                        self._by_root.setdefault(root, []).append((path, length))
        found = {
            path: length
            for main in files.mains
            for root in roots_of(files.agent, main)
            for path, length in self._by_root.get(root, ())
            if path.rpartition("/")[0] != files.folder
        }
        return found.items()

    def warn(self, session: str) -> None:
        """Say once that somebody's clock disagrees: lines that came after the first start have earlier times."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "clock_disagrees",
                session=session,
                reason="new lines have times from before the first start",
                action="sent with these times; check the clocks",
            )


def _ids_in(path: str, length: int) -> set[int]:
    """Return the hashes of all ids in the first *length* bytes of a log; of none if it cannot be read any more."""
    found: set[int] = set()
    try:
        with open_log(path, buffered=True) as file:
            while length > 0 and (line := file.readline()):
                disk.at(path.rpartition("/")[0])
                length -= len(line)
                found.update(map(hash, _ID.findall(line)))
    except OSError:
        pass
    return found
