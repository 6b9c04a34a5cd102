from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.timestamps import milliseconds


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("2026-03-02T09:00:00.100Z", 1772442000100),
        ("2026-03-02T09:00:00.999Z", 1772442000999),
        ("2026-03-02T09:00:00Z", 1772442000000),
        ("2026-03-02T09:00:00", 1772442000000),
        ("2026-03-02T10:00:00.100+01:00", 1772442000100),
        ("2026-03-02T09:00:00.100999Z", 1772442000100),
        ("1969-12-31T23:59:59.999Z", -1),
        ("", None),
        (None, None),
        ("yesterday", None),
        ("2026-13-02T09:00:00Z", None),
        ("1772442000", None),
    ],
)
def test_times(timestamp: str | None, expected: int | None) -> None:
    assert milliseconds(timestamp) == expected


@given(st.datetimes(timezones=st.just(UTC)))
def test_no_millisecond_is_rounded_to_its_neighbour(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    at = milliseconds(moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))

    assert at is not None
    assert at % 1000 == moment.microsecond // 1000
