"""What stands here for the pipeline of a worker."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping

import structlog

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import TailState
from daemon.parallel.wire import Slice
from daemon.state.rows import FrozenRoute
from daemon.system.secret import Secret

__all__ = ["Remote", "route_of"]

_log = structlog.get_logger(__name__)
_LEVELS = logging.getLevelNamesMapping()


class Remote:
    """How far a worker has read a session, as of the last slice that was handed over. It cannot read on by itself.

    Args:
        files: the session's files.
        again: whether its settled lines were read once more.

    Attributes:
        is_spent: always true: a new pipeline reads what comes later.
        count: how many slices were handed over.
    """

    def __init__(self, files: SessionFiles, *, again: bool) -> None:
        self.files = files
        self.again = again
        self.resends: Container[str] | None = None
        self.is_spent = True
        self.count = 0
        self.tails: dict[str, TailState] = {}
        self.guests: Mapping[str, SessionFiles] = {}
        self.waiting: Mapping[str, None] = {}
        self.routes: Mapping[Route, None] = {}
        self.frozen: FrozenRoute | None = None
        self.restraint: Restraint = UNRESTRAINED
        self.route: Route | None = None
        self.warnings: tuple[str, ...] = ()
        self.first_cwd: str | None = None
        self.idle = False
        self.has_repeats = False
        self.originals: frozenset[str] = frozenset()
        self._files: dict[str, str] = {}
        self._needed: dict[str, int] = {}

    def take(self, part: Slice) -> None:
        """Take over what the session came to with *part*, and log what the worker has said."""
        for said in part.said:
            _log.log(_LEVELS[said.level.upper()], said.event, **said.fields)
        self.count += 1
        self.tails, self._files, self._needed = part.tails, part.files, part.needed
        self.originals, self.has_repeats = frozenset(part.originals), part.has_repeats
        self.frozen, self.first_cwd, self.idle = part.frozen, part.first_cwd, part.idle and not part.progress.more
        self.restraint, self.warnings = part.restraint or UNRESTRAINED, part.warnings
        if part.route is not None and self.route is None:
            self.route = route_of(part)

    @property
    def at_rest(self) -> bool:
        """Whether the session's end would give out nothing now but traces."""
        return self.idle

    def is_hosted(self, file: str) -> bool:
        """Whether a guest is known to hold lines of the session: it has no guests."""
        del file
        return False

    def due(self) -> None:
        """Return None: time alone makes nothing final here."""

    def needed_from(self) -> Mapping[str, int]:
        """Return where the oldest line starts that is still needed, for each file that has one."""
        return self._needed

    def position(self, path: str) -> int | None:
        """Return the end of what was read of the file at *path*, in bytes; None if that is not open."""
        file = self._files.get(path)
        return self.tails[file].position if file is not None else None


def route_of(part: Slice) -> Route | None:
    """Return where the events of *part* go; None if it has none yet."""
    if part.route is None:
        return None
    host, key = part.route
    return Route(host=host, key=Secret(key))
