"""Whose turn it is to be read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from daemon.delivering.route import LOCAL, Route
from daemon.following.session_files import SessionFiles
from daemon.reading.turns import Turns
from llma_core.claude_code.agent import CLAUDE_CODE


class Yard:
    """Sessions in two folders, and what holds them up."""

    def __init__(self) -> None:
        self.sessions = {
            name: SessionFiles(
                name=name, folder=f"/logs/{name.partition('/')[0]}", agent=CLAUDE_CODE, main=f"/logs/{name}.jsonl"
            )
            for name in ("orchard/a", "orchard/b", "orchard/c", "garden/d", "garden/e")
        }
        self.active: set[str] = set()
        self.seen: set[str] = set()
        self.stalled: set[str] = set()
        self.stopped = False
        self.turns = Turns(
            self.sessions, active=self.active, seen=self.seen, stalled_on=self._stalled_on, is_stopped=self._is_stopped
        )

    def _stalled_on(self, name: str) -> Route | None:
        return LOCAL if name in self.stalled else None

    def _is_stopped(self, route: Route) -> bool:
        assert route == LOCAL
        return self.stopped

    def add(self, *names: str) -> None:
        for name in names:
            self.turns.add(self.sessions[name])

    def taken(self) -> list[str]:
        """Take every turn there is."""
        names = []
        while (unit := self.turns.next()) is not None:
            names.append(unit.name)
        return names


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_folders_take_turns_and_within_one_it_goes_in_order(yard: Yard) -> None:
    yard.add("orchard/b", "orchard/a", "garden/d", "orchard/c", "garden/e", "orchard/b")
    assert len(yard.turns) == 5
    assert yard.taken() == ["orchard/b", "garden/d", "orchard/a", "garden/e", "orchard/c"]
    assert len(yard.turns) == 0


def test_one_that_is_not_read_to_its_end_goes_on_before_what_waits_in_its_folder(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b", "garden/d")
    unit = yard.turns.next()
    assert unit is not None
    yard.turns.resume(unit)
    assert unit in yard.turns
    assert yard.sessions["orchard/c"] not in yard.turns
    assert yard.taken() == ["garden/d", "orchard/a", "orchard/b"]


def test_one_that_is_gone_has_no_turn(yard: Yard) -> None:
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


def test_behind_one_without_room_those_of_its_folder_wait_that_were_never_looked_at(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b", "orchard/c", "garden/d")
    yard.stalled.add("orchard/a")
    yard.seen.add("orchard/c")
    assert yard.taken() == ["orchard/c", "garden/d"]
    assert yard.turns.names == {"orchard/a", "orchard/b"}
    yard.stalled.clear()
    assert yard.taken() == ["orchard/a", "orchard/b"]


def test_behind_one_whose_route_is_stopped_nobody_waits(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b")
    yard.stalled.add("orchard/a")
    yard.stopped = True
    assert yard.taken() == ["orchard/b"]


def test_behind_one_whose_route_is_full_those_wait_for_it_that_are_of_its_folder(yard: Yard) -> None:
    yard.stalled.add("orchard/a")
    yard.active.add("orchard/c")
    assert [unit.name for unit in yard.turns.readable(yard.sessions.values())] == ["orchard/c", "garden/d", "garden/e"]


def test_who_waits_no_longer_has_no_turn(yard: Yard) -> None:
    yard.add("orchard/a", "garden/d")
    yard.turns.clear()
    assert len(yard.turns) == 0
    assert yard.taken() == []


class Sorting:
    """Puts sessions in the opposite order, and notes which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def __call__(self, units: Sequence[SessionFiles]) -> Sequence[SessionFiles]:
        self.asked.append([unit.name for unit in units])
        return units[::-1]


async def test_what_was_found_at_once_is_sorted_once_in_each_folder(yard: Yard) -> None:
    sorting = Sorting()
    yard.add(*yard.sessions)
    yard.turns.note_found(yard.sessions.values())
    await yard.turns.sort(sorting)
    await yard.turns.sort(sorting)
    assert sorted(sorting.asked) == [["garden/d", "garden/e"], ["orchard/a", "orchard/b", "orchard/c"]]
    assert yard.taken() == ["orchard/c", "garden/e", "orchard/b", "garden/d", "orchard/a"]


async def test_what_was_found_beside_sessions_that_are_being_read_needs_no_order(yard: Yard) -> None:
    sorting = Sorting()
    yard.active.add("orchard/c")
    names = ("orchard/c", "orchard/a", "garden/d")
    yard.add(*names)
    yard.turns.note_found([yard.sessions[name] for name in names])
    await yard.turns.sort(sorting)
    assert sorting.asked == []


async def test_what_is_being_read_comes_first_and_what_a_hint_brings_meanwhile_last(yard: Yard) -> None:
    async def backwards(units: Sequence[SessionFiles]) -> Sequence[SessionFiles]:
        assert [unit.name for unit in units] == ["orchard/a", "orchard/b"]
        yard.add("orchard/late")
        return units[::-1]

    yard.sessions["orchard/late"] = SessionFiles(name="orchard/late", folder="/logs/orchard", agent=CLAUDE_CODE)
    yard.active.add("orchard/c")
    yard.add("orchard/a", "orchard/b", "orchard/c")
    yard.turns.note_found([yard.sessions["orchard/a"], yard.sessions["orchard/b"]])
    await yard.turns.sort(backwards)
    assert yard.taken() == ["orchard/c", "orchard/b", "orchard/a", "orchard/late"]


async def test_those_that_are_gone_or_do_not_wait_are_not_sorted(yard: Yard) -> None:
    sorting = Sorting()
    yard.turns.note_found(yard.sessions.values())
    yard.add("orchard/a", "orchard/b", "orchard/c")
    del yard.sessions["orchard/b"]
    await yard.turns.sort(sorting)
    assert sorting.asked == [["orchard/a", "orchard/c"]]
    assert yard.taken() == ["orchard/c", "orchard/a"]
