"""The clock by which quiet makes something final."""

from __future__ import annotations

import pytest

from daemon.system.running_clock import RunningClock


class Steady:
    """A machine's steady clock, set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_it_goes_as_the_steady_clock_does_while_somebody_looks_in_time() -> None:
    steady = Steady()
    clock = RunningClock(1.0, steady)
    for gap in (0.0, 0.3, 1.0, 1.4):
        steady.at += gap
        assert clock.now() == steady.at
    assert clock.steady(200.0) == 200.0


@pytest.mark.parametrize("gap", [2.0, 36_000.0])
def test_a_gap_counts_for_a_tenth_of_what_was_planned(gap: float) -> None:
    steady = Steady()
    clock = RunningClock(1.0, steady)
    steady.at += gap
    assert clock.now() == pytest.approx(100.1)
    assert clock.now() == pytest.approx(100.1)
    assert clock.steady(101.1) == pytest.approx(steady.at + 1.0)
    steady.at += 1.0
    assert clock.now() == pytest.approx(101.1)


def test_a_longer_pause_that_is_planned_counts() -> None:
    steady = Steady()
    clock = RunningClock(0.0, steady)
    clock.pause = 10.0
    steady.at += 10.0
    assert clock.now() == 110.0


def test_on_a_machine_that_is_always_late_time_goes_on() -> None:
    steady = Steady()
    clock = RunningClock(1.0, steady)
    for _ in range(20):
        steady.at += 5.0
        clock.now()
    assert clock.now() == pytest.approx(102.0)
