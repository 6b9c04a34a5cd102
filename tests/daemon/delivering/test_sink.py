"""The promises of the Sink protocol, tested on both sinks: with a real server, and with a real file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from daemon.delivering.batcher import BatchLimits
from daemon.delivering.delivery import Delivery, EventOutcome
from daemon.delivering.local.events import LocalEvents
from daemon.delivering.local.sink import LocalSink
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.sink import AttemptOutcome, Delivered, Rejected, Retryable, Sink, Stopped
from llma_core.events import CaptureEvent
from tests.support.capture_server import Answer, CaptureServer, Drop, Hold, sample_event

KEY = "phc_aSecretThatIsNeverLogged"
SECRET = "the plan that nobody may read"
TRACE = "trace"


class Receiver(Protocol):
    """A sink and its receiver."""

    sink: Sink

    def arrived(self) -> list[tuple[str, int]]:
        """Return uuid and number of each event that arrived, in order. An event that was sent again counts once."""

    def away(self) -> contextlib.AbstractContextManager[None]:
        """Let the receiver accept nothing while the context lasts."""

    def wrong(self) -> contextlib.AbstractContextManager[None]:
        """Break the setup so that only a person can fix it, while the context lasts. Nothing was sent before."""

    def slow(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Let the receiver delay its answers while the context lasts."""


class PostHog:
    def __init__(self, server: CaptureServer) -> None:
        self.server = server
        self.sink: Sink = CaptureSink(server.url, KEY)

    def arrived(self) -> list[tuple[str, int]]:
        assert self.server.violations == []
        return [
            (uuid, times[-1]["properties"]["$ai_input_tokens"]) for uuid, times in self.server.events_by_uuid.items()
        ]

    @contextmanager
    def away(self) -> Iterator[None]:
        self.server.fault = lambda _: Drop()
        yield
        self.server.fault = None

    @contextmanager
    def wrong(self) -> Iterator[None]:
        self.server.fault = lambda _: Answer(status=401, body=b"no such key")
        yield
        self.server.fault = None

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        released = asyncio.Event()
        self.server.fault = lambda _: Hold(released)
        yield
        self.server.fault = None
        released.set()


class File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sink: Sink = LocalSink(path)

    def arrived(self) -> list[tuple[str, int]]:
        if not self.path.exists():
            return []
        return [(view.uuid, view.input_tokens or 0) for view in LocalEvents(self.path).events(TRACE)]

    @contextmanager
    def away(self) -> Iterator[None]:
        """Put a file where the folder should be."""
        elsewhere = self.path.parent.with_name("elsewhere")
        if self.path.parent.exists():
            self.path.parent.rename(elsewhere)
        self.path.parent.touch()
        yield
        self.path.parent.unlink()
        if elsewhere.exists():
            elsewhere.rename(self.path.parent)

    @contextmanager
    def wrong(self) -> Iterator[None]:
        """Put a file that is not a database in place."""
        self.path.parent.mkdir()
        self.path.write_bytes(b"not a database at all" * 100)
        yield
        self.path.unlink()

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """Let another process hold a write transaction on the file."""
        assert await self.sink.send([sample_event(0)]) == Delivered()
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture(name="receiver", params=["posthog", "local"])
async def _receiver(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Receiver]:
    receiver: Receiver
    if request.param == "local":
        receiver = File(tmp_path / "local" / "events.db")
        yield receiver
        await receiver.sink.aclose()
        return
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with CaptureServer() as server:
        receiver = PostHog(server)
        yield receiver
        await receiver.sink.aclose()


def uuids(receiver: Receiver) -> list[str]:
    return [uuid for uuid, _ in receiver.arrived()]


def of_size(size: int) -> CaptureEvent:
    """Make an event whose body has exactly *size* bytes."""
    event = sample_event(7, text="x" * (size - len(sample_event(7, text="").body)))
    assert len(event.body) == size
    return event


