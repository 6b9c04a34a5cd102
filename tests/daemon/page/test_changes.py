"""What changed is told to open pages at once, and what changes soon after that together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon.page.changes import Change, Changes
from tests.support.waiting import PATIENCE


async def _next(told: AsyncIterator[Change]) -> Change:
    return await asyncio.wait_for(anext(told), PATIENCE)


async def test_the_first_change_is_told_at_once() -> None:
    # Whoever gathered now would be at it for an hour.
    changes = Changes(gather=3600.0)
    waits = asyncio.create_task(_next(changes.stream()))
    for _ in range(10):
        # The task that waits begins.
        await asyncio.sleep(0)
    changes.note(["a"])
    assert await waits == Change(["a"])


async def test_what_follows_a_change_is_told_together() -> None:
    changes = Changes(gather=0.01)
    told = changes.stream()
    waits = asyncio.create_task(_next(told))
    for _ in range(10):
        await asyncio.sleep(0)
    changes.note(["a"])
    assert await waits == Change(["a"])
    changes.note(["c"])
    changes.note(["b", "c"])
    assert await _next(told) == Change(["b", "c"])
    changes.note([])
    assert await _next(told) == Change([])
    changes.note(["a"])
    changes.note([])
    changes.note(["b"])
    assert await _next(told) == Change([]), "any may have changed"
    changes.note_running()
    assert await _next(told) == Change(None, running=True)
    changes.note_running()
    changes.note(["d"])
    assert await _next(told) == Change(["d"], running=True)
    changes.close()
    with pytest.raises(StopAsyncIteration):
        await anext(told)
