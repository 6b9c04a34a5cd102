"""How far the reading of a session has got, and what of it is open: what others ask after each step of reading.

A `Pipeline` answers for what it reads itself, `daemon/parallel/` for what another process reads.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Protocol

from daemon.config.restraint import Restraint
from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Identity
from daemon.state.rows import FileMark, FrozenRoute

__all__ = ["FileStanding", "Standing"]


class FileStanding(Protocol):
    """How far a file is read; a `Tail` is one."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def identity(self) -> Identity:
        """Its device and inode."""

    @property
    def size(self) -> int:
        """Its bytes when it was last read."""

    @property
    def committed(self) -> int:
        """The settled offset, in bytes."""

    @property
    def known(self) -> FileMark | None:
        """Its last mark."""

    @property
    def offset(self) -> int:
        """The end of the last whole line that was read."""

    @property
    def position(self) -> int:
        """The end of the bytes that were read."""

    def mark(self, unit: str, offset: int, tail: bytes) -> FileMark:
        """Return the mark by which to recognize the file, settled up to *offset*."""


class Standing(Protocol):
    """How far a session is read; a `Pipeline` is one."""

    @property
    def files(self) -> SessionFiles:
        """The session's files."""

    @property
    def tails(self) -> Mapping[str, FileStanding]:
        """Its files, by name."""

    @property
    def guests(self) -> Mapping[str, SessionFiles]:
        """Which of them are other sessions' logs, and whose."""

    @property
    def has_repeats(self) -> bool:
        """Whether what one file says may be said again in another."""

    @property
    def again(self) -> bool:
        """Whether settled lines are read once more."""

    @property
    def resends(self) -> Container[str] | None:
        """The uuids of settled events that are to be sent again."""

    @property
    def is_spent(self) -> bool:
        """Whether it reads no more: a new pipeline has to be built."""

    @property
    def waiting(self) -> Mapping[str, None]:
        """Why lines wait for the user."""

    @property
    def routes(self) -> Mapping[Route, None]:
        """Where lines are sent that name another route."""

    @property
    def frozen(self) -> FrozenRoute | None:
        """The session's route, as decided with its first event."""

    @property
    def restraint(self) -> Restraint:
        """What the files of its project made stricter."""

    @property
    def originals(self) -> frozenset[str]:
        """The names of the sessions whose lines were copied into its files."""

    @property
    def idle(self) -> bool:
        """Whether nothing of it is open."""

    @property
    def at_rest(self) -> bool:
        """Whether its end would give out nothing now but traces."""

    @property
    def route(self) -> Route | None:
        """Where its events go; None before the first one."""

    @property
    def first_cwd(self) -> str | None:
        """Its first working directory."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each setting of its project that has no effect."""

    def is_hosted(self, file: str) -> bool:
        """Whether a guest is known to hold lines of the session."""

    def due(self) -> float | None:
        """Return when time alone may make something final, on a steady clock; None if it does not."""

    def needed_from(self) -> Mapping[str, int]:
        """Return where the oldest line starts that is still needed, for each file that has one."""

    def position(self, path: str) -> int | None:
        """Return the end of what was read of the file at *path*, in bytes; None if that is not open."""
