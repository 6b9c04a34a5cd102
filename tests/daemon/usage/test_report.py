"""Answers over the rows of the local file agree with each other, however each is found."""

from __future__ import annotations

import asyncio
from datetime import UTC
from pathlib import Path

import pytest

from daemon.delivering.local.sink import LocalSink
from daemon.usage.prices import Dollars
from daemon.usage.report import Group, Index, Range, summed
from tests.support.sample_events import START, generation, span

LIMITED = ("timeout", "no answer")
DAY = 86_400.0


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Six sessions in three days; the last only has a failed attempt, and one has tool calls alone."""
    events = [
        generation(f"{number}-{call}", trace_id=f"session-{number}", at=number * DAY / 2 + call, tokens=(number, call))
        for number in range(5)
        for call in range(3)
    ]
    events.append(generation("failed", trace_id="session-5", at=2 * DAY + 100, error=LIMITED))
    events.append(span("ls", "Bash", parent="x", trace_id="session-6", at=2 * DAY + 200))

    async def write() -> None:
        sink = LocalSink(tmp_path / "events.db")
        await sink.send(events)
        await sink.aclose()

    asyncio.run(write())
    return Index(tmp_path / "events.db", UTC)


@pytest.mark.parametrize("since", [None, START.timestamp() + DAY])
def test_the_newest_sessions_are_those_of_the_table_by_session(index: Index, since: float | None) -> None:
    wanted = Range(since=since)
    with index:
        groups = sorted(index.usage("session", wanted), key=lambda group: -group.last)
        named = [group.key for group in groups]
        assert named[:2] == ["session-5", "session-4"]
        assert index.newest(wanted, 100) == (named, len(named))
        assert index.newest(wanted, 2) == (named[:2], len(named))
        # Their own sums are the same as among all.
        chosen = Range(since=since, sessions=frozenset(name for name in named[:2] if name is not None))
        assert sorted(index.usage("session", chosen), key=lambda group: -group.last) == groups[:2]


def test_nothing_has_no_newest_session(index: Index) -> None:
    with index:
        assert index.newest(Range(since=START.timestamp() + 10 * DAY), 5) == ([], 0)


def test_days_add_up_to_the_total(index: Index) -> None:
    with index:
        days, total = index.usage("day", Range()), index.total(Range())
    assert [day.key for day in days] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    whole = summed(days)
    assert (whole.tokens, whole.attempts) == (total.tokens, total.attempts) == (total.tokens, 1)
    assert whole.tokens.calls == 15
    assert whole.dollars.known == pytest.approx(total.dollars.known)
    assert summed([]) == Group(key=None)


def test_projects_are_those_of_the_table_by_project(index: Index) -> None:
    with index:
        assert index.used_projects(Range()) == [
            each.key for each in index.usage("project", Range()) if each.key is not None
        ]


@pytest.mark.parametrize(("counted", "disputed"), [(None, None), (1.254, None), (1.2, 1.2), (0.0, 0.0)])
def test_another_sum_of_the_client_is_told_from_a_cent_on(counted: float | None, disputed: float | None) -> None:
    assert Group(key="session", dollars=Dollars(known=1.25), client_dollars=counted).disputed == disputed
