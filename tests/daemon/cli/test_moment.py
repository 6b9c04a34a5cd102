from __future__ import annotations

import time
from datetime import datetime

import click
import pytest

from daemon.cli.moment import Moment


def read(text: str, *, end_of_day: bool = False) -> float:
    return Moment(end_of_day=end_of_day).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_a_relative_time(text: str, seconds: int) -> None:
    before = time.time()
    moment = read(text)
    # Days on which clocks change are not 24 hours long.
    assert abs(moment - (before - seconds)) < (5 if seconds < 86_400 else 7205)


def test_a_date_is_its_start_or_end_in_local_time() -> None:
    assert read("2026-11-20") == datetime(2026, 11, 20).timestamp()  # noqa: DTZ001 - local time is meant
    assert read("2026-11-20", end_of_day=True) == datetime(2026, 11, 21).timestamp()  # noqa: DTZ001 - as above
    assert read(" 2026-11-20T14:00 ", end_of_day=True) == datetime(2026, 11, 20, 14).timestamp()  # noqa: DTZ001 - as above
    assert read("2026-11-20T14:00Z") == 1795183200.0


@pytest.mark.parametrize("text", ["", "soon", "10", "-5m", "1y", "9999999d", "\uff19m", "2026-13-01", "999999w"])
def test_the_error_for_an_invalid_time_shows_valid_ones(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 2026-11-20, 2026-11-20T14:00, or 10m, 2h, 7d for a time ago"):
        read(text)
