"""What `exec` leaves word of in the state directory: commands, their sessions, and what their events say besides.

For each command one file in `executions`, which only its owner can read, replaced as a whole, and a lock that is held
as long as somebody looks after the command. A service reads these files, whoever wrote them:

    a session that a file names        its events have the file's properties
    the command runs                   the traces of its sessions wait
    the command has ended              its sessions have ended, too, once their processes are gone; their traces go out
                                       with what the command had to say of them
    all of its sessions are delivered  the file is removed, by which `exec` knows

What is not delivered when `exec` has to go keeps its file, so that the next service sends it as it was to be.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec
import structlog

from daemon.reading.added import NOTHING, Added
from daemon.state import layout
from daemon.system.private_file import write_private
from llma_core import events

__all__ = ["Execution", "Executions", "Notice"]

_log = structlog.get_logger(__name__)
_MOMENT_NS = 2_000_000_000
"""Longer than any file system's clock takes from one time to the next, in nanoseconds."""
_MAX_BYTES = 1024 * 1024
_MAX_FILES = 1000
_KEPT_SECONDS = 30 * 86_400.0
"""Age of a file that nobody has touched and that is given up: the client has deleted its logs by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A command as its file tells of it.

    Attributes:
        sessions: the ids of its sessions, as far as they are known.
        properties: what all their events say besides.
        trace: what their traces say besides.
        ended: whether the command has ended.
    """

    sessions: tuple[str, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    ended: bool = False


class Notice:
    """The file of one command, written by who runs it. A context: the lock is held until it is left.

    Args:
        state_dir: the state directory, which must exist.
        properties: what all events of the command's sessions say besides.

    Raises:
        OSError: on entering, and by whatever writes: the system refuses.
    """

    def __init__(self, state_dir: Path, properties: Mapping[str, Any]) -> None:
        # The time comes first, so that of two commands, one of which runs the other, the inner one has the last word.
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        self._path = state_dir / layout.EXECUTIONS / f"{name}.json"
        self._execution = Execution(properties=dict(properties))
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(_lock_of(self._path), flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write()
        except BaseException:
            os.close(self._descriptor)
            self.withdraw()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._descriptor is not None
        os.close(self._descriptor)

    @property
    def sessions(self) -> tuple[str, ...]:
        """The sessions that are named."""
        return self._execution.sessions

    @property
    def is_there(self) -> bool:
        """Whether the file is there: no service has delivered all of it yet."""
        return self._path.exists()

    def name(self, sessions: Iterable[str]) -> None:
        """Name further sessions as the command's."""
        fresh = sorted(set(sessions) - set(self._execution.sessions))
        if fresh:
            self._execution = replace(self._execution, sessions=(*self._execution.sessions, *fresh))
            self._write()

    def end(self, trace: Mapping[str, Any]) -> None:
        """Say that the command has ended, and what the traces of its sessions are to say."""
        self._execution = replace(self._execution, trace=dict(trace), ended=True)
        self._write()

    def withdraw(self) -> None:
        """Take the word back: there is nothing to deliver."""
        _remove(self._path)

    def _write(self) -> None:
        write_private(self._path, msgspec.json.encode(self._execution))


class Executions:
    """The commands that files in a state directory tell of, as of the last look.

    What it answers is of the last `refresh`, which may be in another thread.

    Args:
        state_dir: the state directory.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._folder = None if state_dir is None else state_dir / layout.EXECUTIONS
        self._known: Mapping[str, tuple[tuple[int, int, int], Execution | None]] = {}
        self._all: Mapping[str, Execution] = {}
        self._sessions: Mapping[str, Added] = MappingProxyType({})
        self._over: frozenset[str] = frozenset()
        self._modified = 0
        self.version = 0
        """Counts how often the files have said anything new."""

    @property
    def may_be_new(self) -> bool:
        """Whether `refresh` may find anything new since this was last asked: a command runs, or a file came or went."""
        if self._folder is None:
            return False
        try:
            modified = self._folder.stat().st_mtime_ns
        except OSError:
            modified = 0
        before, self._modified = self._modified, modified
        # What came in the same moment as the last change cannot be told from it by its time.
        return bool(self._known) or modified != before or abs(time.time_ns() - modified) < _MOMENT_NS

    def refresh(self) -> bool:
        """Look at the files again, and return whether they say anything new."""
        known = {} if self._folder is None else _look(self._folder, self._known)
        found = {
            path: replace(execution, ended=execution.ended or not _is_locked(path))
            for path, (_, execution) in known.items()
            if execution is not None
        }
        self._known = known
        if found == self._all:
            return False
        sessions: dict[str, Added] = {}
        for execution in found.values():
            for session in execution.sessions:
                before = sessions.get(session, NOTHING)
                sessions[session] = Added(
                    properties={**before.properties, **execution.properties},
                    trace={**before.trace, **execution.trace},
                    waits=before.waits or not execution.ended,
                )
        self._all, self._sessions = found, sessions
        self.version += 1
        return True

    def of(self, session: str) -> Added:
        """Return what commands add to *session*."""
        return self._sessions.get(session, NOTHING)

    def names(self, session: str) -> bool:
        """Whether *session* is one of a command's."""
        return session in self._sessions

    @property
    def ended(self) -> Mapping[str, frozenset[str]]:
        """The sessions of each command that has ended, by what `remove` knows it by."""
        return {path: frozenset(each.sessions) for path, each in self._all.items() if each.ended}

    @property
    def any_runs(self) -> bool:
        """Whether any command runs."""
        return any(not each.ended for each in self._all.values())

    def close(self, ended: Mapping[str, frozenset[str]]) -> None:
        """Note that all logs were looked for since the commands *ended* (see there) had ended: theirs are known."""
        self._over = frozenset[str]().union(*ended.values())

    def is_over(self, session: str) -> bool:
        """Whether nothing more is to come of *session*, unless its process still runs."""
        return session in self._over and not self.of(session).waits

    def remove(self, name: str) -> None:
        """Remove the file of a command of which everything is delivered.

        Raises:
            OSError: the system refuses.
        """
        _remove(Path(name))


def _look(
    folder: Path, before: Mapping[str, tuple[tuple[int, int, int], Execution | None]]
) -> dict[str, tuple[tuple[int, int, int], Execution | None]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.path for entry in entries if entry.name.endswith(".json"))[:_MAX_FILES]
    except OSError:
        # No folder: nobody has run a command.
        return {}
    found = {}
    for path in names:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if time.time() - status.st_mtime > _KEPT_SECONDS and not _is_locked(path):
            with contextlib.suppress(OSError):  # it is given up again the next time
                _remove(Path(path))
            continue
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = before.get(path)
        found[path] = known if known is not None and known[0] == version else (version, _read(Path(path)))
    return found


def _read(path: Path) -> Execution | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                _log.warning("execution_ignored", path=str(path), reason="is not this user's alone")
                return None
            data = file.read(_MAX_BYTES + 1)
        execution = msgspec.json.decode(data, type=Execution) if len(data) <= _MAX_BYTES else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not what `exec` writes"
        _log.warning("execution_ignored", path=str(path), reason=reason)
        return None
    if execution is None:
        _log.warning("execution_ignored", path=str(path), reason=f"is larger than {_MAX_BYTES} bytes")
        return None
    return replace(execution, properties=_allowed(execution.properties), trace=_allowed(execution.trace))


def _allowed(properties: Mapping[str, Any]) -> dict[str, Any]:
    refused = events.refused_properties(properties)
    return {name: value for name, value in properties.items() if name not in refused}


def _lock_of(path: str | Path) -> Path:
    return Path(path).with_suffix(".lock")


def _is_locked(path: str) -> bool:
    """Whether somebody looks after the command of the file *path*."""
    try:
        descriptor = os.open(_lock_of(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared, so that two who look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _lock_of(path).unlink(missing_ok=True)
