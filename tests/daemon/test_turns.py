"""Whose turn it is to be read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from daemon.catalog import Unit
from daemon.routing import LOCAL, Route
from daemon.turns import Turns


class Yard:
    """Sessions in two folders, and what holds them up."""

    def __init__(self) -> None:
        self.units = {
            name: Unit(name=name, folder=f"/logs/{name.partition('/')[0]}", main=f"/logs/{name}.jsonl")
            for name in ("orchard/a", "orchard/b", "orchard/c", "garden/d", "garden/e")
        }
        self.active: set[str] = set()
        self.seen: set[str] = set()
        self.stalled: set[str] = set()
        self.stopped = False
        self.turns = Turns(
            self.units, active=self.active, seen=self.seen, stalled_on=self._stalled_on, is_stopped=self._is_stopped
        )

    def _stalled_on(self, name: str) -> Route | None:
        return LOCAL if name in self.stalled else None

    def _is_stopped(self, route: Route) -> bool:
        assert route == LOCAL
        return self.stopped

    def add(self, *names: str) -> None:
        for name in names:
            self.turns.add(self.units[name])

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
    assert yard.taken() == ["garden/d", "orchard/a", "orchard/b"]


def test_one_that_is_gone_has_no_turn(yard: Yard) -> None:
    yard.add("orchard/a", "orchard/b")
    del yard.units["orchard/a"]
    assert yard.taken() == ["orchard/b"]


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


async def test_what_was_found_at_once_is_sorted_behind_what_is_being_read(yard: Yard) -> None:
    asked: list[list[str]] = []

    async def backwards(units: Sequence[Unit]) -> Sequence[Unit]:
        asked.append([unit.name for unit in units])
        # Hints come while it is found out.
        yard.add("orchard/b")
        return units[::-1]

    yard.active.add("orchard/c")
    found = [yard.units[name] for name in ("orchard/a", "orchard/c", "garden/d")]
    yard.turns.note_found(found)
    await yard.turns.sort(backwards)
    assert asked == [], "of no folder was more than one found"

    del yard.units["orchard/b"]
    yard.units["orchard/b"] = Unit(name="orchard/b", folder="/logs/orchard")
    yard.add("orchard/a", "orchard/c", "garden/d")
    yard.add("garden/e")
    yard.turns.note_found([yard.units["garden/d"], yard.units["garden/e"]])
    await yard.turns.sort(backwards)
    assert asked == [["garden/d", "garden/e"]]
    await yard.turns.sort(backwards)
    assert len(asked) == 1, "it is sorted once"
    assert yard.taken() == ["orchard/a", "garden/e", "orchard/c", "garden/d", "orchard/b"]
