"""Several routes side by side: a failure on one does not affect the others."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from daemon.delivering.deliveries import Deliveries
from daemon.delivering.delivery import Delivery, EventOutcome, Prepare, Settle
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.retry import RetryPolicy
from daemon.delivering.route import Route
from daemon.system.secret import Secret
from tests.support.capture_server import Answer, CaptureServer
from tests.support.sample_events import generation
from tests.support.waiting import PATIENCE

PACE = RetryPolicy(base=0.01, cap=0.05)
HERE, THERE = "phc_here", "phc_there"


def make(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
    sink = CaptureSink(route.host, route.key.reveal())
    return Delivery(sink, prepare=prepare, settle=settle, retry=PACE, queue_bytes=1)


@pytest.fixture
async def servers() -> AsyncIterator[tuple[CaptureServer, CaptureServer]]:
    async with CaptureServer() as here, CaptureServer() as there:
        yield here, there


async def ready() -> None:
    """Prepares nothing before a batch is sent."""


async def nothing(_: Sequence[EventOutcome]) -> None:
    """Settles events, and keeps no record."""


async def test_each_route_gets_its_own_events(servers: tuple[CaptureServer, CaptureServer]) -> None:
    here, there = (Route(host=server.url, key=Secret("phc_x")) for server in servers)
    settled: list[str] = []

    async def settle(outcomes: Sequence[EventOutcome]) -> None:
        settled.extend(outcome.event.uuid for outcome in outcomes)

    deliveries = Deliveries(make, ready, settle)
    one, other, third = (generation(f"msg_{number}") for number in range(3))
    deliveries.put(here, [one])
    deliveries.put(there, [other])
    deliveries.put(here, [third])
    assert await deliveries.flush()
    await deliveries.aclose()

    assert [event["uuid"] for event in servers[0].events] == [one.uuid, third.uuid]
    assert [event["uuid"] for event in servers[1].events] == [other.uuid]
    assert sorted(settled) == sorted([one.uuid, other.uuid, third.uuid])
    assert set(deliveries.by_route) == {here, there}
    assert deliveries.batches == len(servers[0].requests) + len(servers[1].requests)


async def test_the_same_host_with_two_keys_is_two_routes(servers: tuple[CaptureServer, CaptureServer]) -> None:
    deliveries = Deliveries(make, ready, nothing)
    for number, key in enumerate((HERE, THERE)):
        deliveries.put(Route(host=servers[0].url, key=Secret(key)), [generation(f"msg_{number}")])
    assert await deliveries.flush()
    await deliveries.aclose()
    assert sorted(json.loads(gzip.decompress(request.body))["api_key"] for request in servers[0].requests) == [
        HERE,
        THERE,
    ]


async def test_a_route_that_is_stopped_has_no_room_and_the_other_goes_on(
    servers: tuple[CaptureServer, CaptureServer],
) -> None:
    here, there = (Route(host=server.url, key=Secret("phc_x")) for server in servers)
    servers[0].fault = lambda _: Answer(status=401)
    deliveries = Deliveries(make, ready, nothing)
    assert deliveries.has_room(here)
    assert not deliveries.is_stopped(here)
    deliveries.put(here, [generation("msg_1")])
    assert not deliveries.has_room(here)
    await asyncio.wait_for(deliveries.wait_change([here]), PATIENCE)
    assert deliveries.is_stopped(here)
    deliveries.put(there, [generation("msg_2")])
    assert not await deliveries.flush()
    await deliveries.aclose()
    assert servers[0].events == []
    assert len(servers[1].events) == 1


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(status=status) for status in (202, 204, 401, 402, 403, 404, 407, 415)),
        Answer(status=302, headers=(("Location", "about:blank"),)),
        Answer(status=200, body=b"<html>Sign in"),
    ],
)
async def test_a_route_heals_by_itself(answer: Answer, servers: tuple[CaptureServer, CaptureServer]) -> None:
    def brisk(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        sink = CaptureSink(route.host, route.key.reveal())
        policy = RetryPolicy(stop_base=0.01, stop_cap=0.05)
        return Delivery(sink, prepare=prepare, settle=settle, retry=policy, queue_bytes=1)

    here = Route(host=servers[0].url, key=Secret("phc_x"))
    servers[0].fault = lambda _: answer
    deliveries = Deliveries(brisk, ready, nothing)
    deliveries.put(here, [generation("msg_1")])
    await servers[0].wait_requests(6)
    assert deliveries.is_stopped(here)
    refusal = deliveries.refusal()
    assert refusal is not None
    assert refusal.until is not None
    servers[0].fault = None
    await asyncio.wait_for(deliveries.wait_room([here]), PATIENCE)
    assert await deliveries.flush()
    assert deliveries.refusal() is None
    await deliveries.aclose()
    assert len(servers[0].events) == 1


async def test_room_on_one_route_is_room_enough(servers: tuple[CaptureServer, CaptureServer]) -> None:
    here, there = (Route(host=server.url, key=Secret("phc_x")) for server in servers)
    servers[0].fault = lambda _: Answer(status=503)
    deliveries = Deliveries(make, ready, nothing)
    deliveries.put(here, [generation("msg_1")])
    deliveries.put(there, [generation("msg_2")])
    await asyncio.wait_for(deliveries.wait_room([here, there]), PATIENCE)
    assert (deliveries.has_room(here), deliveries.has_room(there)) == (False, True)
    await deliveries.aclose()


async def test_prepare_is_awaited_before_a_batch_is_sent(servers: tuple[CaptureServer, CaptureServer]) -> None:
    asked, done = asyncio.Event(), asyncio.Event()

    async def prepare() -> None:
        asked.set()
        await done.wait()

    deliveries = Deliveries(make, prepare, nothing)
    deliveries.put(Route(host=servers[0].url, key=Secret("phc_x")), [generation("msg_1")])
    await asyncio.wait_for(asked.wait(), PATIENCE)
    assert servers[0].requests == []
    done.set()
    assert await deliveries.flush()
    await deliveries.aclose()
    assert len(servers[0].events) == 1


async def test_an_error_of_prepare_ends_the_delivery(servers: tuple[CaptureServer, CaptureServer]) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("the disk")

    deliveries = Deliveries(make, broken, nothing)
    deliveries.put(Route(host=servers[0].url, key=Secret("phc_x")), [generation("msg_1")])
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(deliveries.wait_failed(), PATIENCE)
    await deliveries.aclose()
    assert servers[0].requests == []


async def test_the_error_of_one_delivery_is_raised(servers: tuple[CaptureServer, CaptureServer]) -> None:
    async def broken(_: Sequence[EventOutcome]) -> None:
        raise ZeroDivisionError("the disk")

    deliveries = Deliveries(make, ready, broken)
    failed = asyncio.ensure_future(deliveries.wait_failed())
    deliveries.put(Route(host=servers[0].url, key=Secret("phc_x")), [generation("msg_1")])
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(failed, PATIENCE)
    await deliveries.aclose()


async def test_without_any_there_is_nothing_to_wait_for() -> None:
    deliveries = Deliveries(make, ready, nothing)
    assert await deliveries.flush()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(deliveries.wait_room([]), 0.01)
    await deliveries.aclose()
