"""What sending some sessions would come to: the events that are not settled yet, counted and not sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from daemon.following.logs import Logs
from daemon.history.history import LoggedSession
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress
from daemon.reading.reader import Reader
from daemon.routing.routing import Routing
from llma_core import view
from llma_core.timestamps import milliseconds

__all__ = ["CONTENT_DAYS", "Estimate", "estimate"]

CONTENT_DAYS = 30
"""Days, from an event's own time on, for which PostHog keeps what was said; of older events it keeps the metrics."""

_DAY = 86_400


@dataclass(slots=True, kw_only=True)
class Estimate:
    """What some sessions would come to.

    Attributes:
        sessions: sessions that have anything to send.
        running: sessions among all that were looked at which run now; what is open in them is left to a daemon.
        events: events to send.
        size: bytes of their bodies, before compression.
        metrics_only: events so old that PostHog keeps no content of them.
        input_tokens: of the generations among the events, without what went through the cache.
        output_tokens: likewise.
        cache_read_tokens: likewise.
        cache_write_tokens: likewise.
        waiting: sessions that would have to wait, by the reason.
        unreadable: sessions of which a log could not be read.
        by_unit: events to send, by the unit's name.
    """

    sessions: int = 0
    running: int = 0
    events: int = 0
    size: int = 0
    metrics_only: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    by_unit: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        """All tokens together."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    def add(self, unit: str, progress: Progress, old: float) -> None:
        """Count what a step of a session came to; *old*: seconds since the epoch before which no content is kept."""
        for emission in progress.emissions:
            if emission.event is None:
                continue
            said = view.read(emission.event.body)
            at = milliseconds(said.timestamp)
            self.events += 1
            self.by_unit[unit] += 1
            self.size += len(emission.event.body)
            self.metrics_only += at is not None and at / 1000 < old
            self.input_tokens += said.input_tokens or 0
            self.output_tokens += said.output_tokens or 0
            self.cache_read_tokens += said.cache_read_tokens or 0
            self.cache_write_tokens += said.cache_write_tokens or 0


def estimate(
    sessions: Iterable[LoggedSession],
    *,
    logs: Logs,
    routing: Routing,
    claims: Claims,
    running: Collection[str],
    now: float,
    told: Callable[[int], None] = lambda _read: None,
) -> Estimate:
    """Count what *sessions*, judged together and in their order, would send.

    Args:
        sessions: the sessions.
        logs: where their logs are.
        routing: whose their events are.
        claims: what is settled already.
        running: ids of the sessions that run now.
        now: the wall clock, in seconds since the epoch.
        told: called with the bytes read since it was last called.
    """
    total = Estimate()
    old = now - CONTENT_DAYS * _DAY
    reader = Reader(logs=logs, routing=routing, claims=claims)
    for session in sessions:
        files = session.unit
        total.running += files.session in running
        before = 0
        for outcome in reader.read_whole(files, running=running):
            for step in outcome.steps:
                total.add(files.name, step, old)
            position = sum(tail.position for tail in outcome.session.pipeline.tails.values())
            told(position - before)
            before = position
            if outcome.held is not None:
                total.waiting[outcome.held.reason] += 1
            elif outcome.state in ("replaced", "unreadable"):
                # It has just been removed or replaced; sending it comes later and sees what is there then.
                total.unreadable += 1
                break
            elif outcome.error is not None:
                raise outcome.error
        reader.close(files.name)
        total.sessions += total.by_unit[files.name] > 0
    return total
