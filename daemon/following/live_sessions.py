"""The client's registry of live processes: which sessions run, and which have provably ended.

Clients from about 2.1.100 on keep one file `sessions/<pid>.json` for each process in their configuration folder, and
remove it when they exit. After a crash it stays. So a record proves that its session runs only if its process lives and
is provably the one that wrote the record.

That a session has no record proves nothing: some clients never register, and others share the folder from a container
or have their records removed by a sandbox. An end is proved only by a record that was seen for this very session and is
gone, or names a dead process. `Sighting` is what has to be remembered for that across restarts.

Since 2.1.329 at the latest a record says in which space its process number counts (`pidDomain`). Of a number from
another space nobody here can tell whose it is.
"""

from __future__ import annotations

import calendar
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from daemon.following.log_roots import config_folder
from daemon.state.rows import Sighting
from daemon.system import disk
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["Ending", "LiveSessions", "Status"]

_State = Literal["alive", "dead", "other", "foreign"]
"""What is known of the process that a record names.

- `alive`: it lives, and is the one that wrote the record.
- `dead`: there is no such process.
- `other`: another program has its number.
- `foreign`: its number counts in another space.
"""

_BY_STATE: Final[tuple[_State, ...]] = ("alive", "foreign", "other", "dead")
_MAY_LIVE: Final = ("alive", "foreign")

# A record has a few hundred bytes; a folder holds one for each running client.
_MAX_RECORD_BYTES = 64 * 1024
_MAX_RECORDS = 4096

# A record is written after its process began. A process that is younger than its record by more than this took over the
# number of one that died.
_SLACK_S = 10.0

# Larger than any system's process numbers; Linux ends at 2**22.
_MAX_PID = 2**31 - 1

_YEAR_5000_S = 95_617_584_000.0

_PROC = Path("/proc")


class _Record(msgspec.Struct, frozen=True):
    """A file of the registry: only the fields in use, and a type only where one is needed."""

    sessionId: str  # noqa: N815 - the client's name
    pid: object = None
    startedAt: object = None  # noqa: N815
    procStart: object = None  # noqa: N815
    pidDomain: object = None  # noqa: N815
    status: object = None
    waitingFor: object = None  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the record of a running session says that it does.

    Attributes:
        word: `busy`, `idle` or `waiting`, as clients from 2.1.300 on write it; None if the record does not say it.
        waits_for: what a `waiting` session needs from a person, in the client's words, such as `permission prompt` or
            `input needed` (2.1.329); None if the record does not say it.
    """

    word: str | None = None
    waits_for: str | None = None


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


class _Registered(NamedTuple):
    """A process that a record names, what is known of it, and its start in clock ticks if the record says the same."""

    pid: int
    state: _State
    ticks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The proof that a session has ended.

    Attributes:
        at: when it was noticed, in seconds since the epoch. It proves nothing about lines that came later.
        certain: whether nothing more can come. A client may have removed the record of a process of another space.
            A process that lives on with another session may still have subagents of this one at work.
    """

    at: float
    certain: bool


