"""Every transaction of the store survives a crash as a whole, or not at all."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.config.restraint import Restraint
from daemon.state.connection import UnwrittenError, open_to_read
from daemon.state.layout import forget_store
from daemon.state.reader import StoreReader
from daemon.state.rows import (
    Commit,
    Copies,
    FileMark,
    FrozenRoute,
    HeldSession,
    Hosted,
    Owed,
    RejectedEvent,
    Settled,
    Sighting,
)
from daemon.state.schema import IDENTITY_SLICES, identity_key
from daemon.state.store import Store, StoreError, read_store

MARK = FileMark(
    device=1, inode=2, path="/logs/a.jsonl", unit="orchard/a", offset=100, head=b"head", head_length=10, tail=b"tail"
)
EVERYTHING = Commit(
    files=[MARK],
    settled=[
        Settled(identity="gen|1", unit="orchard/a", checksum=b"mark"),
        Settled(identity="call|1", unit="orchard/a"),
    ],
    owed=[Owed(trace="trace|a", ending=1, unit="orchard/a")],
    rejected=[
        RejectedEvent(uuid="u", name="$ai_span", bytes=9, reason="no", path="/logs/a.jsonl", start=0, end=9, at="2026")
    ],
    counters={"sent": 2},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def content(store: Store) -> dict[str, Any]:
    """Everything in a store, and the owners of two settled identities."""
    reader = store.reader()
    try:
        owners = [reader.owner("gen|1"), reader.owner("call|1")]
    finally:
        reader.close()
    return {
        "files": list(store.files()),
        "owed": store.owed(),
        "rejected": store.rejected(),
        "counters": store.counters(),
        "owners": owners,
    }


def routes(store: Store, *units: str) -> list[FrozenRoute | None]:
    with closing(store.reader()) as reader:
        return [reader.route(unit) for unit in units]


def restraints(store: Store, *units: str) -> list[list[str]]:
    with closing(store.reader()) as reader:
        return [reader.restraints(unit) for unit in units]


EMPTY: dict[str, Any] = {"files": [], "owed": [], "rejected": [], "counters": {}, "owners": [None, None]}
FULL: dict[str, Any] = {
    "files": [MARK],
    "owed": [Owed(trace="trace|a", ending=1, unit="orchard/a")],
    "rejected": list(EVERYTHING.rejected),
    "counters": {"sent": 2},
    "owners": [("orchard/a", b"mark"), ("orchard/a", None)],
}


def test_a_new_store_holds_nothing(store: Store) -> None:
    assert content(store) == EMPTY
    assert store.first_start is None
    assert not store.lost


def test_a_commit_is_there_after_reopening(tmp_path: Path) -> None:
    for _ in range(2):
        store = Store(tmp_path)
        try:
            store.commit(EVERYTHING if not list(store.files()) else Commit())
            assert content(store) == FULL
        finally:
            store.close()


def test_a_commit_survives_without_closing_the_store(store: Store, tmp_path: Path) -> None:
    store.commit(EVERYTHING)
    for file in list(tmp_path.iterdir()):
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    copy = Store(tmp_path / "copy")
    try:
        assert content(copy) == FULL
    finally:
        copy.close()


def test_a_commit_that_fails_leaves_nothing_of_itself(store: Store) -> None:
    with pytest.raises(sqlite3.Error):
        store.commit(replace(EVERYTHING, counters={"sent": object()}))  # type: ignore[dict-item]
    assert content(store) == EMPTY


def test_a_commit_that_failed_can_be_repeated(store: Store) -> None:
    """The number that the session got in the failed transaction is not cached."""
    with pytest.raises(sqlite3.Error):
        store.commit(replace(EVERYTHING, counters={"sent": object()}))  # type: ignore[dict-item]
    store.commit(Commit(settled=[Settled(identity="gen|9", unit="orchard/other")]))
    store.commit(EVERYTHING)
    assert content(store) == FULL


def test_a_full_disk_is_an_error_and_then_none(store: Store) -> None:
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    large = [Settled(identity=f"gen|{number}|{'x' * 100}", unit="orchard/a") for number in range(1000)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.commit(replace(EVERYTHING, settled=[*EVERYTHING.settled, *large]))
    assert content(store) == EMPTY
    store._connection.execute(f"PRAGMA max_page_count={pages * 100}")
    store.commit(EVERYTHING)
    assert content(store) == FULL


def test_a_commit_with_nothing_in_it_is_false() -> None:
    assert not Commit()
    assert Commit(counters={"sent": 1})
    assert Commit(paid=[Owed(trace="trace|a", ending=1, unit="orchard/a")])


def test_a_file_is_known_by_its_device_and_inode(store: Store) -> None:
    store.commit(Commit(files=[MARK]))
    moved = replace(MARK, path="/logs/b.jsonl", offset=150, history=True)
    other = replace(MARK, inode=3)
    store.commit(Commit(files=[moved, other]))
    assert sorted(store.files(), key=lambda mark: mark.inode) == [moved, other]


def test_the_session_that_settled_first_stays_the_owner(store: Store) -> None:
    store.commit(Commit(settled=[Settled(identity="gen|1", unit="orchard/a", checksum=b"mark")]))
    store.commit(Commit(settled=[Settled(identity="gen|1", unit="orchard/b", checksum=b"other")]))
    reader = store.reader()
    try:
        assert reader.owner("gen|1") == ("orchard/a", b"mark")
        assert reader.owner("gen|2") is None
    finally:
        reader.close()


def test_a_reader_sees_later_commits(store: Store) -> None:
    reader = store.reader()
    try:
        assert reader.owner("gen|1") is None
        store.commit(EVERYTHING)
        assert reader.owner("gen|1") == ("orchard/a", b"mark")
    finally:
        reader.close()
        reader.close()


def test_owners_are_known_after_a_restart_and_new_ones_are_not_mixed_up_with_them(tmp_path: Path) -> None:
    for unit in ("orchard/a", "orchard/b", "orchard/a"):
        store = Store(tmp_path)
        store.commit(Commit(settled=[Settled(identity=f"gen|{unit}", unit=unit)]))
        store.close()
    store = Store(tmp_path)
    reader = store.reader()
    try:
        assert reader.owner("gen|orchard/a") == ("orchard/a", None)
        assert reader.owner("gen|orchard/b") == ("orchard/b", None)
    finally:
        reader.close()
        store.close()


def test_a_trace_is_owed_once_and_no_more_when_it_is_paid(store: Store) -> None:
    first, second = (Owed(trace="trace|a", ending=ending, unit="orchard/a") for ending in (1, 2))
    store.commit(Commit(owed=[first]))
    store.commit(Commit(owed=[first, second]))
    assert store.owed() == [first, second]
    store.commit(Commit(paid=[replace(first, unit="pear/a")]))
    assert store.owed() == [first, second]
    store.commit(Commit(paid=[first]))
    assert store.owed() == [second]
    store.commit(Commit(owed=[replace(first, ending=3)], paid=[second, replace(first, ending=3)]))
    assert store.owed() == []


def test_traces_of_sessions_that_are_gone_are_forgotten(store: Store) -> None:
    kept, gone = (Owed(trace=f"trace|{unit}", ending=1, unit=unit) for unit in ("a", "b"))
    store.commit(Commit(owed=[kept, gone]))
    store.forget_owed(["b", "c"])
    assert store.owed() == [kept]


def test_the_first_route_of_a_session_stays(store: Store) -> None:
    first = FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session")
    store.freeze({"orchard/a": first})
    store.freeze({"orchard/a": FrozenRoute(distinct_id="bob", identified=False, grouping="message")})
    other = FrozenRoute(distinct_id="claude-code:b", identified=False, grouping="message")
    store.freeze({"orchard/b": other})
    assert routes(store, "orchard/a", "orchard/b", "orchard/c") == [first, other, None]


def test_only_host_and_key_of_a_stored_route_can_change(store: Store) -> None:
    first = FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session", host="a", key="1")
    store.freeze({"orchard/a": first})
    store.freeze({"orchard/a": FrozenRoute(distinct_id="bob", identified=False, grouping="message", host="b", key="2")})
    assert routes(store, "orchard/a") == [replace(first, host="b", key="2")]


def test_held_sessions_are_listed_until_they_are_released(store: Store) -> None:
    rows = [
        HeldSession(unit=f"orchard/{name}", session=name, folder=folder, reason="why", since=since)
        for name, folder, since in (("a", "/x", "2"), ("b", None, "1"), ("c", "/x", "3"))
    ]
    store.hold(rows)
    assert [row.session for row in store.held()] == ["b", "a", "c"]
    store.hold([replace(rows[0], reason="another")])
    store.release(["orchard/b"])
    assert store.held() == [replace(rows[0], reason="another"), rows[2]]
    store.release()
    assert store.held() == []


def test_restraints_are_kept(store: Store) -> None:
    store.restrain({"orchard/a": "1", "orchard/b": "2"})
    store.restrain({"orchard/b": "3"})
    assert restraints(store, "orchard/a", "orchard/b", "orchard/c") == [["1"], ["3"], []]


def test_who_was_seen_in_the_registry_is_kept_until_long_after_it_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path, today=lambda: 100)
    runs = Sighting(session="runs", pid=5, ticks=2**40)
    gone = [Sighting(session=f"gone{day}", pid=5, foreign=True, gone_at=day * 86_400_000) for day in (69, 70)]
    store.see([replace(runs, pid=4), *gone])
    store.see([runs])
    assert store.sightings() == [*gone, runs]
    store.forget_sightings(30)
    assert store.sightings() == [gone[1], runs]
    store.close()


def hosts(store: Store, unit: str) -> list[str]:
    with closing(store.reader()) as reader:
        return reader.hosts(unit)


def test_whose_logs_hold_lines_of_a_session_is_kept_as_long_as_both_sessions(tmp_path: Path) -> None:
    store = Store(tmp_path, today=lambda: 100)
    store.commit(Commit(hosted=[Hosted(unit="a", host=host, device=1, inode=2) for host in ("b", "c", "b")]))
    assert hosts(store, "a") == ["b", "c"]
    store.forget_units(["b"], 0)
    assert hosts(store, "a") == ["c"]
    store.forget_units(["a"], 0)
    assert hosts(store, "a") == []
    store.close()


def test_of_which_sessions_something_is_stored_is_told_for_many_at_once(store: Store) -> None:
    with closing(store.reader()) as reader:
        assert reader.stored_of([]) == set()
        store.commit(Commit(files=[replace(MARK, unit="read")], settled=[Settled(identity="gen|1", unit="settled")]))
        store.commit(Commit(hosted=[Hosted(unit="hosted", host="host", device=1, inode=2)]))
        store.freeze({"routed": FrozenRoute(distinct_id="ada", identified=True, grouping="session")})
        store.restrain({"restrained": "1"})
        names = ["new", "read", "settled", "hosted", "host", "routed", "restrained"]
        assert reader.stored_of(names) == {"read", "hosted", "routed", "restrained"}
        assert reader.stored_of(["new", "read"]) == {"read"}


def test_how_far_lines_in_the_log_of_another_session_are_settled_only_grows(tmp_path: Path) -> None:
    store = Store(tmp_path, today=lambda: 100)
    for offset in (0, 70, 0, 30):
        store.commit(Commit(hosted=[Hosted(unit="a", host="b", device=1, inode=2, offset=offset)]))
    assert store.hosted() == [Hosted(unit="a", host="b", device=1, inode=2, offset=70)]
    store.close()


TO_V7 = """
PRAGMA user_version=7;
"""
TO_V6 = """
PRAGMA user_version=6;
"""
TO_V5 = """
DROP TABLE hosted;
PRAGMA user_version=5;
"""
TO_V4 = """
ALTER TABLE rejected DROP COLUMN unit;
PRAGMA user_version=4;
"""
TO_V3 = """
DROP INDEX files_by_unit;
DROP TABLE former_names;
DROP TABLE sightings;
DROP TABLE restraints;
CREATE TABLE restraints (unit TEXT PRIMARY KEY, restraint TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version=3;
"""
TO_V2 = """
DROP TABLE copies;
DROP TABLE settled;
CREATE TABLE settled (identity TEXT PRIMARY KEY, unit INTEGER NOT NULL, mark BLOB) WITHOUT ROWID;
INSERT INTO settled SELECT 'gen|1', id, CAST('mark' AS BLOB) FROM units WHERE name='orchard/a';
INSERT INTO settled SELECT 'call|1', id, NULL FROM units WHERE name='orchard/a';
ALTER TABLE units DROP COLUMN settled_on;
PRAGMA user_version=2;
"""
TO_V1 = """
DROP TABLE held;
DROP TABLE restraints;
DROP TABLE routes;
CREATE TABLE routes (
    unit TEXT PRIMARY KEY,
    distinct_id TEXT NOT NULL,
    identified INTEGER NOT NULL,
    grouping TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO routes VALUES ('orchard/a', 'ada@example.com', 1, 'session');
PRAGMA user_version=1;
"""


def test_rejected_events_of_a_version_that_stored_no_session_stay_listed(tmp_path: Path) -> None:
    (old,) = EVERYTHING.rejected
    store = Store(tmp_path)
    store.commit(EVERYTHING)
    store.close()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(TO_V6 + TO_V5 + TO_V4)
    connection.close()
    for _ in range(2):
        store = Store(tmp_path)
        assert store.rejected() == [replace(old, unit=None)]
        store.commit(Commit(rejected=[replace(old, uuid="v", unit="claude-code/a")]))
        store.commit(Commit(accepted=["v", "unknown"]))
        assert content(store) == FULL | {"rejected": [replace(old, unit=None)]}
        store.close()
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    Store(fresh).close()
    assert schema(tmp_path) == schema(fresh)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_older_version_goes_on_as_one_of_this(tmp_path: Path, version: int) -> None:
    old = Store(tmp_path, today=lambda: 5)
    old.commit(EVERYTHING)
    old.begin(5, [])
    old.freeze({"orchard/a": FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session")})
    old.close()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(
        TO_V6 + TO_V5 + TO_V4 + TO_V3 + (TO_V2 if version < 3 else "") + (TO_V1 if version < 2 else "")
    )
    connection.close()
    for _ in range(2):
        store = Store(tmp_path, today=lambda: 100)
        assert content(store) == FULL | {
            "files": [replace(MARK, unit="claude-code/a")],
            "owed": [Owed(trace="trace|a", ending=1, unit="claude-code/a")],
            "owners": [(owner and ("claude-code/a", owner[1])) for owner in FULL["owners"]],
        }
        assert store.first_start == 5
        assert store.held() == []
        assert restraints(store, "claude-code/a") == [[]]
        frozen = FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session")
        assert routes(store, "claude-code/a") == [frozen]
        quiet = [] if version < 3 else [("claude-code/a", 5)]
        assert list(store.quiet_units(1)) == quiet, "where it is not known when it was settled, it counts from now"
        store.close()
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    Store(fresh).close()
    assert schema(tmp_path) == schema(fresh)


def test_only_what_was_left_out_in_part_seems_to_have_grown_after_an_upgrade(tmp_path: Path) -> None:
    restraints = {
        "included": Restraint(include=(("/home/ada/orchard",),)),
        "excluded": Restraint(content="metadata", exclude=("secret",)),
        "unread": Restraint(exclude=("secret",)),
        "strict": Restraint(content="metadata", max_attribute_length=9),
        "free": None,
    }
    marks = [
        FileMark(device=1, inode=n, path=unit, unit=unit, offset=9, head=b"h", head_length=1, tail=b"t", history=n == 1)
        for n, unit in enumerate(restraints, 1)
    ]
    marks[2] = replace(marks[2], offset=0, tail=b"")
    hosted = [Hosted(unit=unit, host="host", device=1, inode=9, offset=5) for unit in ("excluded", "free")]
    with closing(Store(tmp_path)) as store:
        store.commit(Commit(files=marks, hosted=hosted))
        store.restrain({unit: restraint.dump() for unit, restraint in restraints.items() if restraint is not None})
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(TO_V7)
    connection.close()
    for _ in range(2):
        with closing(Store(tmp_path)) as store:
            grown = [replace(mark, offset=8, tail=b"") for mark in marks[:2]]
            assert list(store.files()) == [*grown, *marks[2:]]
            assert sorted((row.unit, row.offset) for row in store.hosted()) == [("excluded", 4), ("free", 5)]


def test_only_what_was_turned_off_is_read_once_more_after_an_upgrade(tmp_path: Path) -> None:
    off, strict, free = (
        FileMark(device=1, inode=n, path=unit, unit=unit, offset=9, head=b"h", head_length=1, tail=b"t", history=n == 1)
        for n, unit in enumerate(("off", "strict", "free"), 1)
    )
    restraints = {"off": Restraint(off=True), "strict": Restraint(content="metadata", exclude=('{"off":true}',))}
    with closing(Store(tmp_path)) as store:
        store.commit(Commit(files=[off, strict, free]))
        store.restrain({unit: restraint.dump() for unit, restraint in restraints.items()})
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(TO_V6)
    connection.close()
    with closing(Store(tmp_path)) as store:
        in_part = replace(strict, offset=8, tail=b"")
        assert list(store.files()) == [replace(off, offset=0, tail=b"", history=False), in_part, free]
        store.commit(Commit(files=[off]))
    with closing(Store(tmp_path)) as store:
        assert [mark.offset for mark in store.files()] == [9, 8, 9]


V3_TWICE = """
INSERT INTO units VALUES (1, '-one/s', 3), (2, '-two/s', 7), (3, '-one/t', 4);
INSERT INTO settled VALUES (identity_key('gen|1'), 1, NULL), (identity_key('gen|2'), 2, NULL),
    (identity_key('gen|2|-two/s'), 2, NULL), (identity_key('gen|3'), 3, NULL);
INSERT INTO copies VALUES (2, 1), (3, 1), (3, 2);
INSERT INTO owed VALUES ('-one/s', 'trace|s', 1), ('-two/s', 'trace|s', 1), ('-two/s', 'trace|s', 2);
INSERT INTO routes VALUES ('-two/s', 'second', 1, 'message', NULL, NULL), ('-one/s', 'first', 1, 'session', NULL, NULL),
    ('-two/u', 'only', 1, 'session', NULL, NULL);
INSERT INTO held VALUES ('-one/s', 's', '/one', 'why', '2026'), ('-two/s', 's', '/two', 'why', '2027');
INSERT INTO restraints VALUES ('-one/s', '{"off":true}'), ('-two/s', '{}'), ('-one/t', '{}');
INSERT INTO files VALUES (1, 1, '/one/s.jsonl', '-one/s', 5, x'', 0, x'', 0),
    (1, 2, '/two/s.jsonl', '-two/s', 6, x'', 0, x'', 0);
"""


def test_what_earlier_versions_kept_for_each_folder_of_a_session_becomes_the_sessions(tmp_path: Path) -> None:
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.create_function("identity_key", 1, identity_key)
    connection.executescript(TO_V6 + TO_V5 + TO_V4 + TO_V3 + V3_TWICE)
    connection.close()
    for _ in range(2):
        with closing(Store(tmp_path, today=lambda: 8)) as store, closing(store.reader()) as reader:
            session = "claude-code/s"
            assert [(mark.unit, mark.offset) for mark in store.files()] == [(session, 0), (session, 0)], (
                "read once more"
            )
            assert [mark.offset for mark in reader.files_of(session)] == [0, 0]
            assert owners(store, "gen|1", "gen|2", "gen|2|-two/s", "gen|3") == [session] * 3 + ["claude-code/t"]
            assert list(store.copies()) == [Copies(unit="claude-code/t", original=session)]
            assert sorted((row.unit, row.ending) for row in store.owed()) == [(session, 1), (session, 2)]
            decided = [route and route.distinct_id for route in routes(store, session, "claude-code/u", "-two/s")]
            assert decided == ["first", "only", None], "what was decided first holds"
            assert [row.unit for row in store.held()] == [session]
            assert [sorted(each) for each in restraints(store, session, "claude-code/t")] == [
                ['{"off":true}', "{}"],
                ["{}"],
            ], "every restraint holds"
            assert reader.former_names(session) == ["-one/s", "-two/s"]
            assert dict(store.quiet_units(0)) == {session: 7, "claude-code/t": 4, "claude-code/u": 0}


def schema(folder: Path) -> list[Any]:
    """The columns of every table, as SQLite understands them."""
    connection = sqlite3.connect(folder / "state.db")
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return [(name, connection.execute(f"PRAGMA table_info({name})").fetchall()) for name in sorted(names)]
    finally:
        connection.close()


def test_counters_add_up(store: Store) -> None:
    store.commit(Commit(counters={"sent": 2}))
    store.commit(Commit(counters={"sent": 3, "cut": 1}))
    assert store.counters() == {"sent": 5, "cut": 1}


def test_set_aside_events_come_newest_first(store: Store) -> None:
    (old,) = EVERYTHING.rejected
    new = replace(old, uuid="v", at="2027", path=None, start=None, end=None)
    store.commit(Commit(rejected=[old]))
    store.commit(Commit(rejected=[new]))
    assert store.rejected() == [new, old]


# ---------------------------------------------------------------------- first start


def test_the_first_start_is_stored_with_its_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(1000, [replace(MARK, history=True)])
    store.close()
    store = Store(tmp_path)
    try:
        assert store.first_start == 1000
        assert list(store.files()) == [replace(MARK, history=True)]
        assert not store.lost
    finally:
        store.close()


def test_history_is_read_from_its_beginning_when_it_is_to_be_sent(store: Store) -> None:
    own = replace(MARK, inode=3)
    store.begin(1000, [replace(MARK, history=True)])
    store.commit(Commit(files=[own]))
    store.rewind_history()
    assert store.first_start == 0
    assert sorted(store.files(), key=lambda mark: mark.inode) == [replace(MARK, offset=0, tail=b""), own]


@pytest.mark.parametrize("deleted", [True, False])
def test_a_store_that_is_gone_was_lost_and_is_no_first_start(tmp_path: Path, *, deleted: bool) -> None:
    store = Store(tmp_path)
    store.begin(1000, [])
    store.close()
    for file in tmp_path.glob("state.db*"):
        if deleted:
            file.unlink()
        else:
            file.write_bytes(b"no database" * 100)
    with capture_logs():
        store = Store(tmp_path)
    try:
        assert store.lost
        assert store.first_start is None
        store.begin(0, [])
    finally:
        store.close()
    store = Store(tmp_path)
    try:
        assert not store.lost, "said once"
    finally:
        store.close()


def test_a_store_that_never_began_was_not_lost(tmp_path: Path) -> None:
    Store(tmp_path).close()
    (tmp_path / "state.db").unlink()
    store = Store(tmp_path)
    try:
        assert not store.lost
    finally:
        store.close()


# ---------------------------------------------------------------------- the file


def damaged_head(path: Path) -> None:
    path.write_bytes(b"no database" * 100)


def damaged_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 3] = b"\xff" * (4096 * 2)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [damaged_head, damaged_page, cut_short])
def test_a_corrupt_store_is_set_aside_with_one_line_and_an_empty_one_begun(tmp_path: Path, damage: Any) -> None:
    store = Store(tmp_path)
    store.commit(replace(EVERYTHING, settled=[Settled(identity=f"gen|{n}", unit="orchard/a") for n in range(500)]))
    store.close()
    damage(tmp_path / "state.db")
    damaged = (tmp_path / "state.db").read_bytes()
    with capture_logs() as logged:
        store = Store(tmp_path)
    try:
        assert content(store) == EMPTY
        store.commit(EVERYTHING)
        assert content(store) == FULL
    finally:
        store.close()
    (aside,) = tmp_path.glob("state.db.corrupt-*")
    assert aside.read_bytes() == damaged, "what may still be in it is kept"
    assert [(line["event"], line["log_level"]) for line in logged] == [("store_corrupt", "error")]


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="newer version") as caught:
        Store(tmp_path)
    assert "\n" not in str(caught.value)
    assert "POSTHOG_LLMA_STATE_DIR" in str(caught.value)
    assert list(tmp_path.glob("state.db.corrupt-*")) == []


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open the state store") as caught:
        Store(tmp_path / "missing")
    assert "\n" not in str(caught.value)


def test_only_the_user_can_read_it(store: Store, tmp_path: Path) -> None:
    store.begin(1000, [MARK])
    store.commit(EVERYTHING)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes.keys() >= {"state.db", "state.db-wal"}
    assert set(modes.values()) == {0o600}


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()
    store.close()


# ---------------------------------------------------------------------- forgetting


def owners(store: Store, *identities: str) -> list[str | None]:
    """The session that settled each of *identities*."""
    reader = store.reader()
    try:
        found = [reader.owner(identity) for identity in identities]
    finally:
        reader.close()
    return [owner[0] if owner is not None else None for owner in found]


def test_sessions_are_quiet_when_nothing_of_them_was_settled_for_long(tmp_path: Path) -> None:
    day = 100
    store = Store(tmp_path, today=lambda: day)
    try:
        store.commit(EVERYTHING)
        store.commit(Commit(settled=[Settled(identity="gen|2", unit="orchard/b")]))
        store.restrain({"orchard/c": "1"})
        day = 110
        store.commit(Commit(settled=[Settled(identity="gen|3", unit="orchard/b")]))
        assert dict(store.quiet_units(10)) == {"orchard/c": 0}
        assert dict(store.quiet_units(9)) == {"orchard/a": 100, "orchard/c": 0}
        day = 120
        assert dict(store.quiet_units(10)) == {"orchard/a": 100, "orchard/c": 0}
        assert dict(store.quiet_units(9)) == {"orchard/a": 100, "orchard/b": 110, "orchard/c": 0}
    finally:
        store.close()


def test_identities_are_forgotten_slice_by_slice_for_the_named_sessions_only(store: Store) -> None:
    mine = [f"gen|{number}" for number in range(2000)]
    others = [f"call|{number}" for number in range(500)]
    store.commit(Commit(settled=[Settled(identity=name, unit="orchard/a") for name in mine]))
    store.commit(Commit(settled=[Settled(identity=name, unit="orchard/b") for name in others]))
    counts = [store.forget_identities(["orchard/a", "orchard/unknown"], number) for number in range(IDENTITY_SLICES)]
    assert sum(counts) == len(mine)
    assert max(counts) < 40, "no step is a large one"
    assert owners(store, *mine) == [None] * len(mine)
    assert owners(store, *others) == ["orchard/b"] * len(others)


def test_a_session_is_forgotten_with_all_that_was_kept_of_it(tmp_path: Path) -> None:
    day = 100
    store = Store(tmp_path, today=lambda: day)
    try:
        for name in ("orchard/a", "orchard/b"):
            store.commit(
                Commit(
                    files=[replace(MARK, unit=name, inode=ord(name[-1]))],
                    settled=[Settled(identity=f"gen|{name}", unit=name)],
                    copies=[Copies(unit=name, original="orchard/z"), Copies(unit="orchard/z", original=name)],
                )
            )
            store.freeze({name: FrozenRoute(distinct_id="ada", identified=True, grouping="session")})
            store.restrain({name: "1"})
        day = 200
        store.commit(Commit(settled=[Settled(identity="late", unit="orchard/b")]))
        for number in range(IDENTITY_SLICES):
            store.forget_identities(["orchard/a"], number)
        assert store.forget_units(["orchard/a", "orchard/b"], 45) == ["orchard/a"], "the other one has come back"
        assert [mark.unit for mark in store.files()] == ["orchard/b"]
        assert [route is not None for route in routes(store, "orchard/a", "orchard/b")] == [False, True]
        assert restraints(store, "orchard/a", "orchard/b") == [[], ["1"]]
        assert set(store.copies()) == {
            Copies(unit="orchard/b", original="orchard/z"),
            Copies(unit="orchard/z", original="orchard/b"),
        }
        store.commit(Commit(settled=[Settled(identity="gen|again", unit="orchard/a")]))
        assert owners(store, "gen|again", "gen|orchard/a", "gen|orchard/b") == ["orchard/a", None, "orchard/b"]
    finally:
        store.close()


def test_a_file_is_known_by_device_and_inode_wherever_it_was(store: Store) -> None:
    other = replace(MARK, inode=MARK.inode + 1, offset=7)
    store.commit(Commit(files=[MARK, other]))
    with closing(store.reader()) as reader:
        assert reader.mark((MARK.device, MARK.inode)) == MARK
        assert reader.offset((MARK.device, MARK.inode)) == MARK.offset
        assert reader.mark((other.device, other.inode)) == other
        assert reader.mark((MARK.device + 1, MARK.inode)) is None
        assert reader.offset((MARK.device + 1, MARK.inode)) == 0


def test_files_are_forgotten_by_device_and_inode(store: Store) -> None:
    kept = replace(MARK, inode=3)
    store.commit(Commit(files=[MARK, kept]))
    store.forget_files([(MARK.device, MARK.inode), (9, 9)])
    assert list(store.files()) == [kept]


def test_set_aside_events_are_listed_for_a_time_and_in_a_number(store: Store) -> None:
    (row,) = EVERYTHING.rejected
    store.commit(Commit(rejected=[replace(row, uuid=f"u{year}", at=str(year)) for year in range(2020, 2030)]))
    assert store.forget_rejected("2023", 5) == 5
    assert [found.uuid for found in store.rejected()] == [f"u{year}" for year in range(2029, 2024, -1)]
    assert store.forget_rejected("2028", 5) == 3
    assert [found.uuid for found in store.rejected()] == ["u2029", "u2028"]


def test_a_million_events_leave_less_than_120_megabytes(tmp_path: Path) -> None:
    """The test writes a part of them: the size grows in proportion."""
    events = 40_000
    store = Store(tmp_path)
    try:
        store._connection.execute("PRAGMA synchronous=OFF")
        for first in range(0, events, 20_000):
            rows = [
                Settled(identity=f"gen|msg_01{number:022d}", unit=f"orchard/{number // 500}", checksum=b"x" * 12)
                for number in range(first, first + 20_000)
            ]
            store.commit(Commit(settled=rows))
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        store.close()
    assert (tmp_path / "state.db").stat().st_size * (1_000_000 / events) < 120e6


# ---------------------------------------------------------------------- read only


def test_a_read_only_store_sees_commits_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    store.begin(5, [])
    store.commit(EVERYTHING)
    looking = Store(tmp_path, read_only=True)
    try:
        assert content(looking) == FULL
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            looking.commit(Commit(counters={"sent": 1}))
    finally:
        looking.close()


@pytest.mark.parametrize(("version", "words"), [(2, "older version"), (99, "newer version")])
def test_a_read_only_store_upgrades_nothing(tmp_path: Path, version: int, words: str) -> None:
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()
    with pytest.raises(StoreError, match=words):
        Store(tmp_path, read_only=True)


def test_a_read_only_store_sets_nothing_aside(tmp_path: Path) -> None:
    Store(tmp_path).close()
    damaged_head(tmp_path / "state.db")
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path, read_only=True)
    assert list(tmp_path.glob("state.db.corrupt-*")) == []


def test_a_store_that_nobody_has_written_is_none(tmp_path: Path) -> None:
    """Reading it makes nothing."""
    with read_store(tmp_path) as store:
        assert store is None
    for is_there in (False, True):
        if is_there:
            (tmp_path / "state.db").touch()
        with (
            pytest.raises(sqlite3.OperationalError),
            closing(StoreReader(tmp_path / "state.db", patience=0)) as reader,
        ):
            reader.route("orchard/a")
        assert [path.stat().st_size for path in tmp_path.iterdir()] == [0] * is_there


def test_a_store_that_cannot_be_looked_at_is_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError) as raised:
        open_to_read(tmp_path / ("long" * 100), patience=0)
    assert not isinstance(raised.value, UnwrittenError)


@pytest.mark.parametrize("before", [b"", b"half of a page"])
def test_a_store_that_is_being_made_is_read_once_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(before)

    def another_process_goes_on(_seconds: float) -> None:
        path.unlink(missing_ok=True)
        with closing(Store(tmp_path)) as store:
            store.begin(5, [])

    monkeypatch.setattr(time, "sleep", another_process_goes_on)
    with read_store(tmp_path) as found:
        assert found is not None
        assert found.first_start == 5


def test_a_store_that_is_removed_while_it_is_opened_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.db").touch()
    monkeypatch.setattr(time, "sleep", lambda _seconds: forget_store(tmp_path))
    with read_store(tmp_path) as found:
        assert found is None


def test_a_table_is_empty_until_something_is_settled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    reader = store.reader()
    assert reader.is_empty()
    store.commit(Commit(settled=[Settled(identity="gen|1", unit="orchard/a")]))
    assert not reader.is_empty()
    reader.close()
    store.close()


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"/home/\xff/\xe4\xe4") + "ä"
    store = Store(tmp_path)
    mark = FileMark(
        device=1, inode=2, path=name, unit=name, offset=3, head=b"\xff", head_length=1, tail=b"\xff", history=True
    )
    store.commit(Commit(files=[mark], owed=[Owed(trace=name, ending=1, unit=name)]))
    assert list(store.files()) == [mark]
    assert store.owed() == [Owed(trace=name, ending=1, unit=name)]
    reader = store.reader()
    assert reader.mark((1, 2)) == mark
    assert reader.history(name.rpartition("/")[0]) == [(name, 3)]
    reader.close()
    store.forget_owed([name])
    assert store.owed() == []
    store.close()
