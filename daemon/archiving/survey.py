"""A survey: which sessions a source holds, found by reading all of it once and keeping little.

It also proves that the source can be read to its end, so that a damaged one costs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.archiving.scratch import scratch
from daemon.archiving.source import MissingExtraError, Source, SourceError, reason_of
from daemon.archiving.unpacking import Log, unpack
from daemon.following.log_roots import log_roots
from daemon.following.logs import Logs
from daemon.following.opening import in_order

__all__ = ["Survey", "SurveyedSession", "survey"]

_HEAD = 4 * 1024 * 1024
"""Bytes of each log that are looked at: what tells whose log it is, and when it begins, stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedSession:
    """A session in a source.

    Attributes:
        unit: its name.
        roots: what its first line is known by; see `Ordered`. Sessions with a root in common may have lines in common.
    """

    unit: str
    roots: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The logs in a source, before any is unpacked.

    Attributes:
        source: the source.
        logs: its logs and meta files.
        sessions: its sessions.
        others: how many members are no logs.
        refused: how many members have the name of a log and are a link, a device or the like.
        error: why it cannot be read, in one line; None if it can.
    """

    source: Source
    logs: tuple[Log, ...] = ()
    sessions: tuple[SurveyedSession, ...] = ()
    others: int = 0
    refused: int = 0
    error: str | None = None

    @property
    def size(self) -> int:
        """Bytes of its logs, unpacked."""
        return sum(log.size for log in self.logs)


def survey(source: Source) -> Survey:
    """Return what *source* holds. Errors are part of the result, because this runs in another process."""
    try:
        with scratch() as place:
            folder = place / "logs"
            folder.mkdir()
            found = unpack(source, folder, head=_HEAD)
            logs = Logs(log_roots([folder]))
            logs.include(logs.sweep("full").changed)
            sessions = [
                SurveyedSession(unit=each.files.name, roots=each.roots)
                for each in in_order(files for files in logs.sessions.values() if files.paths)
            ]
            claimed = {path for files in logs.sessions.values() for path in (*files.paths, *files.metas)}
    except (SourceError, MissingExtraError) as error:
        return Survey(source=source, error=str(error))
    except OSError as error:
        return Survey(source=source, error=reason_of(error))
    return Survey(
        source=source,
        logs=tuple(found.logs.values()),
        sessions=tuple(sessions),
        # The file is named like a log, but its path names no session.
        others=found.others + max(0, len(found.logs) - len(claimed)),
        refused=found.refused,
    )
