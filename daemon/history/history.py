"""The sessions on disk: when each was, how large its logs are, and which of them a user means."""

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
from llma_core.agent import Agent

__all__ = ["History", "LoggedSession", "Selection"]

_END_BYTES = 64 * 1024
"""Read of a log's end to find its last time; a longer last line leaves that to the file's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedSession:
    """A session that has logs on disk.

    Attributes:
        unit: its files.
        cwd: its first working directory; None where no line tells it.
        began: the time of its first line, in seconds since the epoch; of its file where no line tells it.
        ended: the time of its last line, likewise.
        written: when the client last wrote its main log, by the file's own time: what its cleanup goes by.
        size: bytes of its logs.
    """

    unit: SessionFiles
    cwd: str | None
    began: float
    ended: float
    written: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which sessions a user means; what is None or empty leaves nothing out.

    Attributes:
        since: seconds since the epoch; sessions that ended before it are left out.
        until: seconds since the epoch; sessions that began at or after it are left out.
        projects: patterns of folders, as `include` has them; sessions begun elsewhere are left out.
        sessions: ids, or how they begin; other sessions are left out.
        logs: paths of logs; sessions none of whose logs is among them are left out. None: any.
    """

    since: float | None = None
    until: float | None = None
    projects: Sequence[str] = ()
    sessions: Sequence[str] = ()
    logs: Collection[str] | None = None

    def among(self, sessions: Iterable[LoggedSession]) -> Iterator[LoggedSession]:
        """Yield those of *sessions* that are meant, in their order."""
        folders = Folders(self.projects)
        for session in sessions:
            if (
                (self.since is None or session.ended >= self.since)
                and (self.until is None or session.began < self.until)
                and folders.allow(session.cwd)
                and (not self.sessions or session.unit.session.startswith(tuple(self.sessions)))
                and (self.logs is None or any(path in self.logs for path in session.unit.paths))
            ):
                yield session


class History:
    """Everything that stands below some of the client's folders now.

    Args:
        config_dirs: Claude Code's configuration folders.

    Attributes:
        logs: the logs, sorted by session.
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
        for unit in by_first_line(unit for unit in self.logs.sessions.values() if unit.paths):
            files = [file for path in unit.paths if (file := self.logs.files.get(path)) is not None]
            if not files:
                continue
            touched = max(file.modified for file in files) / 1e9
            main = self.logs.files.get(unit.main or "")
            began = opening(unit)
            ended = max((at for path in unit.paths if (at := _last_time(unit.agent, path)) is not None), default=None)
            yield LoggedSession(
                unit=unit,
                cwd=began.cwd,
                began=touched if began.at is None else began.at / 1000,
                ended=touched if ended is None else ended / 1000,
                written=touched if main is None else main.modified / 1e9,
                size=sum(file.size for file in files),
            )


def _last_time(agent: Agent, path: str) -> int | None:
    """Return the time of the last line that has one, in milliseconds since the epoch; None where none has."""
    try:
        with open_log(path) as file:
            start = max(0, os.fstat(file.fileno()).st_size - _END_BYTES)
            data = os.pread(file.fileno(), _END_BYTES, start)
    except OSError:
        # It has been removed meanwhile, or is not for us to read; whoever reads it whole says so.
        return None
    lines = data.split(b"\n")[1 if start else 0 :]
    return next((at for line in reversed(lines) if (at := agent.glance(line).at) is not None), None)
