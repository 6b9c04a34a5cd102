from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.delivering.batcher import CROWD, Batch, Batcher, BatchLimits, Flight, Piece
from llma_core.events import CaptureEvent


def event(number: int, size: int = 10) -> CaptureEvent:
    return CaptureEvent(name="$ai_span", uuid=f"u{number}", identity=f"i{number}", body=b"x" * size)


def events(*sizes: int) -> list[CaptureEvent]:
    return [event(number, size) for number, size in enumerate(sizes)]


def taken(batcher: Batcher, now: float) -> list[list[str]]:
    batches = []
    while (batch := batcher.take(now)) is not None:
        batches.append([each.uuid for each in batch.events])
    return batches


def test_nothing_held_is_never_due() -> None:
    batcher = Batcher(BatchLimits())
    assert (batcher.due_at, batcher.oldest, batcher.take(math.inf), len(batcher), batcher.size) == (
        None,
        None,
        None,
        0,
        0,
    )


def test_an_event_waits_for_company() -> None:
    batcher = Batcher(BatchLimits(linger=2))
    assert not batcher.add(event(0), 100)
    assert not batcher.add(event(1), 101.5)
    assert (batcher.due_at, batcher.oldest) == (102, 100)
    assert batcher.take(101.9) is None
    assert batcher.take(102) == Batch(events=(event(0), event(1)), size=20, since=100)
    assert batcher.due_at is None


def test_a_full_batch_does_not_wait() -> None:
    batcher = Batcher(BatchLimits(count=2, linger=1000))
    assert not batcher.add(event(0), 100)
    assert batcher.add(event(1), 100)
    batcher.add(event(2), 100)
    assert taken(batcher, 100) == [["u0", "u1"]]
    assert len(batcher) == 1


def test_an_event_that_does_not_fit_starts_the_next_batch() -> None:
    batcher = Batcher(BatchLimits(bytes=100, linger=0))
    for each in events(60, 40, 1, 99, 1):
        batcher.add(each, 0)
    assert taken(batcher, 0) == [["u0", "u1"], ["u2", "u3"], ["u4"]]


def test_one_event_over_the_limit_is_sent_alone() -> None:
    batcher = Batcher(BatchLimits(bytes=100, linger=0))
    for each in events(10, 500, 10):
        batcher.add(each, 0)
    assert taken(batcher, 0) == [["u0"], ["u1"], ["u2"]]


def test_nothing_lingers_at_the_end_of_time() -> None:
    batcher = Batcher(BatchLimits(linger=1000))
    batcher.add(event(0), 5)
    assert taken(batcher, math.inf) == [["u0"]]


@given(
    sizes=st.lists(st.integers(1, 120)),
    bulk=st.sets(st.integers(0, 20)),
    count=st.integers(1, 5),
    count_bulk=st.integers(1, 10),
    limit=st.integers(1, 100),
    takes=st.lists(st.booleans()),
)
def test_batches_keep_order_and_limits(
    sizes: Sequence[int], bulk: set[int], count: int, count_bulk: int, limit: int, takes: Sequence[bool]
) -> None:
    batcher = Batcher(BatchLimits(count=count, bytes=limit, count_bulk=count_bulk, linger=3))
    put = events(*sizes)
    in_bulk = {each.uuid for number, each in enumerate(put) if number in bulk}
    got: list[CaptureEvent] = []
    batches = []
    for now, each in enumerate(put):
        batcher.add(each, now, bulk=each.uuid in in_bulk)
        if now < len(takes) and takes[now] and (batch := batcher.take(now)) is not None:
            batches.append(batch)
            got += batch.events
        assert len(batcher) == now + 1 - len(got)
        assert batcher.size == sum(sizes[: now + 1]) - sum(len(one.body) for one in got)
    while (batch := batcher.take(math.inf)) is not None:
        batches.append(batch)
        got += batch.events
    assert got == put
    for batch in batches:
        assert batch.size == sum(len(each.body) for each in batch.events)
        assert len(batch.events) <= (count_bulk if all(each.uuid in in_bulk for each in batch.events) else count)
        assert batch.size <= limit or len(batch.events) == 1


