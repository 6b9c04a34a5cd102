"""A search on the page answers at once, however many words are still to be indexed, and says so."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx

from daemon.delivering.local import schema
from daemon.delivering.local.sink import LocalSink
from tests.support.page import browsing
from tests.support.sample_events import START, generation


async def ask(browser: httpx.AsyncClient, address: str) -> str:
    answer = await browser.get(address)
    assert answer.status_code == 200
    return answer.text


async def test_a_search_shows_what_is_indexed_and_how_much_is_left(tmp_path: Path) -> None:
    path, now = tmp_path / "events.db", time.time() - START.timestamp()
    sink = LocalSink(path, defers=lambda: True)
    await sink.send([generation(f"g{n}", trace_id=f"t{n % 3}", text=f"pear{n:04}", at=now) for n in range(1200)])
    await sink.aclose()
    with closing(sqlite3.connect(path)) as connection, connection:
        schema.index_more(connection, schema.Words(connection), 1000)
    async with browsing(path, indexing=0.0) as browser:
        early = await ask(browser, "/sessions?q=pear0001")
        assert "Indexing words for the search: 200 events left" in early
        # It asks again until nothing is left.
        assert 'hx-trigger="every 1s"' in early
        assert "/sessions/t1" in early
        assert "No session matches so far." in await ask(browser, "/parts/sessions?q=pear1199")
        assert "Indexing" not in await ask(browser, "/sessions")
    async with browsing(path) as browser:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TRIGGER t BEFORE INSERT ON texts BEGIN SELECT RAISE(ABORT, 'disk fails'); END")
        broken = await ask(browser, "/parts/sessions?q=pear0001")
        assert "sessions may be missing: disk fails" in broken
        assert "/sessions/t1" in broken
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TRIGGER t")
        late = await ask(browser, "/parts/sessions?q=pear1199")
        assert "/sessions/t2" in late
        assert "Indexing" not in late
