"""Which log files there are and which session each belongs to.

A unit is one session: its main log, its subagents' logs and their meta files. It is what is read, accumulated and
replayed as one.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from daemon.tailer import open_log
from llma_core.claude_code.layout import LogPath, classify
from llma_core.claude_code.records import (
    AssistantRecord,
    AttachmentRecord,
    SystemRecord,
    UserRecord,
    decode,
    glance,
    milliseconds,
)
from llma_core.errors import RecordError

__all__ = [
    "LOG_SUFFIXES",
    "Catalog",
    "Opening",
    "Unit",
    "by_first_line",
    "opening",
    "project_files",
    "project_folders",
    "session_files",
]

Found = tuple[str, os.stat_result]

LOG_SUFFIXES = (".jsonl", ".meta.json")
"""Names that may be a log or a meta file."""

_GLANCE_LINES = 50
"""Lines looked at to find a file's first time or session; both stand in one of the first few."""
_GLANCE_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Unit:
    """One session's files.

    Attributes:
        name: the unit's name: project folder and session id.
        folder: the project folder.
        main: path of the main log; None while only subagents' logs are there.
        agents: subagents' logs, by path, with the subagent's id.
        metas: subagents' meta files, by the subagent's id.
    """

    name: str
    folder: str
    main: str | None = None
    agents: dict[str, str] = field(default_factory=dict)
    metas: dict[str, str] = field(default_factory=dict)

    @property
    def session(self) -> str:
        """The session's id."""
        return self.name.partition("/")[2]

    @property
    def paths(self) -> list[str]:
        """The logs, the main one first."""
        return [*([self.main] if self.main else []), *sorted(self.agents)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a session began.

    Attributes:
        session: its id.
        cwd: its first working directory, or None where that is not known yet.
        at: the time of its first line, in milliseconds since the epoch, or None.
        version: the version of the client that says its working directory, or None.
    """

    session: str
    cwd: str | None = None
    at: int | None = None
    version: str | None = None


class Catalog:
    """Sorts paths into units, as they are found."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self._by_path: dict[str, Unit] = {}
        self._folders: dict[str, str] = {}

    def add(self, path: str) -> Unit | None:
        """Take a path that exists; return the unit it belongs to, None if it belongs to none (yet)."""
        known = self._by_path.get(path)
        if known is not None:
            return known
        place = classify(path)
        if place is None:
            return None
        session = place.session or _named_inside(path, place)
        if session is None:
            return None
        name = f"{Path(place.folder).name}/{session}"
        unit = self.units.get(name)
        if unit is None:
            # One text for all of a folder: there may be thousands.
            folder = self._folders.setdefault(place.folder, place.folder)
            unit = self.units[name] = Unit(name=name, folder=folder)
        if place.kind == "session":
            unit.main = path
        elif place.kind == "agent":
            assert place.agent is not None
            unit.agents[path] = place.agent
        else:
            assert place.agent is not None
            unit.metas[place.agent] = path
        self._by_path[path] = unit
        return unit

    def remove(self, path: str) -> Unit | None:
        """Take a path that is gone; return the unit it belonged to."""
        unit = self._by_path.pop(path, None)
        if unit is None:
            return None
        if unit.main == path:
            unit.main = None
        unit.agents.pop(path, None)
        unit.metas = {agent: meta for agent, meta in unit.metas.items() if meta != path}
        if not unit.paths:
            for meta in unit.metas.values():
                self._by_path.pop(meta, None)
            self.units.pop(unit.name, None)
        return unit

    def find(self, path: str) -> Unit | None:
        """Return the unit that *path* was found to belong to."""
        return self._by_path.get(path)

    def has_main(self, folder: str, session: str) -> bool:
        """Whether *session* has a main log in *folder*."""
        unit = self.units.get(f"{Path(folder).name}/{session}")
        return unit is not None and unit.main is not None


def _first_lines(path: str) -> Iterator[bytes]:
    try:
        with open_log(path, buffered=True) as file:
            left = _GLANCE_BYTES
            for _ in range(_GLANCE_LINES):
                line = file.readline(left)
                if not line.endswith(b"\n"):
                    return
                yield line
                left -= len(line)
    except OSError:
        return


def _named_inside(path: str, place: LogPath) -> str | None:
    """Return the session an agent's log names (2.0.76 to 2.1.1 put it beside the sessions)."""
    if place.kind == "meta":
        return None
    for line in _first_lines(path):
        if session := glance(line).session_id:
            return session
    return None


def opening(unit: Unit) -> Opening:
    """Return how a session began, as far as the first lines of its logs tell it."""
    at = None
    for path in unit.paths:
        for line in _first_lines(path):
            if at is None:
                at = milliseconds(glance(line).timestamp)
            try:
                record = decode(line)
            except RecordError:
                continue
            if isinstance(record, UserRecord | AssistantRecord | SystemRecord | AttachmentRecord) and record.cwd:
                return Opening(session=unit.session, cwd=record.cwd, at=at, version=record.version)
    return Opening(session=unit.session, at=at)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What a session begins with.

    Attributes:
        at: the first time in it, in milliseconds since the epoch.
        path: the log in which that stands; None where there is none.
        own: whether the line it stands in carries the session's name: a fork's own lines follow its copies.
    """

    at: int
    path: str | None
    own: bool


def _beginning(unit: Unit) -> _Beginning:
    for path in unit.paths:
        for line in _first_lines(path):
            said = glance(line)
            if (at := milliseconds(said.timestamp)) is not None:
                return _Beginning(at, path, said.session_id == unit.session)
    return _Beginning(2**62, None, True)


def _is_marked(path: str | None) -> bool:
    """Whether one of a log's first lines says that it is a copy."""
    return path is not None and any(glance(line).marked for line in _first_lines(path))


def by_first_line(units: Iterable[Unit]) -> list[Unit]:
    """Return units in the order in which they began, so that an original comes before its copies.

    What counts is the first time in the order of the file: a fork copies old lines, but its own first line is younger.
    Where that is equal, the unmarked one and the one whose lines carry its name comes first.
    """
    begun = {unit.name: (unit, _beginning(unit)) for unit in units}
    at_once = Counter(beginning.at for _, beginning in begun.values())

    def key(name: str) -> tuple[int, bool, bool, str]:
        _, beginning = begun[name]
        # Only where two began at the same moment more than their beginnings has to be looked at.
        marked = at_once[beginning.at] > 1 and _is_marked(beginning.path)
        return beginning.at, marked, not beginning.own, name

    return [begun[name][0] for name in sorted(begun, key=key)]


def _nobody(_folder: str) -> None:
    """Take note of nothing."""


def _unsaid(_folder: str, _error: OSError) -> None:
    """Say nothing of it."""


Missed = Callable[[str, OSError], None]
"""Told each folder that is there and cannot be listed, with the reason: what stands in it is not known."""


def project_folders(root: Path, missed: Missed = _unsaid) -> Iterator[str]:
    """Yield the folders of the projects in a `projects` folder; one that is a symbolic link once, by its real path."""
    seen: set[str] = set()
    for project in _listed(str(root), missed):
        try:
            if not project.is_dir():
                continue
            folder = str(Path(project.path).resolve()) if project.is_symlink() else project.path
        except OSError:
            continue
        if folder not in seen:
            seen.add(folder)
            yield folder


def project_files(project: str, note: Callable[[str], None] = _nobody, missed: Missed = _unsaid) -> Iterator[Found]:
    """Yield every log and meta file of one project, with its status.

    Links below the project's folder are not followed. What cannot be listed is left out: the next sweep looks again.

    Args:
        project: the project's folder.
        note: told each folder in which a log may come to stand, before it is listed.
        missed: told each folder that cannot be listed.
    """
    note(project)
    for entry in _listed(project, missed):
        if entry.name.endswith(LOG_SUFFIXES):
            yield from _file(entry)
        elif _is_folder(entry):
            yield from session_files(entry.path, note, missed)


def session_files(session: str, note: Callable[[str], None] = _nobody, missed: Missed = _unsaid) -> Iterator[Found]:
    """Yield every log and meta file in a session's own folder: those of its subagents.

    Args:
        session: the folder named like the session; what else stands in it is what its tools wrote.
        note: as for `project_files`.
        missed: as for `project_files`.
    """
    note(session)
    agents = f"{session}/subagents"
    try:
        if not stat.S_ISDIR(os.lstat(agents).st_mode):
            return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        missed(session, error)
        return
    note(agents)
    for entry in _listed(agents, missed):
        if entry.name.endswith(LOG_SUFFIXES):
            yield from _file(entry)


def _file(entry: os.DirEntry[str]) -> Iterator[Found]:
    try:
        if entry.is_file(follow_symlinks=False):
            yield entry.path, entry.stat(follow_symlinks=False)
    except OSError:
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _listed(folder: str, missed: Missed) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        missed(folder, error)
        return []
