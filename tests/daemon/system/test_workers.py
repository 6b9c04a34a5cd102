"""Work in threads: its results, its failures, and overdue work."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from functools import partial

import pytest
from structlog.testing import capture_logs

from daemon.system.workers import Workers
from tests.support.waiting import PATIENCE


async def test_each_kind_of_work_has_one_thread_of_its_own() -> None:
    workers = Workers(asyncio.Event())
    readers = {await workers.read(threading.get_ident) for _ in range(5)}
    writers = {await workers.change(threading.get_ident) for _ in range(5)}
    assert len(readers) == len(writers) == 1
    assert readers.isdisjoint(writers)
    assert threading.get_ident() not in readers | writers
    workers.end_store()
    await workers.end_reader()


async def test_one_piece_of_work_comes_after_the_other() -> None:
    workers = Workers(asyncio.Event())
    for do in (workers.read, workers.change):
        first_may_end = threading.Event()
        first = asyncio.create_task(do(partial(first_may_end.wait, PATIENCE)))
        second = asyncio.create_task(do(first_may_end.is_set))
        done, _ = await asyncio.wait({second}, timeout=0.05)
        assert not done, "nothing overtakes"
        first_may_end.set()
        assert await first
        assert await second
    workers.end_store()
    await workers.end_reader()


async def test_a_write_that_succeeds_is_not_logged() -> None:
    workers = Workers(asyncio.Event())
    with capture_logs() as lines:
        await workers.write(lambda: None)
    assert lines == []
    workers.end_store()


async def test_a_damaged_store_is_not_tried_again() -> None:
    workers = Workers(asyncio.Event())

    def write() -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with capture_logs() as lines, pytest.raises(sqlite3.DatabaseError, match="malformed"):
        async with asyncio.timeout(PATIENCE):
            await workers.write(write)
    assert lines == []
    workers.end_store()


async def test_a_refused_write_is_repeated_and_logged_once() -> None:
    workers = Workers(asyncio.Event(), retry=0.001)
    waits: list[bool] = []

    def write() -> None:
        waits.append(workers.store_waits)
        if len(waits) < 4:
            raise sqlite3.OperationalError("database or disk is full")

    with capture_logs() as lines:
        await workers.write(write)
    assert waits == [False, True, True, True]
    assert not workers.store_waits
    assert [line["event"] for line in lines] == ["store_unwritable", "store_writable_again"]
    workers.end_store()


async def test_a_stopping_service_does_not_wait_for_the_disk() -> None:
    stopping = asyncio.Event()
    stopping.set()
    workers = Workers(stopping)

    def write() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        await workers.write(write)
    assert not workers.store_waits
    workers.end_store()


@pytest.mark.parametrize("refused", [False, True])
async def test_a_writer_that_is_cancelled_knows_whether_its_work_was_done(*, refused: bool) -> None:
    workers = Workers(asyncio.Event(), retry=0.001)
    busy, done = threading.Event(), threading.Event()

    def write() -> None:
        busy.wait(PATIENCE)
        if refused:
            raise sqlite3.OperationalError("database or disk is full")
        done.set()

    writing = asyncio.create_task(workers.write(write))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.sleep(0)
    assert not writing.done()
    busy.set()
    await asyncio.wait({writing})
    assert writing.cancelled()
    assert done.is_set() == (not refused)
    workers.end_store()


async def test_the_stores_thread_finishes_its_work_before_it_ends() -> None:
    workers = Workers(asyncio.Event())
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        may_end.wait(PATIENCE)
        ended.set()

    writing = asyncio.create_task(workers.change(write))
    await asyncio.to_thread(began.wait, PATIENCE)
    threading.Timer(0.05, may_end.set).start()
    workers.end_store()
    assert ended.is_set()
    await writing
    with pytest.raises(RuntimeError):
        await workers.change(write)


async def test_waiting_for_the_readers_thread_does_not_block_the_event_loop() -> None:
    workers = Workers(asyncio.Event())
    may_end = threading.Event()
    reading = asyncio.create_task(workers.read(partial(may_end.wait, PATIENCE)))
    await asyncio.sleep(0)
    ending = asyncio.create_task(workers.end_reader())
    done, _ = await asyncio.wait({ending}, timeout=0.05)
    assert not done
    may_end.set()
    await ending
    assert await reading, "it was told before its time was up"


@pytest.mark.parametrize("name", ["the reader", "the store"])
async def test_a_thread_whose_work_takes_too_long_is_named(name: str) -> None:
    workers = Workers(asyncio.Event(), work=-1.0)
    hangs = threading.Event()
    assert workers.overdue() is None
    work = asyncio.create_task(
        (workers.read if name == "the reader" else workers.change)(partial(hangs.wait, PATIENCE))
    )
    await asyncio.sleep(0)
    assert workers.overdue() == name
    hangs.set()
    assert await work
    assert workers.overdue() is None
    workers.end_store()
    await workers.end_reader()
