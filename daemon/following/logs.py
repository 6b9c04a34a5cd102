"""All logs: which sessions have something new to read.

    a hint, or a sweep   -> paths that changed and paths that are gone
    catalog              -> the sessions they belong to
    kept open            -> a log that grew can be read even if it is deleted before its turn comes

This module reads only the first lines of logs whose name does not tell their session. It queues nothing: the driver
decides what to do with the sessions it returns.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.following.catalog import Catalog
from daemon.following.kept_open import KeptOpen
from daemon.following.log_roots import LogRoot, recognize, root_of
from daemon.following.opening import began_at, others_inside
from daemon.following.schedule import SweepKind
from daemon.following.session_files import SessionFiles, unit_name
from daemon.following.sweep import FileStat, Sweep, is_missing
from daemon.following.tailer import Identity
from daemon.state.rows import FileMark, Hosted
from daemon.system import disk
from llma_core.agent import Agent

__all__ = ["Changes", "Logs", "Scan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The result of looking at the files.

    Attributes:
        changed: paths of logs and meta files that are new or changed.
        gone: paths of those that are gone.
    """

    changed: Sequence[str] = ()
    gone: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a scan means for sessions.

    Attributes:
        grown: sessions with something new to read, in the order in which they were found.
        cut: sessions that have lost a log, but something of that log is still to be read or sent.
        removed: sessions that have no log any more, and nothing left to read.
    """

    grown: Sequence[SessionFiles] = ()
    cut: Sequence[SessionFiles] = ()
    removed: Sequence[SessionFiles] = ()


class Logs:
    """All logs below some folders, sorted by session.

    `sweep` may run in another thread than the rest.

    Args:
        roots: the folders with the logs.
        kept: keeps logs open until they are read; None: a log that is deleted unread is lost.
        is_open: whether a session, by name, is in memory. Only then do its meta files count as something to read, and
            only then may something of its deleted logs still have to be sent.
    """

    def __init__(
        self,
        roots: Sequence[LogRoot],
        *,
        kept: KeptOpen | None = None,
        is_open: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self.roots = roots
        self.kept = kept
        self._is_open = is_open
        self._catalog = Catalog(roots)
        self._sweep = Sweep(roots)
        self._elsewhere: set[str] = set()

    @property
    def sessions(self) -> Mapping[str, SessionFiles]:
        """The sessions that have a log, by name."""
        return self._catalog.sessions

    @property
    def spools(self) -> Mapping[str, SessionFiles]:
        """Those of the sessions that programs have recorded, by name."""
        return self._catalog.spools

    @property
    def files(self) -> Mapping[str, FileStat]:
        """The status of every log and meta file when it was last seen, by path."""
        return self._sweep.files

    @property
    def is_complete(self) -> bool:
        """Whether the last full sweep could list every folder."""
        return self._sweep.is_complete

    def has_main(self, agent: Agent, session: str) -> bool:
        """Whether *agent*'s session with this id has a main log."""
        return self._catalog.has_main(agent, session) or unit_name(agent, session) in self._elsewhere

    def note_host(self, host: SessionFiles, session: str) -> SessionFiles | None:
        """Note that a log of *host* holds lines of another session, by its id; return that, None if it has no log."""
        files = self.sessions.get(unit_name(host.agent, session))
        if files is None or files is host or files.main is None:
            return None
        if not any(each is host for each in files.hosts):
            files.hosts.append(host)
            files.hosts.sort(key=lambda each: each.name)
        return files

    def note_hosts(self, sessions: Iterable[SessionFiles] | None = None) -> set[str]:
        """Note which of the other sessions have lines in the main logs of *sessions*. Reads these logs to their end.

        Args:
            sessions: the sessions to look at; None: all.

        Returns:
            The names of the sessions that have such lines.
        """
        found = set()
        for files, others in others_inside(list(self.sessions.values() if sessions is None else sessions)):
            for other in others:
                hosted = self.note_host(files, other)
                found.add(hosted.name if hosted is not None else unit_name(files.agent, other))
        return found

    def note_hosts_around(self, around: Logs) -> None:
        """Note the sessions of *around* that have lines in logs here, and those in whose logs sessions here have lines.

        Reads the main logs here, and those of *around* that were written to after the first of the sessions here began.
        """
        hosted = self.note_hosts()
        self._elsewhere |= {name for name in hosted if (files := around.sessions.get(name)) is not None and files.main}
        starts = [began_at(files.agent, path) for files in self.sessions.values() for path in files.mains]
        began = min(starts, default=0) * 1_000_000
        elsewhere = (files for name, files in around.sessions.items() if name not in self.sessions)
        for files, others in others_inside(files for files in elsewhere if around.touched(files) >= began):
            for other in others:
                self.note_host(files, other)

    def unread_guests(self, rows: Iterable[Hosted]) -> set[str]:
        """Return the names of the sessions of which not all lines in the logs of others are settled.

        Args:
            rows: which sessions have such lines, and how far they are settled.
        """
        settled: dict[tuple[str, str], dict[Identity, int]] = {}
        for row in rows:
            settled.setdefault((row.unit, row.host), {})[row.device, row.inode] = row.offset
        unread = set()
        for (unit, name), offsets in settled.items():
            host = self.sessions.get(name)
            if host is None or unit not in self.sessions:
                continue
            mains = [file for path in host.mains if (file := self._sweep.files.get(path))]
            agents = [
                file for path in host.agents if (file := self._sweep.files.get(path)) and file.identity in offsets
            ]
            if any(offsets.get(file.identity) != file.size for file in (*mains, *agents)):
                unread.add(unit)
        return unread

    def is_visited(self, agent: Agent, session: str) -> bool:
        """Whether another session's subagent works on in the folder of *agent*'s session with this id, or did."""
        return self._catalog.is_visited(agent, session)

    def session_of(self, path: str) -> SessionFiles | None:
        """Return the session that the log or meta file at *path* belongs to."""
        return self._catalog.find(path)

    # ------------------------------------------------------------------ looking

    def sweep(self, kind: SweepKind, wall: float | None = None) -> Scan:
        """Look at the files. May be called in another thread than every other method.

        Args:
            kind: at which of them.
            wall: the wall clock, in seconds since the epoch; None: now.
        """
        if kind == "full":
            changed, gone = self._sweep.full()
        else:
            changed, gone = self._sweep.hot(time.time() if wall is None else wall)
        return Scan(changed=changed, gone=gone)

    def hinted(self, path: str) -> Changes:
        """Look at the log or folder that a watcher's hint names."""
        changed, gone = self._sweep.hinted(path)
        return self.apply(Scan(changed=changed, gone=gone))

    def include(self, paths: Iterable[str]) -> None:
        """Add logs that were named one by one, or found by the first sweep."""
        for path in paths:
            try:
                self._catalog.add(path)
            except disk.Unanswered:
                # A sweep finds it again once its folder answers.
                self._sweep.files.pop(path, None)

    def apply(self, scan: Scan) -> Changes:
        """Sort the result of a scan by session."""
        grown: dict[str, SessionFiles] = {}
        for path in scan.changed:
            try:
                files = self._catalog.add(path)
            except disk.Unanswered:
                files = None
            if files is None:
                # The lines of a subagent's log will name its session, but do not yet: look again when it grows.
                self._sweep.files.pop(path, None)
                continue
            if path in files.metas:
                if not self._is_open(files.name):
                    continue
            else:
                self.keep(path)
            grown[files.name] = files
        cut: list[SessionFiles] = []
        removed: list[SessionFiles] = []
        for path in scan.gone:
            files = self._catalog.find(path)
            if files is not None and (self._is_kept(path) or self._is_open(files.name)):
                cut.append(files)
            else:
                removed += self._forget_path(path)
        return Changes(grown=list(grown.values()), cut=cut, removed=removed)

    def look(self, path: str) -> bool:
        """Look at one file again; return whether it is gone for good: neither there nor kept open."""
        self._sweep.look(path)
        return path not in self._sweep.files and not self._is_kept(path)

    # ------------------------------------------------------------------ what a session has to read

    def keep(self, path: str) -> None:
        """Keep a log open until it is read, because it may be deleted before its turn comes."""
        found = self._sweep.files.get(path)
        if found is not None and self.kept is not None:
            self.kept.keep(path, found.identity, found.modified)

    def touched(self, session: SessionFiles) -> int:
        """Return when *session* was last written to, in nanoseconds since the epoch; 0 if none of its logs was seen.

        It may have been written to whenever a log was that holds lines of it.
        """
        files = self._sweep.files
        found = [file.modified for path in session.paths if (file := files.get(path)) is not None]
        if found and session.hosts:
            found += [file.modified for path in session.guests if (file := files.get(path)) is not None]
        return max(found, default=0)

    def exists(self, session: SessionFiles) -> bool:
        """Whether any log of *session* existed when it was last looked at."""
        return any(path in self._sweep.files for path in session.paths)

    def unread(self, sessions: Iterable[SessionFiles], settled: Callable[[Identity], int]) -> dict[str, int]:
        """Return the logs of *sessions* that are not settled to their end, each with its settled offset in bytes.

        Args:
            sessions: the sessions to look at.
            settled: returns the settled offset of a file, in bytes.
        """
        unread = {}
        for path in (path for session in sessions for path in session.paths):
            file = self._sweep.files.get(path)
            offset = settled(file.identity) if file is not None else 0
            if file is None or offset != file.size:
                unread[path] = offset
        return unread

    def expect(self, unread: Mapping[str, int]) -> None:
        """Record the settled offset of each log that has to be read, so that `position` can return it.

        Args:
            unread: what `unread` returned.
        """
        self._sweep.positions.update(unread)

    def position(self, path: str) -> int:
        """Return the offset up to which a log had been read before it was found to have grown, in bytes."""
        return self._sweep.positions.get(path, 0)

    def note_read(self, session: SessionFiles) -> None:
        """Record that *session* was read to its end: none of its logs has to stay open."""
        for path in session.paths:
            self._release(path)
            self._sweep.positions.pop(path, None)

    def close(self) -> None:
        """Close every log that was kept open. Idempotent."""
        if self.kept is not None:
            self.kept.close()

    # ------------------------------------------------------------------ what is gone

    def forget_gone(self, session: SessionFiles) -> list[SessionFiles]:
        """Forget the files of *session* that are gone; return a list with it if none of its logs is left."""
        removed: list[SessionFiles] = []
        for path in [*session.paths, *session.metas]:
            if path not in self._sweep.files and not self._is_kept(path):
                removed += self._forget_path(path)
        return removed

    def deleted(self, names: Iterable[str], marks: Iterable[FileMark]) -> list[str]:
        """Return the sessions whose logs were deleted.

        The logs of the other sessions may be on a disk that is not mounted, or in a folder that is not followed now.

        Args:
            names: names of sessions that have no log now.
            marks: all files the store knows.
        """
        paths: dict[str, list[str]] = {name: [] for name in names}
        if not (paths and self.is_complete):
            return []
        inhabited = {str(root.path) for root in self.roots if any(map(root.is_above, self.files))}
        for mark in marks:
            if mark.unit in paths:
                paths[mark.unit].append(mark.path)
        return [name for name, logs in paths.items() if logs and all(self._was_deleted(log, inhabited) for log in logs)]

    def _was_deleted(self, log: str, inhabited: Container[str]) -> bool:
        """Whether *log* is missing while its neighbors exist; *inhabited* are the roots with any log below them."""
        recognized = recognize(log, self.roots)
        if recognized is None:
            # Another version of the daemon has followed an agent that this one does not know.
            return False
        agent, place = recognized
        if not any(root.is_above(log) for root in self.roots) and _is_empty(place.folder):
            # A link leads from a root to where a disk is mounted, when it is.
            return False
        return is_missing(log) and (not is_missing(place.folder) or str(root_of(agent, place).path) in inhabited)

    def _forget_path(self, path: str) -> list[SessionFiles]:
        self._release(path)
        session = self._catalog.remove(path)
        return [session] if session is not None and not session.paths else []

    def _is_kept(self, path: str) -> bool:
        return self.kept is not None and path in self.kept

    def _release(self, path: str) -> None:
        if self.kept is not None:
            self.kept.release(path)


def _is_empty(folder: str) -> bool:

    def look() -> bool:
        with os.scandir(folder) as entries:
            return next(entries, None) is None

    try:
        return disk.call(folder, look)
    except OSError:
        return True