class LiveSessions:
    """The sessions of the clients that use *config_dirs*. For one thread at a time; `ending` for any.

    Args:
        config_dirs: the clients' configuration folders.
        seen: the sessions of which earlier runs have seen a record.

    Attributes:
        folders: the registries, whether or not they exist.
    """

    def __init__(self, config_dirs: Iterable[Path], seen: Iterable[Sighting] = ()) -> None:
        self.folders = tuple(config_folder(folder) / "sessions" for folder in config_dirs)
        self._known: dict[str, _Known] = {}
        self._seen = {sighting.session: sighting for sighting in seen}
        self._unsaved: dict[str, Sighting] = {}
        self._left: frozenset[str] = frozenset()

    @property
    def has_registry(self) -> bool:
        """Whether any client here keeps a registry; without one, nothing is known about running sessions."""
        return any(disk.is_folder(str(folder)) for folder in self.folders)

    def statuses(self) -> dict[str, Status]:
        """Return the sessions that provably run now, with what their records say that they do."""
        return {
            record.sessionId: Status(word=_text(record.status), waits_for=_text(record.waitingFor))
            for record, _, state, _ in self._records()
            if state == "alive"
        }

    def running(self) -> frozenset[str]:
        """Return the ids of the sessions that provably run now, and note which have ended."""
        found: dict[str, list[_Registered]] = {}
        for record, pid, state, ticks in self._records():
            found.setdefault(record.sessionId, []).append(_Registered(pid, state, ticks))
        for session, processes in found.items():
            self._see(session, processes)
        running = {name for name, each in found.items() if any(process.state == "alive" for process in each)}
        registered = {name for name, each in found.items() if any(process.state != "dead" for process in each)}
        holders = {process.pid: name for name, each in found.items() for process in each if process.state == "alive"}
        self._left = frozenset(
            session
            for session, sighting in self._seen.items()
            if session not in registered and sighting.pid in holders and _is_same_process(sighting)
        )
        now = int(time.time() * 1000)
        for session, sighting in list(self._seen.items()):
            if session in registered:
                if sighting.gone_at is not None:
                    self._note(replace(sighting, gone_at=None))
            elif sighting.gone_at is None and not _still_lives(sighting, holders):
                self._note(replace(sighting, gone_at=now))
        return frozenset(running)

    def _see(self, session: str, processes: Sequence[_Registered]) -> None:
        """Remember one of the processes that are registered for a session: the last one known, while it may live.

        Two terminals, accounts or containers may go on with the same session at the same time.
        """
        known = self._seen.get(session)
        best = min(processes, key=lambda process: _BY_STATE.index(process.state))
        same = (each for each in processes if known is not None and known.pid == each.pid)
        mine = next((each for each in same if known is not None and known.foreign == (each.state == "foreign")), None)
        if known is None or (best.state in _MAY_LIVE and (mine is None or mine.state not in _MAY_LIVE)):
            self._note(Sighting(session=session, pid=best.pid, ticks=best.ticks, foreign=best.state == "foreign"))
        elif known.ticks is None and mine is not None and mine.ticks is not None:
            self._note(replace(known, ticks=mine.ticks))

    def ending(self, session: str) -> Ending | None:
        """Return the proof that *session* has ended, as of the last call of `running`; None if there is none."""
        sighting = self._seen.get(session)
        if sighting is None or sighting.gone_at is None:
            return None
        return Ending(at=sighting.gone_at / 1000, certain=not (sighting.foreign or session in self._left))

    def unsaved(self) -> list[Sighting]:
        """Return what was seen and is not saved yet, to be given to the next run."""
        return [*self._unsaved.values()]

    def saved(self, sightings: Iterable[Sighting]) -> None:
        """Note that *sightings* are saved, unless something else was seen of their sessions meanwhile."""
        for sighting in sightings:
            if self._unsaved.get(sighting.session) == sighting:
                del self._unsaved[sighting.session]

    def processes(self) -> frozenset[tuple[int, str]]:
        """Return the processes that provably run now, each with the id of its session."""
        return frozenset((pid, record.sessionId) for record, pid, state, _ in self._records() if state == "alive")

    def _note(self, sighting: Sighting) -> None:
        self._seen[sighting.session] = self._unsaved[sighting.session] = sighting

    def _records(self) -> Iterator[tuple[_Record, int, _State, int | None]]:
        """Yield every record, its process, what is known of it and, if the record says it, the process's start.

        A file is read again only when it has changed, but each call checks whether its process lives. Files that do not
        belong to the registry, or cannot be read, are ignored. For a half-written file, its previous content counts,
        and that of all of them while their folder does not answer.
        """
        known: dict[str, _Known] = {}
        for folder in self.folders:
            try:
                known |= disk.call(str(folder), partial(self._look, folder))
            except disk.Unanswered:
                known |= {path: item for path, item in self._known.items() if path.startswith(f"{folder}/")}
        self._known = known
        for path, item in known.items():
            record = item.record
            if record is not None and (pid := _pid(record, Path(path))) is not None:
                yield record, pid, *_examine(record, pid, item.version[2] / 1e9)

    def _look(self, folder: Path) -> dict[str, _Known]:
        found = ((path, self._read(path)) for path in _paths(folder))
        return {path: item for path, item in found if item is not None}

    def _read(self, path: str) -> _Known | None:
        before = self._known.get(path)
        try:
            status = Path(path).stat()
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            if before is not None and before.version == version:
                return before
            data = read_regular(Path(path), _MAX_RECORD_BYTES)
        except (OSError, UnreadableFileError):
            return None
        if data is None:
            return None
        try:
            record: _Record | None = msgspec.json.decode(data, type=_Record)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            record = before.record if before is not None else None
        return _Known(version=version, record=record)


