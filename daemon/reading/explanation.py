"""What became of an event on its way out: what was left out, scrubbed or cut, and the lines of the log it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from daemon.following.logs import Logs
from daemon.following.session_files import SessionFiles
from daemon.reading.claims import Claims
from daemon.reading.reader import Reader
from daemon.routing.routing import Routing
from daemon.system.figures import count, printable
from llma_core.events import CaptureEvent
from llma_core.privacy import Change
from llma_core.spans import LineRange

__all__ = ["Explained", "explain", "summed_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """An event as it is built from a log.

    Attributes:
        event: the event, with what was changed in it.
        lines: the lines it rests on; None for a trace, which rests on all.
    """

    event: CaptureEvent
    lines: LineRange | None


def explain(logs: Iterable[str], routing: Routing, uuid: str) -> Explained | None:
    """Build an event again from the logs of its session; None if they do not yield it.

    Args:
        logs: paths of the session's logs, and of those of others that hold lines of it.
        routing: decides what the event may say; it has to explain.
        uuid: the event's uuid.

    Raises:
        OSError: a log cannot be read.
    """
    named = Logs(())
    named.include(logs)
    named.note_hosts()
    reader = Reader(logs=named, routing=routing, claims=Claims())
    for files in list(named.sessions.values()):
        found = _in(reader, files, uuid)
        if found is not None:
            return found
    return None


def _in(reader: Reader, files: SessionFiles, uuid: str) -> Explained | None:
    for outcome in reader.read_whole(files):
        for step in outcome.steps:
            for emission in step.emissions:
                if emission.event is not None and emission.event.uuid == uuid:
                    lines = emission.lines
                    if lines is not None:
                        path = outcome.session.pipeline.tails[lines.file].path
                        lines = LineRange(file=path, start=lines.start, end=lines.end)
                    return Explained(event=emission.event, lines=lines)
        if outcome.error is not None:
            raise outcome.error
    return None


def summed_up(changes: tuple[Change, ...]) -> list[str]:
    """Return one line for each property and kind of change; it names the place within the property if only one is."""
    counts: Counter[tuple[str, str, str | None]] = Counter()
    places: dict[tuple[str, str, str | None], set[str]] = {}
    for change in changes:
        # The place within a property begins with a dot or a bracket.
        key = (change.what, change.where.partition(".")[0].partition("[")[0], change.kind)
        counts[key] += change.count
        places.setdefault(key, set()).add(change.where)
    return [
        printable(f"{next(iter(places[key])) if len(places[key]) == 1 else key[1]}: {_said(key[0], number, key[2])}")
        for key, number in counts.items()
    ]


def _said(what: str, number: int, kind: str | None) -> str:
    match what:
        case "withheld":
            return f"{count(number, 'character')} left out at content level {kind}"
        case "scrubbed":
            return f"{count(number, 'secret')} scrubbed ({kind})"
        case _:
            return f"{count(number, 'character')} cut"
