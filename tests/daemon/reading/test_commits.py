"""Commits are written one after the other, and none without the one before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.delivering.delivery import EventOutcome
from daemon.following.catalog import Catalog
from daemon.following.log_roots import log_roots
from daemon.reading.claims import Claims
from daemon.reading.commits import Commits
from daemon.reading.pipeline import Pipeline
from daemon.reading.settlement import Settlement
from daemon.routing.decisions import Decisions
from daemon.state.receipts import Receipts, read_receipts
from daemon.state.rows import FrozenRoute
from daemon.state.store import Store
from daemon.system.workers import Workers
from llma_core.events import CaptureEvent
from tests.support.logs import LogBuilder, text
from tests.support.outbox import EVERYTHING, write
from tests.support.processes import until
from tests.support.rig import routing_for
from tests.support.waiting import PATIENCE

ROUTE = FrozenRoute(
    distinct_id="review-bot", identified=True, grouping="session", host="https://us.i.posthog.com", key="00"
)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A session that was read to its end, and what writes its commits.

    Attributes:
        events: its events, which are on their way.
        size: the size of its log, in bytes.
    """

    commits: Commits
    settlement: Settlement
    store: Store
    workers: Workers
    stopping: asyncio.Event
    events: list[CaptureEvent]
    size: int

    async def settle(self) -> None:
        """Write that all events are delivered."""
        await self.commits.write([EventOutcome(event=event, outcome="delivered") for event in self.events])

    def written(self) -> tuple[list[int], list[int]]:
        """Return the offsets in the store, and the endings of the owed traces."""
        return [mark.offset for mark in self.store.files()], [owed.ending for owed in self.store.owed()]


@asynccontextmanager
async def a_desk(root: Path, *, recorded: bool = False) -> AsyncIterator[Desk]:
    if recorded:
        path = write(root / "outbox", EVERYTHING)
    else:
        log = LogBuilder(version="2.1.200")
        log.prompt("Count the trees")
        log.answer(text("One."))
        path = root / "config" / "projects" / log.path
        log.write(root / "config" / "projects")
    files = Catalog(log_roots([root / "config"], [root / "outbox"])).add(str(path))
    assert files is not None
    folder = root / "state"
    folder.mkdir(mode=0o700)
    store, claims, stopping = Store(folder), Claims(), asyncio.Event()
    routing, workers, lookup = routing_for(root), Workers(stopping, retry=0.001), store.reader()
    decisions = Decisions(routing=routing, store=store, reader=lookup, workers=workers, units={files.name: files})
    settlement = Settlement(claims)
    pipeline = Pipeline(files, claims=claims, routing=routing, marks=lookup.mark)
    events = settlement.note(pipeline, pipeline.advance(0.0, 1 << 30))
    events += settlement.note(pipeline, pipeline.advance(10.0, 1 << 30))
    if recorded:
        decisions.freeze(files.name, ROUTE)
    yield Desk(
        commits=Commits(
            settlement=settlement, decisions=decisions, store=store, workers=workers, receipts=Receipts(folder)
        ),
        settlement=settlement,
        store=store,
        workers=workers,
        stopping=stopping,
        events=events,
        size=path.stat().st_size,
    )
    workers.end_store()
    lookup.close()
    store.close()


async def test_a_trace_is_still_owed_if_whoever_wrote_that_was_cancelled(tmp_path: Path) -> None:
    """The service stops while its tick waits for the store's thread."""
    async with a_desk(tmp_path) as desk:
        busy = threading.Event()
        before = asyncio.create_task(desk.workers.change(partial(busy.wait, PATIENCE)))
        tick = asyncio.create_task(desk.commits.write())
        # Both have given their work to the thread.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tick.cancel()
        await asyncio.sleep(0)
        busy.set()
        await before
        await asyncio.gather(tick, return_exceptions=True)
        assert tick.cancelled()
        await desk.settle()
        assert desk.written() == ([desk.size], [1])
        assert desk.store.counters()["sent"] == len(desk.events)


@pytest.mark.parametrize("end", ["stopped", "cancelled"])
async def test_a_trace_is_still_owed_if_the_disk_refused_to_write_that(tmp_path: Path, end: str) -> None:
    """The service stops while the disk refuses, and what it delivers then finds that the disk writes again."""
    async with a_desk(tmp_path) as desk:
        await desk.workers.change(partial(refuse, desk.store, refuses=True))
        with capture_logs() as lines:
            tick = asyncio.create_task(desk.commits.write())
            await until(lambda: bool(lines), "the refusal")
        if end == "cancelled":
            tick.cancel()
        desk.stopping.set()
        await asyncio.gather(tick, return_exceptions=True)
        assert tick.cancelled() == (end == "cancelled")
        assert desk.written() == ([], [])
        await desk.workers.change(partial(refuse, desk.store, refuses=False))
        await desk.settle()
        assert desk.written() == ([desk.size], [1])


async def test_a_receipt_is_written_with_a_commit_that_the_disk_refused(tmp_path: Path) -> None:
    async with a_desk(tmp_path, recorded=True) as desk:
        await desk.workers.change(partial(refuse, desk.store, refuses=True))
        desk.stopping.set()
        await desk.settle()
        assert [*read_receipts(desk.store.folder)] == []
        await desk.workers.change(partial(refuse, desk.store, refuses=False))
        await desk.commits.write()
        assert desk.store.counters()["sent"] == len(desk.events)
        assert [each.uuid for each in read_receipts(desk.store.folder)] == [event.uuid for event in desk.events]


def refuse(store: Store, *, refuses: bool) -> None:
    """Let SQLite refuse every write, or no longer."""
    store._connection.execute(f"PRAGMA query_only={int(refuses)}")
