from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.events import CaptureEvent
from llma_core.trace_tree import Node, build, short_id, time_of
from llma_core.view import EventView, read
from tests.support.sample_events import generation, opening, span, trace


def views(*events: CaptureEvent) -> list[EventView]:
    return [read(event.body) for event in events]


def shape(nodes: Iterable[Node]) -> list[object]:
    return [[node.event.span_id, *shape(node.children)] for node in nodes]


def test_operations_are_placed_under_their_parents_in_the_order_of_their_starts() -> None:
    events = views(
        generation("late", at=20, latency=2),
        # Ended last and was started first: a call's event carries the time of its result.
        span("agent-call", "Agent", parent="first", at=15, latency=12),
        span("read-call", "Read", parent="first", at=4, latency=0.5),
        generation("inner-2", parent="agent-call", at=14, latency=2),
        generation("inner-1", parent="agent-call", at=6, latency=2),
        span("deep-call", "Agent", parent="inner-1", at=12, latency=5),
        generation("deepest", parent="deep-call", at=10, latency=1),
        trace(at=3),
        generation("first", at=3, latency=3),
    )
    arranged = build("trace-1", events)
    assert shape(arranged.roots) == [
        [
            "first",
            ["agent-call", ["inner-1", ["deep-call", ["deepest"]]], ["inner-2"]],
            ["read-call"],
        ],
        ["late"],
    ]
    assert arranged.seconds == 20.0
    assert arranged.name == "Count the files"
    assert arranged.project == "sample-project"


@pytest.mark.parametrize("ended", [False, True])
def test_an_opening_trace_names_a_trace_and_is_neither_its_end_nor_an_operation(*, ended: bool) -> None:
    events = views(opening("Count"), generation("a", at=2), *([trace("Count all", at=2)] if ended else []))
    arranged = build("trace-1", events)
    assert shape(arranged.roots) == [["a"]]
    assert (arranged.event is not None) is ended
    assert arranged.name == ("Count all" if ended else "Count")
    assert arranged.totals.generations == 1
    assert arranged.opening is not None
    assert arranged.opening.is_open


def test_an_operation_without_a_parent_in_the_trace_is_a_root() -> None:
    arranged = build("trace-1", views(generation("g", parent="not-here"), span("s", "Read", parent="gone", at=1)))
    assert shape(arranged.roots) == [["g"], ["s"]]
    assert arranged.name == "trace trace-1"
    assert arranged.event is None


def test_a_cycle_of_parents_is_cut_and_no_operation_is_left_out() -> None:
    arranged = build(
        "trace-1",
        views(generation("a", parent="c", at=1), generation("b", parent="a", at=2), generation("c", parent="b", at=3)),
    )
    assert shape(arranged.roots) == [["a", ["b", ["c"]]]]
    assert shape(build("trace-1", views(generation("self", parent="self"))).roots) == [["self"]]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=12))
def test_every_operation_is_in_the_tree_once(links: list[tuple[int, int]]) -> None:
    """This holds for duplicate ids, operations that are their own parent, cycles and missing parents."""
    events = [generation(str(own), parent=str(parent), at=at) for at, (own, parent) in enumerate(links)]

    def count(nodes: Iterable[Node]) -> int:
        return sum(1 + count(node.children) for node in nodes)

    assert count(build("trace-1", views(*events)).roots) == len(events)


def test_totals_sum_generations_and_leave_unknown_counts_unknown() -> None:
    totals = build(
        "trace-1",
        views(
            generation("a", tokens=(100, 10), cache=(1000, 0)),
            generation("b", tokens=(20, 2)),
            generation("c", tokens=None, model=None, error=("overloaded_error", "Overloaded")),
            span("d", "Bash", parent="a", status="error", error="Exit code 1"),
            span("e", "Agent", parent="a"),
            trace(),
        ),
    ).totals
    assert (totals.generations, totals.tool_calls, totals.errors) == (2, 2, 2)
    assert (totals.input_tokens, totals.output_tokens) == (120, 12)
    assert (totals.cache_read_tokens, totals.cache_write_tokens) == (1000, 0)
    nothing = build("trace-1", views(generation("c", tokens=None))).totals
    assert nothing.input_tokens is nothing.cache_read_tokens is None


def test_an_event_without_a_valid_time_comes_last() -> None:
    odd = CaptureEvent(name="x", uuid="u", identity="i", body=generation("odd").body.replace(b"2026-11-20T", b"never "))
    assert shape(build("trace-1", views(odd, generation("g"))).roots) == [["g"], ["odd"]]


@pytest.mark.parametrize("timestamp", ["2026-11-20T10:00:00Z", "2026-11-20T10:00:00", "2026-11-20T19:00:00+09:00"])
def test_a_time_without_a_zone_is_utc(timestamp: str) -> None:
    assert time_of(timestamp) == datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize("timestamp", ["", "never", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_gives_none(timestamp: str) -> None:
    assert time_of(timestamp) is None


def test_ids_that_were_made_in_the_same_minute_are_told_apart() -> None:
    recorded = ["01a22d49-1100-7e3a-9d9e-de996302201f", "01a22d49-1194-7921-a737-192047e39e91"]
    assert [short_id(each) for each in recorded] == ["01a22d49-1100", "01a22d49-1194"]
    assert [short_id(each) for each in ("0f6b1d1c-9f3e-4d0a-8f0b-6d8f3b1c2a7e", "review-1")] == ["0f6b1d1c", "review-1"]
