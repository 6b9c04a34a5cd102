"""An offset never passes a line on which an unsettled event rests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.reading.ledger import Ledger
from llma_core.spans import LineRange

FILE = "a.jsonl"


def ends(*offsets: int) -> list[tuple[int, bytes]]:
    return [(offset, b"before %d" % offset) for offset in offsets]


def lines(start: int, end: int, file: str = FILE) -> LineRange:
    return LineRange(file=file, start=start, end=end)


def opened(offsets: Iterable[int], committed: int = 0) -> Ledger:
    ledger = Ledger()
    ledger.open(FILE, committed, b"tail")
    ledger.read(FILE, ends(*offsets))
    return ledger


def test_lines_on_which_nothing_rests_are_settled_when_read() -> None:
    ledger = opened([10, 20, 30])
    assert ledger.offset(FILE) == (30, b"before 30")
    assert ledger.committed(FILE) == 30


def test_before_anything_is_read_the_offset_is_unchanged() -> None:
    assert opened([], committed=40).offset(FILE) == (40, b"tail")


def test_lines_before_the_committed_offset_are_ignored() -> None:
    ledger = opened([10, 20, 30], committed=20)
    assert ledger.committed(FILE) == 20
    assert ledger.offset(FILE) == (30, b"before 30")


def test_the_offset_stops_before_the_first_line_of_an_open_event() -> None:
    ledger = opened([10, 20, 30, 40])
    ledger.register("gen|1", lines(10, 30))
    assert ledger.offset(FILE) == (10, b"before 10")
    assert ledger.waiting == 1
    assert ledger.settle("gen|1") == [FILE]
    assert ledger.offset(FILE) == (40, b"before 40")
    assert ledger.waiting == 0


def test_a_later_event_that_is_settled_first_does_not_move_the_offset_past_an_earlier_one() -> None:
    ledger = opened([10, 20, 30])
    ledger.register("gen|1", lines(0, 10))
    ledger.register("gen|2", lines(10, 20))
    ledger.settle("gen|2")
    assert ledger.offset(FILE)[0] == 0
    ledger.settle("gen|1")
    assert ledger.offset(FILE)[0] == 30


def test_the_offset_stops_before_a_line_that_the_accumulator_needs() -> None:
    ledger = opened([10, 20, 30])
    ledger.need(FILE, 10)
    assert ledger.offset(FILE)[0] == 10
    ledger.need(FILE, None)
    assert ledger.offset(FILE)[0] == 30


def test_an_offset_is_always_the_end_of_a_line() -> None:
    ledger = opened([10, 20, 30])
    ledger.need(FILE, 15)
    assert ledger.offset(FILE)[0] == 10


def test_files_do_not_block_each_other() -> None:
    ledger = opened([10, 20])
    ledger.open("b.jsonl", 0)
    ledger.read("b.jsonl", ends(5, 15))
    ledger.register("gen|1", lines(0, 10))
    ledger.register("gen|2", lines(5, 15, "b.jsonl"))
    assert ledger.settle("gen|1") == [FILE]
    assert ledger.offset(FILE)[0] == 20
    assert ledger.offset("b.jsonl")[0] == 5


def test_settling_an_event_that_rests_on_no_line_returns_none() -> None:
    ledger = opened([10])
    assert ledger.settle("trace|s|1") == ()


def test_opening_a_file_again_forgets_the_events_that_rested_on_it() -> None:
    ledger = opened([10, 20])
    ledger.register("gen|1", lines(0, 10))
    ledger.open(FILE, 0)
    assert ledger.waiting == 0
    assert ledger.settle("gen|1") == ()
    ledger.read(FILE, ends(10))
    assert ledger.offset(FILE)[0] == 10


def test_an_event_can_be_registered_again_after_its_file_is_opened_again() -> None:
    ledger = opened([10, 20])
    ledger.register("gen|1", lines(0, 10))
    ledger.open(FILE, 0)
    ledger.read(FILE, ends(10, 20))
    ledger.register("gen|1", lines(0, 10))
    assert ledger.offset(FILE)[0] == 0
    assert ledger.settle("gen|1") == [FILE]
    assert ledger.offset(FILE)[0] == 20


def test_a_closed_file_is_unknown() -> None:
    ledger = opened([10])
    ledger.register("gen|1", lines(0, 10))
    assert FILE in ledger
    ledger.close(FILE)
    assert FILE not in ledger
    assert ledger.waiting == 0
    with pytest.raises(KeyError):
        ledger.offset(FILE)


@given(data=st.data(), count=st.integers(1, 12))
def test_in_any_order_of_settling_no_offset_passes_an_open_event_and_all_are_passed_in_the_end(
    data: st.DataObject, count: int
) -> None:
    """Lines have 10 bytes. Events rest on any of them and are settled in any order."""
    ledger = opened(range(10, 10 * count + 1, 10))
    starts = st.integers(0, count - 1)
    resting: dict[str, tuple[int, int]] = {}
    for number, (one, other) in enumerate(data.draw(st.lists(st.tuples(starts, starts), max_size=8), label="events")):
        first, last = min(one, other), max(one, other)
        resting[f"gen|{number}"] = first * 10, last * 10 + 10
        ledger.register(f"gen|{number}", lines(first * 10, last * 10 + 10))
    before = 0
    for identity in data.draw(st.permutations(list(resting)), label="order"):
        offset, _ = ledger.offset(FILE)
        assert offset == min(start for start, _ in resting.values())
        assert offset >= before
        before = offset
        ledger.settle(identity)
        del resting[identity]
    assert ledger.offset(FILE)[0] == 10 * count
