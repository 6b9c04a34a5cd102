"""What changed is told to open pages at once, and what changes soon after that together."""

from __future__ import annotations

import asyncio

import pytest

from daemon.page import changes as module
from daemon.page.changes import Change, Changes
from tests.support.waiting import PATIENCE


async def test_the_first_change_is_told_at_once_and_the_next_together(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes()
    told = changes.stream()

    async def following() -> Change:
        return await asyncio.wait_for(anext(told), PATIENCE)

    waits = asyncio.create_task(following())
    for _ in range(10):
        # The tasks that wait begin.
        await asyncio.sleep(0)
    # Whoever gathered now would be at it for an hour.
    monkeypatch.setattr(module, "_GATHER_SECONDS", 3600.0)
    changes.note(["a"])
    assert await waits == Change(["a"])
    monkeypatch.setattr(module, "_GATHER_SECONDS", 0.01)
    changes.note(["c"])
    changes.note(["b", "c"])
    assert await following() == Change(["b", "c"])
    changes.note([])
    assert await following() == Change([])
    changes.note_running()
    assert await following() == Change(None, running=True)
    changes.note_running()
    changes.note(["d"])
    assert await following() == Change(["d"], running=True)
    changes.close()
    with pytest.raises(StopAsyncIteration):
        await anext(told)
