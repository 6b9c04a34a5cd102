from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from daemon.delivering.local.events import LocalEvents, LocalTrace, UnreadableEventsError
from daemon.delivering.local.sink import EVENT_LIMIT, LocalSink
from daemon.delivering.sink import Delivered, Rejected, Retryable, Sink, Stopped
from daemon.state.layout import events_path
from daemon.usage.report import Index
from tests.support.local_file import age
from tests.support.sample_events import generation, span, trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return events_path(tmp_path / "state")


@pytest.fixture
async def sink(path: Path) -> AsyncIterator[LocalSink]:
    sink = LocalSink(path)
    yield sink
    await sink.aclose()


def uuids(path: Path, trace_id: str = "trace-1") -> list[str]:
    return [view.uuid for view in LocalEvents(path).events(trace_id)]


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


def move_away(path: Path) -> None:
    path.rename(path.with_name("old"))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_events_can_be_read_while_the_sink_is_open(sink: LocalSink, path: Path) -> None:
    events = [generation("g"), span("t", "Read", parent="g"), trace()]
    assert await sink.send(events) == Delivered()
    views = LocalEvents(path).events("trace-1")
    assert [view.uuid for view in views] == [event.uuid for event in events]
    assert [view.kind for view in views] == ["generation", "span", "trace"]
    assert LocalEvents(path).events("another") == []


async def test_events_can_be_read_after_the_sink_is_closed(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("g")])
    await sink.aclose()
    assert uuids(path) == [generation("g").uuid]


async def test_an_event_sent_again_replaces_itself(sink: LocalSink, path: Path) -> None:
    await sink.send([trace("Before"), generation("g")])
    await sink.send([trace("After")])
    assert [view.label for view in LocalEvents(path).events("trace-1")] == ["claude-opus-5-5", "After"]


async def test_is_a_sink_with_a_limit(sink: LocalSink) -> None:
    as_sink: Sink = sink
    assert as_sink.event_limit == 33_554_432


async def test_only_the_user_can_read_the_files(sink: LocalSink, path: Path) -> None:
    before = os.umask(0)
    try:
        await sink.send([generation("g")])
    finally:
        os.umask(before)
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        "events.db": 0o600,
        "events.db-wal": 0o600,
        "events.db-shm": 0o600,
    }
    assert mode(path.parent) == 0o700
    assert mode(path.parent.parent) == 0o700


async def test_a_file_open_to_others_is_closed_to_them(path: Path) -> None:
    put(path, b"")
    sink = LocalSink(path)
    await sink.send([generation("g")])
    await sink.aclose()
    assert mode(path) == 0o600


async def test_keeps_the_newest_events(path: Path) -> None:
    events = [generation(f"g{number}", text="x" * 1000) for number in range(10)]
    size = len(events[0].body)
    sink = LocalSink(path, keep_bytes=3 * size)
    for event in events[:5]:
        await sink.send([event])
    await sink.send(events[5:8])
    assert uuids(path) == [event.uuid for event in events[5:8]]
    # The oldest event, sent again, becomes the newest, and nothing is deleted for it.
    await sink.send([events[5]])
    await sink.send([events[8]])
    assert uuids(path) == [events[number].uuid for number in (7, 5, 8)]
    await sink.aclose()
    # The count goes on after a restart.
    sink = LocalSink(path, keep_bytes=3 * size)
    await sink.send([events[9]])
    await sink.aclose()
    assert uuids(path) == [events[number].uuid for number in (5, 8, 9)]