def test_more_events_go_together_in_bulk() -> None:
    batcher = Batcher(BatchLimits(count=2, count_bulk=4, bytes_bulk=100))
    first, *rest = events(10, 10, 10, 10, 60, 40, 10, 10, 10, 10, 10)
    assert not batcher.add(first, 0, old=True, bulk=True)
    assert [batcher.add(each, 0, old=True, bulk=True) for each in rest[:3]] == [False, False, True]
    assert taken(batcher, 0) == [["u0", "u1", "u2", "u3"]]
    assert [batcher.add(each, 0, old=True, bulk=True) for each in rest[3:5]] == [False, True]
    assert taken(batcher, 0) == [["u4", "u5"]]
    # Another event joins no batch that is too large for it, and lets no more bulk join its own.
    assert [batcher.add(each, 0, old=True, bulk=True) for each in rest[5:8]] == [False, False, False]
    assert batcher.add(rest[8], 0, old=True)
    assert batcher.add(rest[9], 0, old=True, bulk=True)
    assert taken(batcher, 0) == [["u6", "u7", "u8"], ["u9", "u10"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 0},
        {"bytes": 0},
        {"count_bulk": 0},
        {"bytes_bulk": 0},
        {"linger": -1.0},
        {"linger": math.nan},
        {"linger_old": -1.0},
    ],
)
def test_limits_that_let_nothing_through_cannot_be_built(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        BatchLimits(**changes)  # type: ignore[arg-type]


def test_halving_keeps_the_order() -> None:
    flight = Flight.of(Batch(events=tuple(events(1, 2, 3, 4, 5)), size=15, since=0, first=7))
    flight.halve()
    flight.halve()
    assert [[each.uuid for each in piece.events] for piece in flight.pieces] == [["u0"], ["u1"], ["u2", "u3", "u4"]]
    assert (flight.count, flight.size, flight.first) == (5, 15, 7)


def test_a_piece_within_the_limit_is_left_as_it_is() -> None:
    piece = Piece.of(events(10, 20))
    before = piece.events
    piece.fit(20)
    assert piece.events is before
    assert piece.size == 30


def test_a_crowd_waits_while_more_keep_coming_but_not_for_long() -> None:
    batcher = Batcher(BatchLimits(linger=2, patience=5))
    for number in range(CROWD - 1):
        batcher.add(event(number), 100 + number / CROWD)
    assert batcher.due_at == 102
    batcher.add(event(CROWD), 101.5)
    assert batcher.due_at == 103.5
    assert batcher.take(103.4) is None
    batcher.add(event(CROWD + 1), 103.4)
    assert batcher.due_at == 105
    batch = batcher.take(105)
    assert batch is not None
    assert len(batch.events) == CROWD + 1


def test_a_crowd_waits_no_shorter_than_others() -> None:
    batcher = Batcher(BatchLimits(linger=2, patience=0))
    for number in range(CROWD):
        batcher.add(event(number), 100)
    assert batcher.due_at == 102


def test_old_events_wait_longer_until_a_new_one_joins_them() -> None:
    batcher = Batcher(BatchLimits(count=3, linger=2, linger_old=60))
    batcher.add(event(0), 100, old=True)
    batcher.add(event(1), 110, old=True)
    assert batcher.due_at == 160
    assert batcher.add(event(2), 111, old=True)
    assert taken(batcher, 111) == [["u0", "u1", "u2"]]
    batcher.add(event(3), 200, old=True)
    batcher.add(event(4), 201)
    assert batcher.due_at == 202
    assert taken(batcher, 202) == [["u3", "u4"]]
    batcher.add(event(5), 300, old=True)
    assert batcher.due_at == 360
