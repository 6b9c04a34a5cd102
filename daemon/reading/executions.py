"""The records that `exec` keeps in the state directory: its commands, their sessions, and additional properties.

Each command has one file in the folder `executions`, which only its owner can read and which is replaced as a whole. It
also has a lock, held as long as `exec` looks after the command. Every service reads these files:

    a file names a session             the session's events have the file's properties
    the command runs                   the traces of its sessions wait
    the command has ended              its sessions end once their processes are gone, and their traces are sent, with
                                       the command's properties for them
    all its sessions are delivered     the service removes the file, and so `exec` knows

If `exec` has to exit before everything is delivered, the file stays, and the next service sends the rest in the same
way.
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
from daemon.system import any_json
from daemon.system.messages import system_reason
from daemon.system.private_file import write_private
from llma_core.properties import refused_properties

__all__ = ["Execution", "Executions", "Notice"]

_log = structlog.get_logger(__name__)
_MOMENT_NS = 2_000_000_000
"""More than one tick of any file system's clock, in nanoseconds."""
_MAX_BYTES = 1024 * 1024
_MAX_FILES = 1000
_KEPT_SECONDS = 30 * 86_400.0
"""Age at which an untouched file is given up. By then, Claude Code has deleted the session's logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The record of one command: the contents of its file.

    Attributes:
        sessions: the ids of its sessions that are known so far.
        properties: additional properties of all their events.
        trace: additional properties of their traces.
        ended: whether the command has ended.
    """

    sessions: tuple[str, ...] = ()
    properties: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] = field(default_factory=dict)
    ended: bool = False


class Notice:
    """Writes the record of one command. A context manager: it holds the lock until it is left.

    Args:
        state_dir: the state directory. It must exist.
        properties: additional properties of all events of the command's sessions.

    Raises:
        OSError: the file cannot be written. Raised on entering and by every method that writes.
    """

    def __init__(self, state_dir: Path, properties: Mapping[str, Any]) -> None:
        # The name begins with the time, so that if one command runs another, the properties of the inner one win.
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
        """The ids of the sessions named so far."""
        return self._execution.sessions

    @property
    def is_there(self) -> bool:
        """Whether the file still exists: not everything is delivered yet."""
        return self._path.exists()

    def name(self, sessions: Iterable[str]) -> None:
        """Record further sessions of the command, by id."""
        fresh = sorted(set(sessions) - set(self._execution.sessions))
        if fresh:
            self._execution = replace(self._execution, sessions=(*self._execution.sessions, *fresh))
            self._write()

    def end(self, trace: Mapping[str, Any]) -> None:
        """Record that the command has ended, with additional properties of its sessions' traces."""
        self._execution = replace(self._execution, trace=dict(trace), ended=True)
        self._write()

    def withdraw(self) -> None:
        """Remove the record: there is nothing to deliver."""
        _remove(self._path)

    def _write(self) -> None:
        write_private(self._path, any_json.encode(self._execution))


class Executions:
    """The records of all commands in a state directory, as of the last `refresh`.

    `refresh` may run in another thread than the rest.

    Args:
        state_dir: the state directory; None for no records.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._folder = None if state_dir is None else state_dir / layout.EXECUTIONS
        self._known: Mapping[str, tuple[tuple[int, int, int], Execution | None]] = {}
        self._all: Mapping[str, Execution] = {}
        self._sessions: Mapping[str, Added] = MappingProxyType({})
        self._over: frozenset[str] = frozenset()
        self._modified = 0
        self.version = 0
        """How often `refresh` has found a change."""

    @property
    def may_be_new(self) -> bool:
        """Whether `refresh` may find a change: a command runs, or a file came or went since this was last asked."""
        if self._folder is None:
            return False
        try:
            modified = self._folder.stat().st_mtime_ns
        except OSError:
            modified = 0
        before, self._modified = self._modified, modified
        # The folder's time does not show a change within the same tick of the file system's clock.
        return bool(self._known) or modified != before or abs(time.time_ns() - modified) < _MOMENT_NS

    def refresh(self) -> bool:
        """Read the files again. Return whether anything has changed."""
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
        """Return what commands add to a session, by id."""
        return self._sessions.get(session, NOTHING)

    def names(self, session: str) -> bool:
        """Return whether a session, by id, belongs to a command."""
        return session in self._sessions

    @property
    def ended(self) -> Mapping[str, frozenset[str]]:
        """The ids of the sessions of each ended command, by the name of its record."""
        return {path: frozenset(each.sessions) for path, each in self._all.items() if each.ended}

    @property
    def any_runs(self) -> bool:
        """Whether a command runs."""
        return any(not each.ended for each in self._all.values())

    def close(self, ended: Mapping[str, frozenset[str]]) -> None:
        """Note that all logs were looked for after the commands *ended* had ended: all their sessions are known."""
        self._over = frozenset[str]().union(*ended.values())

    def is_over(self, session: str) -> bool:
        """Return whether nothing more comes of a session, by id, unless its process still runs."""
        return session in self._over and not self.of(session).waits

    def remove(self, name: str) -> None:
        """Remove a command's record, because everything of it is delivered.

        Args:
            name: the name of the record, from `ended`.

        Raises:
            OSError: the file cannot be removed.
        """
        _remove(Path(name))


def _look(
    folder: Path, before: Mapping[str, tuple[tuple[int, int, int], Execution | None]]
) -> dict[str, tuple[tuple[int, int, int], Execution | None]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.path for entry in entries if entry.name.endswith(".json"))[:_MAX_FILES]
    except OSError:
        # There is no folder: no command was ever run.
        return {}
    found = {}
    for path in names:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if time.time() - status.st_mtime > _KEPT_SECONDS and not _is_locked(path):
            with contextlib.suppress(OSError):  # the next look tries again
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
                _log.warning(
                    "execution_ignored", path=str(path), reason="it has another owner, or others can read or write it"
                )
                return None
            data = file.read(_MAX_BYTES + 1)
        execution = any_json.decode(data, Execution) if len(data) <= _MAX_BYTES else None
        if execution is not None:
            # Only the names of sessions need not be UTF-8. An event cannot hold such a property.
            msgspec.json.encode([execution.properties, execution.trace])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else "it was not written by `exec`"
        _log.warning("execution_ignored", path=str(path), reason=reason)
        return None
    if execution is None:
        _log.warning("execution_ignored", path=str(path), reason=f"it is larger than {_MAX_BYTES} bytes")
        return None
    return replace(execution, properties=_allowed(execution.properties), trace=_allowed(execution.trace))


def _allowed(properties: Mapping[str, Any]) -> dict[str, Any]:
    refused = refused_properties(properties)
    return {name: value for name, value in properties.items() if name not in refused}


def _lock_of(path: str | Path) -> Path:
    return Path(path).with_suffix(".lock")


def _is_locked(path: str) -> bool:
    """Return whether a running `exec` looks after the command of the file *path*."""
    try:
        descriptor = os.open(_lock_of(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A shared lock, so that two services that look do not mistake each other for `exec`.
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
