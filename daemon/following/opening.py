"""A session's opening: how it began, from the first lines of its logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from daemon.following.log_roots import LogRoot
from daemon.following.log_tree import folders_below, root_logs
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import open_log
from daemon.system import disk
from llma_core.agent import Agent, Glance, LogPath
from llma_core.hosted_lines import HostedLines

__all__ = [
    "Opening",
    "Ordered",
    "began_at",
    "by_first_line",
    "first_cwd",
    "goes_on",
    "in_order",
    "named_inside",
    "opening",
    "openings",
    "others_inside",
    "roots_of",
    "unknown_logs",
]

_GLANCE_LINES = 50
"""Lines looked at to find a file's first time or session; both stand in one of the first few."""
_NEVER = 2**62
_SCAN_BYTES = 1024 * 1024
_GLANCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a session began.

    Attributes:
        agent: the name of the agent whose session it is.
        session: its id.
        cwd: its first working directory; None if that is not known yet.
        at: the time of its first line, in milliseconds since the epoch; None if no line has one.
        version: the client's version in the line that has the working directory, or None.
    """

    agent: str
    session: str
    cwd: str | None = None
    at: int | None = None
    version: str | None = None


def _first_lines(path: str) -> Iterator[bytes]:
    disk.at(_folder(path))
    try:
        with open_log(path, buffered=True) as file:
            left = _GLANCE_BYTES
            for _ in range(_GLANCE_LINES):
                line = file.readline(left)
                # A last line may lack only its line end.
                if not line.endswith((b"\n", b"}")):
                    return
                yield line
                left -= len(line)
    except OSError:
        return


def named_inside(path: str, agent: Agent, place: LogPath) -> str | None:
    """Return the id of the session that the lines of a subagent's log name; None if none does.

    Claude Code 2.0.76 to 2.1.1 puts such logs beside the sessions, so their path does not tell the session.

    Raises:
        disk.Unanswered: its folder does not answer.
    """
    if place.kind == "meta":
        return None
    sessions = (agent.glance(line).session for line in _first_lines(path))
    return disk.call(_folder(path), lambda: next(filter(None, sessions), None))


def goes_on(agent: Agent, path: str) -> bool | None:
    """Return whether a subagent's log goes on with another one; None while it has no line that tells."""
    return next((on for line in _first_lines(path) if (on := agent.glance(line).goes_on) is not None), None)


def began_at(agent: Agent, path: str) -> int:
    """Return the first time in a log, in milliseconds since the epoch; a time that never comes if it has none."""
    times = (at for line in _first_lines(path) if (at := agent.glance(line).at) is not None)
    try:
        return disk.call(_folder(path), lambda: next(times, _NEVER))
    except disk.Unanswered:
        return _NEVER


def others_inside(sessions: Iterable[SessionFiles]) -> Iterator[tuple[SessionFiles, set[str]]]:
    """Yield sessions, each with the ids of the others whose lines stand in its main logs. Reads these logs whole.

    What does not answer is left out. The disk is asked once for each folder.
    """
    by_folder: dict[str, list[SessionFiles]] = {}
    for files in sessions:
        if files.agent.shares_logs:
            by_folder.setdefault(files.folder, []).append(files)
    for folder, together in by_folder.items():
        found: list[set[str]] = [set() for _ in together]
        with suppress(disk.Unanswered):
            disk.call(folder, partial(_look_inside_all, together, found))
        # A call that nobody waits for any more may go on to fill what it was given.
        yield from zip(together, map(set, found), strict=True)


def _look_inside_all(sessions: Sequence[SessionFiles], found: Sequence[set[str]]) -> None:
    """Add to *found*, for each session, the ids of the others that lines of its main logs belong to."""
    for files, others in zip(sessions, found, strict=True):
        for path in list(files.mains):
            with suppress(OSError):
                _look_inside(path, HostedLines(files.agent, files.session), others)


