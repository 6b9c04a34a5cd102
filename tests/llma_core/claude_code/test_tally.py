from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llma_core.claude_code.framework import FRAMEWORK
from llma_core.claude_code.tally import ClientTotals, Tally
from llma_core.spans import ApiFailure, Compaction, Context, Generation, LineRange, TokenUsage, ToolCall, TurnKey

TURN = TurnKey(kind="prompt", id="p1")
MAIN = Context(
    framework=FRAMEWORK,
    session="s1",
    turn=TURN,
    prompt="Count",
    session_name="Count",
    turn_name="Count",
    cwd="/home/ada/orchard",
)
AGENT = replace(MAIN, agent="general-purpose", parent_call="toolu_1", is_subagent=True)
LINES = LineRange(file="f", start=0, end=1)


def said(words: str) -> tuple[bytes]:
    return (b'{"type":"text","text":"%s"}' % words.encode(),)


def generation(at: int | None = 1000, *, context: Context = MAIN, **fields: Any) -> Generation:
    known: dict[str, Any] = {
        "identity": f"msg_{at}",
        "context": context,
        "model": "claude-opus-5-5",
        "provider": "anthropic",
        "usage": TokenUsage(input=10, output=50),
        "output_partial": False,
        "started_at": None if at is None else at - 500,
        "ended_at": at,
        "stop_reason": "end_turn",
        "input": (),
        "output": (),
        "tools_called": (),
        "checksum": b"",
        "lines": LINES,
    }
    return Generation(**known | fields)


def call(called_at: int, ended_at: int | None, *, context: Context = MAIN) -> ToolCall:
    return ToolCall(
        identity="toolu_1",
        call_id="toolu_1",
        context=context,
        name="Bash",
        generation="msg",
        generation_ended_at=called_at,
        is_agent=False,
        called_at=called_at,
        ended_at=ended_at,
        input=None,
        output=None,
        status="ok",
        permission_decision=None,
        skill=None,
        hooks=(),
        lines=LINES,
    )


def failure(at: int, *, context: Context = MAIN, words: str = "529 Overloaded") -> ApiFailure:
    return ApiFailure(
        identity=f"line-{at}",
        context=context,
        at=at,
        started_at=None,
        model=None,
        provider="anthropic",
        status=529,
        error_type="overloaded_error",
        message=words,
        lines=LINES,
    )


def compaction(at: int) -> Compaction:
    return Compaction(
        identity="line",
        context=MAIN,
        at=at,
        duration_ms=None,
        trigger="auto",
        tokens_before=None,
        tokens_after=None,
        lines=LINES,
    )


@pytest.fixture
def tally() -> Tally:
    return Tally(scope="turn", session="s1", turn=TURN, name="Count")


def test_nothing_is_no_trace(tally: Tally) -> None:
    assert not tally.opened
    assert not tally.changed


def test_a_prompt_alone_is_a_trace_at_the_prompts_time(tally: Tally) -> None:
    tally.add_prompt("Count", 100, MAIN)

    trace = tally.trace()
    assert tally.opened
    assert (trace.prompt, trace.first_at, trace.started_at, trace.ended_at) == ("Count", 100, 100, 100)
    assert (trace.input_tokens, trace.output_tokens, trace.generations) == (None, None, 0)


def test_tokens_are_summed_over_generations_subagents_included(tally: Tally) -> None:
    tally.add_generation(generation(1000), said("one"))
    tally.add_generation(generation(2000, context=AGENT, usage=TokenUsage(input=1, output=2)), ())
    tally.add_generation(generation(3000, usage=None), said("two"))

    trace = tally.trace()
    assert (trace.input_tokens, trace.output_tokens, trace.generations) == (11, 52, 3)


def test_a_count_that_one_generation_lacks_is_the_sum_of_the_others(tally: Tally) -> None:
    tally.add_generation(generation(1000, usage=TokenUsage(input=10)), ())
    tally.add_generation(generation(2000, usage=TokenUsage(output=5)), ())

    trace = tally.trace()
    assert (trace.input_tokens, trace.output_tokens) == (10, 5)


