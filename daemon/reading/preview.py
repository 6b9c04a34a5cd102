"""Computes the events that `run --once` would send from a fresh state directory. Needs no key, network or state."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from daemon.following.log_roots import is_session_folder, recognize, roots_at, roots_below
from daemon.following.log_tree import plain_folders, project_files, project_folders, session_folder_files
from daemon.following.logs import Logs
from daemon.following.opening import by_first_line, named_inside
from daemon.following.session_files import SessionFiles
from daemon.reading.claims import Claims
from daemon.reading.emission import Emission
from daemon.reading.reader import Reader, ReadOutcome
from daemon.routing.routing import Routing
from daemon.system import disk
from llma_core.events import CaptureEvent

__all__ = ["NoLogError", "OnHeld", "emissions", "events_of", "find_logs", "leaving", "preview", "together"]

OnHeld = Callable[[str, str], None]


class NoLogError(Exception):
    """A given path is not a session log and contains none."""


def find_logs(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the logs at *paths*: files, or folders with logs in or below them.

    With a session's log come the logs of its subagents.

    Raises:
        NoLogError: there is no log at a path. The message names the path.
    """
    for path in paths:
        found = False
        for log in _logs_at(Path(os.path.realpath(path))):
            found = True
            yield log
        if not found:
            raise NoLogError(f"{path}: no session log here; give a .jsonl file or a folder that holds some")


def _logs_at(path: Path) -> Iterator[str]:
    if path.is_file():
        recognized = recognize(str(path))
        if recognized is not None:
            agent, _ = recognized
            yield str(path)
            yield from (log for log, _ in session_folder_files(agent, str(path).removesuffix(agent.log_suffix)))
    elif path.is_dir():
        logs = set(_logs_in(path))
        logs.update(_deeper_logs(path, logs))
        yield from sorted(logs)


def _logs_in(path: Path) -> Iterator[str]:
    """Yield the logs and meta files where a configuration folder, a folder of projects, or a project's has them."""
    for root in [root for root in roots_below(path) if disk.is_folder(str(root.path))] or roots_at(path):
        for project in [str(root.path), *project_folders(root)]:
            yield from (log for log, _ in project_files(root.agent, project))


def _deeper_logs(path: Path, known: Container[str]) -> Iterator[str]:
    """Yield the logs at any depth that say which session they are of: what else stands there may be anything."""
    left = _folders_in(path)
    while left:
        folder = left.pop()
        yield from (log for log in _logs_in(folder) if log not in known and _says_whose_it_is(log))
        left += _folders_in(folder)


def _says_whose_it_is(log: str) -> bool:
    recognized = recognize(log)
    if recognized is None:
        return False
    agent, place = recognized
    return (place.kind != "session" and place.session is not None) or named_inside(log, agent, place) is not None


def _folders_in(path: Path) -> list[Path]:
    """Return the folders in which more logs may stand; what is in a session's own folder is not one of its logs."""
    if any(disk.is_folder(str(root.path)) for root in roots_below(path)):
        return []
    folders = (Path(folder) for folder in plain_folders(str(path)))
    return sorted(folder for folder in folders if not is_session_folder(folder))


def preview(
    logs: Iterable[str],
    routing: Routing,
    on_held: OnHeld = lambda _session, _reason: None,
    *,
    around: Logs | None = None,
) -> Iterator[CaptureEvent]:
    """Yield the events of *logs*. The logs are read together: a message that is in several of them is yielded once.

    Args:
        logs: paths of logs.
        routing: decides who the events belong to, and what they may say.
        on_held: called with the id of a session that would have to wait for the user, or lines of it would, and the
            reason. These events are not yielded.
        around: all logs that are followed, if *logs* are among them: lines of one session may stand in another's log.

    Raises:
        OSError: a log cannot be read.
    """
    return events_of(emissions(logs, routing, on_held, around=around))


def emissions(
    logs: Iterable[str],
    routing: Routing,
    on_held: OnHeld = lambda _session, _reason: None,
    *,
    around: Logs | None = None,
) -> Iterator[Emission]:
    """Yield the events of *logs* as `preview` does, each with the lines that it rests on.

    Raises:
        OSError: a log cannot be read.
    """
    named = together(logs, around)
    reader = Reader(logs=named, routing=routing, claims=Claims())
    for files in by_first_line(named.sessions.values()):
        yield from leaving(files, reader.read_whole(files), on_held)


def events_of(found: Iterable[Emission]) -> Iterator[CaptureEvent]:
    """Yield the events of emissions that have one."""
    return (emission.event for emission in found if emission.event is not None)


def together(logs: Iterable[str], around: Logs | None) -> Logs:
    """Return *logs* as what there is to read, with what *around* tells of them; see `preview`."""
    named = Logs(())
    named.include(logs)
    if around is None:
        named.note_hosts()
    else:
        named.note_hosts_around(around)
    return named


def leaving(files: SessionFiles, outcomes: Iterable[ReadOutcome], on_held: OnHeld) -> Iterator[Emission]:
    """Yield the events of one session that leave, as *outcomes* of reading it come.

    Args:
        files: the session.
        outcomes: what each slice of it came to.
        on_held: see `preview`.

    Raises:
        OSError: a log cannot be read.
    """
    told: set[str] = set()
    for outcome in outcomes:
        for emission in (emission for step in outcome.steps for emission in step.emissions):
            if emission.event is not None and emission.leaves:
                yield emission
            elif emission.waits is not None and emission.waits not in told:
                told.add(emission.waits)
                on_held(files.session, emission.waits)
        if outcome.held is not None:
            on_held(files.session, outcome.held.reason)
        elif outcome.error is not None:
            raise outcome.error
