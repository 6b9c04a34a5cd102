"""The texts of a first catch-up are indexed by whoever searches first, and every search finds what it always found."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from daemon.delivering.local import schema
from daemon.delivering.local.events import LocalEvents
from daemon.delivering.local.sink import LocalSink
from daemon.delivering.local.text_index import TextIndex
from daemon.delivering.sink import Delivered
from llma_core.events import CaptureEvent
from tests.support.sample_events import generation, span, trace


def history(number: int) -> list[CaptureEvent]:
    """Make events of three sessions; many repeat the same prompt."""
    calls = [
        generation(f"g{each}", trace_id=f"t{each % 3}", text=f"pear{each:04}", prompt=f"Plant row {each // 9}", at=each)
        for each in range(number - 2)
    ]
    return [*calls, span("s", "Orchard", parent="g1", trace_id="t1"), trace("Apples", trace_id="t2")]


async def kept(path: Path, batches: Sequence[Sequence[CaptureEvent]], *, defers: bool, keep: int = 10**9) -> Path:
    sink = LocalSink(path, keep, defers=lambda: defers)
    for batch in batches:
        await sink.send(batch)
    await sink.aclose()
    return path


def rows(path: Path, question: str) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def search(path: Path, words: str) -> list[str]:
    TextIndex(path).complete()
    return LocalEvents(path).search(words)


def found(path: Path) -> list[list[str]]:
    TextIndex(path).complete()
    words = [*(f"pear{each:04}" for each in range(40)), "pear1", "plant", "Plant row 7", "orchard", "APPLES", "none"]
    local = LocalEvents(path)
    return [[*local.search(each), *sorted(local.sessions_with(each))] for each in words]


async def test_left_texts_are_found_as_if_they_had_been_indexed_at_once(tmp_path: Path) -> None:
    events = history(1200)
    batches = [events[:1000], events[1000:1100], events[1100:]]
    at_once = await kept(tmp_path / "at once.db", batches, defers=False)
    later = await kept(tmp_path / "later.db", batches, defers=True)
    assert rows(later, "SELECT count(*) FROM texts") == [(0,)]
    assert found(later) == found(at_once)
    for table in ("events", "calls", "words", "kept", "texts", "text_index"):
        assert rows(later, f"SELECT * FROM {table}") == rows(at_once, f"SELECT * FROM {table}"), table


async def test_few_events_are_indexed_at_once_although_they_may_be_left(tmp_path: Path) -> None:
    path = await kept(tmp_path / "events.db", [history(20)], defers=True)
    assert rows(path, "SELECT count(*) FROM text_index WHERE text_index MATCH 'pear0007'") == [(1,)]


async def test_whoever_leaves_nothing_for_later_gets_through_what_was_left(tmp_path: Path) -> None:
    events = history(1200)
    path = await kept(tmp_path / "events.db", [events], defers=True)
    live = [generation(f"live{number}", text=f"plum{number}") for number in range(4)]
    await kept(path, [[each] for each in live], defers=False)
    assert rows(path, "SELECT indexed - (SELECT max(received) FROM events) FROM kept") == [(0,)]
    whole = await kept(tmp_path / "whole.db", [events, live], defers=False)
    assert rows(path, "SELECT * FROM texts") == rows(whole, "SELECT * FROM texts")


async def test_an_event_that_is_replaced_before_it_is_indexed_is_found_by_its_last_words(tmp_path: Path) -> None:
    path = await kept(tmp_path / "events.db", [[trace("Before")]], defers=False)
    batch = [trace("Meanwhile"), *(generation(f"g{number}") for number in range(600)), trace("After")]
    await kept(path, [batch], defers=True)
    assert [search(path, name) for name in ("Meanwhile", "After")] == [[], ["trace-1"]]
    assert rows(path, "SELECT bytes FROM kept") == rows(path, "SELECT sum(size) FROM events")


async def test_texts_are_indexed_although_their_numbers_were_used_before(tmp_path: Path) -> None:
    old = [generation(f"old{number}", at=-500 * 86_400) for number in range(3)]
    path = await kept(tmp_path / "events.db", [old], defers=False, keep=0)
    # Its bodies did not stay, and their calls are too old by now.
    await kept(path, [history(600)], defers=True)
    assert rows(path, "SELECT min(received) FROM events") == [(1,)]
    assert search(path, "pear0001") == ["t1"]


async def test_what_goes_before_it_is_indexed_is_not_found(tmp_path: Path) -> None:
    events = [generation(f"g{number:04}", trace_id=f"t{number}", text=f"pear{number}") for number in range(1200)]
    path = await kept(tmp_path / "events.db", [events], defers=True, keep=100 * len(events[-1].body))
    assert [search(path, f"pear{number}") for number in (0, 1000, 1150, 1199)] == [[], [], ["t1150"], ["t1199"]]
    assert rows(path, "SELECT count(*) FROM texts WHERE received NOT IN (SELECT received FROM events)") == [(0,)]
    assert rows(path, "SELECT count(*) > 90 FROM texts") == [(1,)]


async def test_several_may_search_at_the_same_time_while_events_arrive(tmp_path: Path) -> None:
    events = history(2400)
    path = await kept(tmp_path / "events.db", [events[:1200], events[1200:]], defers=True)
    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search, path, "pear2397") for _ in range(3)]
        sink = LocalSink(path)
        live = [generation(f"live{number}", trace_id="live", text=f"plum{number}") for number in range(3)]
        for each in live:
            while await sink.send([each]) != Delivered():
                pass
        await sink.aclose()
        assert [each.result() for each in searches] == [["t0"]] * 3
    assert search(path, "plum2") == ["live"]
    whole = await kept(tmp_path / "whole.db", [events, live], defers=False)
    assert rows(path, "SELECT received, text FROM texts JOIN text_index ON id = text_index.rowid") == rows(
        whole, "SELECT received, text FROM texts JOIN text_index ON id = text_index.rowid"
    )


async def test_whoever_completes_the_index_is_told_how_much_is_left(tmp_path: Path) -> None:
    path = await kept(tmp_path / "events.db", [history(2400)], defers=True)
    told: list[int] = []
    assert TextIndex(path).complete(told.append) == 0
    assert told == [2400, 1400, 400]
    assert TextIndex(path).complete(told.append) == 0
    assert len(told) == 3


async def test_an_index_is_completed_as_far_as_there_is_time(tmp_path: Path) -> None:
    path = await kept(tmp_path / "events.db", [history(1200)], defers=True)
    assert TextIndex(path).complete(within=0.0) == 1200
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert TextIndex(path).complete(within=0.05) == 1200, "another process has locked it for so long"
        other.execute("ROLLBACK")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.index_more(connection, schema.Words(connection), 1000)
    assert LocalEvents(path).search("pear0001") == ["t1"]
    assert LocalEvents(path).search("pear1197") == []
    assert TextIndex(path).complete(within=0.0) == 200
    assert search(path, "pear1197") == ["t0"]


async def test_an_index_that_cannot_be_completed_says_why(tmp_path: Path) -> None:
    path = await kept(tmp_path / "events.db", [history(600)], defers=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            TextIndex(path, patience=0.0).complete()
        other.execute("ROLLBACK")
        for version, why in ((99, "newer version.*update"), (5, "older version.*stop the daemon")):
            other.execute(f"PRAGMA user_version = {version}")
            with pytest.raises(sqlite3.DatabaseError, match=why):
                TextIndex(path, patience=0.0).complete()
        other.execute(f"PRAGMA user_version = {schema.VERSION}")
    assert search(path, "pear0001") == ["t1"]
