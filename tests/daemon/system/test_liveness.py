from __future__ import annotations

import pytest

from daemon.system.liveness import Liveness


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_overdue_operation_is_named_until_it_ends() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    with liveness.doing("reading", 10):
        clock.now = 10
        assert liveness.overdue() is None
        clock.now = 11
        assert liveness.overdue() == "reading"
    assert liveness.overdue() is None


def test_the_longest_overdue_is_named_first() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    with liveness.doing("storing", 20), liveness.doing("reading", 10), liveness.doing("storing", 5):
        clock.now = 15
        assert liveness.overdue() == "storing"
        clock.now = 5
        assert liveness.overdue() is None


def test_a_failed_operation_is_not_overdue() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    with pytest.raises(OSError, match="gone"), liveness.doing("reading", 1):
        raise OSError("gone")
    clock.now = 9
    assert liveness.overdue() is None