@pytest.mark.parametrize("held", [0, 3])
async def test_bodies_that_later_ones_would_replace_are_not_written(path: Path, held: int) -> None:
    """As much of logs comes with each event."""
    events = [generation(f"g{number:03}", trace_id=f"t{number}", text="x" * 1000) for number in range(100)]
    for event in events[:held]:
        earlier = LocalSink(path)
        await earlier.send([event])
        await earlier.aclose()
    size, read = len(events[99].body), 0
    sink = LocalSink(
        path, keep_bytes=20 * size, alone=True, logs=lambda: (read * 500, (100 - read) * 500), patience=0.0
    )
    sink.prepare()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(20):
            # What is refused does not count as having come.
            assert isinstance(await sink.send(events[:5]), Retryable)
        other.execute("ROLLBACK")
    local, most = LocalEvents(path), 0
    for first in range(0, 100, 5):
        read = first + 5
        assert await sink.send(events[first : first + 5]) == Delivered()
        if 10 < read < 70:
            most = max(most, len(local.traces()))
    await sink.aclose()
    assert most == 0
    assert [trace.trace_id for trace in local.traces()] == [f"t{number}" for number in range(99, 79, -1)]
    assert (local.last("t79", 3), local.last("t80", 3)) == ([], [events[80].body])
    assert (local.events("t79"), len(local.events("t80"))) == ([], 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (100,)
        sums = connection.execute("SELECT bytes, (SELECT sum(size) FROM events) FROM kept").fetchall()
    assert sums == [(20 * size,) * 2]
    # What was left out can be sent again, and nothing is there twice.
    again = LocalSink(path)
    await again.send(events[5:6])
    await again.aclose()
    assert local.traces(1, prefix="t5")[0].events == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (100,)


async def test_the_rows_of_calls_stay_when_bodies_go_and_texts_go_with_them(path: Path) -> None:
    events = [
        generation(f"g{number}", trace_id=f"t{number}", text=f"pear{number} " + "x" * 1000) for number in range(4)
    ]
    sink = LocalSink(path, keep_bytes=2 * len(events[0].body))
    await sink.send(events)
    await sink.aclose()
    assert [LocalEvents(path).search(f"pear{number}") for number in range(4)] == [[], [], ["t2"], ["t3"]]
    with sqlite3.connect(path) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("calls", "texts")]
    connection.close()
    assert counts == [4, 2]


async def test_names_prompts_and_answers_are_found_by_their_words(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("g", text='Plant "two" pear-trees'), generation("h", trace_id="other", text="Water")])
    await sink.send([span("s", "Orchard", parent="g"), trace("Apples", trace_id="other")])
    local = LocalEvents(path)
    found = [local.search(words) for words in ("pear trees", '"two"', "pea", "orchard", "APPLES", "Water")]
    assert found == [["trace-1"], ["trace-1"], ["trace-1"], ["trace-1"], ["other"], ["other"]]
    for words in ("water pear", "", '"', "text:OR NOT ("):
        assert local.search(words) == []


async def test_an_event_that_is_sent_again_is_one_call(sink: LocalSink, path: Path) -> None:
    for tokens in ((1, 2), (3, 4)):
        await sink.send([generation("g", tokens=tokens)])
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT input, output FROM calls").fetchall()
    connection.close()
    assert rows == [(3, 4)]


