"""The stat sweep: finds the log files that have changed, without any hint.

The result of stat is the truth. A full sweep looks at every file. A hot sweep looks at the files touched in the last
day, and at the modification time of folders in which a log may appear: those of projects, and those of sessions touched
in the last day. Of the other sessions' folders there are thousands, and each hot sweep looks at some of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import structlog

from daemon.following.log_roots import LogRoot
from daemon.following.log_tree import FoundFile, project_files, project_folders, session_folder_files
from daemon.following.tailer import Identity
from daemon.system import disk
from daemon.system.messages import system_reason
from llma_core.agent import Agent

__all__ = ["TURNS", "FileStat", "Sweep", "is_missing"]

_log = structlog.get_logger(__name__)

HOT_SECONDS = 86_400
"""Every hot sweep looks at the files touched within this time, and at the folders of their sessions."""
TURNS = 6
"""Within so many hot sweeps, the folders of all sessions are looked at."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file as stat saw it."""

    device: int
    inode: int
    size: int
    modified: int

    @property
    def identity(self) -> Identity:
        """Which file it is."""
        return self.device, self.inode

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        """Return the part of *status* that matters."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Sweep:
    """Remembers the status of every file when it was last seen.

    `look` may be called while another thread is in `full` or `hot`: hints come at any time.

    Args:
        roots: the folders that hold logs. Those that do not exist are looked for in each full sweep.

    Attributes:
        files: the status of each file, by path.
        positions: how long a file was before it was found to have grown, by path. The reader removes an entry once it
            has caught up with the file.
    """

    def __init__(self, roots: Sequence[LogRoot]) -> None:
        self._roots = roots
        self._agents = tuple(dict.fromkeys(root.agent for root in roots))
        self._suffixes = tuple({suffix for agent in self._agents for suffix in agent.suffixes})
        self._folders: dict[str, int] = {}
        self._inner: dict[str, dict[str, int]] = {}
        self._turn = 0
        self._recent: set[str] = set()
        self._projects: dict[str, Agent] = {}
        self._unlisted: frozenset[str] = frozenset()
        self.files: dict[str, FileStat] = {}
        self.positions: dict[str, int] = {}

    def full(self) -> tuple[list[str], list[str]]:
        """Look at everything; return the paths that are new or changed, and those that are gone."""
        before = frozenset(self.files)
        seen: set[str] = set()
        changed: list[str] = []
        folders: dict[str, int] = {}

        def note(folder: str) -> None:
            with suppress(disk.Unanswered):
                folders[folder] = disk.call(folder, partial(_modified, folder))

        unlisted: dict[str, OSError] = {}
        projects: dict[str, Agent] = {}
        for root in self._roots:
            note(str(root.path))
            for project in project_folders(root, unlisted.__setitem__):
                if project not in projects:
                    projects[project] = root.agent
                    for path, status in project_files(root.agent, project, note, unlisted.__setitem__):
                        seen.add(path)
                        # In place: a sweep that finds no change makes no new objects, even for ten thousand files.
                        if self._is_new(path, status):
                            changed.append(path)
        roots = {str(root.path) for root in self._roots}
        hidden: set[str] = set()
        if any(folder in roots or folder.rpartition("/")[0] in roots for folder in unlisted):
            # Nobody knows which projects the folder holds, or where the link leads.
            hidden = {*(self._projects.keys() - projects.keys())}
            projects = self._projects | projects
        self._report(unlisted)
        # A file that cannot be looked at is not gone. A file that a hint found during this sweep is not in `before`.
        hidden |= unlisted.keys()
        gone = [path for path in before - seen if path in self.files and not _may_be_there(path, hidden)]
        for path in gone:
            self.files.pop(path, None)
        self._projects = projects
        self._sort(folders)
        # A clock that was set may have made any file a recent one.
        self._recent |= self.files.keys()
        return changed, gone

    def _sort(self, folders: Mapping[str, int]) -> None:
        """Tell the folders of sessions, and those in them, from the folders of projects and roots.

        They are kept by the path of the log of their session, which stands beside its folder.
        """
        self._folders, self._inner = {}, {}
        for folder, modified in folders.items():
            inside = None if folder in self._projects else self._inside(folder)
            if inside is None:
                self._folders[folder] = modified
                continue
            agent, above = inside
            self._inner.setdefault(f"{above}{agent.log_suffix}", {})[folder] = modified

    def _inside(self, folder: str) -> tuple[Agent, str] | None:
        """Return the session's own folder that *folder* is or stands in, with whose it is; None if it is in none."""
        while folder:
            above = folder.rpartition("/")[0]
            if (agent := self._projects.get(above)) is not None:
                return agent, folder
            folder = above
        return None

    def _report(self, unlisted: Mapping[str, OSError]) -> None:
        """Log once for each folder that it cannot be listed, and once that it can be listed again."""
        for folder in unlisted.keys() - self._unlisted:
            _log.warning(
                "folder_unreadable",
                path=folder,
                reason=system_reason(unlisted[folder]),
                action="trying again; nothing is lost",
            )
        for folder in self._unlisted - unlisted.keys():
            _log.info("folder_readable_again", path=folder)
        self._unlisted = frozenset(unlisted)

    def hinted(self, path: str) -> tuple[list[str], list[str]]:
        """Look at the log or folder that a hint names; return the logs that are new or changed, and the logs gone."""
        if not path.endswith(self._suffixes):
            return self.below(path), []
        if self.is_log(path) and self.look(path):
            return [path], []
        return [], [] if path in self.files else [path]

    def below(self, folder: str) -> list[str]:
        """Look at the logs in one folder that has appeared; return the logs that are new or changed."""
        return [path for path, _ in self._files_below(folder) if self.is_log(path) and self.look(path)]

    def _files_below(self, folder: str) -> Iterable[FoundFile]:
        """Return the logs and meta files in *folder*: the folder of a project, of a session, or of its subagents."""
        if (agent := self._agent_of(folder)) is not None:
            return project_files(agent, folder)
        if (agent := self._agent_of(folder.rpartition("/")[0])) is not None:
            return session_folder_files(agent, folder)
        session = self._session_above(folder)
        return () if session is None else session_folder_files(*session)

    def _session_above(self, folder: str) -> tuple[Agent, str] | None:
        """Return the session's own folder that *folder* stands in at any depth, with whose it is."""
        while folder:
            session, _, name = folder.rpartition("/")
            if (agent := self._agent_of(session.rpartition("/")[0])) is not None:
                return (agent, session) if name in agent.session_folders else None
            folder = session
        return None

    def _agent_of(self, folder: str) -> Agent | None:
        """Return the agent whose sessions *folder* holds; None if it is no project folder."""
        known = self._projects.get(folder)
        if known is not None:
            return known
        for root in self._roots:
            if root.agent.by_project:
                if folder.rpartition("/")[0] == str(root.path) and not _is_link(folder):
                    return root.agent
            elif folder == str(root.path) or (
                root.agent.is_spool and folder.rpartition("/")[0] == str(root.path) and not _is_link(folder)
            ):
                return root.agent
        return None

    def is_log(self, path: str) -> bool:
        """Whether a session's log or meta file can be at *path*: files of tools and people may have similar names."""
        return any(
            (place := agent.classify(path)) is not None and self._agent_of(place.folder) is agent
            for agent in self._agents
        )

    @property
    def is_complete(self) -> bool:
        """Whether the last full sweep could list every folder that exists."""
        return not self._unlisted

    def hot(self, now: float) -> tuple[list[str], list[str]]:
        """Look at the files that are likely to change; return the changed and the gone, as `full` does.

        This is a full sweep if a folder has changed, or could not be listed in the last one.

        Args:
            now: the wall clock, in seconds since the epoch.
        """
        if self._unlisted:
            return self.full()
        hot = self._touched_since(int((now - HOT_SECONDS) * 1e9))
        folders = [self._folders, *self._inner_folders()]
        try:
            if disk.call(
                "a sweep", lambda: any(_modified(path) != at for each in folders for path, at in each.items())
            ):
                return self.full()
            found = disk.call("a sweep", lambda: [_status(path) for path in hot])
        except disk.Unanswered:
            # A full sweep leaves out the folder that does not answer.
            return self.full()
        changed, gone = [], []
        for path, status in zip(hot, found, strict=True):
            if self._take(path, status):
                changed.append(path)
            elif path not in self.files:
                gone.append(path)
        return changed, gone

    def _inner_folders(self) -> list[dict[str, int]]:
        """Return the folders of sessions that are looked at now: those of recent ones, and some of the others."""
        self._turn += 1
        turn, recent, files = self._turn % TURNS, self._recent, self.files
        return [
            folders
            for number, (log, folders) in enumerate(self._inner.items())
            if number % TURNS == turn or log in recent or log not in files
        ]

    def _touched_since(self, since: int) -> list[str]:
        """Return the files that were touched since a time, in nanoseconds since the epoch."""
        found = []
        for path in list(self._recent):
            file = self.files.get(path)
            if file is not None and file.modified >= since:
                found.append(path)
                continue
            self._recent.discard(path)
            if self.files.get(path) is not file:
                # A hint has come meanwhile.
                self._recent.add(path)
        return found

    def look(self, path: str) -> bool:
        """Look at one file; return whether it is new or changed. Forgets a path that is gone or is no regular file."""
        try:
            status = disk.call(_folder(path), partial(_status, path))
        except disk.Unanswered:
            return False
        return self._take(path, status)

    def _take(self, path: str, status: _Status) -> bool:
        """Take in what a look at a file said; return whether it is new or changed."""
        if status == "unknown":
            # The file may still exist.
            return False
        if status == "missing" or not stat.S_ISREG(status.st_mode):
            self.files.pop(path, None)
            return False
        return self._is_new(path, status)

    def _is_new(self, path: str, status: os.stat_result) -> bool:
        """Remember the status of a file; return whether it is new or changed."""
        file, known = FileStat.of(status), self.files.get(path)
        if file == known:
            return False
        if known is not None:
            self.positions.setdefault(path, known.size)
        self.files[path] = file
        self._recent.add(path)
        return True


_Status = os.stat_result | Literal["missing", "unknown"]
"""What a look at a file says; `unknown`: it cannot be looked at, so it may exist."""


def _may_be_there(path: str, unlisted: Iterable[str]) -> bool:
    """Whether a file that was not found may exist after all."""
    try:
        status = disk.call(_folder(path), partial(_status, path))
    except disk.Unanswered:
        return True
    return status == "unknown" or (status != "missing" and any(path.startswith(f"{folder}/") for folder in unlisted))


def is_missing(path: str) -> bool:
    """Whether nothing exists at *path*. A path that cannot be looked at is not missing."""
    try:
        return disk.call(_folder(path), partial(_status, path)) == "missing"
    except disk.Unanswered:
        return False


def _is_link(path: str) -> bool:
    try:
        return disk.call(path, partial(os.path.islink, path))
    except disk.Unanswered:
        return False


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _status(path: str) -> _Status:
    try:
        disk.at(_folder(path))
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "unknown"


def _modified(folder: str) -> int:
    disk.at(folder)
    try:
        # Without a Path object: a hot sweep of a quiet tree makes one such call for each folder.
        return os.stat(folder).st_mtime_ns  # noqa: PTH116
    except OSError:
        return -1
