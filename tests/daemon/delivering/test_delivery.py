from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.delivering.batcher import BatchLimits
from daemon.delivering.delivery import (
    ATTEMPT_SECONDS,
    LATE_SECONDS,
    BackingOff,
    Closed,
    Delivery,
    DeliveryClosed,
    EventOutcome,
    Running,
)
from daemon.delivering.retry import RetryPolicy
from daemon.delivering.sink import AttemptOutcome, Delivered, Rejected, Retryable, Stopped
from llma_core.events import CaptureEvent
from tests.support.capture_server import sample_event

Answer = Callable[[list[int]], AttemptOutcome]

DOWN = Retryable(reason="503")
REFUSED = Rejected(reason="400 bad")
UNAUTHORIZED = Stopped(reason="401", hint="check POSTHOG_API_KEY")
STOPPED = replace(UNAUTHORIZED, until=1060.0)


class ScriptedSink:
    """Answers from a script first, then by a rule. A gate can delay the answers.

    As a receiver keeps any of two bodies of one uuid that come at about the same time, they must not.
    """

    def __init__(self, *script: AttemptOutcome, rule: Answer = lambda _: Delivered()) -> None:
        self.script = list(script)
        self.rule = rule
        self.gate = asyncio.Event()
        self.gate.set()
        self.sent: list[list[int]] = []
        self.bodies: list[list[bytes]] = []
        self.stored: dict[str, int] = {}
        self._uuids: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.closed = False
        self.limits = [math.inf]
        self._started = asyncio.Condition()

    @property
    def event_limit(self) -> int:
        return 10**9 if self.limits[0] == math.inf else int(self.limits[0])

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        numbers, uuids = [number(event) for event in events], [event.uuid for event in events]
        self._uuids += uuids
        assert len(set(self._uuids)) == len(self._uuids), "two bodies of one uuid are under way"
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        async with self._started:
            self.sent.append(numbers)
            self.bodies.append([event.body for event in events])
            self._started.notify_all()
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.under_way -= 1
            for uuid in uuids:
                self._uuids.remove(uuid)
        if len(self.limits) > 1:
            self.limits.pop(0)
        outcome = self.script.pop(0) if self.script else self.rule(numbers)
        if isinstance(outcome, Delivered):
            self.stored.update(zip(uuids, numbers, strict=True))
        return outcome

    async def aclose(self) -> None:
        self.closed = True

    async def wait_sent(self, count: int) -> None:
        async with self._started:
            await self._started.wait_for(lambda: len(self.sent) >= count)


