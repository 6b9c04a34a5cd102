from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivering.retry import Backoff, RetryPolicy, parse_retry_after, retry_delay

# Tue, 06 Jan 2026 08:00:00 GMT
NOW = 1_767_686_400.0


@pytest.mark.parametrize(("attempt", "longest"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (10**9, 60)])
def test_waits_double_up_to_the_cap(attempt: int, longest: float) -> None:
    assert retry_delay(RetryPolicy(), attempt, retry_after=None, draw=0.0) == longest / 2
    assert retry_delay(RetryPolicy(), attempt, retry_after=None, draw=0.999) == pytest.approx(longest, rel=0.001)


def test_retry_after_is_a_minimum() -> None:
    assert retry_delay(RetryPolicy(), 1, retry_after=30, draw=0.5) == 30
    assert retry_delay(RetryPolicy(), 7, retry_after=3, draw=0.5) == 45


def test_retry_after_is_clamped() -> None:
    assert retry_delay(RetryPolicy(), 1, retry_after=86_400, draw=0.5) == 300
    assert retry_delay(RetryPolicy(), 1, retry_after=math.inf, draw=0.5) == 300


@given(
    attempt=st.integers(1, 10**6),
    retry_after=st.none() | st.floats(0, 1e12),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_always_bounded(attempt: int, retry_after: float | None, draw: float) -> None:
    wait = retry_delay(RetryPolicy(), attempt, retry_after=retry_after, draw=draw)
    assert min(retry_after or 0, 300) <= wait <= 300
    assert wait >= 0.5


@pytest.mark.parametrize(
    ("changes"),
    [
        {"base": -1},
        {"base": 2, "cap": 1},
        {"cap": math.inf},
        {"retry_after_cap": -1},
        {"stop_base": 9_999},
        {"stop_cap": math.inf},
    ],
)
def test_a_policy_that_is_none_cannot_be_built(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        RetryPolicy(**changes)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("9" * 5000, math.inf),
        ("Tue, 06 Jan 2026 08:01:30 GMT", 90),
        ("Tue, 06 Jan 2026 08:01:30 -0000", 90),
        ("Tue, 06 Jan 2026 07:00:00 GMT", 0),
        ("Tue, 06 Jan 99999 08:00:00 GMT", None),
        ("-5", None),
        ("1.5", None),
        ("nan", None),
        ("١٢", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text())
def test_no_retry_after_makes_the_parser_fail(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or seconds >= 0


def test_requests_that_fail_together_are_one_failure() -> None:
    backoff = Backoff(RetryPolicy())
    started = backoff.epoch
    assert backoff.failed(started, retry_after=None, now=100, draw=0)
    assert not backoff.failed(started, retry_after=None, now=100, draw=0)
    assert (backoff.attempt, backoff.until) == (1, 100.5)


def test_the_later_of_two_failures_may_ask_for_more_quiet() -> None:
    backoff = Backoff(RetryPolicy())
    started = backoff.epoch
    backoff.failed(started, retry_after=None, now=100, draw=0)
    backoff.failed(started, retry_after=1000, now=100, draw=0)
    assert (backoff.attempt, backoff.until) == (1, 400)


def test_an_answer_to_an_older_request_does_not_end_the_quiet() -> None:
    backoff = Backoff(RetryPolicy())
    started = backoff.epoch
    backoff.failed(started, retry_after=60, now=100, draw=0)
    assert not backoff.answered(started, accepted=True)
    assert (backoff.attempt, backoff.blocked) == (1, True)
    assert backoff.answered(backoff.epoch, accepted=True)
    assert (backoff.attempt, backoff.blocked) == (0, False)


def test_a_failure_of_an_older_request_after_recovery_counts() -> None:
    backoff = Backoff(RetryPolicy())
    started = backoff.epoch
    backoff.failed(started, retry_after=None, now=100, draw=0)
    backoff.answered(backoff.epoch, accepted=True)
    backoff.failed(started, retry_after=None, now=200, draw=0)
    assert (backoff.attempt, backoff.until) == (1, 200.5)


def test_a_receiver_that_stopped_is_asked_after_a_minute_then_ever_more_rarely() -> None:
    backoff, waits = Backoff(RetryPolicy()), []
    for _ in range(9):
        backoff.stopped(100)
        waits.append(backoff.until - 100)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_only_an_accepted_request_makes_stops_begin_anew() -> None:
    backoff = Backoff(RetryPolicy())
    backoff.stopped(100)
    assert backoff.answered(backoff.epoch, accepted=False)
    backoff.stopped(100)
    assert backoff.until == 220
    assert backoff.answered(backoff.epoch, accepted=True)
    backoff.stopped(100)
    assert backoff.until == 160


def test_a_failure_of_an_older_request_does_not_move_the_end_of_a_stop() -> None:
    backoff = Backoff(RetryPolicy())
    started = backoff.epoch
    backoff.stopped(100)
    assert not backoff.failed(started, retry_after=300, now=100, draw=0)
    assert (backoff.until, backoff.attempt) == (160, 0)
