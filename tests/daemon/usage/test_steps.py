"""A session's steps: in order, under what started them, with the time in which a person was waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.delivering.local.sink import LocalSink
from daemon.usage.report import Index
from daemon.usage.steps import Session, session
from llma_core.events import CaptureEvent
from tests.support.sample_events import generation, span, trace


def steps_of(tmp_path: Path, events: Sequence[CaptureEvent], identity: str = "trace-1") -> Session | None:
    async def write() -> None:
        sink = LocalSink(tmp_path / "events.db")
        await sink.send(events)
        await sink.aclose()

    asyncio.run(write())
    with Index(tmp_path / "events.db") as index:
        return session(index, identity)


def test_steps_stand_under_what_started_them(tmp_path: Path) -> None:
    found = steps_of(
        tmp_path,
        [
            span("inner", "Read", parent="sub", at=4),
            generation("sub", parent="call", at=3, agent="general-purpose"),
            span("call", "Agent", parent="first", at=5, latency=3.5),
            generation("first", at=1),
            generation("last", at=6),
            trace(at=1),
        ],
    )
    assert found is not None
    assert [(step.depth, step.kind, step.name) for step in found.steps] == [
        (0, "generation", "claude-opus-5-5"),
        (1, "agent", "Agent"),
        (2, "generation", "claude-opus-5-5"),
        (3, "tool", "Read"),
        (0, "generation", "claude-opus-5-5"),
    ]
    assert found.traces == ("trace-1",)


def test_time_without_any_step_is_waiting_for_a_person(tmp_path: Path) -> None:
    found = steps_of(tmp_path, [generation("a", at=1), span("t", "Bash", parent="a", at=2), generation("b", at=63)])
    assert found is not None
    assert [step.kind for step in found.steps] == ["generation", "tool", "wait", "generation"]
    wait = found.steps[2]
    assert (wait.ended - wait.started, wait.uuid) == (60_000, None)
    assert found.seconds_waiting == pytest.approx(60)
    assert found.seconds_model == pytest.approx(2)
    assert found.seconds_tools == pytest.approx(0.5)


def test_times_that_overlap_count_once(tmp_path: Path) -> None:
    events = [
        generation("a", at=1),
        *(span(f"t{number}", "Bash", parent="a", at=4, latency=3) for number in range(3)),
        generation("b", at=4.5, latency=1),
    ]
    found = steps_of(tmp_path, events)
    assert found is not None
    assert found.seconds_model == pytest.approx(2)
    assert found.seconds_tools == pytest.approx(2.5)


def test_failures_are_marked_and_costs_are_known(tmp_path: Path) -> None:
    found = steps_of(
        tmp_path,
        [
            generation("a", at=1, error=("overloaded_error", "Overloaded"), tokens=None),
            generation("b", at=2, tokens=(1_000_000, 0)),
            span("t", "Bash", parent="b", at=3, status="error", error="no"),
            generation("c", at=4, model="nobody"),
        ],
    )
    assert found is not None
    assert [(step.kind, step.failed, step.dollars is not None) for step in found.steps] == [
        ("attempt", True, False),
        ("generation", False, True),
        ("tool", True, False),
        ("generation", False, False),
    ]
    assert found.steps[1].dollars == pytest.approx(4)


def test_an_unknown_session_is_none(tmp_path: Path) -> None:
    assert steps_of(tmp_path, [generation("a")], "another") is None
