"""The deliveries: one for each route, each with its own queue, its own retries and its own state.

A route that is full, backing off or stopped takes no more events; whoever reads asks first, and leaves its sessions
alone meanwhile. The others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from daemon.delivering.delivery import Delivery, Prepare, Settle
from daemon.delivering.route import Route
from daemon.delivering.sink import Stopped
from llma_core.events import CaptureEvent

__all__ = ["Deliveries", "MakeDelivery"]

MakeDelivery = Callable[[Route, Prepare, Settle], Delivery]
"""Builds what delivers to a route, around what is done before a batch leaves and what settles its events."""


class Deliveries:
    """All routes that are in use. A route's delivery is built and started with its first events.

    Args:
        make: builds a delivery.
        prepare: awaited before a batch leaves; deliveries may call it at the same time, as for what follows.
        settle: awaited with what is settled.
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
        """The deliveries there are, by route."""
        return MappingProxyType(self._deliveries)

    @property
    def batches(self) -> int:
        """Requests accepted on all routes."""
        return sum(delivery.stats.batches for delivery in self._deliveries.values())

    def has_room(self, route: Route) -> bool:
        """Whether more events of *route* may be read: those that come of it will be taken."""
        delivery = self._deliveries.get(route)
        return delivery is None or delivery.has_room

    def is_stopped(self, route: Route) -> bool:
        """Whether *route* takes nothing any more until a person has changed something."""
        delivery = self._deliveries.get(route)
        return delivery is not None and isinstance(delivery.state, Stopped)

    def refusal(self) -> Stopped | None:
        """Return why nothing is taken any more, where that holds for every route there is; else None."""
        states = [delivery.state for delivery in self._deliveries.values()]
        stopped = [state for state in states if isinstance(state, Stopped)]
        return stopped[0] if stopped and len(stopped) == len(states) else None

    def overdue(self) -> str | None:
        """Name the route and what of it should have got on long ago; None if nothing should."""
        for route, delivery in self._deliveries.items():
            if (late := delivery.overdue()) is not None:
                return f"{late} to {route.name}"
        return None

    def put(self, route: Route, events: Iterable[CaptureEvent]) -> None:
        """Queue *events* behind all others of *route*, whether or not there is room.

        Raises:
            DeliveryClosed: the deliveries are closed.
            Exception: what `settle` (or a faulty sink) raised and so ended the route's delivery.
        """
        delivery = self._deliveries.get(route)
        if delivery is None:
            delivery = self._deliveries[route] = self._make(route, self._prepare, self._settle)
            delivery.start()
            watch = asyncio.get_running_loop().create_task(delivery.wait_closed())
            watch.add_done_callback(self._ended)
            self._watches.add(watch)
        delivery.add(events)

    async def wait_room(self, routes: Collection[Route]) -> None:
        """Wait until one of *routes*, none of which has room, has some; for ever without any.

        Raises:
            Exception: as `wait_failed` does, of these routes.
        """
        await _first([self._deliveries[route].wait_room() for route in routes])

    async def wait_change(self, routes: Collection[Route]) -> None:
        """Wait until one of *routes*, none of which has room, has some or is stopped.

        Raises:
            Exception: as `wait_failed` does, of these routes.
        """
        deliveries = [self._deliveries[route] for route in routes]
        await _first(
            [
                *(delivery.wait_room() for delivery in deliveries),
                *(_until_stopped(delivery) for delivery in deliveries),
            ]
        )

    async def wait_failed(self) -> None:
        """Wait until a delivery has ended by an error.

        Raises:
            Exception: what `settle` (or a faulty sink) raised and so ended it. Nothing else ends this.
        """
        await asyncio.shield(self._failure)

    async def flush(self) -> bool:
        """Wait until nothing more can be settled of what was put before, and return whether all of it is.

        Raises:
            Exception: what `settle` (or a faulty sink) raised and so ended a delivery.
        """
        return all(await asyncio.gather(*(delivery.flush() for delivery in list(self._deliveries.values()))))

    async def aclose(self, grace: float = 0) -> None:
        """Close all of them, at the same time; see `Delivery.aclose`.

        Raises:
            Exception: what `settle` (or a faulty sink) raised and so ended one, if nothing else has raised it.
        """
        closing = [asyncio.ensure_future(delivery.aclose(grace)) for delivery in self._deliveries.values()]
        try:
            await asyncio.gather(*closing)
        finally:
            # One that ended badly, or a cancellation, must not leave the others open.
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
    """Wait until one of *waits* is done, and raise what it raised; for ever without any."""
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
