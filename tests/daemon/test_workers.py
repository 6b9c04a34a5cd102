"""Work in threads: its results, its failures, and whether it gets on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest
from structlog.testing import capture_logs

from daemon import workers as workers_module
from daemon.workers import Workers


async def test_each_kind_of_work_has_one_thread_of_its_own() -> None:
    workers = Workers(asyncio.Event())
    readers = {await workers.read(threading.get_ident) for _ in range(5)}
    writers = {await workers.change(threading.get_ident) for _ in range(5)}
    assert len(readers) == len(writers) == 1
    assert readers.isdisjoint(writers)
    assert threading.get_ident() not in readers | writers
    workers.end_store()
    await workers.end_reader()


async def test_what_the_disk_refuses_is_tried_again_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "RETRY_SECONDS", 0.001)
    workers = Workers(asyncio.Event())
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


async def test_at_the_end_nobody_waits_for_the_disk() -> None:
    stopping = asyncio.Event()
    stopping.set()
    workers = Workers(stopping)

    def write() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError):
        await workers.write(write)
    workers.end_store()


async def test_what_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(asyncio.Event())
    hangs = threading.Event()
    monkeypatch.setattr(workers_module, "WORK_SECONDS", -1.0)
    assert workers.overdue() is None
    reading = asyncio.create_task(workers.read(hangs.wait))
    await asyncio.sleep(0)
    assert workers.overdue() == "the reader"
    hangs.set()
    assert await reading
    assert workers.overdue() is None
    await workers.end_reader()