class Time:
    """A clock that sleeping advances at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class StandingTime(Time):
    """A clock that stands still until it is moved. Who sleeps then sleeps until that."""

    def __init__(self) -> None:
        super().__init__()
        self._moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        end = self.now + seconds
        while self.now < end:
            await self._moved.wait()

    async def move(self, seconds: float) -> None:
        for _ in range(20):
            await asyncio.sleep(0)  # who is about to sleep does so before
        self.now += seconds
        self._moved.set()
        self._moved = asyncio.Event()


class Book:
    """Records what was settled, call by call."""

    def __init__(self) -> None:
        self.calls: list[list[EventOutcome]] = []

    async def settle(self, settled: Sequence[EventOutcome]) -> None:
        self.calls.append(list(settled))

    def numbers(self, outcome: str = "delivered") -> list[int]:
        return [number(one.event) for call in self.calls for one in call if one.outcome == outcome]


def number(event: CaptureEvent) -> int:
    return int(event.identity.removeprefix("generation:"))


def all_refused_if(bad: Callable[[int], bool]) -> Answer:
    return lambda numbers: REFUSED if any(bad(one) for one in numbers) else Delivered()


@asynccontextmanager
async def delivering(
    sink: ScriptedSink, time: Time | None = None, **options: Any
) -> AsyncIterator[tuple[Delivery, Book]]:
    """A delivery that neither lingers nor sleeps, without jitter."""
    time, book = time or Time(), Book()
    options = {"batch": BatchLimits(count=4, linger=0), "concurrency": 1, "settle": book.settle, **options}
    async with Delivery(sink, clock=time.clock, sleep=time.sleep, random=lambda: 0.0, **options) as delivery:
        yield delivery, book


async def put(delivery: Delivery, *numbers: int) -> None:
    for one in numbers:
        await delivery.put(sample_event(one))


def body(number: int, uuid: str) -> CaptureEvent:
    """A body of *uuid*; a higher *number* is a later one."""
    return msgspec.structs.replace(sample_event(number), uuid=uuid)


async def test_events_are_batched_sent_in_order_and_settled() -> None:
    sink = ScriptedSink()
    async with delivering(sink) as (delivery, book):
        await put(delivery, *range(10))
        assert await delivery.flush()
        assert sink.sent == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert [[number(one.event) for one in call] for call in book.calls] == sink.sent
        assert (delivery.stats.sent, delivery.stats.batches, delivery.stats.last_success_at) == (10, 3, 1000.0)
        assert (delivery.queued_events, delivery.queued_bytes, delivery.oldest_since) == (0, 0, None)
    assert sink.closed


async def test_a_lone_event_leaves_after_lingering_without_a_flush() -> None:
    time, sink = Time(), ScriptedSink()
    async with delivering(sink, time, batch=BatchLimits(linger=5)) as (delivery, _):
        await put(delivery, 0)
        await sink.wait_sent(1)
        assert time.slept == [5]


async def test_a_new_event_leaves_in_time_although_old_ones_linger() -> None:
    time, sink = StandingTime(), ScriptedSink()
    async with delivering(sink, time, batch=BatchLimits(linger=5, linger_old=60)) as (delivery, _):
        delivery.add([sample_event(0)], old=True)
        await time.move(10)
        await put(delivery, 1)
        await sink.wait_sent(1)
        assert (sink.sent, time.now) == ([[0, 1]], 1010.0)


async def test_nothing_lingers_while_there_is_no_room() -> None:
    time, sink = StandingTime(), ScriptedSink()
    batch = BatchLimits(linger=60, linger_old=60)
    async with delivering(sink, time, batch=batch, queue_bytes=len(sample_event(0).body) + 1) as (delivery, _):
        delivery.add([sample_event(0)], old=True)
        await time.move(10)
        assert sink.sent == []
        delivery.add([sample_event(1)], old=True)
        await sink.wait_sent(1)
        await delivery.wait_room()
        assert (sink.sent, time.now) == ([[0, 1]], 1010.0)


async def test_a_flush_does_not_linger() -> None:
    time, sink = Time(), ScriptedSink()
    async with delivering(sink, time, batch=BatchLimits(linger=5)) as (delivery, _):
        await put(delivery, 0)
        assert await delivery.flush()
        assert time.slept == []


async def test_a_flush_with_nothing_to_do_is_complete() -> None:
    async with delivering(ScriptedSink()) as (delivery, _):
        assert await delivery.flush()


async def test_a_flush_waits_only_for_events_put_before_it() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    async with delivering(sink) as (delivery, book):
        await put(delivery, 0)
        flush = asyncio.create_task(delivery.flush())
        await sink.wait_sent(1)
        await put(delivery, 1)
        sink.script = [Delivered()]
        sink.rule = lambda _: UNAUTHORIZED
        sink.gate.set()
        assert await flush
        assert book.numbers() == [0]


async def test_a_delivery_is_started_before_it_is_flushed() -> None:
    delivery = Delivery(ScriptedSink())
    with pytest.raises(RuntimeError, match="was not started"):
        await delivery.flush()
    await delivery.aclose()


async def test_two_requests_are_under_way_and_start_in_order() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    async with delivering(sink, concurrency=2) as (delivery, book):
        await put(delivery, *range(12))
        await sink.wait_sent(2)
        assert sink.sent == [[0, 1, 2, 3], [4, 5, 6, 7]]
        sink.gate.set()
        assert await delivery.flush()
    assert sink.most_under_way == 2
    assert sorted(book.numbers()) == list(range(12))


# Retries.


async def test_the_same_bytes_are_sent_again_until_they_are_taken() -> None:
    time, sink = Time(), ScriptedSink(*[DOWN] * 9)
    async with delivering(sink, time) as (delivery, book):
        await put(delivery, 0, 1)
        assert await delivery.flush()
        assert delivery.stats.retries == 9
    assert len(sink.bodies) == 10
    assert all(bodies == sink.bodies[0] for bodies in sink.bodies)
    assert time.slept == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert len(book.calls) == 1


async def test_the_state_tells_of_failure_and_recovery() -> None:
    # A sleep that never ends: only the awaited change can wake the delivery.
    sink = ScriptedSink(Retryable(reason="429 slow down", after=40))
    awake = asyncio.Event()
    time = Time()

    async def sleep(seconds: float) -> None:
        await awake.wait()
        time.now += seconds

    async with Delivery(sink, batch=BatchLimits(linger=0), clock=time.clock, sleep=sleep) as delivery:
        await put(delivery, 0)
        failing = await delivery.next_state(Running())
        assert failing == BackingOff(until=1040.0, attempt=1, reason="429 slow down")
        assert delivery.stats.last_error == "429 slow down"
        assert delivery.has_room
        awake.set()
        assert await delivery.next_state(failing) == Running()


async def test_retry_after_is_honoured_up_to_five_minutes() -> None:
    time, sink = Time(), ScriptedSink(Retryable(reason="429", after=90), Retryable(reason="429", after=3600))
    async with delivering(sink, time) as (delivery, _):
        await put(delivery, 0)
        assert await delivery.flush()
    assert time.slept == [90, 300]


async def test_while_the_receiver_is_away_one_request_at_a_time_asks_for_it() -> None:
    sink = ScriptedSink(*[DOWN] * 6)
    sink.gate.clear()
    async with delivering(sink, concurrency=2) as (delivery, book):
        await put(delivery, *range(8))
        await sink.wait_sent(2)
        sink.most_under_way = 0
        sink.gate.set()
        assert await delivery.flush()
    # Two batches failed together, then one was tried alone until it was accepted, then the other was sent.
    assert sink.sent[2:] == [[0, 1, 2, 3]] * 5 + [[4, 5, 6, 7]]
    assert sink.most_under_way == 1
    assert sorted(book.numbers()) == list(range(8))


async def test_a_batch_that_times_out_twice_is_halved() -> None:
    slow = Retryable(reason="no answer", timed_out=True)
    sink = ScriptedSink(rule=lambda numbers: slow if len(numbers) > 1 else Delivered())
    async with delivering(sink) as (delivery, book):
        await put(delivery, 0, 1, 2, 3)
        assert await delivery.flush()
    assert sink.sent == [*[[0, 1, 2, 3]] * 2, *[[0, 1]] * 2, [0], [1], *[[2, 3]] * 2, [2], [3]]
    assert book.numbers() == [0, 1, 2, 3]


async def test_a_single_event_that_times_out_is_just_sent_again() -> None:
    sink = ScriptedSink(*[Retryable(reason="no answer", timed_out=True)] * 5)
    async with delivering(sink) as (delivery, book):
        await put(delivery, 0)
        assert await delivery.flush()
    assert sink.sent == [[0]] * 6
    assert book.numbers() == [0]


async def test_a_sink_that_changed_its_ways_is_asked_again_at_once_with_events_that_fit() -> None:
    time, sink = Time(), ScriptedSink(Retryable(reason="404", immediate=True))
    sink.limits = [10**9, 5_000]
    async with delivering(sink, time) as (delivery, book):
        await delivery.put(sample_event(0, text="many words " * 2_000))
        await put(delivery, 1)
        assert await delivery.flush()
        assert (delivery.stats.retries, delivery.state) == (0, Running())
    assert time.slept == []
    (large, small), (cut, same) = sink.bodies
    assert len(large) > 5_000 >= len(cut)
    assert small == same
    assert [one.event.cut for one in book.calls[0]] == [True, False]


async def test_a_sink_that_only_ever_changes_its_ways_is_failing() -> None:
    time, sink = Time(), ScriptedSink(*[Retryable(reason="404", immediate=True)] * 3)
    async with delivering(sink, time) as (delivery, _):
        await put(delivery, 0)
        assert await delivery.flush()
        assert delivery.stats.retries == 1
    assert time.slept == [0.5]


# Refusals.


async def test_one_bad_event_is_found_by_halving_and_the_others_arrive_in_order() -> None:
    sink = ScriptedSink(rule=all_refused_if(lambda one: one == 37))
    async with delivering(sink, batch=BatchLimits(count=100, linger=0)) as (delivery, book):
        await put(delivery, *range(100))
        assert await delivery.flush()
        assert (delivery.stats.sent, delivery.stats.rejected) == (99, 1)
    assert book.numbers() == [one for one in range(100) if one != 37]
    assert book.numbers("rejected") == [37]
    assert len(sink.sent) <= 15
    assert [one.reason for call in book.calls for one in call if one.outcome == "rejected"] == ["400 bad"]


async def test_a_refusal_is_settled_together_with_the_next_accepted_request() -> None:
    sink = ScriptedSink(REFUSED)
    async with delivering(sink) as (delivery, book):
        await put(delivery, 0)
        await sink.wait_sent(1)
        assert not await delivery.flush()
        assert delivery.set_aside_events == 1
        assert book.calls == []
        await put(delivery, 1)
        assert await delivery.flush()
        assert delivery.set_aside_events == 0
    assert [(number(one.event), one.outcome) for one in book.calls[0]] == [(0, "rejected"), (1, "delivered")]
    assert len(book.calls) == 1


async def test_a_flush_settles_refusals_of_a_receiver_that_takes_events() -> None:
    sink = ScriptedSink(Delivered(), REFUSED)
    async with delivering(sink, batch=BatchLimits(count=1)) as (delivery, book):
        await put(delivery, 0, 1)
        assert await delivery.flush()
    assert (book.numbers(), book.numbers("rejected")) == ([0], [1])


async def test_a_flush_settles_no_refusals_of_a_receiver_that_never_took_any() -> None:
    sink = ScriptedSink(rule=lambda _: REFUSED)
    async with delivering(sink, batch=BatchLimits(count=1)) as (delivery, book):
        await put(delivery, *range(19))
        assert not await delivery.flush()
        assert delivery.state == Running()
        assert delivery.set_aside_events == 19
    assert book.calls == []


async def test_twenty_refusals_in_a_row_are_the_receivers_fault() -> None:
    sink = ScriptedSink(Delivered(), rule=lambda _: REFUSED)
    with capture_logs() as logs:
        async with delivering(sink, StandingTime(), batch=BatchLimits(count=1)) as (delivery, book):
            await put(delivery, *range(30))
            assert not await delivery.flush()
            assert isinstance(delivery.state, Stopped)
            assert "20 events in a row were refused" in delivery.state.reason
            assert not delivery.has_room
    assert len(sink.sent) == 21
    assert (book.numbers(), book.numbers("rejected")) == ([0], [])
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["delivery_stopped"]


async def test_refusals_with_accepted_requests_in_between_never_stop_a_delivery() -> None:
    sink = ScriptedSink(rule=all_refused_if(lambda one: one % 10 != 0))
    async with delivering(sink, batch=BatchLimits(count=1)) as (delivery, book):
        await put(delivery, *range(100))
        assert await delivery.flush()
    assert book.numbers() == list(range(0, 100, 10))
    assert len(book.numbers("rejected")) == 90


# Stops.


async def test_a_stop_settles_nothing_and_keeps_the_queue() -> None:
    sink = ScriptedSink(Delivered(), UNAUTHORIZED)
    async with delivering(sink, StandingTime()) as (delivery, book):
        await put(delivery, *range(12))
        assert not await delivery.flush()
        assert delivery.state == STOPPED
        assert delivery.queued_events == 8
        assert not delivery.has_room
        waiting = asyncio.create_task(put(delivery, 12))
        await asyncio.sleep(0)
        assert not waiting.done()
        await delivery.aclose()
        with pytest.raises(DeliveryClosed):
            await waiting
    assert book.numbers() == [0, 1, 2, 3]
    assert len(sink.sent) == 2


async def test_a_request_accepted_while_another_stopped_the_delivery_is_settled() -> None:
    sink = ScriptedSink(UNAUTHORIZED, Delivered())
    sink.gate.clear()
    async with delivering(sink, StandingTime(), concurrency=2) as (delivery, book):
        await put(delivery, *range(8))
        await sink.wait_sent(2)
        sink.gate.set()
        assert not await delivery.flush()
        assert delivery.state == STOPPED
    assert book.numbers() == [4, 5, 6, 7]


async def test_a_late_failure_does_not_bring_a_stopped_delivery_back() -> None:
    sink = ScriptedSink(UNAUTHORIZED, DOWN)
    sink.gate.clear()
    async with delivering(sink, StandingTime(), concurrency=2) as (delivery, book):
        await put(delivery, *range(8))
        await sink.wait_sent(2)
        sink.gate.set()
        assert not await delivery.flush()
        assert delivery.state == STOPPED
    assert len(sink.sent) == 2
    assert book.calls == []


async def test_a_request_accepted_after_a_stop_settles_no_refusals() -> None:
    sink = ScriptedSink(REFUSED, UNAUTHORIZED, Delivered())
    sink.gate.clear()
    async with delivering(sink, StandingTime(), concurrency=3, batch=BatchLimits(count=1)) as (delivery, book):
        await put(delivery, 0, 1, 2)
        await sink.wait_sent(3)
        sink.gate.set()
        assert not await delivery.flush()
        assert delivery.set_aside_events == 1
    assert (book.numbers(), book.numbers("rejected")) == ([2], [])


async def test_a_stop_ends_the_wait_of_a_failed_request() -> None:
    # The first request fails and waits for a minute that never passes. The second gets a stop.
    sink = ScriptedSink(DOWN, UNAUTHORIZED)
    sink.gate.clear()

    async def sleep(_: float) -> None:
        await asyncio.Event().wait()

    clock = Time().clock
    async with Delivery(sink, batch=BatchLimits(count=1), concurrency=2, clock=clock, sleep=sleep) as delivery:
        await put(delivery, 0, 1)
        await sink.wait_sent(2)
        sink.gate.set()
        assert not await delivery.flush()
        assert delivery.state == STOPPED


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")


def stopped_until(delivery: Delivery, at: float) -> bool:
    return isinstance(delivery.state, Stopped) and delivery.state.until == at


@pytest.mark.parametrize("reason", ["401", "403", "404 on both paths", "302, a redirect", "202", "204", "a portal"])
async def test_a_stopped_delivery_asks_again_ever_more_rarely_and_heals_by_itself(reason: str) -> None:
    stop = Stopped(reason=reason, hint="look")
    time, sink = StandingTime(), ScriptedSink(*[stop] * 9)
    with capture_logs() as logs:
        async with delivering(sink, time, concurrency=2) as (delivery, book):
            await put(delivery, *range(12))
            waits = [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
            await sink.wait_sent(2)
            for number, wait in enumerate(waits[:-1], start=1):
                begun = time.now
                stopped = replace(stop, until=begun + wait)
                await until(lambda stopped=stopped: delivery.state == stopped)  # type: ignore[misc] # bound in the loop
                assert not delivery.has_room
                assert not await delivery.flush()
                sent = len(sink.sent)
                await time.move(wait - 1)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(sink.sent) == sent
                await time.move(1)
                await sink.wait_sent(number + 2)
                # One request at a time asks, with the oldest events.
                assert sink.sent[-1] == [0, 1, 2, 3]
            await time.move(3600)
            await delivery.wait_room()
            assert await delivery.flush()
            assert delivery.state == Running()
    assert sorted(book.numbers()) == list(range(12))
    stops = [line for line in logs if line["event"] == "delivery_stopped"]
    assert [(line["log_level"], line["wait"]) for line in stops] == [("error", 60.0)]
    assert [line["event"] for line in logs if line["log_level"] == "info"] == ["delivery_recovered"]


async def test_the_pace_of_asking_is_the_policys() -> None:
    time, sink = Time(), ScriptedSink(*[UNAUTHORIZED] * 4)
    async with delivering(sink, time, retry=RetryPolicy(stop_base=0.5, stop_cap=1.5)) as (delivery, book):
        await put(delivery, 0)
        await sink.wait_sent(5)
        await until(lambda: delivery.stats.sent == 1)
    assert time.slept == [0.5, 1, 1.5, 1.5]
    assert book.numbers() == [0]


async def test_after_healing_the_first_stop_is_a_minute_again_and_is_told() -> None:
    time, sink = StandingTime(), ScriptedSink(UNAUTHORIZED, UNAUTHORIZED, Delivered(), UNAUTHORIZED)
    with capture_logs() as logs:
        async with delivering(sink, time) as (delivery, _):
            await put(delivery, 0)
            await until(lambda: isinstance(delivery.state, Stopped))
            await time.move(60)
            await sink.wait_sent(2)
            await until(lambda: delivery.state == replace(UNAUTHORIZED, until=time.now + 120))
            await time.move(120)
            await until(lambda: delivery.state == Running())
            await put(delivery, 1)
            await until(lambda: delivery.state == replace(UNAUTHORIZED, until=time.now + 60))
    assert [line["event"] for line in logs if line["event"] == "delivery_stopped"] == ["delivery_stopped"] * 2


async def test_a_stopped_receiver_that_then_fails_is_retried_as_usual() -> None:
    time, sink = StandingTime(), ScriptedSink(UNAUTHORIZED, DOWN)
    async with delivering(sink, time) as (delivery, book):
        await put(delivery, 0)
        await until(lambda: isinstance(delivery.state, Stopped))
        await time.move(60)
        await until(lambda: delivery.state == BackingOff(until=time.now + 0.5, attempt=1, reason="503"))
        assert delivery.has_room
        await time.move(0.5)
        assert await delivery.flush()
    assert book.numbers() == [0]


async def test_a_stopped_receiver_that_then_refuses_one_event_goes_on_with_the_others() -> None:
    time, sink = StandingTime(), ScriptedSink(UNAUTHORIZED, rule=all_refused_if(lambda one: one == 0))
    async with delivering(sink, time, batch=BatchLimits(count=1)) as (delivery, book):
        await put(delivery, 0)
        await until(lambda: isinstance(delivery.state, Stopped))
        await time.move(60)
        await delivery.wait_room()
        await put(delivery, 1)
        assert await delivery.flush()
    assert (book.numbers(), book.numbers("rejected")) == ([1], [0])


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_what_was_refused_by_a_receiver_that_refused_everything_is_sent_again(concurrency: int) -> None:
    time, sink = StandingTime(), ScriptedSink(rule=lambda _: REFUSED)
    with capture_logs() as logs:
        async with delivering(sink, time, concurrency=concurrency) as (delivery, book):
            await put(delivery, *range(20))
            await until(lambda: isinstance(delivery.state, Stopped))
            assert (delivery.queued_events, delivery.set_aside_events) == (20, 0)
            # It refuses everything once more, and is then repaired.
            await time.move(60)
            await until(lambda: stopped_until(delivery, time.now + 120))
            sink.rule = lambda _: Delivered()
            await time.move(120)
            await delivery.wait_room()
            assert await delivery.flush()
    assert (sorted(book.numbers()), book.numbers("rejected")) == (list(range(20)), [])
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["delivery_stopped"]


async def test_events_that_are_at_fault_do_not_keep_a_receiver_stopped() -> None:
    time, sink = StandingTime(), ScriptedSink(rule=all_refused_if(lambda one: one < 30))
    async with delivering(sink, time) as (delivery, book):
        await put(delivery, *range(40))
        while not await delivery.flush():
            await until(lambda: isinstance(delivery.state, Stopped))
            await time.move(3600)
            await delivery.next_state(delivery.state)
    assert (sorted(book.numbers()), sorted(book.numbers("rejected"))) == (list(range(30, 40)), list(range(30)))


# The limit of the queue.


async def test_put_waits_while_the_queue_is_full_and_goes_on_in_order() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    size = len(sample_event(0).body)
    async with delivering(sink, queue_bytes=3 * size, batch=BatchLimits(count=1)) as (delivery, book):
        await put(delivery, 0, 1, 2)
        assert not delivery.has_room
        assert delivery.oldest_since == 1000.0
        late = [asyncio.create_task(put(delivery, one)) for one in (3, 4, 5)]
        await sink.wait_sent(1)
        assert delivery.queued_events == 3
        assert delivery.queued_bytes == 3 * size
        sink.gate.set()
        await asyncio.gather(*late)
        await delivery.wait_room()
        assert await delivery.flush()
    assert book.numbers() == [0, 1, 2, 3, 4, 5]


async def test_later_puts_do_not_overtake_a_put_that_waits() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    async with delivering(sink, queue_bytes=1) as (delivery, book):
        await put(delivery, 0)

        async def watch_for_room() -> None:
            await delivery.wait_room()
            await put(delivery, 2)

        watcher = asyncio.create_task(watch_for_room())
        waiting = asyncio.create_task(put(delivery, 1))
        await sink.wait_sent(1)
        sink.gate.set()
        await asyncio.gather(waiting, watcher)
        assert await delivery.flush()
    assert book.numbers() == [0, 1, 2]


async def test_a_put_that_is_cancelled_while_it_waits_queues_nothing() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    async with delivering(sink, queue_bytes=1) as (delivery, book):
        await put(delivery, 0)
        cancelled, patient = asyncio.create_task(put(delivery, 1)), asyncio.create_task(put(delivery, 2))
        await asyncio.sleep(0)
        cancelled.cancel()
        sink.gate.set()
        await patient
        assert await delivery.flush()
    assert book.numbers() == [0, 2]


async def test_an_event_larger_than_the_queue_is_still_taken() -> None:
    async with delivering(ScriptedSink(), queue_bytes=1) as (delivery, book):
        await put(delivery, 0, 1)
        assert await delivery.flush()
    assert book.numbers() == [0, 1]


# Ends.


async def test_closing_cancels_requests_in_flight_and_does_not_settle_them() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    async with delivering(sink) as (delivery, book):
        await put(delivery, 0, 1)
        flush = asyncio.create_task(delivery.flush())
        await sink.wait_sent(1)
        await delivery.aclose()
        assert not await flush
        assert not await delivery.flush()
        assert delivery.queued_events == 2
        assert delivery.state == Closed()
        await delivery.wait_closed()
        with pytest.raises(DeliveryClosed):
            await put(delivery, 2)
        with pytest.raises(DeliveryClosed):
            await delivery.wait_room()
        with pytest.raises(DeliveryClosed):
            delivery.start()
        await delivery.aclose()
    assert sink.under_way == 0
    assert sink.closed
    assert book.calls == []


async def test_closing_with_grace_delivers_first() -> None:
    never = asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    book = Book()
    delivery = Delivery(ScriptedSink(), sleep=sleep, settle=book.settle, batch=BatchLimits(linger=3600))
    delivery.start()
    await put(delivery, 0, 1)
    await delivery.aclose(grace=10)
    assert book.numbers() == [0, 1]


async def test_grace_has_an_end() -> None:
    time, sink = Time(), ScriptedSink()
    sink.gate.clear()
    async with delivering(sink, time) as (delivery, book):
        await put(delivery, 0)
        await delivery.aclose(grace=10)
    assert 10 in time.slept
    assert book.calls == []
    assert sink.closed


async def test_cancelling_a_graceful_close_closes_at_once() -> None:
    async def sleep(_: float) -> None:
        await asyncio.Event().wait()

    sink = ScriptedSink()
    sink.gate.clear()
    delivery = Delivery(sink, sleep=sleep, batch=BatchLimits(count=1))
    delivery.start()
    await put(delivery, 0)
    closing = asyncio.create_task(delivery.aclose(grace=3600))
    await sink.wait_sent(1)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert sink.closed
    assert delivery.state == Closed()


async def test_a_settlement_that_has_begun_is_finished_before_the_delivery_closes() -> None:
    begun, release, finished = asyncio.Event(), asyncio.Event(), False

    async def settle(_: Sequence[EventOutcome]) -> None:
        nonlocal finished
        begun.set()
        await release.wait()
        finished = True

    async with delivering(ScriptedSink(), settle=settle) as (delivery, _):
        await put(delivery, 0)
        await begun.wait()
        closing = asyncio.create_task(delivery.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        release.set()
        await closing
        assert finished
        assert (delivery.stats.sent, delivery.queued_events) == (1, 0)


async def test_settlements_never_overlap() -> None:
    busy = most = 0

    async def settle(_: Sequence[EventOutcome]) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    async with delivering(ScriptedSink(), settle=settle, concurrency=4, batch=BatchLimits(count=1)) as (delivery, _):
        await put(delivery, *range(40))
        assert await delivery.flush()
    assert most == 1


class StoreError(Exception):
    pass


async def broken_settle(_: Sequence[EventOutcome]) -> None:
    raise StoreError("disk full")


async def test_an_error_of_settle_ends_the_delivery_and_reaches_everyone() -> None:
    sink = ScriptedSink()
    async with delivering(sink, settle=broken_settle, concurrency=2) as (delivery, _):
        await put(delivery, 0)
        with pytest.raises(StoreError):
            await delivery.wait_closed()
        with pytest.raises(StoreError):
            await delivery.flush()
        with pytest.raises(StoreError):
            await put(delivery, 1)
        assert delivery.state == Closed(error="StoreError: disk full")
        assert (delivery.stats.sent, delivery.queued_events) == (0, 1)
    assert sink.closed


async def test_closing_raises_an_error_of_settle_that_no_call_has_raised() -> None:
    delivery = Delivery(ScriptedSink(), settle=broken_settle)
    delivery.start()
    await put(delivery, 0)
    await delivery.next_state(Running())
    with pytest.raises(StoreError):
        await delivery.aclose()
    await delivery.aclose()


async def test_a_faulty_sink_ends_the_delivery_too() -> None:
    def fault(_: list[int]) -> AttemptOutcome:
        raise ZeroDivisionError

    async with delivering(ScriptedSink(rule=fault)) as (delivery, book):
        await put(delivery, 0)
        with pytest.raises(ZeroDivisionError):
            await delivery.flush()
    assert book.calls == []


async def test_an_error_in_settling_refusals_ends_the_delivery_too() -> None:
    time, later = Time(), asyncio.Event()
    sink = ScriptedSink(Delivered(), REFUSED)
    calls = 0

    async def settle(_: Sequence[EventOutcome]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            await delivery.put(sample_event(2))
            raise StoreError("disk full")

    async def sleep(seconds: float) -> None:
        await later.wait()
        time.now += seconds

    delivery = Delivery(
        sink, settle=settle, batch=BatchLimits(bytes=300, linger=5), clock=time.clock, sleep=sleep, concurrency=1
    )
    async with delivery:
        await put(delivery, 0, 1)
        with pytest.raises(StoreError):
            await delivery.flush()
        assert (delivery.set_aside_events, delivery.queued_events) == (1, 1)
        with pytest.raises(StoreError):
            await delivery.wait_closed()
        # Events that linger are not sent any more.
        later.set()
        for _ in range(10):
            await asyncio.sleep(0)
    assert sink.sent == [[0], [1]]


# Logs.


async def test_a_long_failure_is_a_few_lines_and_recovery_one() -> None:
    sink = ScriptedSink(*[DOWN] * 100)
    with capture_logs() as logs:
        async with delivering(sink, name="main") as (delivery, _):
            await put(delivery, 0)
            assert await delivery.flush()
    failing = [line for line in logs if line["event"] == "delivery_failing"]
    # A hundred failures over 48 minutes, one line in five.
    assert 1 <= len(failing) <= 11
    assert failing[0]["reason"] == "503"
    assert [line["failures"] for line in logs if line["event"] == "delivery_recovered"] == [100]
    assert all(line["delivery"] == "main" for line in logs)


async def test_events_over_quota_are_a_warning_with_a_count() -> None:
    sink = ScriptedSink(rule=lambda _: Delivered(quota_limited=("llm_events",)))
    with capture_logs() as logs:
        async with delivering(sink) as (delivery, _):
            await put(delivery, *range(8))
            assert await delivery.flush()
            assert delivery.stats.quota_limited == 8
    lines = [line for line in logs if line["event"] == "quota_limited"]
    assert [(line["log_level"], line["resources"]) for line in lines] == [("warning", ("llm_events",))]


async def test_logs_hold_no_content() -> None:
    sink = ScriptedSink(DOWN, rule=all_refused_if(lambda one: one == 1))
    with capture_logs() as logs:
        async with delivering(sink) as (delivery, _):
            for one in range(4):
                await delivery.put(sample_event(one, text="the secret plan"))
            assert await delivery.flush()
    assert "event_rejected" in [line["event"] for line in logs]
    assert "secret" not in repr(logs)


# Several bodies of one uuid.


async def test_of_bodies_that_wait_only_the_latest_is_sent_and_all_are_settled_with_it() -> None:
    sink = ScriptedSink()
    async with delivering(sink, batch=BatchLimits(count=4, linger=1000), time=StandingTime()) as (delivery, book):
        # The first of them are in a batch that is full, and one leaves a batch empty.
        for event in (body(0, "a"), body(1, "b"), body(2, "c"), body(3, "d"), body(4, "a"), body(5, "b"), body(6, "a")):
            await delivery.put(event)
        assert (delivery.queued_events, delivery.queued_bytes) == (4, sum(len(sample_event(i).body) for i in range(4)))
        assert await delivery.flush()
        assert (delivery.stats.sent, delivery.stats.rejected, delivery.queued_bytes) == (4, 0, 0)
    assert sink.sent == [[2, 3], [5, 6]]
    assert [(one.outcome, number(one.event), one.event.body == b"") for call in book.calls for one in call] == [
        ("delivered", 2, False),
        ("delivered", 3, False),
        ("superseded", 1, True),
        ("delivered", 5, False),
        ("superseded", 0, True),
        ("superseded", 4, True),
        ("delivered", 6, False),
    ]


async def test_a_later_body_waits_until_the_earlier_one_is_answered() -> None:
    sink = ScriptedSink(DOWN)
    sink.gate.clear()
    async with delivering(sink, StandingTime(), concurrency=2) as (delivery, book):
        for event in (body(0, "a"), body(1, "b")):
            await delivery.put(event)
        await sink.wait_sent(1)
        for event in (body(2, "a"), body(3, "c")):
            await delivery.put(event)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sink.sent == [[0, 1]]
    # Nor may it overtake one that is sent again.
    sink = ScriptedSink(DOWN)
    async with delivering(sink, concurrency=2) as (delivery, book):
        await delivery.put(body(0, "a"))
        await sink.wait_sent(1)
        await delivery.put(body(1, "a"))
        assert await delivery.flush()
    assert (sink.sent, book.numbers()) == ([[0], [0], [1]], [0, 1])


async def test_a_flush_waits_for_the_later_body_of_what_was_put_before_it() -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    async with delivering(sink) as (delivery, book):
        await delivery.put(body(0, "a"))
        await sink.wait_sent(1)
        await delivery.put(body(1, "b"))
        flush = asyncio.create_task(delivery.flush())
        await asyncio.sleep(0)
        await delivery.put(body(2, "b"))
        sink.gate.set()
        assert await flush
        assert (book.numbers(), book.numbers("superseded")) == ([0, 2], [1])


async def test_a_refused_body_of_which_a_later_one_waits_is_not_refused_but_superseded() -> None:
    sink = ScriptedSink(REFUSED)
    sink.gate.clear()
    async with delivering(sink) as (delivery, book):
        await delivery.put(body(0, "a"))
        await sink.wait_sent(1)
        await delivery.put(body(1, "a"))
        sink.gate.set()
        assert await delivery.flush()
        assert (book.numbers(), book.numbers("superseded"), delivery.stats.rejected) == ([1], [0], 0)
    # It is the same if the later one comes when the first is set aside.
    sink = ScriptedSink(REFUSED)
    async with delivering(sink) as (delivery, book):
        await delivery.put(body(0, "a"))
        await until(lambda: delivery.set_aside_events == 1)
        await delivery.put(body(1, "a"))
        assert await delivery.flush()
    assert (book.numbers(), book.numbers("superseded"), book.numbers("rejected")) == ([1], [0], [])


async def test_what_was_refused_by_a_receiver_that_refused_everything_is_not_sent_after_a_later_body() -> None:
    time, sink = StandingTime(), ScriptedSink(rule=lambda _: REFUSED)
    async with delivering(sink, time) as (delivery, book):
        for one in range(24):
            await delivery.put(body(one, f"{one}"))
        await until(lambda: isinstance(delivery.state, Stopped))
        # Four wait, and ask the receiver before those that it has refused.
        delivery.add([body(24, "3"), body(25, "4"), body(26, "23")])
        assert delivery.queued_events == 25
        sink.rule = lambda _: Delivered()
        await time.move(60)
        await delivery.wait_room()
        assert await delivery.flush()
    assert (sink.stored["3"], sink.stored["4"], sink.stored["23"]) == (24, 25, 26)
    assert (sorted(book.numbers("superseded")), book.numbers("rejected")) == ([3, 4], [])
    assert sorted(book.numbers()) == [one for one in range(27) if one not in (3, 4)]


# Whatever the receiver does.


@settings(max_examples=60)
@given(
    script=st.lists(
        st.sampled_from(
            [
                Delivered(),
                DOWN,
                REFUSED,
                Retryable(reason="slow", timed_out=True),
                Retryable(reason="404", immediate=True),
                Retryable(reason="429", after=7),
                UNAUTHORIZED,
            ]
        ),
        max_size=40,
    ),
    count=st.integers(0, 30),
    concurrency=st.integers(1, 3),
)
async def test_no_event_is_lost_or_settled_twice(script: list[AttemptOutcome], count: int, concurrency: int) -> None:
    sink = ScriptedSink(*script)
    async with delivering(sink, concurrency=concurrency, queue_bytes=2_000) as (delivery, book):
        await put(delivery, *range(count))
        complete = await delivery.flush()
        for _ in script:
            if not complete:  # it may have been stopped, and goes on by itself
                await asyncio.sleep(0)
                complete = await delivery.flush()
        settled = book.numbers() + book.numbers("rejected")
        assert len(settled) == len(set(settled))
        assert set(settled) <= set(range(count))
        assert complete == (len(settled) == count)
        if concurrency == 1:
            assert book.numbers() == sorted(book.numbers())


@settings(max_examples=100)
@given(
    script=st.lists(st.sampled_from([Delivered(), DOWN, REFUSED, REFUSED, UNAUTHORIZED]), max_size=40),
    puts=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 6)), max_size=40),
    concurrency=st.integers(1, 3),
    count=st.integers(1, 4),
)
async def test_the_latest_body_of_a_uuid_counts_and_every_body_is_settled_once(
    script: list[AttemptOutcome], puts: list[tuple[str, int]], concurrency: int, count: int
) -> None:
    sink = ScriptedSink(*script)
    async with delivering(sink, concurrency=concurrency, batch=BatchLimits(count=count, linger=0)) as (delivery, book):
        for one, (uuid, steps) in enumerate(puts):
            delivery.add([body(one, uuid)])
            for _ in range(steps):
                await asyncio.sleep(0)
        complete = await delivery.flush()
        while not complete:
            # What a receiver has refused that never took anything waits for one that it takes.
            delivery.add([body(len(puts), "other")])
            await asyncio.sleep(0)
            complete = await delivery.flush()
        settled = [one for call in book.calls for one in call if one.event.uuid != "other"]
    bodies = {uuid: [one for one, (other, _) in enumerate(puts) if other == uuid] for uuid, _ in puts}
    for uuid, numbers in bodies.items():
        mine = [one for one in settled if one.event.uuid == uuid]
        assert [number(one.event) for one in mine] == numbers, "each once, in the order in which they came"
        assert mine[-1].outcome != "superseded"
        taken = [number(one.event) for one in mine if one.outcome == "delivered"]
        assert sink.stored.get(uuid) == max(taken, default=None), "no earlier body came after a later one"


@pytest.mark.parametrize("options", [{"queue_bytes": 0}, {"concurrency": 0}])
def test_a_delivery_that_could_deliver_nothing_cannot_be_built(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Delivery(ScriptedSink(), **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- overdue work


async def test_an_attempt_that_never_ends_is_overdue() -> None:
    time, sink = Time(), ScriptedSink()
    sink.gate.clear()
    async with delivering(sink, time) as (delivery, _):
        assert delivery.overdue() is None
        await put(delivery, 1)
        await sink.wait_sent(1)
        assert delivery.overdue() is None
        time.now += ATTEMPT_SECONDS + 1
        assert delivery.overdue() == "an attempt to send"
    assert delivery.overdue() is None


async def test_a_back_off_is_overdue_when_nothing_follows_it() -> None:
    time, never = Time(), asyncio.Event()

    async def sleep(_: float) -> None:
        await never.wait()

    sink = ScriptedSink(rule=lambda _: Retryable(reason="away"))
    delivery = Delivery(sink, batch=BatchLimits(linger=0), clock=time.clock, sleep=sleep)
    delivery.start()
    await put(delivery, 1)
    state = await delivery.next_state(Running())
    assert isinstance(state, BackingOff)
    time.now = state.until + 1
    assert delivery.overdue() is None
    time.now = state.until + LATE_SECONDS + 1
    assert delivery.overdue() == "the end of a back-off"
    await delivery.aclose()


async def test_a_stop_is_overdue_when_nothing_follows_it() -> None:
    time = Time()
    sink = ScriptedSink(rule=lambda _: Stopped(reason="401", hint="key"))

    async def sleep(_: float) -> None:
        await asyncio.Event().wait()

    delivery = Delivery(sink, batch=BatchLimits(linger=0), clock=time.clock, sleep=sleep)
    delivery.start()
    await put(delivery, 1)
    await delivery.next_state(Running())
    time.now += 60
    assert delivery.overdue() is None
    time.now += LATE_SECONDS + 1
    assert delivery.overdue() == "the end of a back-off"
    await delivery.aclose()