def _look_inside(path: str, tracker: HostedLines, found: set[str]) -> None:
    """Add to *found* the ids of the sessions, other than its own, that lines of a log belong to."""
    folder, parts = _folder(path), list[bytes]()
    disk.at(folder)
    with open_log(path) as file:
        while block := file.read(_SCAN_BYTES):
            disk.at(folder)
            end = block.rfind(b"\n") + 1
            if end:
                parts.append(block[:end])
                found |= _others(tracker, b"".join(parts))
                parts = []
            parts.append(block[end:])
        found |= _others(tracker, b"".join(parts))


def _others(tracker: HostedLines, lines: bytes) -> set[str]:
    """Return the ids of the other sessions that some of the next *lines* of a log belong to."""
    found: set[str] = set()
    start = 0
    # Nothing can be said of all lines at once before the first one of a conversation.
    while tracker.is_open and start < len(lines):
        end = lines.find(b"\n", start) + 1 or len(lines)
        if (other := tracker.owner(lines[start:end])) is not None:
            found.add(other)
        start = end
    rest = lines[start:]
    if rest and not tracker.has_none(rest):
        found.update(other for line in rest.split(b"\n") if line and (other := tracker.owner(line)) is not None)
    return found


def unknown_logs(roots: Iterable[LogRoot]) -> list[str]:
    """Return the files below *roots* that look like logs, in places where no log is followed.

    What does not answer is left out.
    """
    found: list[str] = []
    for root in roots:
        with suppress(disk.Unanswered):
            found += _unknown_logs(root)
    return found


def _unknown_logs(root: LogRoot) -> Iterator[str]:
    agent = root.agent
    folders = disk.call(str(root.path), lambda: [*folders_below(str(root.path))])
    # After the folders: a log that is created meanwhile must not look like an unknown one.
    known = {path for path, _ in root_logs(root)}
    for folder, names in folders:
        for path in (f"{folder}/{name}" for name in sorted(names) if name.endswith(agent.log_suffix)):
            place = agent.classify(path)
            if path not in known and place is not None and named_inside(path, agent, place) is not None:
                yield path


def first_cwd(agent: Agent, path: str) -> str | None:
    """Return the working directory that the first lines of a log name; None if they name none, or do not answer."""
    folders = (origin.cwd for line in _first_lines(path) if (origin := agent.origin(line)) is not None)
    try:
        return disk.call(_folder(path), lambda: next(folders, None))
    except disk.Unanswered:
        return None


def opening(files: SessionFiles) -> Opening:
    """Return how a session began, as far as the first lines of its logs tell.

    Raises:
        disk.Unanswered: a folder with its logs does not answer.
    """
    return disk.call(files.folder, lambda: _opening(files))


def openings(sessions: Sequence[SessionFiles]) -> dict[str, Opening]:
    """Return how sessions began, by name, for little more than asking about one of them.

    Those are left out that name no working directory yet, or have a folder that does not answer.
    """

    def look() -> dict[str, Opening]:
        found = {}
        for files in sessions:
            with suppress(disk.Unanswered):
                began = _opening(files)
                if began.cwd is not None:
                    found[files.name] = began
        return found

    try:
        return disk.call("the beginnings of sessions", look)
    except disk.Unanswered:
        return {}


