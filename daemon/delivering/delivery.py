"""Delivery: batches events, sends the batches, retries, and settles the events.

    put -> Batcher -> slot: one attempt -> Delivered           settle, next
                        ^                  Rejected, several   halve, go on in order
                        |                  Rejected, one       set aside; settled with the next accepted request
                        +--- wait <------- Stopped             the same events after a minute, then ever more rarely;
                        |                                      nothing is queued meanwhile, and no refusal settles
                        +--- wait <------- Retryable           the same events again; halved after two timeouts

Only two things settle an event: an accepted request, or the refusal of that single event by a receiver that accepts
others. After anything else (errors, a stop, cancellation, a crash) the event is unsettled, and the caller puts it
again.

Of several events with one uuid the latest body counts. A receiver may keep the earlier one of two that arrive at about
the same time, so two are never on their way at once:

    one waits when a later one is put        it is superseded: it is not sent, and is settled with the later one
    one is in a request                      the later one waits for the answer

A `Delivery` works without the rest of the service:

    async with Delivery(CaptureSink(host, key)) as delivery:
        await delivery.put(event)
        complete = await delivery.flush()
"""

from __future__ import annotations

import asyncio
import math
import random as random_module
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self

import msgspec
import structlog

from daemon.delivering.batcher import Batcher, BatchLimits, Flight, Piece
from daemon.delivering.retry import Backoff, RetryPolicy
from daemon.delivering.sink import AttemptOutcome, Delivered, Rejected, Retryable, Sink, Stopped
from daemon.system.completion import uninterrupted
from llma_core.events import CaptureEvent

__all__ = [
    "BackingOff",
    "Closed",
    "Delivery",
    "DeliveryClosed",
    "DeliveryState",
    "DeliveryStats",
    "EventOutcome",
    "Prepare",
    "Running",
    "Settle",
]

# If this many single events are refused in a row, none accepted in between, the receiver is at fault, not the events.
REFUSALS_IN_A_ROW = 20

# A batch is halved after this many timeouts: it may be too large for a slow connection.
TIMEOUTS_TO_HALVE = 2

# How many `Retryable(immediate=True)` in a row are followed at once. The next one counts as a failed attempt.
IMMEDIATE_IN_A_ROW = 2

# Seconds between two log lines of the same kind.
LOG_INTERVAL = 300.0

# Seconds that an attempt may take. Timeouts bound its steps, but 20 MB may have to go through a slow connection.
ATTEMPT_SECONDS = 900.0

# Seconds by which a due batch or retry may be late before `overdue` reports it.
LATE_SECONDS = 60.0


class DeliveryClosed(Exception):  # noqa: N818 -- named for the state, as asyncio.QueueShutDown is
    """The delivery is closed and accepts no more events."""


class EventOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The final outcome of one event.

    Attributes:
        event: the event as it was sent. Its `cut` says whether it was cut to the sink's limit.
            A superseded event has no body.
        outcome: "delivered", or "rejected" if the receiver refuses this event, which is set aside; or "superseded" if
            it was not sent, because a later event with its uuid was.
        reason: why it was rejected, in the receiver's words, bounded.
    """

    event: CaptureEvent
    outcome: Literal["delivered", "rejected", "superseded"]
    reason: str | None = None


Prepare = Callable[[], Awaitable[None]]
"""Awaited before a batch is sent."""
Settle = Callable[[Sequence[EventOutcome]], Awaitable[None]]
"""Awaited with the outcomes of events, in order, before the events count as settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The receiver answers, or nothing has been sent yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingOff:
    """The last attempt failed, and the same events will be sent again.

    Attributes:
        until: when the next attempt starts, by the delivery's clock.
        attempt: number of failed attempts in a row.
        reason: why the last attempt failed.
    """

    until: float
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The delivery has ended.

    Attributes:
        error: the error that ended it; None if it was closed.
    """

    error: str | None = None


DeliveryState = Running | BackingOff | Stopped | Closed


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStats:
    """The counters of one delivery since it was built.

    Attributes:
        sent: number of events delivered and settled.
        rejected: number of events set aside and settled.
        batches: number of requests accepted.
        retries: number of failed attempts that could be repeated.
        quota_limited: number of events that the receiver accepted but drops, because the project is over its quota.
        last_success_at: when a request was last accepted, by the delivery's clock; None if none was.
        last_error: why the last attempt that was not accepted failed; None if every attempt was accepted.
    """

    sent: int = 0
    rejected: int = 0
    batches: int = 0
    retries: int = 0
    quota_limited: int = 0
    last_success_at: float | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Superseded:
    """The events that are settled with a later one of their uuid.

    Attributes:
        events: the events in the order in which they were put, without their bodies.
        first: number of the first of them, or a lower one.
    """

    events: Sequence[CaptureEvent]
    first: int


class _Bell:
    """Wakes every waiting task. Each task then checks for itself what has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def heard(self) -> Coroutine[object, object, bool]:
        """Return an awaitable for the next ring. It counts rings from this call on, not from the await."""
        return self._event.wait()


