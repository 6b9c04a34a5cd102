"""What the client's own totals tell beyond the log when a session ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from llma_core.claude_code.session import SessionAccumulator
from llma_core.spans import Metric, SideCalls, Span
from tests.support.logs import LogBuilder, text, tool_use, usage
from tests.support.sessions import feeds, spans

MODEL, OTHER_MODEL = "claude-opus-5-5", "claude-haiku-4-5"
COUNTS = usage(10, 20, cache_read=30, cache_5m=40, cache_1h=0)


@pytest.fixture
def log() -> LogBuilder:
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("Two."), counts=COUNTS, model=MODEL)
    return log


def side(found: Sequence[Span]) -> list[tuple[int, str, tuple[int | None, ...]]]:
    """Return the number of the ending, the model and the counts of what is not logged."""
    return [
        (made.number, made.model, (u.input, u.output, u.cache_read, u.cache_creation))
        for made in found
        if isinstance(made, SideCalls)
        for u in [made.usage]
    ]


def metrics(found: Sequence[Span]) -> list[tuple[int, str, int]]:
    return [(made.number, made.name, made.value) for made in found if isinstance(made, Metric)]


def live(log: LogBuilder, *ends: int) -> list[Span]:
    """Return what is given out if the session ends after each of these numbers of lines, and goes on."""
    accumulator = SessionAccumulator(log.session)
    found: list[Span] = []
    for number, feed in enumerate(feeds(log.path, log.files()[log.path]), 1):
        found += feed.to(accumulator, now=0.0)
        if number in ends:
            found += accumulator.end(0.0)
    return found + accumulator.end(0.0)


FIVE_MINUTES, ONE_HOUR = "cacheCreationEphemeral5mInputTokens", "cacheCreationEphemeral1hInputTokens"


@pytest.mark.parametrize(
    ("more", "split"),
    [
        ({FIVE_MINUTES: 47, ONE_HOUR: 13, "webSearchRequests": 2}, (7, 13, 2)),
        ({FIVE_MINUTES: 60, ONE_HOUR: 0, "webSearchRequests": 0}, (20, 0, None)),
        # These do not add up to what was written.
        ({FIVE_MINUTES: 47, ONE_HOUR: 12}, (None, None, None)),
        ({FIVE_MINUTES: 30, ONE_HOUR: 30}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_for_how_long_they_wrote_to_the_cache_and_how_often_they_searched_is_told(
    log: LogBuilder, more: dict[str, int], split: tuple[int | None, ...]
) -> None:
    """Writing for an hour costs more than for five minutes, and each search costs something of its own."""
    log.cost_state(models={MODEL: [10, 20, 30, 60]}, more={MODEL: more})
    [made] = [each for each in spans(log.files()) if isinstance(each, SideCalls)]
    used = made.usage
    assert used.cache_creation == 20
    assert (used.cache_creation_5m, used.cache_creation_1h, used.web_searches) == split


def test_what_the_totals_hold_beyond_the_generations_is_one_closing_call_for_each_model(log: LogBuilder) -> None:
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"), counts=COUNTS, model=MODEL)
    log.agent("toolu_1", "go").answer(text("One."), counts=COUNTS, model=MODEL)
    log.cost_state(models={MODEL: [35, 60, 90, 120], OTHER_MODEL: [3, 4, 0, 0]})

    found = spans(log.files())

    assert side(found) == [(1, OTHER_MODEL, (3, 4, 0, 0)), (1, MODEL, (5, 0, 0, 0))]
    made = next(each for each in found if isinstance(each, SideCalls))
    line = log.files()[log.path].splitlines(keepends=True)[-1]
    assert made.lines.end - made.lines.start == len(line)
    assert (made.provider, made.context.session) == ("anthropic", log.session)


@pytest.mark.parametrize(
    "models",
    [{}, {MODEL: [9, 20, 30, 40]}, {OTHER_MODEL: [100, 100, 100, 100]}, {MODEL: [10, 20, 30, 40]}],
    ids=["nothing", "too little", "another model", "as much"],
)
def test_totals_that_do_not_exceed_the_generations_tell_nothing(
    log: LogBuilder, models: Mapping[str, list[int]]
) -> None:
    log.cost_state(models=models)

    assert side(spans(log.files())) == []


def test_totals_name_a_model_with_the_size_of_its_context(log: LogBuilder) -> None:
    log.cost_state(models={f"{MODEL}[1m]": [12, 20, 30, 40]})

    assert side(spans(log.files())) == [(1, MODEL, (2, 0, 0, 0))]


def test_each_ending_tells_what_those_before_it_did_not(log: LogBuilder) -> None:
    log.cost_state(added=2, removed=0, models={MODEL: [15, 20, 30, 40]})
    first = len(log.lines)
    log.cost_state(added=2, removed=0, models={MODEL: [15, 20, 30, 40]})
    log.prompt("Again")
    log.answer(text("Three."), counts=COUNTS, model=MODEL)
    log.cost_state(added=5, removed=1, models={MODEL: [25, 41, 60, 80]})
    second = len(log.lines)
    log.prompt("And again")
    log.answer(text("Four."), counts=COUNTS, model=MODEL)
    log.cost_state(added=5, removed=1, models={MODEL: [35, 61, 90, 120]})

    found = spans(log.files())

    assert side(found) == [(1, MODEL, (5, 0, 0, 0)), (2, MODEL, (0, 1, 0, 0))]
    assert metrics(found) == [(1, "lines_added", 2), (2, "lines_added", 3), (2, "lines_removed", 1)]
    ended = live(log, first, second)
    assert (side(ended), metrics(ended)) == (side(found), metrics(found))


def test_the_line_with_the_totals_is_needed_until_they_are_told(log: LogBuilder) -> None:
    log.cost_state(models={MODEL: [15, 20, 30, 40]})
    log.prompt("Again")
    accumulator = SessionAccumulator(log.session)
    for feed in feeds(log.path, log.files()[log.path]):
        assert side(feed.to(accumulator, now=0.0)) == []

    assert accumulator.needed_from() == {log.path: log.files()[log.path].index(b'{"type":"cost-state"')}
    assert len(side(accumulator.end(0.0))) == 1
    assert accumulator.needed_from() == {}


def test_a_call_of_a_subagent_belongs_to_the_ending_after_its_time(log: LogBuilder) -> None:
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"), counts=COUNTS, model=MODEL)
    agent = log.agent("toolu_1", "go")
    agent.answer(text("One."), counts=COUNTS, model=MODEL)
    log.cost_state(models={MODEL: [30, 61, 90, 120]})
    log.prompt("Again")
    agent.answer(text("Two."), counts=COUNTS, model=MODEL)
    log.cost_state(models={MODEL: [40, 82, 120, 160]})

    assert side(spans(log.files())) == [(1, MODEL, (0, 1, 0, 0)), (2, MODEL, (0, 1, 0, 0))]


def test_the_lines_of_two_clients_in_one_log_tell_nothing_twice(log: LogBuilder) -> None:
    """The other client's line behind the totals is older than the call before them."""
    log.answer(text("Three."), counts=COUNTS, model=MODEL)
    late = log.lines.pop()
    log.note("<local-command-stdout>older</local-command-stdout>")
    older = log.lines.pop()
    assert isinstance(late, dict)
    assert isinstance(older, dict)
    late["timestamp"], older["timestamp"] = older["timestamp"], late["timestamp"]
    log.raw(late)
    log.cost_state(models={MODEL: [20, 40, 60, 80]})
    log.raw(older)

    assert side(spans(log.files())) == []


