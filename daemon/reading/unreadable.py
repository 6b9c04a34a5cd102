"""The sessions that cannot be read at the moment. Each problem is logged once, however often reading is tried."""

from __future__ import annotations

import errno
import sqlite3

import structlog

from daemon.following.session_files import SessionFiles
from daemon.system.messages import system_reason

__all__ = ["Unreadable"]

_log = structlog.get_logger(__name__)

_STORE = -1
"""Used in place of an error number if the store cannot be read."""
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say the daemon has no descriptors or memory left. Then no session can be read, and one line says so."""


class Unreadable:
    """The sessions that could not be read when they were last tried. Use it from one event loop only."""

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

    def note(self, files: SessionFiles, path: str, error: OSError) -> None:
        """Note that *path*, a log of a session, cannot be read."""
        code = error.errno
        if not (code in self._codes.values() if code in _SHORTAGES else files.name in self._codes):
            _log.warning(
                "log_unreadable", path=path, reason=system_reason(error), action="trying again; nothing is lost"
            )
        self._codes[files.name] = code

    def note_store(self, files: SessionFiles, error: sqlite3.OperationalError) -> None:
        """Note that a session cannot be read because the store cannot tell what of it is settled."""
        if _STORE not in self._codes.values():
            _log.error("store_unreadable", reason=str(error), action="trying again; nothing is lost")
        self._codes[files.name] = _STORE

    def note_read(self, files: SessionFiles) -> None:
        """Note that a session was read to its end."""
        if files.name not in self._codes:
            return
        code = self._codes.pop(files.name)
        if code == _STORE:
            if code not in self._codes.values():
                _log.info("store_readable_again")
        elif code not in _SHORTAGES or code not in self._codes.values():
            _log.info("log_readable_again", session=files.session)

    def forget(self, name: str) -> None:
        """Note that a session is gone."""
        self._codes.pop(name, None)
