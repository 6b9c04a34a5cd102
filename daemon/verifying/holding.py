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

__all__ = ["EVENTS", "SESSIONS", "HeldGroup", "HeldSession", "Holding", "questions"]

SESSIONS = 1000
"""How many sessions one query is about, at most."""
EVENTS = 40_000
"""How many events it is about, at most, unless one session has more: an answer has 50,000 rows."""

_HOUR = 3600.0
_DAY = 86_400.0


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
        sessions: the sessions, at most SESSIONS.
        now: seconds since the epoch.
    """
    times = [at for session in sessions for at in session.times] or [session.session.began for session in sessions]
    values: Mapping[str, str | Sequence[str]] = {
        "kinds": list(view.EVENTS),
        "sessions": [name for session in _ids(sessions) for name in _spellings(session)],
        "since": _moment(min(times, default=now) - _HOUR),
        "until": _moment(max([*times, now]) + _DAY),
    }
    return Question(text=hogql.held(), values=values), Question(text=hogql.DOUBLED, values=values)


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
        """Return what PostHog has of *sessions* and of those that their events belong to, by their ids.

        Raises:
            AppError: PostHog does not answer.
        """
        held, doubled = questions(sessions, now)
        ids = _ids(sessions)
        found = {each: HeldSession() for each in ids}
        known = {spelling: found[each] for each in ids for spelling in _spellings(each)}
        for row in self._rows(held):
            session, group = _group(row)
            if session in known:
                known[session].groups.append(group)
        if not self.notes:
            try:
                for session, uuid, copies in self._app.query(self._project, doubled):
                    if session in known:
                        known[session].doubled[str(uuid).lower()] = int(copies)
            except BadQueryError as error:
                self.notes.append(f"the table of traces was not asked: {error}")
        return found

    def _rows(self, question: Question) -> Iterator[list[Any]]:
        offset = 0
        while True:
            text = hogql.held(offset) if offset else question.text
            rows = self._app.query(self._project, Question(text=text, values=question.values))
            yield from rows
            if len(rows) < hogql.ROWS:
                return
            offset += len(rows)


def _ids(sessions: Sequence[ExpectedSession]) -> list[str]:
    return sorted({each for session in sessions for each in session.ids})


def _group(row: list[Any]) -> tuple[str, HeldGroup]:
    try:
        session, kind, trace, model, uuids, *counts, dollars = row
        taken, given, read, written = (int(number or 0) for number in counts)
        return str(session), HeldGroup(
            kind=str(kind),
            trace=str(trace or ""),
            model=str(model or ""),
            copies={str(uuid).lower(): int(copies) for uuid, copies in uuids},
            amounts=Amounts(
                input=taken,
                output=given,
                cache_read=read,
                cache_write=written,
                dollars=float(dollars or 0.0),
            ),
        )
    except (TypeError, ValueError):
        raise AppError("PostHog answers a query with other columns than were asked for") from None


def _spellings(session: str) -> list[str]:
    """Return how PostHog may spell a session's id: it takes the text of a property out of its JSON as it is there.

    The id is a file's name. The ids that clients make have one spelling.
    """
    return list(dict.fromkeys([session, json.dumps(session, ensure_ascii=False)[1:-1], json.dumps(session)[1:-1]]))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