def _paths(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry.path
                for _, entry in zip(range(_MAX_RECORDS), entries, strict=False)
                if entry.name.endswith(".json")
            ]
    except OSError:
        # A folder that is missing or may not be read is no registry.
        return []


def _pid(record: _Record, path: Path) -> int | None:
    """Return the number of the process that wrote *record*; None if that cannot be a number of a process."""
    pid = record.pid if isinstance(record.pid, int) and not isinstance(record.pid, bool) else _digits(path.stem)
    return pid if pid is not None and 0 < pid <= _MAX_PID else None


@cache
def _own_domain() -> str:
    """Return in which space process numbers count here, as clients write it."""
    if sys.platform != "linux":
        return "linux"
    try:
        machine = Path("/etc/machine-id").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        machine = ""
    try:
        space = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"linux:{machine}:{space}"


def _examine(record: _Record, pid: int, written: float) -> tuple[_State, int | None]:
    """Return what is known of the process of *record*, and its start in ticks if the record says the same.

    Args:
        record: the record.
        pid: the number of its process.
        written: when the record was last written, in seconds since the epoch.
    """
    if isinstance(record.pidDomain, str) and record.pidDomain != _own_domain():
        return "foreign", None
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except ProcessLookupError:
        return "dead", None
    process = _process(pid)
    if process is None:
        # This system has no /proc, or the process has just gone, which the next look will say.
        return "alive", None
    if process.state in "ZX":
        return "dead", None
    if (ticks := _ticks(record)) is not None:
        return ("alive", process.ticks) if ticks == str(process.ticks) else ("other", None)
    recorded = _recorded_start(record)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - process.ticks / os.sysconf("SC_CLK_TCK")
    began = time.time() - age
    # Another client with the same number would have replaced the file by its own.
    is_writer = "claude" in process.name or began <= (written if recorded is None else recorded) + _SLACK_S
    return ("alive" if is_writer else "other"), None


def _still_lives(sighting: Sighting, holders: dict[int, str]) -> bool:
    """Whether the process of a session without a record lives on: somebody else has removed the record.

    Args:
        sighting: the session.
        holders: which session the record of each process names now; a process goes on with another session at `/clear`.
    """
    if sighting.ticks is None or sighting.pid in holders:
        return False
    process = _process(sighting.pid)
    return process is not None and process.state not in "ZX" and process.ticks == sighting.ticks


def _is_same_process(sighting: Sighting) -> bool:
    """Whether the live process with the number of *sighting* is the same one, as far as that can be told."""
    process = _process(sighting.pid) if sighting.ticks is not None else None
    return process is None or process.ticks == sighting.ticks


def _ticks(record: _Record) -> str | None:
    """Return the start of the writer in clock ticks after the system's, if *record* says it."""
    start = record.procStart
    text = str(start) if isinstance(start, int) and not isinstance(start, bool) and abs(start) < 2**63 else start
    return text if isinstance(text, str) and text.isascii() and text.isdigit() else None


def _recorded_start(record: _Record) -> float | None:
    """Return when the writer began, in seconds since the epoch; None if the record has it in no known form."""
    if isinstance(record.procStart, str):
        try:
            # As `ps -o lstart` prints it, in UTC.
            return float(calendar.timegm(time.strptime(record.procStart, "%a %b %d %H:%M:%S %Y")))
        except ValueError:
            # A form yet unknown: the other field tells, too.
            pass
    started = record.startedAt
    if isinstance(started, int | float) and not isinstance(started, bool) and 0 < started < _YEAR_5000_S * 1000:
        return started / 1000
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


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _digits(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