def _opening(files: SessionFiles) -> Opening:
    agent = files.agent
    at = None
    for path in files.paths:
        for line in _first_lines(path):
            if at is None:
                at = agent.glance(line).at
            if (origin := agent.origin(line)) is not None:
                return Opening(agent=agent.name, session=files.session, cwd=origin.cwd, at=at, version=origin.version)
    return Opening(agent=agent.name, session=files.session, at=at)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first line of a session that has a time.

    Attributes:
        at: that time, in milliseconds since the epoch; far in the future if no line has one.
        path: the log with that line; None if no line has a time.
        own: whether that line carries the session's own id: a fork's own lines follow the lines it copied.
        roots: see `Ordered`.
    """

    at: int = _NEVER
    path: str | None = None
    own: bool = True
    roots: frozenset[str] = frozenset()


def _beginnings(sessions: Iterable[SessionFiles]) -> Iterator[tuple[SessionFiles, _Beginning]]:
    """Yield sessions, each with its beginning; the disk is asked once for each folder."""
    by_folder: dict[str, list[SessionFiles]] = {}
    for files in sessions:
        by_folder.setdefault(files.folder, []).append(files)
    for folder, together in by_folder.items():
        try:
            found = disk.call(folder, partial(list, map(_first_dated, together)))
        except disk.Unanswered:
            found = [_Beginning()] * len(together)
        yield from zip(together, found, strict=True)


def _first_dated(files: SessionFiles) -> _Beginning:
    found = _Beginning()
    for path in files.paths:
        for line in _first_lines(path):
            glance = files.agent.glance(line)
            if found.path is None and glance.at is not None:
                found = replace(found, at=glance.at, path=path, own=glance.session == files.session)
            if _is_of_conversation(glance):
                return replace(found, roots=_roots(glance))
        if found.path is not None:
            break
    return found


def _is_of_conversation(glance: Glance) -> bool:
    """Whether a line is one of a conversation: each has an id and a time. A damaged line may have one of them."""
    return glance.uuid is not None and glance.at is not None


def _roots(glance: Glance) -> frozenset[str]:
    # Copies of the oldest clients keep the id and get a new time, those of 2.1.45 the other way round.
    return frozenset(str(root) for root in (glance.uuid, glance.at) if root is not None)


def roots_of(agent: Agent, path: str) -> frozenset[str]:
    """Return what a log's first line of a conversation is known by; see `Ordered`. Empty if it does not answer."""
    glances = (agent.glance(line) for line in _first_lines(path))
    try:
        found = disk.call(_folder(path), lambda: next(filter(_is_of_conversation, glances), None))
    except disk.Unanswered:
        return frozenset()
    return frozenset() if found is None else _roots(found)


def _is_copy(agent: Agent, path: str | None) -> bool:
    """Whether one of a log's first lines is marked as a copy."""
    if path is None:
        return False
    try:
        return disk.call(_folder(path), lambda: any(agent.glance(line).is_copy for line in _first_lines(path)))
    except disk.Unanswered:
        return False


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


class Ordered(NamedTuple):
    """A session among others, in the order in which they began.

    Attributes:
        files: the session.
        roots: what its first line of a conversation is known by: its id and its time. A fork copies a session from
            there on, so that sessions with a root in common may have lines in common.
    """

    files: SessionFiles
    roots: frozenset[str]


def by_first_line(sessions: Iterable[SessionFiles]) -> list[SessionFiles]:
    """Return sessions as `in_order` does, and nothing else."""
    return [each.files for each in in_order(sessions)]


def in_order(sessions: Iterable[SessionFiles]) -> list[Ordered]:
    """Return sessions in the order in which they began, so that an original comes before its copies.

    The first time in the order of the file counts: a fork copies old lines, but its own first line is younger. Where
    two times are equal, a session that is no copy comes first, then one whose lines carry its own id.
    """
    begun = {files.name: (files, beginning) for files, beginning in _beginnings(sessions)}
    at_once = Counter(beginning.at for _, beginning in begun.values())

    def key(name: str) -> tuple[bool, int, bool, bool, str]:
        files, beginning = begun[name]
        # Looking for marks of a copy reads more lines; only sessions that began at the same moment need that.
        may_be = at_once[beginning.at] > 1 and not files.agent.is_spool
        is_copy = may_be and _is_copy(files.agent, beginning.path)
        # What programs have recorded may say something of other sessions.
        return not files.agent.is_spool, beginning.at, is_copy, not beginning.own, name

    return [Ordered(begun[name][0], begun[name][1].roots) for name in sorted(begun, key=key)]
