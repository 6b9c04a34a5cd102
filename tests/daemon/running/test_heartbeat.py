from __future__ import annotations

import asyncio
import os
import socket

import pytest
import structlog

from daemon.running.heartbeat import heartbeat
from daemon.running.notify import Notifier


def well() -> None:
    """Nothing is overdue."""


async def test_the_heartbeat_pauses_while_something_is_overdue(manager: socket.socket) -> None:
    environ = {"WATCHDOG_USEC": "20000"}
    asked = asyncio.Queue[None]()
    late = iter(["reading", "reading", None])

    def overdue() -> str | None:
        asked.put_nowait(None)
        return next(late, None)

    manager.setblocking(False)
    with structlog.testing.capture_logs() as logs:
        async with heartbeat(Notifier({"NOTIFY_SOCKET": "notify"}), environ, overdue):
            await asked.get()
            await asked.get()
            with pytest.raises(BlockingIOError):
                manager.recv(100)
            await asked.get()
            await asked.get()
            assert manager.recv(100) == b"WATCHDOG=1"
    assert [(line["event"], line["part"]) for line in logs] == [("part_overdue", "reading")]


async def test_the_heartbeat_lasts_as_long_as_the_context(manager: socket.socket) -> None:
    environ = {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    async with heartbeat(Notifier({"NOTIFY_SOCKET": "notify"}), environ, well):
        for _ in range(3):
            assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
    assert len(asyncio.all_tasks()) == 1


async def test_without_a_watchdog_nothing_is_sent(manager: socket.socket) -> None:
    async with heartbeat(Notifier({"NOTIFY_SOCKET": "notify"}), {}, well):
        await asyncio.sleep(0)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


async def test_an_error_within_the_context_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="broken"):
        async with heartbeat(Notifier({}), {"WATCHDOG_USEC": "20000"}, well):
            raise ValueError("broken")
