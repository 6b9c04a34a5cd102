"""The deliveries: one for each route, each with its own queue, retries and state.

A route that is full, backing off or stopped accepts no more events. The reader asks first, and does not read the
sessions of such a route meanwhile. The other routes go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from types import MappingProxyType

from daemon.delivering.delivery import Delivery, Prepare, Settle
from daemon.delivering.route import Route
from daemon.delivering.sink import Stopped
from llma_core.events import CaptureEvent

__all__ = ["Deliveries", "MakeDelivery"]

MakeDelivery = Callable[[Route, Prepare, Settle], Delivery]
"""Builds the delivery of a route. The delivery awaits the given `Prepare` and `Settle`."""


class Deliveries:
    """The deliveries of all routes in use. A route's delivery is built and started with its first events.

    Args:
        make: builds a delivery.
        prepare: awaited before a batch is sent. Several deliveries may call it at the same time.
        settle: awaited with settled events. Several deliveries may call it at the same time.
    """

    def __init__(self, make: MakeDelivery, prepare: Prepare, settle: Settle) -> None:
        self._make = make
        self._prepare = prepare
        self._settle = settle
        self._deliveries: dict[Route, Delivery] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def by_route(self) -> Mapping[Route, Delivery]:
        """The deliveries by route."""
        return MappingProxyType(self._deliveries)

    @property
    def batches(self) -> int:
        """Number of requests accepted on all routes."""
        return sum(delivery.stats.batches for delivery in self._deliveries.values())

    def has_room(self, route: Route) -> bool:
        """Whether the reader may read more events for *route*."""
        delivery = self._deliveries.get(route)
        return delivery is None or delivery.has_room

    def is_stopped(self, route: Route) -> bool:
        """Whether *route* wants nothing and is asked again only from time to time."""
        delivery = self._deliveries.get(route)
        return delivery is not None and isinstance(delivery.state, Stopped)

    def refusal(self) -> Stopped | None:
        """Return the reason of the first stopped route if every route in use is stopped; else None."""
        states = [delivery.state for delivery in self._deliveries.values()]
        stopped = [state for state in states if isinstance(state, Stopped)]
        return stopped[0] if stopped and len(stopped) == len(states) else None

    def overdue(self) -> str | None:
        """Return what is taking much longer than it should, and on which route; None if nothing is."""
        for route, delivery in self._deliveries.items():
            if (late := delivery.overdue()) is not None:
                return f"{late} to {route.name}"
        return None

    def put(self, route: Route, events: Iterable[CaptureEvent], *, old: bool = False, bulk: bool = False) -> None:
        """Queue *events* behind all others of *route*, even if there is no room.

        Args:
            route: where they go.
            events: the events.
            old: whether they happened a while ago, so that nobody waits for them.
            bulk: whether many of them may be sent at once; see `Batcher.add`.

        Raises:
            DeliveryClosed: the deliveries are closed.
            Exception: the error of `settle` (or of a faulty sink) that ended the route's delivery.
        """
        delivery = self._deliveries.get(route)
        if delivery is None:
            delivery = self._deliveries[route] = self._make(route, self._prepare, self._settle)
            delivery.start()
            watch = asyncio.get_running_loop().create_task(delivery.wait_closed())
            watch.add_done_callback(self._ended)
            self._watches.add(watch)
        delivery.add(events, old=old, bulk=bulk)

    async def wait_room(self, routes: Collection[Route]) -> None:
        """Wait until one of *routes*, none of which has room, has room. Without any routes, wait forever.

        Raises:
            Exception: the error that ended the delivery of one of these routes.
        """
        await _first([self._deliveries[route].wait_room() for route in routes])

    async def wait_change(self, routes: Collection[Route]) -> None:
        """Wait until one of *routes*, none of which has room, has room or is stopped. Without any routes, wait forever.

        Raises:
            Exception: the error that ended the delivery of one of these routes.
        """
        deliveries = [self._deliveries[route] for route in routes]
        await _first(
            [
                *(delivery.wait_room() for delivery in deliveries),
                *(_until_stopped(delivery) for delivery in deliveries),
            ]
        )

    async def wait_failed(self) -> None:
        """Wait until an error ends a delivery. Never returns.

        Raises:
            Exception: the error of `settle` (or of a faulty sink) that ended the delivery.
        """
        await asyncio.shield(self._failure)

    async def outlast(self, work: Coroutine[object, object, bool], patience: float) -> bool:
        """Do *work* that puts events; give up if no batch is accepted for *patience* seconds.

        Returns:
            What *work* returns; False if it was given up.

        Raises:
            Exception: what *work* raises, or the error that ended a delivery.
        """
        working, failed = asyncio.create_task(work), asyncio.create_task(self.wait_failed())
        try:
            while True:
                before = self.batches
                done, _ = await asyncio.wait({working, failed}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if working in done:
                    return working.result()
                if failed in done:
                    failed.result()
                if self.batches == before:
                    return False
        finally:
            working.cancel()
            failed.cancel()
            await asyncio.wait({working, failed})

    async def flush(self) -> bool:
        """Flush all deliveries (see `Delivery.flush`), and return whether everything put before is settled.

        Raises:
            Exception: the error of `settle` (or of a faulty sink) that ended a delivery.
        """
        return all(await asyncio.gather(*(delivery.flush() for delivery in list(self._deliveries.values()))))

    async def aclose(self, grace: float = 0) -> None:
        """Close all deliveries at the same time; see `Delivery.aclose`.

        Raises:
            Exception: the error of `settle` (or of a faulty sink) that ended a delivery, if no other call raised it.
        """
        closing = [asyncio.ensure_future(delivery.aclose(grace)) for delivery in self._deliveries.values()]
        try:
            await asyncio.gather(*closing)
        finally:
            # The error of one delivery, or a cancellation, must not leave the others open.
            await asyncio.gather(*closing, return_exceptions=True)
            await asyncio.gather(*self._watches, return_exceptions=True)
            if self._failure.done():
                self._failure.exception()

    def _ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and (error := watch.exception()) is not None and not self._failure.done():
            self._failure.set_exception(error)


async def _until_stopped(delivery: Delivery) -> None:
    state = delivery.state
    while not isinstance(state, Stopped):
        state = await delivery.next_state(state)


async def _first(waits: Sequence[Awaitable[object]]) -> None:
    """Wait until one of *waits* is done, and raise its error, if any. Without any, wait forever."""
    if not waits:
        await asyncio.get_running_loop().create_future()
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
