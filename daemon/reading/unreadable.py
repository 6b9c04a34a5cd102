"""Sessions that cannot be read for now: each is tried again from time to time, and what is wrong is said once."""

from __future__ import annotations

import errno
import sqlite3

import structlog

from daemon.following.session_files import SessionFiles

__all__ = ["Unreadable"]

_log = structlog.get_logger(__name__)

_STORE = -1
"""In place of an error's number: it is the store that cannot be read."""
_OWN_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Where it is the daemon that has no descriptor left, no session can be read, and one line says it."""


class Unreadable:
    """The sessions that could not be read when they were last tried. Belongs to one event loop."""

    def __init__(self) -> None:
        self._codes: dict[str, int | None] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._codes

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def names(self) -> list[str]:
        """The names of the sessions."""
        return list(self._codes)

    def note(self, unit: SessionFiles, path: str, error: OSError) -> None:
        """Take note that *path*, a log of *unit*, cannot be read."""
        code = error.errno
        if not (code in self._codes.values() if code in _OWN_WANT else unit.name in self._codes):
            _log.warning(
                "log_unreadable", path=path, reason=error.strerror or str(error), action="trying again; nothing is lost"
            )
        self._codes[unit.name] = code

    def note_store(self, unit: SessionFiles, error: sqlite3.OperationalError) -> None:
        """Take note that nobody can say what of *unit* is settled."""
        if _STORE not in self._codes.values():
            _log.error("store_unreadable", reason=str(error), action="trying again; nothing is lost")
        self._codes[unit.name] = _STORE

    def note_read(self, unit: SessionFiles) -> None:
        """Take note that *unit* was read to its end."""
        if unit.name not in self._codes:
            return
        code = self._codes.pop(unit.name)
        if code == _STORE:
            if code not in self._codes.values():
                _log.info("store_readable_again")
        elif code not in _OWN_WANT or code not in self._codes.values():
            _log.info("log_readable_again", session=unit.session)

    def forget(self, name: str) -> None:
        """Take note that a session is gone."""
        self._codes.pop(name, None)
