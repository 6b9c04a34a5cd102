"""The holding: which events PostHog has of some sessions, how often, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from daemon.verifying.app import App, AppError, BadQueryError, Project, Question
from daemon.verifying.expectation import Amounts, ExpectedSession
from llma_core import hogql, view

__all__ = ["HeldGroup", "HeldSession", "Holding", "questions"]

_HOUR = 3600.0
_DAY = 86_400.0
_LAST_TIME = 4_260_211_200.0
_COLUMNS = 2


@dataclass(slots=True, kw_only=True)
class HeldGroup:
    """The events of one session that have the same name, trace and model.

    Attributes:
        kind: their name.
        trace: the id of their trace.
        model: their model; "" without one.
        copies: how often each is there, by uuid.
        amounts: what they add up to, each counted once; None if that is counted elsewhere.
    """

    kind: str
    trace: str
    model: str
    copies: dict[str, int]
    amounts: Amounts | None


@dataclass(slots=True, kw_only=True)
class HeldSession:
    """What PostHog has of one session.

    Attributes:
        groups: its events.
        doubled: how often events stand in the table of traces that stand there more than once, by uuid.
    """

    groups: list[HeldGroup] = field(default_factory=list)
    doubled: dict[str, int] = field(default_factory=dict)


def questions(sessions: Sequence[ExpectedSession], now: float) -> tuple[Question, Question]:
    """Return what is asked about *sessions*: which events are held, and which stand twice in the table of traces.

    Args:
        sessions: the sessions, all asked for by the same kind of ids, a thousand of them at most.
        now: seconds since the epoch.
    """
    times = [at for session in sessions for at in session.times] or [session.began for session in sessions]
    values: Mapping[str, str | Sequence[str]] = {
        "kinds": list(view.EVENTS),
        "owners": [name for owner in _owners(sessions) for name in _spellings(owner)],
        "since": _moment(min(times, default=now) - _HOUR),
        "until": _moment(max([*times, now]) + _DAY),
    }
    by = sessions[0].by if sessions else "session"
    return Question(text=hogql.held(by), values=values), Question(text=hogql.doubled(by), values=values)


class Holding:
    """Asks PostHog, a thousand sessions at a time.

    Args:
        app: PostHog's private API.
        project: the project.

    Attributes:
        notes: what could not be asked, in a line each.
    """

    def __init__(self, app: App, project: Project) -> None:
        self.notes: list[str] = []
        self._app = app
        self._project = project

    def of(self, sessions: Sequence[ExpectedSession], now: float) -> dict[str, HeldSession]:
        """Return what PostHog has of *sessions* and of those that their events belong to, by what they are asked by.

        Raises:
            AppError: PostHog does not answer.
        """
        held, doubled = questions(sessions, now)
        owners = _owners(sessions)
        found = {each: HeldSession() for each in owners}
        known = {spelling: found[each] for each in owners for spelling in _spellings(each)}
        for owner, groups in _pairs(self._app.query(self._project, held)):
            if owner in known:
                known[owner].groups += map(_group, groups)
        if not self.notes:
            try:
                for owner, copies in _pairs(self._app.query(self._project, doubled)):
                    if owner in known:
                        known[owner].doubled |= _copies(copies)
            except BadQueryError as error:
                self.notes.append(f"the table of traces was not asked: {error}")
        return found


def _owners(sessions: Sequence[ExpectedSession]) -> list[str]:
    return sorted({each for session in sessions for each in session.owners})


def _pairs(rows: Sequence[list[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield each owner in an answer with what there is of it."""
    for row in rows:
        if len(row) != _COLUMNS or not isinstance(row[1], list):
            raise _other_columns()
        yield str(row[0]), row[1]


def _group(found: Any) -> HeldGroup:
    try:
        kind, trace, model, uuids, *counts, dollars = found
        taken, given, read, written = (int(number or 0) for number in counts)
        return HeldGroup(
            kind=str(kind),
            trace=str(trace or ""),
            model=str(model or ""),
            copies=_copies(uuids),
            amounts=Amounts(
                input=taken,
                output=given,
                cache_read=read,
                cache_write=written,
                dollars=float(dollars or 0.0),
            ),
        )
    except (TypeError, ValueError):
        raise _other_columns() from None


def _copies(found: Any) -> dict[str, int]:
    try:
        return {str(uuid).lower(): int(copies) for uuid, copies in found}
    except (TypeError, ValueError):
        raise _other_columns() from None


def _other_columns() -> AppError:
    return AppError("PostHog answers a query with other columns than were asked for")


def _spellings(owner: str) -> list[str]:
    """Return how PostHog may spell an id: it takes the text of a property out of its JSON as it is there.

    The id of a session is a file's name, or whatever a program says. The ids that clients make have one spelling.
    """
    return list(dict.fromkeys([owner, json.dumps(owner, ensure_ascii=False)[1:-1], json.dumps(owner)[1:-1]]))


def _moment(at: float) -> str:
    """Return a time as ClickHouse reads it. Programs may record any, and it knows none before 1970 or after 2105."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_TIME), UTC).strftime("%Y-%m-%d %H:%M:%S")
