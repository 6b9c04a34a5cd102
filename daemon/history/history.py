"""The history on disk: all sessions, with their times and sizes, and which of them a user means."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.config.patterns import Folders
from daemon.following.log_roots import LogRoot, log_roots
from daemon.following.logs import Logs
from daemon.following.opening import by_first_line, opening
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import open_log
from daemon.system import disk
from llma_core.agent import Agent

__all__ = ["History", "LoggedSession", "Selection"]

_END_BYTES = 64 * 1024
"""Bytes of a log's end that are searched for its last time. If no line in them has one, the file's own time counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedSession:
    """A session that has logs on disk.

    Attributes:
        files: its files.
        cwd: its first working directory; None if no line has one.
        began: the time of its first line, in seconds since the epoch; if no line has one, the time of its files.
        ended: the time of its last line, likewise.
        written: when the client last wrote its main log, in seconds since the epoch, by the file's own time. Claude
            Code's cleanup goes by that time.
        size: bytes of its logs.
    """

    files: SessionFiles
    cwd: str | None
    began: float
    ended: float
    written: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which sessions a user means. An attribute that is None or empty matches every session, except empty `logs`.

    Attributes:
        since: seconds since the epoch; excludes sessions that ended earlier.
        until: seconds since the epoch; excludes sessions that began then or later.
        projects: patterns of folders, as in `include`; excludes sessions that began elsewhere.
        sessions: ids, or their first characters; excludes all other sessions.
        logs: paths of logs; excludes sessions that have none of them. None: matches every session.
    """

    since: float | None = None
    until: float | None = None
    projects: Sequence[str] = ()
    sessions: Sequence[str] = ()
    logs: Collection[str] | None = None

    def among(self, sessions: Iterable[LoggedSession]) -> Iterator[LoggedSession]:
        """Yield the *sessions* that match, in their order."""
        folders = Folders(self.projects)
        for session in sessions:
            if (
                (self.since is None or session.ended >= self.since)
                and (self.until is None or session.began < self.until)
                and folders.allow(session.cwd)
                and (not self.sessions or session.files.session.startswith(tuple(self.sessions)))
                and (self.logs is None or any(path in self.logs for path in session.files.paths))
            ):
                yield session


class History:
    """All sessions below some of the client's folders, as they are on disk now.

    Args:
        config_dirs: Claude Code's configuration folders.

    Attributes:
        logs: their logs, sorted by session.
    """

    def __init__(self, config_dirs: Iterable[Path]) -> None:
        self.logs = Logs(log_roots(config_dirs))
        self.logs.include(self.logs.sweep("full").changed)

    @property
    def roots(self) -> Sequence[LogRoot]:
        """The folders that hold the logs."""
        return self.logs.roots

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all logs and meta files."""
        return frozenset(self.logs.files)

    def sessions(self) -> Iterator[LoggedSession]:
        """Yield every session, in the order in which they began, so that an original comes before its copies."""
        for files in by_first_line(files for files in self.logs.sessions.values() if files.paths):
            stats = [found for path in files.paths if (found := self.logs.files.get(path)) is not None]
            if not stats:
                continue
            touched = max(found.modified for found in stats) / 1e9
            mains = [file.modified for path in files.mains if (file := self.logs.files.get(path)) is not None]
            began = opening(files)
            ended = max((at for path in files.paths if (at := _last_time(files.agent, path)) is not None), default=None)
            yield LoggedSession(
                files=files,
                cwd=began.cwd,
                began=touched if began.at is None else began.at / 1000,
                ended=touched if ended is None else ended / 1000,
                written=max(mains) / 1e9 if mains else touched,
                size=sum(found.size for found in stats),
            )


def _last_time(agent: Agent, path: str) -> int | None:
    """Return the time of the last line that has one, in milliseconds since the epoch; None if none has."""

    def read() -> tuple[int, bytes]:
        with open_log(path) as file:
            start = max(0, os.fstat(file.fileno()).st_size - _END_BYTES)
            return start, os.pread(file.fileno(), _END_BYTES, start)

    try:
        start, data = disk.call(path.rpartition("/")[0], read)
    except OSError:
        # The log was removed meanwhile, or may not be read. Reading all of it will report that.
        return None
    lines = data.split(b"\n")[1 if start else 0 :]
    return next((at for line in reversed(lines) if (at := agent.glance(line).at) is not None), None)
