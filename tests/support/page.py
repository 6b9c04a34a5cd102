"""The page of `view`, asked in this process as a browser asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from daemon.page.access import Access
from daemon.page.app import Sources, application
from daemon.page.changes import Changes
from tests.support.waiting import PATIENCE

__all__ = ["browsing"]


@asynccontextmanager
async def browsing(
    path: Path,
    *,
    is_made: Callable[[], bool] = lambda: True,
    reading: Callable[[], int | None] = lambda: None,
    indexing: float = PATIENCE,
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the page of a local file to a browser that is admitted. No session runs, and nothing is sent.

    Args:
        path: the file.
        is_made: see `Sources`; so are *reading* and *indexing*.
        reading: how many sessions are still to be read.
        indexing: for how long a search may index words.
    """
    sources = Sources(
        path=path,
        is_made=is_made,
        changes=Changes(),
        running=list,
        condition=lambda: None,
        explain=lambda _session, _uuid: None,
        posthog_url=lambda _session, _trace: None,
        reading=reading,
        indexing=indexing,
    )
    access = Access(8123)
    transport = httpx.ASGITransport(app=application(sources, access))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8123") as browser:
        await browser.get(access.address)
        yield browser