def test_a_trace_runs_from_the_first_start_to_the_last_end(tally: Tally) -> None:
    tally.add_generation(generation(2000, started_at=1800), ())
    tally.add_call(call(2000, 9000))
    tally.add_generation(generation(1000, started_at=400), ())

    trace = tally.trace()
    assert (trace.started_at, trace.ended_at) == (400, 9000)


def test_a_traces_own_time_is_its_first_generations_and_not_its_prompts(tally: Tally) -> None:
    tally.add_prompt("Count", 100, MAIN)
    tally.add_generation(generation(2000), ())
    tally.add_generation(generation(1500, context=AGENT), ())

    assert tally.trace().first_at == 1500


def test_calls_failures_and_compactions_are_counted(tally: Tally) -> None:
    tally.add_call(call(1, 2))
    tally.add_call(call(3, None))
    tally.add_failure(failure(4))
    tally.add_compaction(compaction(5))

    trace = tally.trace()
    assert (trace.tool_calls, trace.api_errors, trace.compactions) == (2, 1, 1)


def test_a_subagent_is_counted_once_however_often_it_answers(tally: Tally) -> None:
    tally.add_generation(generation(context=AGENT), ())
    for agent in ("a1", "a2", "a1"):
        tally.add_agent(agent)

    assert tally.trace().subagents == 2


def test_the_answer_is_the_main_threads_latest(tally: Tally) -> None:
    tally.add_generation(generation(3000), said("last"))
    tally.add_generation(generation(1000), said("first"))
    tally.add_generation(generation(9000, context=AGENT), said("an agent's"))
    tally.add_generation(generation(4000), ())

    assert tally.trace().answer == b'"last"'


def test_an_attempt_that_an_answer_followed_was_a_retry(tally: Tally) -> None:
    tally.add_failure(failure(1000))
    tally.add_generation(generation(2000), said("done"))

    trace = tally.trace()
    assert (trace.outcome, trace.api_errors) == ("ok", 1)


def test_a_failure_that_nothing_followed_failed_the_trace(tally: Tally) -> None:
    tally.add_generation(generation(1000), said("so far"))
    tally.add_failure(failure(2000, words="first"))
    tally.add_failure(failure(3000, words="last"))

    trace = tally.trace()
    assert trace.outcome == "failed"


def test_a_subagents_failure_does_not_fail_the_trace_and_its_answer_mends_none(tally: Tally) -> None:
    tally.add_generation(generation(1000), said("so far"))
    tally.add_failure(failure(2000, context=AGENT))
    assert tally.trace().outcome == "ok"

    tally.add_failure(failure(3000))
    tally.add_generation(generation(4000, context=AGENT), ())
    assert tally.trace().outcome == "failed"


def test_the_main_threads_latest_line_speaks_for_the_trace_in_any_order_of_files(tally: Tally) -> None:
    early, late = replace(MAIN, branch="old"), replace(MAIN, branch="new")
    tally.add_generation(generation(2000, context=late), ())
    tally.add_generation(generation(1000, context=early), ())
    tally.add_generation(generation(9000, context=replace(AGENT, branch="agent")), ())

    assert tally.trace().context == late


def test_a_subagents_line_speaks_for_a_trace_that_has_no_other(tally: Tally) -> None:
    tally.add_generation(generation(1000, context=AGENT), ())

    assert tally.trace().context == AGENT


def test_the_first_prompt_stays(tally: Tally) -> None:
    tally.add_prompt(None, 50, MAIN)
    tally.add_prompt("Count", 100, MAIN)
    tally.add_prompt("Count again", 200, MAIN)

    assert tally.trace().prompt == "Count"


def test_the_clients_totals_are_given_as_they_are() -> None:
    tally = Tally(scope="session", session="s1")
    tally.add_generation(generation(), ())

    trace = tally.trace(ClientTotals(cost_usd=0.5, lines_added=3, lines_removed=0))
    assert (trace.client_cost_usd, trace.lines_added, trace.lines_removed) == (0.5, 3, 0)
    assert tally.trace().client_cost_usd is None


def test_times_the_log_does_not_have_stay_unknown(tally: Tally) -> None:
    tally.add_generation(generation(None), said("answer"))

    trace = tally.trace()
    assert (trace.started_at, trace.first_at, trace.ended_at) == (None, None, None)
