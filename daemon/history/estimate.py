"""The estimate of a backfill: counts the unsettled events of some sessions without sending them."""

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
from daemon.usage.prices import Dollars, event_dollars
from llma_core import view
from llma_core.timestamps import milliseconds

__all__ = ["CONTENT_DAYS", "Estimate", "estimate"]

CONTENT_DAYS = 30
"""How many days after an event's own time PostHog keeps its content; it keeps the metrics of older events."""

_DAY = 86_400


@dataclass(slots=True, kw_only=True)
class Estimate:
    """What sending some sessions would amount to.

    Attributes:
        sessions: sessions that have anything to send.
        running: counted sessions that run now; whatever is open in them is left to a daemon.
        events: events to send.
        size: bytes of their bodies, before compression.
        metrics_only: events so old that PostHog keeps no content of them.
        input_tokens: input tokens of the generations among the events, without cached ones.
        output_tokens: output tokens of these generations.
        cache_read_tokens: input tokens that these generations read from the cache.
        cache_write_tokens: input tokens that these generations wrote to the cache.
        dollars: what these generations cost at list prices.
        waiting: sessions that would have to wait, by the reason.
        unreadable: sessions with a log that could not be read.
        by_session: events to send, by the session's name.
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
    dollars: Dollars = field(default_factory=Dollars)
    waiting: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    by_session: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        """The sum of all tokens."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    def add(self, name: str, progress: Progress, old: float) -> None:
        """Count the events of one step of a session.

        Args:
            name: the session's name.
            progress: the step.
            old: the time before which PostHog keeps no content, in seconds since the epoch.
        """
        for emission in progress.emissions:
            if emission.event is None or not emission.leaves:
                continue
            said = view.read(emission.event.body)
            at = milliseconds(said.timestamp)
            self.events += 1
            self.by_session[name] += 1
            self.size += len(emission.event.body)
            self.metrics_only += at is not None and at / 1000 < old
            self.input_tokens += said.input_tokens or 0
            self.output_tokens += said.output_tokens or 0
            self.cache_read_tokens += said.cache_read_tokens or 0
            self.cache_write_tokens += said.cache_write_tokens or 0
            self.dollars += event_dollars(said)


def estimate(
    sessions: Iterable[LoggedSession],
    *,
    logs: Logs,
    routing: Routing,
    claims: Claims,
    running: Collection[str],
    now: float,
    on_read: Callable[[int], None] = lambda _read: None,
) -> Estimate:
    """Count what *sessions* would send.

    Args:
        sessions: the sessions, in the order in which they would be sent: an original before its copies.
        logs: all logs.
        routing: decides the route of each session's events.
        claims: what is settled already.
        running: ids of the sessions that run now.
        now: the wall clock, in seconds since the epoch.
        on_read: called with the bytes read since the previous call.
    """
    total = Estimate()
    old = now - CONTENT_DAYS * _DAY
    logs.note_hosts()
    reader = Reader(logs=logs, routing=routing, claims=claims)
    for session in sessions:
        files = session.files
        total.running += files.session in running
        before = 0
        for outcome in reader.read_whole(files, running=running):
            for step in outcome.steps:
                total.add(files.name, step, old)
            position = sum(tail.position for tail in outcome.session.pipeline.tails.values())
            on_read(position - before)
            before = position
            if outcome.held is not None:
                total.waiting[outcome.held.reason] += 1
            elif outcome.state in ("replaced", "unreadable"):
                # A log has just been removed or replaced. Sending comes later and reads what exists then.
                total.unreadable += 1
                break
            elif outcome.error is not None:
                raise outcome.error
        reader.close(files.name)
        total.sessions += total.by_session[files.name] > 0
    return total