def has_loggable_reason(outcome: AttemptOutcome) -> bool:
    """Whether an outcome has a reason that can be logged: one short line without content and key."""
    if isinstance(outcome, Delivered):
        return False
    told = outcome.reason + (outcome.hint if isinstance(outcome, Stopped) else "")
    return bool(outcome.reason) and told.isprintable() and len(told) <= 500 and SECRET not in told and KEY not in told


async def test_events_arrive_in_order(receiver: Receiver) -> None:
    events = [sample_event(number) for number in (3, 1, 4, 15, 9, 2, 6)]

    assert await receiver.sink.send(events[:4]) == Delivered()
    assert await receiver.sink.send(events[4:]) == Delivered()

    assert uuids(receiver) == [event.uuid for event in events]


async def test_an_empty_batch_is_delivered(receiver: Receiver) -> None:
    assert await receiver.sink.send([]) == Delivered()
    assert receiver.arrived() == []


async def test_several_sends_may_be_under_way_at_once(receiver: Receiver) -> None:
    batches = [[sample_event(10 * batch + number) for number in range(5)] for batch in range(9)]

    outcomes = await asyncio.gather(*(receiver.sink.send(batch) for batch in batches))

    assert outcomes == [Delivered()] * 9
    arrived = uuids(receiver)
    assert sorted(arrived) == sorted(event.uuid for batch in batches for event in batch)
    for batch in batches:
        first = arrived.index(batch[0].uuid)
        assert arrived[first : first + 5] == [event.uuid for event in batch]


async def test_an_event_sent_again_counts_once(receiver: Receiver) -> None:
    for _ in range(3):
        assert await receiver.sink.send([sample_event(0), sample_event(1)]) == Delivered()

    assert sorted(receiver.arrived()) == sorted((sample_event(number).uuid, number) for number in (0, 1))


async def test_the_latest_body_of_an_event_counts(receiver: Receiver) -> None:
    first = sample_event(0)
    body = first.body.replace(b'"$ai_input_tokens":0', b'"$ai_input_tokens":7')
    later = CaptureEvent(name=first.name, uuid=first.uuid, identity=first.identity, body=body)

    assert await receiver.sink.send([first]) == Delivered()
    assert await receiver.sink.send([later]) == Delivered()

    assert receiver.arrived() == [(first.uuid, 7)]


async def test_an_event_of_exactly_the_limit_is_accepted(receiver: Receiver) -> None:
    event = of_size(receiver.sink.event_limit)

    assert await receiver.sink.send([event]) == Delivered()
    assert uuids(receiver) == [event.uuid]