class _Throttle:
    """Admits one log line of a kind in each interval."""

    def __init__(self) -> None:
        self._next = -math.inf

    def admits(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + LOG_INTERVAL
        return True


class Delivery:
    """Delivers events to one sink, in order, until they are settled.

    Use it as an async context manager, or call `start` and `aclose`. It owns its sink and closes it.

    Args:
        sink: where batches go.
        batch: the limits of a batch.
        retry: how failed attempts are spaced.
        queue_bytes: `put` waits once the bodies of waiting and in-flight events reach this many bytes. The event that
            reaches the limit is still queued. Refused events (fewer than 20) do not count.
        concurrency: the maximum number of requests at a time. They start in the order in which their events were put.
        prepare: awaited before each batch is sent. If it raises, the delivery ends.
        settle: awaited with the events of each acknowledged request, preceded by refused events, and each by those that
            it supersedes, before they count as settled. Calls never overlap, and closing the delivery does not cancel
            them. If it raises, the delivery ends.
        name: names this delivery in logs.
        clock: returns seconds that only increase.
        sleep: waits that many seconds of *clock*.
        random: returns numbers in [0, 1), for jitter.

    Raises:
        ValueError: *queue_bytes* or *concurrency* is below 1.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        batch: BatchLimits | None = None,
        retry: RetryPolicy | None = None,
        queue_bytes: int = 8 * 1024 * 1024,
        concurrency: int = 2,
        prepare: Prepare | None = None,
        settle: Settle | None = None,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        if queue_bytes < 1 or concurrency < 1:
            raise ValueError(f"queue_bytes and concurrency must be at least 1, not {queue_bytes} and {concurrency}")
        self._sink = sink
        self._queue_bytes = queue_bytes
        self._concurrency = concurrency
        self._prepare = prepare
        self._settle_callback = settle
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._log = structlog.get_logger(__name__) if name is None else structlog.get_logger(__name__, delivery=name)

        self._batcher = Batcher(batch or BatchLimits())
        self._flights: list[Flight] = []
        self._doubtful: deque[Flight] = deque()  # refused by a receiver that refused everything
        self._set_aside: list[EventOutcome] = []
        self._superseded: dict[str, _Superseded] = {}  # by the identity of the event they are settled with

        self._backoff = Backoff(retry or RetryPolicy())
        self._refused_in_a_row = 0
        self._refused_from = sys.maxsize  # number of the first event that may be set aside
        self._accepted_since_stop = True
        self._settling = 0  # number of refused events that are being settled
        self._state: DeliveryState = Running()
        self._stats = DeliveryStats()
        self._error: BaseException | None = None
        self._error_raised = False
        self._closing = False
        self._flushes = 0
        self._runner: asyncio.Task[None] | None = None
        self._failure_logged = False
        self._sending: dict[int, float] = {}

        self._bell = _Bell()
        self._put_lock = asyncio.Lock()  # keeps callers that wait in put in their order
        self._settle_lock = asyncio.Lock()
        self._failing_lines, self._rejected_lines, self._quota_lines = _Throttle(), _Throttle(), _Throttle()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def start(self) -> None:
        """Start delivering in the running event loop. Idempotent.

        Raises:
            DeliveryClosed: the delivery is closed.
        """
        if self._closing:
            raise DeliveryClosed("the delivery is closed")
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run())
            # Nothing settles after the slots have ended. A flush must wake up to see that.
            self._runner.add_done_callback(lambda _: self._bell.ring())

    # State, for callers.

    @property
    def state(self) -> DeliveryState:
        """The current state."""
        return self._state

    @property
    def stats(self) -> DeliveryStats:
        """The current counters."""
        return self._stats

    @property
    def has_room(self) -> bool:
        """Whether `put` would queue an event without waiting."""
        return not self._closing and not isinstance(self._state, (Stopped, Closed)) and not self._is_full

    @property
    def _is_full(self) -> bool:
        return self.queued_bytes >= self._queue_bytes

    @property
    def queued_events(self) -> int:
        """Number of events waiting or in flight."""
        return len(self._batcher) + sum(flight.count for flight in self._unsettled)

    @property
    def queued_bytes(self) -> int:
        """Total size, in bytes, of the bodies of events waiting or in flight."""
        return self._batcher.size + sum(flight.size for flight in self._unsettled)

    @property
    def set_aside_events(self) -> int:
        """Number of refused events that settle with the next accepted request."""
        return len(self._set_aside)

    @property
    def oldest_since(self) -> float | None:
        """When the oldest event waiting or in flight was put, by the delivery's clock; None if there is none."""
        times = [flight.since for flight in self._unsettled]
        if (oldest := self._batcher.oldest) is not None:
            times.append(oldest)
        return min(times, default=None)

    def overdue(self) -> str | None:
        """Return what is taking much longer than it should; None if nothing is.

        Waiting for events, or for the end of a back-off or of a stop, does not count.
        """
        now = self._clock()
        if isinstance(self._state, Closed):
            return None
        if self._sending and min(self._sending.values()) + ATTEMPT_SECONDS < now:
            return "an attempt to send"
        if isinstance(self._state, BackingOff | Stopped):
            late = not self._sending and self._backoff.until + LATE_SECONDS < now
            return "the end of a back-off" if late else None
        due = self._batcher.due_at
        late = not self._flights and due is not None and due + LATE_SECONDS < now
        return "a batch" if late else None

    async def put(self, event: CaptureEvent) -> None:
        """Queue *event* behind all others. Wait while the queue is full or the delivery is stopped.

        A call that is cancelled while it waits has queued nothing.

        Raises:
            DeliveryClosed: the delivery is closed, or closes during the wait.
            Exception: the error of `settle` (or of a faulty sink) that ended the delivery.
        """
        async with self._put_lock:
            await self.wait_room()
            self._queue([event])

    def add(self, events: Iterable[CaptureEvent], *, old: bool = False, bulk: bool = False) -> None:
        """Queue *events* behind all others, even if there is no room: there was some when they were asked for.

        Args:
            events: the events.
            old: whether they happened a while ago, so that nobody waits for them.
            bulk: whether many of them may be sent at once; see `Batcher.add`.

        Raises:
            DeliveryClosed: the delivery is closed.
            Exception: the error of `settle` (or of a faulty sink) that ended the delivery.
        """
        self._raise_error()
        if self._closing:
            raise DeliveryClosed("the delivery is closed")
        self._queue(events, old=old, bulk=bulk)

    def _queue(self, events: Iterable[CaptureEvent], *, old: bool = False, bulk: bool = False) -> None:
        now, before, rings = self._clock(), self._batcher.due_at, False
        for event in events:
            # An earlier body hardly ever waits, and a catch-up does this for each event.
            if self._doubtful or self._set_aside or self._batcher.find(event.uuid) is not None:
                earlier = self._withdraw(event.uuid)
                if earlier is not None:
                    self._supersede(*earlier, by=event)
                    rings = True
            rings = self._batcher.add(event, now, old=old, bulk=bulk) or rings
        after = self._batcher.due_at
        # Slots that wait for a batch to be due wake up by themselves. During a catch-up this runs thousands of times.
        if rings or before is None or (after is not None and after < before) or self._is_full:
            self._bell.ring()

    # Several bodies of one uuid.

    def _withdraw(self, uuid: str) -> tuple[CaptureEvent, int] | None:
        """Remove the event with *uuid* from wherever it waits.

        Returns:
            The event, and a number that is at most its own; None if no such event waits.
        """
        found = self._batcher.withdraw(uuid)
        if found is not None:
            return found
        for flight in self._doubtful:
            event = flight.withdraw(uuid)
            if event is not None:
                if not flight.pieces:
                    self._doubtful.remove(flight)
                return event, flight.first
        for place, outcome in enumerate(self._set_aside):
            if outcome.event.uuid == uuid and place >= self._settling:
                del self._set_aside[place]
                number = self._refused_from
                if not self._set_aside:
                    self._refused_from = sys.maxsize
                return outcome.event, number
        return None

    def _supersede(self, event: CaptureEvent, number: int, *, by: CaptureEvent) -> None:
        """Let *event* be settled with *by*, a later one; its number is *number* or a higher one."""
        earlier, others = self._superseded.pop(event.identity, None), self._superseded.get(by.identity)
        found = [each for each in (earlier, others) if each is not None]
        self._superseded[by.identity] = _Superseded(
            # Its body is never sent, and a receiver may be away for long.
            events=[
                *(earlier.events if earlier is not None else ()),
                msgspec.structs.replace(event, body=b""),
                *(others.events if others is not None else ()),
            ],
            first=min(number, *(each.first for each in found)) if found else number,
        )

    def _later(self, flight: Flight, uuid: str) -> CaptureEvent | None:
        """Return the event with *uuid* that was put after that in *flight*; None if there is none."""
        behind = self._flights[self._flights.index(flight) + 1 :]
        found = (event for each in behind for event in each.events if event.uuid == uuid)
        return next(found, None) or self._batcher.find(uuid)

    def _has_to_wait(self, flight: Flight) -> bool:
        """Whether a flight before *flight* holds an event with the same uuid: that one is sent first."""
        ahead = self._flights[: self._flights.index(flight)]
        if not ahead:
            return False
        uuids = {event.uuid for event in flight.events}
        return any(event.uuid in uuids for each in ahead for event in each.events)

    async def wait_room(self) -> None:
        """Wait until `has_room`. Raises the same errors as `put`."""
        while not self.has_room:
            self._raise_error()
            if self._closing:
                raise DeliveryClosed("the delivery is closed")
            await self._bell.heard()

    async def next_state(self, after: DeliveryState) -> DeliveryState:
        """Wait until the state differs from *after*, and return it."""
        while self._state == after:
            await self._bell.heard()
        return self._state

    async def wait_closed(self) -> None:
        """Wait until the delivery has ended.

        Raises:
            Exception: the error of `settle` (or of a faulty sink) that ended it.
        """
        while not isinstance(self._state, Closed):
            await self._bell.heard()
        self._raise_error()

    async def flush(self) -> bool:
        """Send everything that was put before this call, without lingering, and wait until it is settled or cannot be.

        This also settles refused events, if the receiver has accepted any request of this delivery. Then the receiver
        works, and the refused events are at fault.

        Returns:
            Whether everything put before is settled. False as soon as the delivery is stopped or closed, or if a
            receiver that has never accepted anything refused some events. Whoever waits for a flush is told of a stop
            at once; the delivery goes on asking.

        Raises:
            RuntimeError: the delivery was not started.
            Exception: the error of `settle` (or of a faulty sink) that ended the delivery.
        """
        if self._runner is None:
            raise RuntimeError("the delivery was not started: call start before flush")
        complete = await self._drain(self._runner)
        self._raise_error()
        return complete

    async def aclose(self, grace: float = 0) -> None:
        """Accept no more events, flush for up to *grace* seconds, cancel requests in flight, and close the sink.

        Events that are unsettled by then stay unsettled. A settlement that has begun is finished first. Idempotent.
        Cancelling this call skips the rest of the grace.

        Raises:
            Exception: the error of `settle` (or of a faulty sink) that ended the delivery, if no other call raised it.
        """
        self._closing = True
        self._bell.ring()
        try:
            if grace > 0 and self._runner is not None and not self._runner.done():
                await self._drain_within(self._runner, grace)
        finally:
            try:
                if self._runner is not None:
                    self._runner.cancel()
                    await asyncio.wait({self._runner})
            finally:
                if not isinstance(self._state, Closed):
                    self._become(Closed())
                await self._sink.aclose()
        if not self._error_raised:
            self._raise_error()

    # The slots.

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as slots:
                for _ in range(self._concurrency):
                    slots.create_task(self._work())
        except ExceptionGroup as group:
            self._fail(group.exceptions[0] if len(group.exceptions) == 1 else group)

    async def _work(self) -> None:
        while True:
            flight = await self._next_flight()
            while self._has_to_wait(flight):
                await self._bell.heard()
            if self._prepare is not None:
                await self._prepare()
            while flight.pieces:
                await self._conclude(flight, await self._attempt(flight))
            self._flights.remove(flight)
            self._bell.ring()

    async def _next_flight(self) -> Flight:
        """Wait for a batch that is due, and take it."""
        while True:
            now = self._clock()
            if self._doubtful and not (self._backoff.stops and len(self._batcher)):
                flight = self._doubtful.popleft()
                self._flights.append(flight)
                return flight
            # While there is no room, nothing joins a batch by waiting.
            batch = self._batcher.take(math.inf if self._flushes or self._is_full else now)
            if batch is not None:
                flight = Flight.of(batch)
                self._flights.append(flight)
                return flight
            due = self._batcher.due_at
            if due is None:
                await self._bell.heard()
            else:
                await self._pause(due - now)

    async def _attempt(self, flight: Flight) -> AttemptOutcome:
        """Send the first piece of *flight* when its turn comes."""
        while self._backoff.blocked:
            # Only the oldest batch tests whether the receiver is back. The others wait for its outcome.
            if flight is not self._flights[0]:
                await self._bell.heard()
            elif (wait := self._backoff.until - self._clock()) > 0:
                await self._pause(wait)
            else:
                break
        return await self._send(flight.pieces[0])

    async def _send(self, piece: Piece) -> AttemptOutcome:
        for _ in range(1 + IMMEDIATE_IN_A_ROW):
            piece.fit(self._sink.event_limit)
            epoch = self._backoff.epoch
            self._sending[id(piece)] = self._clock()
            try:
                outcome = await self._sink.send(piece.events)
            finally:
                del self._sending[id(piece)]
            if not (isinstance(outcome, Retryable) and outcome.immediate):
                break
        self._observe(outcome, epoch)
        return outcome

    def _observe(self, outcome: AttemptOutcome, epoch: int) -> None:
        """Update the state from the *outcome* of a request that started in *epoch*."""
        now = self._clock()
        if not isinstance(outcome, Delivered):
            self._stats = replace(self._stats, last_error=outcome.reason)
        match outcome:
            case Stopped():
                # The stop of a request from before the last one says nothing new.
                if not self._stopped or epoch == self._backoff.epoch:
                    self._stop(outcome)
            case Retryable():
                self._stats = replace(self._stats, retries=self._stats.retries + 1)
                counts = self._backoff.failed(epoch, retry_after=outcome.after, now=now, draw=self._random())
                if counts or not self._stopped:
                    self._back_off(outcome.reason, now)
            case Delivered() | Rejected():
                accepted = isinstance(outcome, Delivered)
                failures = self._backoff.attempt + (self._backoff.stops if accepted else 0)
                if self._backoff.answered(epoch, accepted=accepted):
                    self._become(Running())
                    if failures and self._failure_logged:
                        self._failure_logged = False
                        self._log.info("delivery_recovered", failures=failures)

    async def _conclude(self, flight: Flight, outcome: AttemptOutcome) -> None:
        """Apply *outcome* to the first piece of *flight*."""
        piece = flight.pieces[0]
        several = len(piece.events) > 1
        match outcome:
            case Delivered():
                self._refused_in_a_row = 0
                self._accepted_since_stop = True
                self._note_quota(outcome, piece)
                await uninterrupted(self._accept(flight))
            case Rejected() if several:
                flight.halve()
            case Rejected():
                self._refuse(flight, outcome.reason)
            case Retryable(timed_out=True):
                piece.timeouts += 1
                if several and piece.timeouts >= TIMEOUTS_TO_HALVE:
                    flight.halve()
            case Retryable() | Stopped():
                pass  # after the wait the same piece is sent again
        self._bell.ring()

    async def _accept(self, flight: Flight) -> None:
        piece = flight.pieces[0]
        await self._settle(piece.events, accepted=True)
        flight.pieces.popleft()
        self._log.debug("batch_delivered", events=len(piece.events), bytes=piece.size)

    async def _settle(self, delivered: Sequence[CaptureEvent], *, accepted: bool) -> None:
        """Settle *delivered*, preceded by the events set aside, unless a stop has put their refusal in doubt."""
        async with self._settle_lock:
            set_aside = [] if self._stopped else self._set_aside.copy()
            final = [*set_aside, *(EventOutcome(event=event, outcome="delivered") for event in delivered)]
            if not final:
                return
            settled = final
            if self._superseded:
                settled = [each for outcome in final for each in (*self._superseded_by(outcome.event), outcome)]
            self._settling = len(set_aside)
            try:
                if self._settle_callback is not None:
                    await self._settle_callback(settled)
            finally:
                self._settling = 0
            if self._superseded:
                for outcome in final:
                    self._superseded.pop(outcome.event.identity, None)
            del self._set_aside[: len(set_aside)]
            if not self._set_aside:
                self._refused_from = sys.maxsize
            stats = replace(
                self._stats,
                sent=self._stats.sent + len(delivered),
                rejected=self._stats.rejected + len(set_aside),
            )
            if accepted:
                stats = replace(stats, batches=stats.batches + 1, last_success_at=self._clock())
            self._stats = stats

    def _superseded_by(self, event: CaptureEvent) -> list[EventOutcome]:
        superseded = self._superseded.get(event.identity)
        earlier = superseded.events if superseded is not None else ()
        return [EventOutcome(event=each, outcome="superseded") for each in earlier]

    # Refusals, failures and stops.

    def _refuse(self, flight: Flight, reason: str) -> None:
        """Set aside the only event of the first piece of *flight*, unless a later body of it waits."""
        piece = flight.pieces.popleft()
        [event] = piece.events
        later = self._later(flight, event.uuid)
        if later is not None:
            self._supersede(event, flight.first, by=later)
        else:
            self._set_aside.append(EventOutcome(event=event, outcome="rejected", reason=reason))
            self._refused_from = min(self._refused_from, flight.first)
        # An event that was refused before the receiver accepted others, and is refused again after, is at fault itself.
        if not (piece.again and self._accepted_since_stop):
            self._refused_in_a_row += 1
        if self._rejected_lines.admits(self._clock()):
            self._log.warning("event_rejected", event_name=event.name, uuid=event.uuid, bytes=piece.size, reason=reason)
        if self._refused_in_a_row >= REFUSALS_IN_A_ROW:
            self._doubt_refusals(flight)
            self._stop(
                Stopped(
                    reason=f"{REFUSALS_IN_A_ROW} events in a row were refused, none accepted in between: {reason}",
                    hint="check that POSTHOG_HOST is a PostHog host that accepts AI events, and why it refused these",
                )
            )

    def _doubt_refusals(self, flight: Flight) -> None:
        """Let the events that were set aside be sent again, after others that wait.

        Those ask the receiver first. So a few events that it will never take do not keep it stopped.
        """
        doubtful = self._set_aside[self._settling :]
        del self._set_aside[self._settling :]
        piece = Piece.of([outcome.event for outcome in doubtful], again=True)
        self._doubtful.append(Flight(first=self._refused_from, since=flight.since, pieces=deque([piece])))
        self._refused_from = sys.maxsize
        self._refused_in_a_row = 0
        self._accepted_since_stop = False

    def _back_off(self, reason: str, now: float) -> None:
        attempt, until = self._backoff.attempt, self._backoff.until
        self._become(BackingOff(until=until, attempt=attempt, reason=reason))
        if self._failing_lines.admits(now):
            self._failure_logged = True
            self._log.warning(
                "delivery_failing",
                attempt=attempt,
                reason=reason,
                wait=round(until - now, 1),
                queued=self.queued_events,
                action="trying again; nothing is lost",
            )

    def _note_quota(self, outcome: Delivered, piece: Piece) -> None:
        if not outcome.quota_limited:
            return
        self._stats = replace(self._stats, quota_limited=self._stats.quota_limited + len(piece.events))
        if self._quota_lines.admits(self._clock()):
            self._log.warning("quota_limited", resources=outcome.quota_limited, events=self._stats.quota_limited)

    def _stop(self, stopped: Stopped) -> None:
        now = self._clock()
        self._backoff.stopped(now)
        self._become(replace(stopped, until=self._backoff.until))
        if self._backoff.stops == 1:
            self._failure_logged = True
            self._log.error(
                "delivery_stopped",
                reason=stopped.reason,
                hint=stopped.hint,
                queued=self.queued_events,
                wait=round(self._backoff.until - now, 1),
                action="asking again then, later ever more rarely; nothing is lost",
            )

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
            self._become(Closed(error=f"{type(error).__name__}: {error}"))

    def _raise_error(self) -> None:
        if self._error is not None:
            self._error_raised = True
            raise self._error

    @property
    def _stopped(self) -> bool:
        return isinstance(self._state, Stopped)

    def _become(self, state: DeliveryState) -> None:
        if isinstance(self._state, Closed):
            return
        self._state = state
        self._bell.ring()

    # Waiting.

    @property
    def _unsettled(self) -> list[Flight]:
        return [*self._flights, *self._doubtful]

    @property
    def _done_count(self) -> int:
        """How many of the events ever put, counted from the first without a gap, are settled or set aside."""
        aside = {outcome.event.identity for outcome in self._set_aside}
        superseded = (each.first for identity, each in self._superseded.items() if identity not in aside)
        return min([self._batcher.first, *superseded, *(flight.first for flight in self._unsettled)])

    async def _drain(self, runner: asyncio.Task[None]) -> bool:
        target = self._batcher.added
        self._flushes += 1
        self._bell.ring()
        try:
            while self._done_count < target and not runner.done() and not self._stopped:
                await self._bell.heard()
        finally:
            self._flushes -= 1
        if self._done_count < target:
            return False
        if self._set_aside and self._stats.batches and isinstance(self._state, (Running, BackingOff)):
            try:
                await uninterrupted(self._settle((), accepted=False))
            except Exception as error:  # noqa: BLE001 -- kept: the next call raises it
                self._fail(error)
                runner.cancel()
        return not self._set_aside

    async def _drain_within(self, runner: asyncio.Task[None], seconds: float) -> None:
        tasks = {asyncio.ensure_future(self._drain(runner)), asyncio.ensure_future(self._sleep(seconds))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        """Wait for *seconds*, or until the bell rings."""
        bell, sleep = asyncio.ensure_future(self._bell.heard()), asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait({bell, sleep}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            bell.cancel()
            sleep.cancel()
        if sleep.done():
            sleep.result()
