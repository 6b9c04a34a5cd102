"""The comparison of what is expected of a session with what PostHog holds of it. Pure: the time is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from daemon.verifying.expectation import Amounts, ExpectedEvent, ExpectedSession
from daemon.verifying.holding import HeldGroup, HeldSession
from llma_core import view

__all__ = ["RETENTION_DAYS", "YOUNG_SECONDS", "ModelTotals", "SessionResult", "compare", "unknown"]

YOUNG_SECONDS = 600.0
"""PostHog may take this long to show an event."""
RETENTION_DAYS = 365
"""PostHog may have removed events that are older: it keeps those of free projects for a year."""

_DAY = 86_400.0
_CENT = 0.01
_SHARE = 0.01
"""Costs that differ by less than a cent, or less than this share, count as equal: price lists round differently."""
_IN_NO_LOG = frozenset({view.METRIC_EVENT, view.EMBEDDING_EVENT, view.FEEDBACK_EVENT})
"""Events of a session that may be in no log: what a command under `exec` says of it, and what a program has recorded on
another machine."""


@dataclass(slots=True, kw_only=True)
class ModelTotals:
    """What the calls of one model add up to.

    Attributes:
        sent: by the logs, of the events that were sent.
        held: by PostHog.
    """

    sent: Amounts = field(default_factory=Amounts)
    held: Amounts = field(default_factory=Amounts)


@dataclass(slots=True, kw_only=True)
class SessionResult:
    """How what PostHog holds of one session differs from what was sent.

    Attributes:
        session: its id, or that of a trace which belongs to no session.
        project: its first working directory; None if that is not known.
        events: events that were sent, and are old enough to be held.
        held: of these, those that PostHog holds.
        missing: the uuids of those that it does not hold.
        missing_kinds: how many of them there are, by the event's name.
        refused: how many of them PostHog had refused, so that they were set aside.
        gone: the uuids of those of them that no log gives, so that they cannot be sent again: a program has recorded
            them.
        extra: events that PostHog holds and the logs do not give. Of a session without a log, nobody can tell.
        doubled: events that PostHog holds more often than they were sent on purpose.
        not_yet: events that are too young to be judged.
        unsent: events that the logs give and that were never sent: history, or what the daemon has yet to send.
        expired: events that are over PostHog's retention, and that it does not hold.
        traces_without_events: traces of which PostHog has the trace event only.
        events_without_trace: traces of which PostHog has no trace event, although one was sent.
        tokens_differ: by model, how many tokens more (or, below 0, fewer) PostHog counts for the events it holds.
        cost_differs: how many US dollars more (or, below 0, less) PostHog counts for them; 0 where that is next to
            nothing.
        unknown: why the session was not compared; None if it was.
        models: what its calls add up to, by model.
    """

    session: str
    project: str | None
    events: int = 0
    held: int = 0
    missing: list[str] = field(default_factory=list)
    missing_kinds: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    gone: list[str] = field(default_factory=list)
    extra: int = 0
    doubled: int = 0
    not_yet: int = 0
    unsent: int = 0
    expired: int = 0
    traces_without_events: int = 0
    events_without_trace: int = 0
    tokens_differ: dict[str, int] = field(default_factory=dict)
    cost_differs: float = 0.0
    unknown: str | None = None
    models: dict[str, ModelTotals] = field(default_factory=dict)

    @property
    def is_judged(self) -> bool:
        """Whether there was anything to compare."""
        return self.unknown is None and bool(self.events or self.extra)

    @property
    def is_equal(self) -> bool:
        """Whether PostHog holds exactly what was sent."""
        return self.unknown is None and not (
            self.missing
            or self.extra
            or self.doubled
            or self.traces_without_events
            or self.events_without_trace
            or self.tokens_differ
            or self.cost_differs
        )


def unknown(expected: ExpectedSession) -> SessionResult:
    """Return the result of a session that cannot be compared."""
    return SessionResult(session=expected.id, project=expected.folder, unknown=expected.unknown)


def compare(
    expected: ExpectedSession,
    by_owner: Mapping[str, HeldSession],
    now: float,
    *,
    elsewhere: Container[str] = (),
    sent_again: Container[str] = (),
) -> SessionResult:
    """Compare one session.

    Args:
        expected: what is expected of it.
        by_owner: what PostHog has of it, and of other sessions, by their ids.
        now: seconds since the epoch.
        elsewhere: the uuids of events that the logs of other sessions give.
        sent_again: the uuids of events that were sent again a moment ago.
    """
    found = SessionResult(session=expected.id, project=expected.folder)
    held = _held_of(expected, by_owner)
    copies: Counter[str] = Counter()
    for group in held.groups:
        copies.update(group.copies)
    for uuid, event in expected.events.items():
        if uuid in copies:
            found.held += 1
            found.events += 1
            _count(found, event)
        elif _is_young(event, now) or uuid in sent_again:
            found.not_yet += 1
        elif event.state == "unsent":
            found.unsent += 1
        elif event.at is not None and event.at < now - RETENTION_DAYS * _DAY:
            found.expired += 1
        else:
            found.events += 1
            found.missing.append(uuid)
            found.missing_kinds[event.kind] += 1
            found.refused += event.state == "refused"
            if not event.is_logged:
                found.gone.append(uuid)
            _count(found, event)
    for uuid, number in copies.items():
        known = expected.events.get(uuid)
        if known is None and not expected.is_logged:
            continue
        found.doubled += max(number, held.doubled.get(uuid, 0)) > (1 if known is None else known.copies)
    if expected.is_logged:
        kinds = {uuid: group.kind for group in held.groups for uuid in group.copies}
        found.extra = sum(
            uuid not in expected.events and uuid not in elsewhere and kind not in _IN_NO_LOG
            for uuid, kind in kinds.items()
        )
    _compare_traces(found, expected, held)
    _compare_amounts(found, expected, held)
    return found


def _held_of(expected: ExpectedSession, by_owner: Mapping[str, HeldSession]) -> HeldSession:
    """Return what PostHog has of a session: everything with its id, and its events that have another one.

    What the latter add up to counts for the session with that id.
    """
    held = by_owner.get(expected.id, HeldSession())
    groups, doubled = list(held.groups), dict(held.doubled)
    for other in sorted(expected.owners - {expected.id}):
        there = by_owner.get(other, HeldSession())
        doubled.update(there.doubled)
        for group in there.groups:
            copies = {uuid: number for uuid, number in group.copies.items() if uuid in expected.events}
            if copies:
                groups.append(
                    HeldGroup(kind=group.kind, trace=group.trace, model=group.model, copies=copies, amounts=None)
                )
    return HeldSession(groups=groups, doubled=doubled)


def _is_young(event: ExpectedEvent, now: float) -> bool:
    return event.at is not None and event.at > now - YOUNG_SECONDS


def _count(found: SessionResult, event: ExpectedEvent) -> None:
    if event.model:
        found.models.setdefault(event.model, ModelTotals()).sent.add(event.amounts)


def _compare_traces(found: SessionResult, expected: ExpectedSession, held: HeldSession) -> None:
    traces = {group.trace for group in held.groups if group.kind == view.TRACE_EVENT}
    others = {
        group.trace
        for group in held.groups
        if group.kind not in (view.TRACE_EVENT, view.METRIC_EVENT, view.FEEDBACK_EVENT)
    }
    lost = [expected.events[uuid] for uuid in found.missing]
    found.events_without_trace = len(
        (others - traces) & {event.trace for event in lost if event.kind == view.TRACE_EVENT}
    )
    found.traces_without_events = len(
        (traces - others) & {event.trace for event in lost if event.kind != view.TRACE_EVENT}
    )


def _compare_amounts(found: SessionResult, expected: ExpectedSession, held: HeldSession) -> None:
    """Compare tokens and cost of what both sides have. What is missing or extra is said elsewhere."""
    dollars = 0.0
    for group in held.groups:
        if not group.model or group.amounts is None:
            continue
        events = [expected.events.get(uuid) for uuid in group.copies]
        sent = Amounts()
        for event in events:
            if event is not None:
                sent.add(event.amounts)
        is_known = None not in events
        # What another machine has recorded of the same session is in the group, too, and does not count here.
        counts = group.amounts if is_known or expected.is_logged else sent
        found.models.setdefault(group.model, ModelTotals()).held.add(counts)
        if not is_known:
            continue
        if group.amounts.tokens != sent.tokens:
            more = sum(group.amounts.tokens) - sum(sent.tokens)
            found.tokens_differ[group.model] = found.tokens_differ.get(group.model, 0) + more
        if all(event is None or event.is_priced for event in events):
            difference = group.amounts.dollars - sent.dollars
            if abs(difference) > _SHARE * max(group.amounts.dollars, sent.dollars):
                dollars += difference
    found.cost_differs = round(dollars, 6) if abs(dollars) >= _CENT else 0.0