async def test_a_locked_file_is_retryable(path: Path) -> None:
    sink = LocalSink(path, patience=0.0)
    await sink.send([generation("g")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    outcome = await sink.send([generation("h")])
    assert isinstance(outcome, Retryable)
    assert "locked" in outcome.reason
    other.execute("ROLLBACK")
    other.close()
    assert await sink.send([generation("h")]) == Delivered()
    assert uuids(path) == [generation("g").uuid, generation("h").uuid]
    await sink.aclose()


async def test_a_full_disk_is_retryable_and_keeps_nothing_of_the_batch(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("g")])

    def fill() -> None:
        assert sink._connection is not None
        pages = sink._connection.execute("PRAGMA page_count").fetchone()[0]
        sink._connection.execute(f"PRAGMA max_page_count = {pages}")

    sink._worker.submit(fill).result()
    batch = [generation("h"), generation("i", text="x" * 100_000)]
    outcome = await sink.send(batch)
    assert isinstance(outcome, Retryable)
    assert "full" in outcome.reason
    assert uuids(path) == [generation("g").uuid]
    assert await sink.send(batch) == Delivered()
    assert len(uuids(path)) == 3


async def test_a_folder_that_cannot_be_made_is_retryable(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    sink = LocalSink(events_path(tmp_path / "state"))
    assert isinstance(await sink.send([generation("g")]), Retryable)
    (tmp_path / "state").unlink()
    assert await sink.send([generation("g")]) == Delivered()
    await sink.aclose()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file_stops_the_sink_and_says_what_to_do(sink: LocalSink, path: Path, content: bytes) -> None:
    put(path, content)
    outcome = await sink.send([generation("g")])
    assert isinstance(outcome, Stopped)
    assert str(path) in outcome.hint
    move_away(path)
    assert await sink.send([generation("g")]) == Delivered()


async def test_a_file_deleted_while_open_is_made_anew(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("g")])
    for file in path.parent.iterdir():
        file.unlink()
    await sink.send([generation("h")])
    assert uuids(path) == [generation("h").uuid]


async def test_closing_twice_is_harmless_and_leaves_no_thread(path: Path) -> None:
    before = set(threading.enumerate())
    sink = LocalSink(path)
    await sink.send([generation("g")])
    await sink.aclose()
    await sink.aclose()
    assert set(threading.enumerate()) == before
    assert {file.name for file in path.parent.iterdir()} == {"events.db"}


async def test_a_close_that_is_cancelled_leaves_no_thread_and_no_open_file(path: Path) -> None:
    before = set(threading.enumerate())
    sink = LocalSink(path)
    await sink.send([generation("g")])
    closing = asyncio.ensure_future(sink.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    for thread in set(threading.enumerate()) - before:
        thread.join()
    # Closing the database removes the -wal and -shm files.
    assert {file.name for file in path.parent.iterdir()} == {"events.db"}


async def test_an_event_over_the_limit_is_rejected_with_its_size(sink: LocalSink) -> None:
    large = generation("g", text="x" * EVENT_LIMIT)
    outcome = await sink.send([large])
    assert outcome == Rejected(reason=f"an event has {len(large.body)} bytes, over the limit of {EVENT_LIMIT}")


async def test_lists_the_trace_with_the_newest_event_first(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("a", trace_id="abc-1", at=5), generation("b", trace_id="abd-2", at=9)])
    await sink.send([generation("c", trace_id="abc-1", at=7), generation("d", trace_id="xyz_3", at=1)])
    local = LocalEvents(path)
    assert local.traces() == [
        LocalTrace(trace_id="abd-2", session_id="abd-2", last="2026-11-20T12:00:09.000Z", events=1),
        LocalTrace(trace_id="abc-1", session_id="abc-1", last="2026-11-20T12:00:07.000Z", events=2),
        LocalTrace(trace_id="xyz_3", session_id="xyz_3", last="2026-11-20T12:00:01.000Z", events=1),
    ]
    assert [found.trace_id for found in local.traces(2)] == ["abd-2", "abc-1"]
    assert [found.trace_id for found in local.traces(prefix="ab")] == ["abd-2", "abc-1"]
    assert [found.trace_id for found in local.traces(prefix="xyz_")] == ["xyz_3"]
    # The prefix is not a pattern: % and _ have no special meaning.
    assert local.traces(prefix="%") == local.traces(prefix="xyz%") == []


def test_reading_makes_no_file_and_says_why_it_cannot_read(path: Path) -> None:
    with pytest.raises(UnreadableEventsError, match="unable to open"):
        LocalEvents(path).traces()
    put(path, b"not a database at all" * 100)
    with pytest.raises(UnreadableEventsError, match="not a database"):
        LocalEvents(path).events("trace-1")


async def test_tells_of_which_sessions_it_has_kept_events(path: Path) -> None:
    told: list[frozenset[str]] = []
    sink = LocalSink(path, tell=told.append)
    await sink.send([generation("g"), span("t", "Read", parent="g"), trace(trace_id="other")])
    await sink.send([generation("h", text="x" * EVENT_LIMIT)])
    await sink.aclose()
    assert told == [{"trace-1", "other"}]


async def test_a_file_of_an_older_version_goes_on_without_a_doubled_event(path: Path) -> None:
    events = [generation(f"g{number}", trace_id=f"t{number}", text=f"pear{number}", at=number) for number in range(4)]
    sink = LocalSink(path)
    await sink.send(events)
    await sink.aclose()
    age(path, 4, without=events[0].uuid)
    sink = LocalSink(path, keep_bytes=3 * len(events[0].body))
    # One whose body is gone comes back, one that is there is replaced.
    await sink.send([events[0], events[2]])
    await sink.aclose()
    local = LocalEvents(path)
    assert [local.search(f"pear{number}") for number in range(4)] == [["t0"], [], ["t2"], ["t3"]]
    assert [local.bodies(f"t{number}", [event.uuid]) for number, event in enumerate(events)] == [
        {events[0].uuid: events[0].body},
        {},
        {events[2].uuid: events[2].body},
        {events[3].uuid: events[3].body},
    ]
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT count(*), count(received) FROM calls LEFT JOIN events ON received = id")
        assert rows.fetchall() == [(4, 3)]


async def test_a_body_is_found_by_session_and_uuid(sink: LocalSink, path: Path) -> None:
    event = generation("g")
    await sink.send([event])
    local = LocalEvents(path)
    assert local.bodies("trace-1", [event.uuid, "no uuid"]) == {event.uuid: event.body}
    assert local.bodies("other", [event.uuid]) == {}


async def test_an_event_is_kept_although_another_writer_has_kept_some(path: Path) -> None:
    one, other = (LocalSink(path, keep_bytes=3 * len(generation("g0").body)) for _ in range(2))
    for number in range(6):
        await (one if number % 2 else other).send([generation(f"g{number}")])
    await one.aclose()
    await other.aclose()
    assert uuids(path) == [generation(f"g{number}").uuid for number in (3, 4, 5)]


async def test_bodies_of_an_older_version_without_a_call_stay_until_they_are_replaced(path: Path) -> None:
    """An older version has kept what cannot be read now, and forgot calls before their bodies."""
    events = [generation(f"g{number}", text="x" * 100) for number in range(3)]
    sink = LocalSink(path)
    await sink.send(events)
    await sink.aclose()
    age(path, 4)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM calls")
    sink = LocalSink(path)
    await sink.send([generation("g3"), events[1]])
    await sink.aclose()
    assert uuids(path) == [event.uuid for event in (events[0], events[2], generation("g3"), events[1])]
    with closing(sqlite3.connect(path)) as connection:
        sums = connection.execute("SELECT bytes, (SELECT sum(size) FROM events) FROM kept").fetchall()
    assert sums == [(sum(len(event.body) for event in (*events, generation("g3"))),) * 2]


async def test_a_body_of_an_older_version_whose_uuid_is_none_stays_and_the_file_can_be_used(tmp_path: Path) -> None:
    for version in (0, 4, 6):
        path = tmp_path / f"{version}.db"
        events = [generation(f"g{number}") for number in range(2)]
        sink = LocalSink(path)
        await sink.send(events)
        await sink.aclose()
        age(path, version)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE events SET uuid = 'no uuid' WHERE uuid = ?", (events[0].uuid,))
            if version:
                connection.execute("DELETE FROM calls WHERE uuid = ?", (UUID(events[0].uuid).bytes,))
        sink = LocalSink(path)
        sink.prepare()
        await sink.send([generation("g2")])
        await sink.aclose()
        assert uuids(path) == [events[1].uuid, generation("g2").uuid], version
        with closing(sqlite3.connect(path)) as connection:
            stored = connection.execute("SELECT body FROM events WHERE uuid = 'no uuid'").fetchall()
        assert stored == [(events[0].body,)], version


async def test_a_new_file_gets_its_indexes_from_who_fills_it_or_from_who_comes_next(tmp_path: Path) -> None:
    def indexes(path: Path) -> list[str]:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
            return sorted(sql for (sql,) in found)

    LocalSink(usual := tmp_path / "usual.db").prepare()
    for name in ("closed", "left"):
        sink = LocalSink(path := tmp_path / f"{name}.db", alone=True)
        await sink.send([generation("g")])
        assert len(indexes(path)) == 1
        if name == "left":
            # Somebody else opens the file before this one is closed, as after a kill.
            LocalSink(path).prepare()
            assert indexes(path) == indexes(usual)
        await sink.send([generation("h")])
        await sink.aclose()
        assert indexes(path) == indexes(usual)
        again = LocalSink(path, alone=True)
        await again.send([generation("i")])
        assert indexes(path) == indexes(usual), "a file that holds something keeps them"
        await again.aclose()


async def test_a_new_file_gets_its_write_ahead_log_once_it_is_filled(tmp_path: Path) -> None:
    """Until then, nothing is written to it twice."""
    path, log = tmp_path / "new.db", tmp_path / "new.db-wal"
    sink = LocalSink(path, alone=True)
    for name in ("g", "h"):
        await sink.send([generation(name)])
        assert not log.exists()
    await sink.aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again = LocalSink(path, alone=True)
    await again.send([generation("i")])
    assert log.exists(), "a file that holds something keeps it"
    await again.aclose()


async def test_a_file_that_lacks_nothing_is_prepared_while_others_write(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("g")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        LocalSink(path).prepare()
        other.execute("ROLLBACK")


async def test_a_file_of_a_newer_version_is_neither_prepared_nor_read(sink: LocalSink, path: Path) -> None:
    await sink.send([generation("g")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.DatabaseError, match=r"newer version.*update"):
        LocalSink(path).prepare()
    with pytest.raises(UnreadableEventsError, match=r"newer version.*update"):
        Index(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (99,)
