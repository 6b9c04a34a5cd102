"""What counts as missing, extra, held twice or different, session by session."""

from __future__ import annotations

from daemon.verifying.comparison import RETENTION_DAYS, SessionResult, compare
from daemon.verifying.expectation import Amounts, ExpectedEvent, ExpectedSession
from daemon.verifying.holding import HeldGroup, HeldSession

NOW = 2_000_000_000.0
DAY = 86_400.0


def event(**changes: object) -> ExpectedEvent:
    values: dict[str, object] = {
        "kind": "$ai_generation",
        "session": "s",
        "trace": "t",
        "model": "m",
        "at": NOW - DAY,
        "amounts": Amounts(input=10, output=5, dollars=2.0),
        "is_priced": True,
        "state": "settled",
        "copies": 1,
    }
    return ExpectedEvent(**{**values, **changes})  # type: ignore[arg-type] # a test names only what differs


def group(*uuids: str, copies: int = 1, **changes: object) -> HeldGroup:
    values: dict[str, object] = {
        "kind": "$ai_generation",
        "trace": "t",
        "model": "m",
        "copies": dict.fromkeys(uuids, copies),
        "amounts": Amounts(input=10 * len(uuids), output=5 * len(uuids), dollars=2.0 * len(uuids)),
    }
    return HeldGroup(**{**values, **changes})  # type: ignore[arg-type] # as above


def result(
    expected: dict[str, ExpectedEvent],
    *groups: HeldGroup,
    others: dict[str, HeldSession] | None = None,
    elsewhere: tuple[str, ...] = (),
    sent_again: tuple[str, ...] = (),
    is_logged: bool = True,
    **doubled: int,
) -> SessionResult:
    held = HeldSession(groups=list(groups), doubled=doubled)
    expectation = ExpectedSession(id="s", folder="/work", began=NOW, events=expected, is_logged=is_logged)
    return compare(expectation, {"s": held, **(others or {})}, NOW, elsewhere=elsewhere, sent_again=sent_again)


def test_what_is_there_once_with_its_numbers_is_equal() -> None:
    found = result({"a": event(), "b": event()}, group("a", "b"))
    assert (found.is_equal, found.events, found.held) == (True, 2, 2)
    assert found.models["m"].sent == found.models["m"].held == Amounts(input=20, output=10, dollars=4.0)


def test_only_what_was_settled_and_can_still_be_there_is_missing() -> None:
    found = result(
        {
            "lost": event(),
            "refused": event(state="refused"),
            "unsent": event(state="unsent"),
            "young": event(at=NOW - 599),
            "again": event(),
            "old": event(at=NOW - RETENTION_DAYS * DAY - 1),
            "timeless": event(at=None),
        },
        sent_again=("again",),
    )
    assert found.missing == ["lost", "refused", "timeless"]
    assert (found.refused, found.unsent, found.not_yet, found.expired, found.events) == (1, 1, 2, 1, 3)
    assert not found.is_equal
    # What PostHog holds is there, however young or old it is.
    assert result({"young": event(at=NOW), "old": event(at=0.0)}, group("young", "old")).is_equal
    assert result({"unsent": event(state="unsent")}, group("unsent")).held == 1


def test_copies_count_in_both_tables_and_a_trace_may_have_ended_more_than_once() -> None:
    trace = event(kind="$ai_trace", model="", amounts=Amounts(), copies=2)
    twice = group("t", copies=2, kind="$ai_trace", model="", amounts=Amounts())
    assert result({"t": trace, "a": event()}, twice, group("a")).doubled == 0
    assert result({"t": trace, "a": event()}, twice, group("a"), t=3, a=2).doubled == 2
    assert result({"a": event()}, group("a", copies=2)).doubled == 1


def test_what_no_log_gives_is_extra_but_for_what_commands_and_programs_say_of_their_session() -> None:
    said = [
        group(kind, kind=kind, model="", amounts=Amounts()) for kind in ("$ai_metric", "$ai_feedback", "$ai_embedding")
    ]
    found = result({"a": event()}, group("a", "x"), *said)
    assert (found.extra, found.tokens_differ, found.cost_differs) == (1, {}, 0.0)


def test_numbers_that_differ_are_said_by_model() -> None:
    found = result({"a": event()}, group("a", amounts=Amounts(input=10, output=4, dollars=1.0)))
    assert (found.tokens_differ, found.cost_differs, found.is_equal) == ({"m": -1}, -1.0, False)
    # Price lists round in different ways, and some models are in neither.
    assert result({"a": event()}, group("a", amounts=Amounts(input=10, output=5, dollars=2.019))).is_equal
    assert result({"a": event(is_priced=False)}, group("a", amounts=Amounts(input=10, output=5))).is_equal


def test_a_trace_without_its_events_and_events_without_their_trace_are_said() -> None:
    trace = event(kind="$ai_trace", model="", amounts=Amounts())
    both = {"t": trace, "a": event()}
    alone = group("t", kind="$ai_trace", model="", amounts=Amounts())
    assert result(both, alone).traces_without_events == 1
    assert result(both, group("a")).events_without_trace == 1
    # A session that runs has no trace yet.
    assert result({"a": event()}, group("a")).events_without_trace == 0


def test_an_event_of_a_neighboring_session_is_looked_for_there_and_is_not_extra() -> None:
    stray = {"a": event(), "x": event(session="n")}
    there = {"n": HeldSession(groups=[group("x", "y")])}
    found = result(stray, group("a"), others=there)
    assert (found.is_equal, found.held) == (True, 2)
    # What it used counts once, with the session that it belongs to.
    assert found.models["m"].held == Amounts(input=10, output=5, dollars=2.0)
    assert result(stray, group("a"), others={"n": HeldSession()}).missing == ["x"]
    assert result({"a": event()}, group("a", "x"), elsewhere=("x",)).is_equal


def test_of_a_session_that_only_programs_record_nobody_knows_what_another_machine_has_recorded() -> None:
    recorded = {"a": event(is_logged=False), "b": event(is_logged=False)}
    found = result(recorded, group("a", "x", copies=2), is_logged=False)
    assert (found.missing, found.gone, found.extra, found.doubled) == (["b"], ["b"], 0, 1)
    assert found.models["m"].held == Amounts(input=10, output=5, dollars=2.0)