def test_the_totals_of_a_fork_hold_its_parents(log: LogBuilder) -> None:
    fork = log.fork("11111111-2222-4333-8444-555555555555")
    fork.prompt("Again")
    fork.answer(text("Still two."), counts=COUNTS, model=MODEL)
    fork.cost_state(added=7, removed=0, models={MODEL: [1000, 1000, 100000, 100000]})
    fork.prompt("Go on")
    fork.answer(text("Two."), counts=COUNTS, model=MODEL)
    fork.cost_state(added=9, removed=0, models={MODEL: [1010, 1020, 100030, 100040]})

    found = [made for made in spans(log.files() | fork.files()) if isinstance(made, SideCalls | Metric)]

    assert side(found) == []
    assert metrics(found) == [(2, "lines_added", 2)], "how much they grew since is the fork's own"


def test_the_totals_after_clear_may_hold_calls_of_a_subagent_that_was_started_before(log: LogBuilder) -> None:
    new = log.clear("11111111-2222-4333-8444-555555555555")
    new.prompt("Again")
    new.answer(text("Two."), counts=COUNTS, model=MODEL)
    new.task_notification("<task-id>a1</task-id>\n<tool-use-id>toolu_before</tool-use-id>")
    new.answer(text("It is done."), counts=COUNTS, model=MODEL)
    new.cost_state(models={MODEL: [30, 60, 90, 120]})

    assert side(spans(new.files())) == []


def test_the_totals_of_a_session_whose_own_task_has_ended_count(log: LogBuilder) -> None:
    log.answer(tool_use("Bash", {"run_in_background": True}, id="toolu_1"), counts=COUNTS, model=MODEL)
    log.tool_result("toolu_1")
    log.task_notification("<task-id>b1</task-id>\n<tool-use-id>toolu_1</tool-use-id>")
    log.answer(text("It is done."), counts=COUNTS, model=MODEL)
    log.cost_state(models={MODEL: [30, 61, 90, 120]})

    assert side(spans(log.files())) == [(1, MODEL, (0, 1, 0, 0))]


def test_a_session_without_a_prompt_tells_nothing() -> None:
    log = LogBuilder()
    log.command("/cost", output="$0")
    log.cost_state(added=3, models={MODEL: [5, 5, 5, 5]})

    assert [made for made in spans(log.files()) if isinstance(made, SideCalls | Metric)] == []