async def test_an_event_far_over_the_limit_is_rejected_together_with_its_batch(receiver: Receiver) -> None:
    large = of_size(receiver.sink.event_limit * 5 // 4)

    outcome = await receiver.sink.send([sample_event(0), large, sample_event(1)])

    assert isinstance(outcome, Rejected)
    assert has_loggable_reason(outcome)
    assert receiver.arrived() == []
    assert await receiver.sink.send([sample_event(0), sample_event(1)]) == Delivered()
    assert len(receiver.arrived()) == 2


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": "the plan that nobody may read', b"\xff\xfe", b"[" * 9_000])
async def test_an_event_that_cannot_be_read_is_rejected(receiver: Receiver, body: bytes) -> None:
    bad = CaptureEvent(name="bad", uuid=sample_event(0).uuid, identity="bad", body=body)

    outcome = await receiver.sink.send([sample_event(1), bad])

    assert isinstance(outcome, Rejected)
    assert has_loggable_reason(outcome)
    assert receiver.arrived() == []


async def test_a_bad_event_costs_a_delivery_only_itself(receiver: Receiver) -> None:
    bad = CaptureEvent(name="bad", uuid=sample_event(0).uuid, identity="bad", body=b"{")
    settled: list[EventOutcome] = []

    async def settle(outcomes: object) -> None:
        assert isinstance(outcomes, list)
        settled.extend(outcomes)

    async with Delivery(receiver.sink, batch=BatchLimits(linger=0), settle=settle) as delivery:
        delivery.add([sample_event(1), sample_event(2), bad, sample_event(3)])
        assert await delivery.flush()

    assert uuids(receiver) == [sample_event(number).uuid for number in (1, 2, 3)]
    assert [one.event for one in settled if one.outcome == "rejected"] == [bad]


async def test_a_delivery_leaves_the_latest_body_with_the_receiver(receiver: Receiver) -> None:
    uuid, settled = sample_event(0).uuid, list[tuple[str, str]]()

    async def settle(outcomes: Sequence[EventOutcome]) -> None:
        settled.extend((one.event.identity, one.outcome) for one in outcomes)

    async with Delivery(receiver.sink, batch=BatchLimits(linger=0), concurrency=3, settle=settle) as delivery:
        async with receiver.slow():
            for number in range(1, 5):
                delivery.add([msgspec.structs.replace(sample_event(number, uuid=uuid), uuid=uuid)])
                for _ in range(20 * (number < 3)):
                    await asyncio.sleep(0)
        assert await delivery.flush()

    assert receiver.arrived() == [(uuid, 4)]
    assert settled == [
        ("generation:1", "delivered"),
        ("generation:2", "delivered"),
        ("generation:3", "superseded"),
        ("generation:4", "delivered"),
    ]


async def test_a_receiver_that_is_away_is_retryable_until_it_is_back(receiver: Receiver) -> None:
    assert await receiver.sink.send([sample_event(0)]) == Delivered()

    with receiver.away():
        for _ in range(3):
            outcome = await receiver.sink.send([sample_event(1, text=SECRET)])
            assert isinstance(outcome, Retryable)
            assert has_loggable_reason(outcome)
            assert not outcome.immediate

    assert await receiver.sink.send([sample_event(1)]) == Delivered()
    assert uuids(receiver) == [sample_event(0).uuid, sample_event(1).uuid]


async def test_a_receiver_may_be_away_from_the_start(receiver: Receiver) -> None:
    with receiver.away():
        assert isinstance(await receiver.sink.send([sample_event(0)]), Retryable)

    assert await receiver.sink.send([sample_event(0)]) == Delivered()


async def test_a_problem_that_only_a_person_can_fix_stops_with_a_hint_until_it_is_fixed(receiver: Receiver) -> None:
    with receiver.wrong():
        outcome = await receiver.sink.send([sample_event(0, text=SECRET)])
        assert isinstance(outcome, Stopped)
        assert outcome.hint
        assert has_loggable_reason(outcome)

    assert receiver.arrived() == []
    assert await receiver.sink.send([sample_event(0)]) == Delivered()
    assert uuids(receiver) == [sample_event(0).uuid]


async def test_cancelled_sends_leave_the_sink_usable(receiver: Receiver) -> None:
    async with receiver.slow():
        # More sends than connections or threads: some are under way, and some wait for their turn.
        sends = [asyncio.ensure_future(receiver.sink.send([sample_event(number)])) for number in range(1, 8)]
        for _ in range(20):
            await asyncio.sleep(0)
        for send in sends:
            send.cancel()
        results = await asyncio.gather(*sends, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    # A cancelled batch may have arrived. Sent again, its events count once.
    again = [sample_event(number) for number in range(8)]
    while (outcome := await receiver.sink.send(again)) != Delivered():
        assert isinstance(outcome, Retryable)
    assert sorted(uuids(receiver)) == sorted(event.uuid for event in again)


async def test_a_sink_can_be_closed_several_times(receiver: Receiver) -> None:
    assert await receiver.sink.send([sample_event(0)]) == Delivered()

    await receiver.sink.aclose()
    await receiver.sink.aclose()
    await asyncio.gather(receiver.sink.aclose(), receiver.sink.aclose())

    assert uuids(receiver) == [sample_event(0).uuid]


async def test_a_sink_that_was_never_used_can_be_closed(receiver: Receiver) -> None:
    await receiver.sink.aclose()
    assert receiver.arrived() == []


@pytest.mark.parametrize("count", [0, 1])
async def test_sending_through_a_closed_sink_raises(receiver: Receiver, count: int) -> None:
    await receiver.sink.aclose()

    with pytest.raises(RuntimeError, match="the sink is closed"):
        await receiver.sink.send([sample_event(number) for number in range(count)])

    assert receiver.arrived() == []
