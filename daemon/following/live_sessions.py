"""The sessions that still run, from the client's registry of live processes.

Clients from about 2.1.100 on keep one file `sessions/<pid>.json` for each process in their configuration folder, and
remove it when they exit. After a crash it stays, so a file alone proves nothing: its process must live, and must be the
one that wrote it. If that cannot be determined, the session counts as running, and its silence tells when it has ended.
"""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["LiveSessions"]

# A record has a few hundred bytes; a folder holds one for each running client.
_MAX_RECORD_BYTES = 64 * 1024
_MAX_RECORDS = 4096

# A client writes its record seconds after its process began. A process that is younger than its record by more than
# this has reused the pid of one that died.
_SLACK_S = 60.0

_PROC = Path("/proc")


class _Record(msgspec.Struct, frozen=True):
    """A file of the registry: only the fields in use, and a type only where one is needed."""

    sessionId: str  # noqa: N815 - the client's name
    pid: object = None
    startedAt: object = None  # noqa: N815
    procStart: object = None  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A file as it was last read.

    Attributes:
        version: what changes with the file: inode, size, modification time.
        record: its content, or None if that was not usable.
    """

    version: tuple[int, int, int]
    record: _Record | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """A process as Linux describes it: its name, its state letter, and its start in clock ticks since boot."""

    name: str
    state: str
    ticks: int


class LiveSessions:
    """The live sessions of the clients that use some configuration folders. For one thread at a time.

    Args:
        config_dirs: Claude Code's configuration folders.
    """

    def __init__(self, config_dirs: Iterable[Path]) -> None:
        self._folders = tuple(folder / "sessions" for folder in config_dirs)
        self._known: dict[str, _Known] = {}

    @property
    def has_registry(self) -> bool:
        """Whether any client here keeps a registry; without one, nothing is known about running sessions."""
        return any(folder.is_dir() for folder in self._folders)

    def running(self) -> frozenset[str]:
        """Return the ids of the sessions that run now."""
        return frozenset(session for _, session in self.processes())

    def processes(self) -> frozenset[tuple[int, str]]:
        """Return the processes that run now, each with the id of its session.

        A file is read again only when it has changed, but each call checks whether its process lives. Files that do not
        belong to the registry, or cannot be read, are ignored. For a half-written file, its previous content counts.
        """
        known: dict[str, _Known] = {}
        for folder in self._folders:
            for entry in _entries(folder):
                if (found := self._read(entry)) is not None:
                    known[entry.path] = found
        self._known = known
        records = [(item.record, Path(path)) for path, item in known.items() if item.record is not None]
        return frozenset(
            (pid, record.sessionId)
            for record, path in records
            if (pid := _pid(record, path)) is not None and _is_running(record, pid)
        )

    def _read(self, entry: os.DirEntry[str]) -> _Known | None:
        before = self._known.get(entry.path)
        try:
            status = entry.stat()
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            if before is not None and before.version == version:
                return before
            data = read_regular(Path(entry.path), _MAX_RECORD_BYTES)
        except (OSError, UnreadableFileError):
            return None
        if data is None:
            return None
        try:
            record: _Record | None = msgspec.json.decode(data, type=_Record)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            record = before.record if before is not None else None
        return _Known(version=version, record=record)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry for _, entry in zip(range(_MAX_RECORDS), entries, strict=False) if entry.name.endswith(".json")
            ]
    except OSError:
        # A folder that is missing or may not be read is no registry.
        return []


def _pid(record: _Record, path: Path) -> int | None:
    pid = record.pid if isinstance(record.pid, int) and not isinstance(record.pid, bool) else _digits(path.stem)
    return pid if pid is not None and pid > 0 else None


def _is_running(record: _Record, pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    process = _process(pid)
    return process is None or _may_have_written(process, record)


def _may_have_written(process: _Process, record: _Record) -> bool:
    """Whether *process* may be the one that wrote *record*: True unless it evidently began later."""
    if process.state in "ZX":
        return False
    # Another client with the same pid would have replaced the file with its own.
    if "claude" in process.name or str(record.procStart) == str(process.ticks):
        return True
    recorded = _recorded_start(record)
    if recorded is None:
        return True
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - process.ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= recorded + _SLACK_S


def _recorded_start(record: _Record) -> float | None:
    """Return when the writer began, in seconds since the epoch; None if the record has it in no known form."""
    if isinstance(record.procStart, str):
        try:
            # As `ps -o lstart` prints it, in UTC.
            return float(calendar.timegm(time.strptime(record.procStart, "%a %b %d %H:%M:%S %Y")))
        except ValueError:
            # Clock ticks, or a form not known yet: the other field has the time, too.
            pass
    if isinstance(record.startedAt, int | float) and not isinstance(record.startedAt, bool):
        return record.startedAt / 1000
    return None


def _process(pid: int) -> _Process | None:
    """Return the system's description of process *pid*; None without /proc, or if the process has just ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may itself contain blanks and parentheses; the other fields are words.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    start = 19
    if len(fields) <= start:
        return None
    return _Process(name=head.partition("(")[2].lower(), state=fields[0], ticks=int(fields[start]))


def _digits(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
