"""The schedule of sweeps: which kind is due, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.following.cadence import Cadence
from daemon.following.log_roots import roots_at
from daemon.following.schedule import SweepSchedule
from daemon.following.watcher import Watcher

CADENCE = Cadence(hot_sweep=10.0, full_sweep=25.0)
WALL = 1_700_000_000.0


@pytest.fixture
def schedule() -> SweepSchedule:
    return SweepSchedule(CADENCE, 0.0, WALL)


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    """A watcher that was never started: it has nothing to repair and loses nothing."""
    return Watcher(roots_at(tmp_path), lambda _path: None, lambda: None)


def test_sweeps_are_hot_until_a_full_one_is_due(schedule: SweepSchedule, watcher: Watcher) -> None:
    due = {
        now: kind
        for now in range(1, 70)
        if (kind := schedule.due(float(now), WALL + now, watcher, overflow=False)) is not None
    }

    assert due == {10: "hot", 20: "hot", 30: "full", 40: "hot", 50: "hot", 60: "full"}
    assert schedule.next_at == 70.0


def test_lost_hints_make_a_full_sweep_due_at_once(schedule: SweepSchedule, watcher: Watcher) -> None:
    assert schedule.due(1.0, WALL + 1, watcher, overflow=True) == "full"
    assert schedule.due(2.0, WALL + 2, watcher, overflow=False) is None
    assert schedule.next_at == 11.0


@pytest.mark.parametrize("jump", [11.0, -11.0])
def test_a_wall_clock_that_jumped_makes_a_full_sweep_due_once(
    schedule: SweepSchedule, watcher: Watcher, jump: float
) -> None:
    assert schedule.due(1.0, WALL + 1 + jump, watcher, overflow=False) == "full"
    assert schedule.due(2.0, WALL + 2 + jump, watcher, overflow=False) is None


def test_a_wall_clock_that_was_set_slightly_changes_nothing(schedule: SweepSchedule, watcher: Watcher) -> None:
    assert schedule.due(1.0, WALL + 10, watcher, overflow=False) is None


def test_a_repaired_watcher_makes_the_next_sweep_a_full_one(schedule: SweepSchedule, tmp_path: Path) -> None:
    root = tmp_path / "projects"
    watcher = Watcher(roots_at(root), lambda _path: None, lambda: None)
    watcher.start()
    try:
        root.mkdir()
        assert schedule.due(5.0, WALL + 5, watcher, overflow=False) is None
        assert not watcher.healthy()
        assert schedule.due(10.0, WALL + 10, watcher, overflow=False) == "full"
        assert watcher.healthy()
    finally:
        watcher.stop()
