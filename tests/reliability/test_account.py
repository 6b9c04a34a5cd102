"""The crash harness recognizes events that were lost, extra, different or sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.reliability.account import BARRIER, Arrival, End, arrivals, balance, refusals

EXPECTED = {"a": '{"uuid":"a"}', "b": '{"uuid":"b"}'}
ENDS: Sequence[End] = ("killed", "clean", "cut short", "clean")


def arrival(uuid: str, life: int = 1, *, body: str | None = None, answer_lost: bool = False) -> Arrival:
    return Arrival(uuid=uuid, body=body or EXPECTED.get(uuid, "{}"), life=life, answer_lost=answer_lost)


def request(connection: int, *uuids: str, status: int = 200, lost: bool = False) -> dict[str, Any]:
    events = [{"uuid": uuid} for uuid in uuids]
    return {"connection": connection, "path": "/batch/", "status": status, "lost": lost, "events": events}


def barrier(connection: int) -> dict[str, Any]:
    return {"connection": connection, "path": BARRIER, "status": 404, "lost": False, "events": []}


def test_events_that_arrived_once_as_expected_are_no_fault() -> None:
    account = balance(EXPECTED, [arrival("a"), arrival("b")], ENDS)
    assert (account.expected, account.accepted, account.faults(0)) == (2, 2, [])


def test_lost_extra_and_different_events_are_found() -> None:
    account = balance(EXPECTED, [arrival("a", body='{"uuid":"a" }'), arrival("c")], ENDS)
    assert (account.lost, account.extra, account.different) == (["b"], ["c"], ["a"])
    assert len(account.faults(100)) == 3


@pytest.mark.parametrize("wrong", [0, 1])
def test_each_arrival_of_an_event_is_compared(wrong: int) -> None:
    each = [arrival("a", 0), arrival("a", 1)]
    each[wrong] = arrival("a", wrong, body="{}")
    assert balance(EXPECTED, [*each, arrival("b")], ENDS).different == ["a"]


def test_an_event_sent_again_is_attributed_to_the_life_that_did_not_note_it() -> None:
    account = balance(EXPECTED, [arrival("a", 0), arrival("b", 0), arrival("a", 3), arrival("b", 1)], ENDS)
    assert account.again_after_life == {0: 2}
    assert (account.faults(2), len(account.faults(1))) == ([], 1)


def test_a_lost_answer_is_a_reason_for_sending_again() -> None:
    account = balance(EXPECTED, [arrival("a", answer_lost=True), arrival("a"), arrival("b")], ENDS)
    assert (account.again_after_lost_answer, account.faults(0)) == (1, [])


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 1), (1, 2), (2, 2), (3, 3)])
def test_sending_again_in_the_same_life_or_after_a_clean_one_has_no_reason(first: int, second: int) -> None:
    account = balance(EXPECTED, [arrival("a", first), arrival("a", second), arrival("b")], ENDS)
    assert account.again_without_reason == ["a"]
    assert len(account.faults(100)) == 1


def test_events_of_a_life_cut_short_may_be_sent_again() -> None:
    account = balance(EXPECTED, [arrival("a", 2), arrival("a", 3), arrival("b")], ENDS)
    assert (account.again_after_life, account.faults(1)) == ({2: 1}, [])


def test_requests_belong_to_the_life_that_opened_their_connection() -> None:
    # The second life's first request was judged before the first life's last.
    journal = [request(1, "a"), barrier(3), request(4, "b"), request(2, "c", lost=True), barrier(5), request(6, "d")]
    found = [(arrival.uuid, arrival.life, arrival.answer_lost) for arrival in arrivals(journal)]
    assert found == [("a", 0, False), ("c", 0, True), ("b", 1, False), ("d", 2, False)]


def test_refused_requests_are_counted_and_hold_no_arrivals() -> None:
    journal = [request(1, "a", status=400), barrier(2), request(3, "b")]
    assert refusals(journal) == 1
    assert [arrival.uuid for arrival in arrivals(journal)] == ["b"]
