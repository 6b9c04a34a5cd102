"""Which session is read next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.delivering.route import LOCAL, Route
from daemon.following.catalog import Catalog
from daemon.following.opening import Ordered, in_order
from daemon.following.session_files import SessionFiles
from daemon.reading.turns import Turns
from llma_core.claude_code.agent import CLAUDE_CODE
from llma_core.outbox.agent import OUTBOX
from tests.support.logs import LogBuilder, text, write_files


class Yard:
    """Sessions in two folders, and what makes them wait."""

    def __init__(self) -> None:
        self.sessions = {
            name: SessionFiles(
                name=name, folder=f"/logs/{name.partition('/')[0]}", agent=CLAUDE_CODE, mains=[f"/logs/{name}.jsonl"]
            )
            for name in ("orchard/a", "orchard/b", "orchard/c", "garden/d", "garden/e")
        }
        self.active: set[str] = set()
        self.seen: set[str] = set()
        self.stalled: set[str] = set()
        self.stopped = False
        self.questions = 0
        self.turns = Turns(
            self.sessions,
            active=self.active,
            seen=self.seen,
            stalled_on=self._stalled_on,
            has_room=self._has_room,
            is_stopped=self._is_stopped,
        )

    def _stalled_on(self, name: str) -> Route | None:
        self.questions += 1
        return LOCAL if name in self.stalled else None

    def _has_room(self, route: Route) -> bool:
        assert route == LOCAL
        return not self.stalled

    def _is_stopped(self, route: Route) -> bool:
        assert route == LOCAL
        return self.stopped

    def add(self, *names: str) -> None:
        for name in names:
            self.turns.add(self.sessions[name])

    def taken(self) -> list[str]:
        """Take sessions until none is left."""
        names = []
        while (unit := self.turns.next()) is not None:
            names.append(unit.name)
        return names


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_folders_take_turns_and_each_keeps_its_order(yard: Yard) -> None:
    yard.add("orchard/b", "orchard/a", "garden/d", "orchard/c", "garden/e", "orchard/b")
    assert len(yard.turns) == 5
    assert yard.taken() == ["orchard/b", "garden/d", "orchard/a", "garden/e", "orchard/c"]
    assert len(yard.turns) == 0


def test_a_resumed_session_comes_first_in_its_folder(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b", "garden/d")
    unit = yard.turns.next()
    assert unit is not None
    yard.turns.resume(unit)
    assert unit in yard.turns
    assert yard.sessions["orchard/c"] not in yard.turns
    assert yard.taken() == ["garden/d", "orchard/a", "orchard/b"]


def test_a_session_that_is_gone_is_skipped(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b", "orchard/c", "garden/d")
    for name in ("orchard/a", "garden/d"):
        del yard.sessions[name]
    yard.stalled.add("orchard/b")
    yard.stopped = True
    assert yard.taken() == ["orchard/c"]
    assert yard.turns.names == {"orchard/b"}
    yard.add("orchard/c")
    del yard.sessions["orchard/c"]
    assert yard.taken() == []


def test_behind_a_session_without_room_unseen_sessions_of_its_folder_wait(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b", "orchard/c", "garden/d")
    yard.stalled.add("orchard/a")
    yard.seen.add("orchard/c")
    assert yard.taken() == ["orchard/c", "garden/d"]
    assert yard.turns.names == {"orchard/a", "orchard/b"}
    yard.stalled.clear()
    assert yard.taken() == ["orchard/a", "orchard/b"]


def test_behind_a_session_whose_route_is_stopped_none_waits(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b")
    yard.stalled.add("orchard/a")
    yard.stopped = True
    assert yard.taken() == ["orchard/b"]


def test_a_session_without_room_blocks_only_its_own_folder(yard: Yard) -> None:
    yard.stalled.add("orchard/a")
    yard.active.add("orchard/c")
    line, names = yard.turns.line(yard.sessions.values()), []
    while (unit := line.first()) is not None:
        names.append(unit.name)
        line.remove(unit.name)
    assert names == ["orchard/c", "garden/d", "garden/e"]
    assert list(line.names) == ["orchard/a", "orchard/b"]
    assert list(line.stalled) == [LOCAL]


@pytest.mark.parametrize("is_looked_at", [True, False])
@pytest.mark.parametrize("sessions", [100, 1000])
def test_the_questions_grow_with_the_sessions_that_wait_and_not_with_their_square(
    yard: Yard, sessions: int, is_looked_at: bool
) -> None:
    names = [f"{folder}/{number}" for folder in ("orchard", "garden") for number in range(sessions // 2)]
    for name in names:
        yard.sessions[name] = SessionFiles(name=name, folder=f"/logs/{name.partition('/')[0]}", agent=CLAUDE_CODE)
    yard.seen.update(names if is_looked_at else ())
    yard.add(*names)
    taken = []
    while len(yard.turns):
        # The route has room for one session, then for none.
        yard.stalled.clear()
        unit = yard.turns.next()
        assert unit is not None
        taken.append(unit.name)
        yard.stalled.update(names)
        for _ in range(3):
            assert yard.turns.next() is None, "hints wake the loop although nothing has moved"
    assert sorted(taken) == sorted(names)
    assert yard.questions <= 4 * sessions


def test_a_cleared_queue_is_empty(yard: Yard) -> None:
    yard.add("orchard/a", "garden/d")
    yard.turns.clear()
    assert len(yard.turns) == 0
    assert yard.taken() == []


class Sorting:
    """Orders sessions against their names, and records which ones it was called with.

    Args:
        family: the names of sessions that begin with the same line, the oldest first.
    """

    def __init__(self, family: Sequence[str] = ()) -> None:
        self.asked: list[list[str]] = []
        self._family = list(family)

    async def __call__(self, units: Sequence[SessionFiles]) -> Sequence[Ordered]:
        self.asked.append([unit.name for unit in units])
        units = sorted(units, key=lambda unit: unit.name, reverse=True)
        family = [unit for name in self._family for unit in units if unit.name == name]
        others = [unit for unit in units if unit not in family]
        roots = dict.fromkeys(self._family, "root")
        return [Ordered(unit, frozenset({roots.get(unit.name, unit.name)})) for unit in (*family, *others)]


async def test_sessions_found_at_once_are_sorted_once(yard: Yard) -> None:
    sorting = Sorting()
    yard.add(*yard.sessions)
    yard.turns.note_found(yard.sessions.values())
    await yard.turns.sort(sorting)
    await yard.turns.sort(sorting)
    assert sorting.asked == [["orchard/a", "orchard/b", "orchard/c", "garden/d", "garden/e"]]
    assert yard.taken() == ["orchard/c", "garden/e", "orchard/b", "garden/d", "orchard/a"]


async def test_a_session_found_beside_sessions_in_memory_comes_after_them(yard: Yard) -> None:
    sorting = Sorting()
    yard.active.add("orchard/c")
    names = ("orchard/c", "orchard/a", "garden/d")
    yard.add(*names)
    yard.turns.note_found([yard.sessions[name] for name in names])
    await yard.turns.sort(sorting)
    assert yard.taken() == ["orchard/c", "garden/d", "orchard/a"]


async def test_a_session_alone_needs_no_sorting(yard: Yard) -> None:
    sorting = Sorting()
    yard.add("orchard/a")
    await yard.turns.sort(sorting)
    assert sorting.asked == []


@pytest.mark.parametrize("fork", ["garden/d", "orchard/a"])
async def test_a_fork_in_another_folder_waits_until_its_original_is_read_to_the_end(yard: Yard, fork: str) -> None:
    (original,) = {"garden/d", "orchard/a"} - {fork}
    sorting = Sorting([original, fork])
    names = ["garden/e", fork, "orchard/b", original]
    yard.add(*names)
    yard.turns.note_found([yard.sessions[name] for name in names])
    await yard.turns.sort(sorting)
    taken = []
    while (files := yard.turns.next()) is not None:
        taken.append(files.name)
        if taken.count(original) < 3 and files.name == original:
            yard.active.add(original)
            yard.turns.resume(files)
            await yard.turns.sort(sorting)
    assert taken.count(original) == 3
    assert [name for name in taken if name in (original, fork)] == [original] * 3 + [fork]


async def test_a_fork_in_another_folder_waits_although_its_original_waits_for_room(yard: Yard) -> None:
    sorting = Sorting(["orchard/a", "garden/d"])
    yard.add("garden/d", "garden/e", "orchard/a")
    yard.turns.note_found([yard.sessions[name] for name in ("garden/d", "orchard/a")])
    await yard.turns.sort(sorting)
    yard.stalled.add("orchard/a")
    assert yard.taken() == ["garden/e"]
    yard.stalled.clear()
    assert yard.taken() == ["orchard/a", "garden/d"]

    line = yard.turns.line([yard.sessions[name] for name in ("orchard/a", "garden/d", "garden/e")])
    yard.stalled.add("orchard/a")
    first = line.first()
    assert first is not None
    assert first.name == "garden/e", "without a queue, too"


async def test_a_fork_that_is_found_later_waits_for_its_original(yard: Yard) -> None:
    sorting = Sorting(["orchard/b", "garden/d"])
    yard.add("orchard/a", "orchard/b")
    yard.turns.note_found([yard.sessions[name] for name in ("orchard/a", "orchard/b")])
    await yard.turns.sort(sorting)
    yard.add("garden/d", "garden/e")
    await yard.turns.sort(sorting)
    assert sorting.asked[1] == ["garden/d", "garden/e"], "nothing is looked at twice"
    assert yard.turns.lane(yard.sessions["garden/d"]) == "/logs/orchard"
    taken = yard.taken()
    assert sorted(taken) == ["garden/d", "garden/e", "orchard/a", "orchard/b"]
    assert taken.index("orchard/b") < taken.index("garden/d")


@pytest.mark.parametrize("version", ["1.0.128", "2.1.200", "2.1.329"])
async def test_what_a_log_begins_with_tells_a_fork_in_any_folder(tmp_path: Path, version: str) -> None:
    original = LogBuilder("2f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", version=version, cwd="/home/ada/orchard")
    original.prompt("Count the trees")
    original.answer(text("One."))
    fork = original.fork("0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b")
    fork.prompt("Again")
    other = LogBuilder("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", version=version, start="2026-01-01T00:00:00Z")
    other.prompt("Count the birds")
    folders = {original: "-z", fork: "-a", other: "-b"}
    catalog = Catalog()
    for log, folder in folders.items():
        write_files(tmp_path, {f"{folder}/{log.session}.jsonl": log.files()[log.path]})
        catalog.add(str(tmp_path / folder / f"{log.session}.jsonl"))

    async def order(sessions: Sequence[SessionFiles]) -> Sequence[Ordered]:
        return in_order(sessions)

    turns = Turns(
        catalog.sessions,
        active=(),
        seen=(),
        stalled_on=lambda _name: None,
        has_room=lambda _route: True,
        is_stopped=lambda _route: False,
    )
    found = sorted(catalog.sessions.values(), key=lambda files: files.name)
    turns.note_found(found)
    for files in found:
        turns.add(files)
    await turns.sort(order)
    lanes = {files.session: turns.lane(files).rpartition("/")[2] for files in found}
    assert lanes == {original.session: "-z", fork.session: "-z", other.session: "-b"}
    taken = [files.session for files in iter(turns.next, None)]
    assert taken.index(original.session) < taken.index(fork.session)


async def test_sessions_in_memory_come_first_and_those_of_later_hints_last(yard: Yard) -> None:
    sorting = Sorting()

    async def backwards(units: Sequence[SessionFiles]) -> Sequence[Ordered]:
        yard.add("orchard/late")
        return await sorting(units)

    yard.sessions["orchard/late"] = SessionFiles(name="orchard/late", folder="/logs/orchard", agent=CLAUDE_CODE)
    yard.active.add("orchard/c")
    yard.add("orchard/a", "orchard/b", "orchard/c")
    yard.turns.note_found([yard.sessions["orchard/a"], yard.sessions["orchard/b"]])
    await yard.turns.sort(backwards)
    assert yard.taken() == ["orchard/c", "orchard/b", "orchard/a", "orchard/late"]
    assert sorting.asked[1:] == [["orchard/late"]]


async def test_sessions_that_are_gone_or_not_in_the_queue_are_not_sorted(yard: Yard) -> None:
    sorting = Sorting()
    yard.turns.note_found(yard.sessions.values())
    yard.add("orchard/a", "orchard/b", "orchard/c")
    del yard.sessions["orchard/b"]
    await yard.turns.sort(sorting)
    assert sorting.asked == [["orchard/a", "orchard/c"]]
    assert yard.taken() == ["orchard/c", "orchard/a"]


async def test_sorting_ends_although_sessions_are_found_faster_than_they_are_sorted(yard: Yard) -> None:
    """Many programs record at once. Each session that is found meanwhile is sorted before a later one is read."""
    found = iter(list(yard.sessions.values())[2:])
    asked = 0

    async def order(sessions: Sequence[SessionFiles]) -> Sequence[Ordered]:
        nonlocal asked
        asked += 1
        late = next(found, None)
        assert late is not None, "nothing is read while sessions are found"
        yard.turns.note_found([late, *sessions])
        yard.turns.add(late)
        return [Ordered(files, frozenset()) for files in sessions]

    yard.add("orchard/a", "orchard/b")
    await yard.turns.sort(order)
    assert asked == 2
    assert yard.turns.next() is not None


async def test_recorded_files_are_asked_for_a_few_times_each_however_many_wait(yard: Yard) -> None:
    """Two are found while one is read, until there are no more; the first of them were found at once."""
    sorting = Sorting()
    names = [f"outbox/{number:02}" for number in range(60)]
    for name in names:
        yard.sessions[name] = SessionFiles(name=name, folder="/outbox", agent=OUTBOX)
    left, taken, number = list(names), list[str](), 8
    while True:
        found, left = [yard.sessions[name] for name in left[:number]], left[number:]
        yard.turns.note_found(found)
        for files in found:
            yard.turns.add(files)
        await yard.turns.sort(sorting)
        if (first := yard.turns.next()) is None:
            break
        taken.append(first.name)
        number = 2
    assert taken[0] == names[7], "they are sorted"
    assert sorted(taken) == names
    assert sum(map(len, sorting.asked)) < 4 * len(names)

    # A session that is found beside them is sorted without them.
    yard.add("orchard/a", "orchard/b", *names)
    await yard.turns.sort(sorting)
    assert sorting.asked[-1] == ["orchard/a", "orchard/b"]
