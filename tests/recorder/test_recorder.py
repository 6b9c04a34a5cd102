"""What each method of `TraceRecorder` writes."""

from __future__ import annotations

import contextlib
import decimal
import time
from pathlib import Path
from typing import Any

import pytest
from llma_recorder import TraceRecorder

from tests.support.each import for_each
from tests.support.recorded import Recorded

MESSAGES = [{"role": "user", "content": "Is this safe to merge?"}]
USAGE = {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5}


def test_a_generation_has_everything_that_the_caller_says(recorded: Recorded) -> None:
    recorder = TraceRecorder(
        "review",
        properties={"pull_request": 52984},
        distinct_id="review-bot",
        session_id="s1",
        trace_id="t1",
        groups={"company": "acme"},
        api_key="phc_other",
        host="https://eu.example.com",
    )
    recorder.record_generation(
        model="claude-opus-5-5",
        provider="anthropic",
        input_messages=MESSAGES,
        output_text="Yes.",
        usage=USAGE,
        duration_ms=1234.5678,
        ended_at=1_800_000_000.25,
        time_to_first_token_ms=80,
        stream=True,
        total_cost_usd=0.25,
        input_cost_usd=0.05,
        output_cost_usd=0.2,
        num_turns=3,
        stop_reason="end_turn",
        http_status=200,
        model_parameters={"temperature": 0},
        tools=[{"name": "bash"}],
        base_url="https://api.example.com",
        request_id="req_1",
        service_tier="priority",
        name="verdict",
        span_id="span-1",
        parent_id="span-0",
        properties={"file": "a.py"},
        attempt=2,
    )
    line = recorded.line("generation")
    uuid = line.pop("uuid")
    assert int(uuid[:8] + uuid[9:13], 16) == pytest.approx(time.time() * 1000, abs=60_000)
    assert line == {
        "at": "2027-01-15T08:00:00.250Z",
        "v": 1,
        "type": "generation",
        "trace_id": "t1",
        "session_id": "s1",
        "distinct_id": "review-bot",
        "groups": {"company": "acme"},
        "api_key": "phc_other",
        "host": "https://eu.example.com",
        "name": "verdict",
        "span_id": "span-1",
        "parent_id": "span-0",
        "properties": {"pull_request": 52984, "file": "a.py", "attempt": 2},
        "model": "claude-opus-5-5",
        "provider": "anthropic",
        "input": MESSAGES,
        "output": "Yes.",
        "usage": USAGE,
        "cache_exclusive": True,
        "latency_ms": 1234.568,
        "time_to_first_token_ms": 80,
        "stream": True,
        "cost": {"total_usd": 0.25, "input_usd": 0.05, "output_usd": 0.2},
        "num_turns": 3,
        "stop_reason": "end_turn",
        "http_status": 200,
        "model_parameters": {"temperature": 0},
        "tools": [{"name": "bash"}],
        "base_url": "https://api.example.com",
        "request_id": "req_1",
        "service_tier": "priority",
    }


def test_the_first_line_of_a_file_says_which_process_writes(recorded: Recorded) -> None:
    TraceRecorder().record_metric("tests_added", 4)
    first, _ = recorded.lines("process")[0], recorded.line("metric")
    pid, started, number = recorded.files[0].stem.split("-")
    assert (first["pid"], first["started"], number) == (int(pid), int(started), "0")
    assert first["language"] == "python"
    assert first["cwd"]


def test_each_model_of_an_agent_run_is_a_generation_and_their_costs_add_up(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    recorder.record_generation(
        model="claude-opus-5-5",
        input_messages=MESSAGES,
        output_text="Yes.",
        usage={"input_tokens": 11, "output_tokens": 4},
        model_usage={
            "claude-haiku-5": {"inputTokens": 10, "outputTokens": 2, "costUSD": 0.1, "webSearchRequests": 1},
            "claude-opus-5-5-20260101": {
                "inputTokens": 1,
                "outputTokens": 2,
                "cacheReadInputTokens": 7,
                "costUSD": 0.3,
            },
        },
        total_cost_usd=0.4,
        duration_ms=10,
        num_turns=3,
    )
    haiku, opus = recorded.lines("generation")
    assert haiku["usage"] == {"input_tokens": 10, "output_tokens": 2, "web_search_count": 1}
    assert (haiku["model"], haiku["cost"]["total_usd"]) == ("claude-haiku-5", pytest.approx(0.1))
    assert not {"input", "output", "latency_ms", "num_turns"} & set(haiku)
    assert opus["usage"] == {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 7}
    assert (opus["input"], opus["output"], opus["num_turns"], opus["latency_ms"]) == (MESSAGES, "Yes.", 3, 10)
    assert (opus["cost"]["total_usd"], opus["cache_exclusive"]) == (pytest.approx(0.3), True)


@for_each(
    "model_usage, costs",
    [
        ({"a": {"inputTokens": 1, "costUSD": 1}, "b": {"inputTokens": 9, "costUSD": 3}}, [2, 6]),
        ({"a": {"inputTokens": 1, "costUSD": 1}, "b": {"inputTokens": 3}}, [2, 6]),
        ({"a": {"inputTokens": 1, "costUSD": 0}, "b": {"outputTokens": 1, "costUSD": 0}}, [4, 4]),
        ({"a": {"inputTokens": 0}, "b": {"outputTokens": 0}}, [4, 4]),
        ({"a": {"inputTokens": 5}}, [8]),
    ],
)
def test_the_total_cost_is_shared_out(
    recorded: Recorded, model_usage: dict[str, dict[str, int]], costs: list[float]
) -> None:
    before = len(recorded.lines("generation")) if recorded.files else 0
    TraceRecorder().record_generation(model_usage=model_usage, total_cost_usd=8)
    assert [line["cost"]["total_usd"] for line in recorded.lines("generation")[before:]] == pytest.approx(costs)


def test_one_model_keeps_what_the_usage_says_about_its_caches(recorded: Recorded) -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_1h_input_tokens": 7, "ephemeral_5m_input_tokens": 0},
    }
    TraceRecorder().record_generation(
        usage=usage,
        model_usage={"m": {"inputTokens": 1, "outputTokens": 2, "cacheCreationInputTokens": 7, "costUSD": 1}},
    )
    line = recorded.line("generation")
    assert line["usage"]["cache_creation_1h_input_tokens"] == 7
    assert (line["model"], line["cost"]) == ("m", {"total_usd": 1})


@for_each(
    "structured, text, output",
    [
        ({"verdict": "approve"}, None, [{"type": "text", "text": '{"verdict":"approve"}'}]),
        ([1], "Approved", [{"type": "text", "text": "Approved"}, {"type": "text", "text": "[1]"}]),
    ],
)
def test_structured_output_is_part_of_the_answer(recorded: Recorded, structured: Any, text: str, output: Any) -> None:
    TraceRecorder().record_generation(structured_output=structured, output_text=text)
    assert recorded.lines("generation")[-1]["output"] == [{"role": "assistant", "content": output}]


class OverloadedError(Exception):
    status_code = 529


class RequestError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("no answer")
        self.response = type("Response", (), {"status_code": status})()


@for_each(
    "given, error, status",
    [
        ({"error": OverloadedError("try later")}, {"type": "OverloadedError", "message": "try later"}, 529),
        ({"error": RequestError(503)}, {"type": "RequestError", "message": "no answer"}, 503),
        ({"error": OverloadedError("x"), "http_status": 500}, {"type": "OverloadedError", "message": "x"}, 500),
        ({"error": "no money"}, {"message": "no money"}, None),
        ({"error": True}, {}, None),
        ({"error": ValueError}, {"type": "ValueError"}, None),
        (
            {"error": {"type": "overloaded_error", "message": "later"}},
            {"type": "overloaded_error", "message": "later"},
            None,
        ),
        ({"error": {"error": {"code": "bad_key", "message": "no"}}}, {"type": "bad_key", "message": "no"}, None),
        ({"http_status": 429}, {}, 429),
        ({"http_status": "404"}, {}, 404),
        ({"http_status": 200}, None, 200),
        ({"error": False}, None, None),
        ({"error": ""}, None, None),
    ],
)
def test_an_error_has_class_message_and_status_and_no_token_counts(
    recorded: Recorded, given: Any, error: Any, status: int | None
) -> None:
    recorder = TraceRecorder()
    recorder.record_generation(model="m", usage={"input_tokens": 9, "output_tokens": 0}, total_cost_usd=0.5, **given)
    recorder.record_trace()
    line, trace = recorded.lines()[-2:]
    assert (line.get("error"), line.get("http_status")) == (error, status)
    assert ("usage" in line) is (error is None)
    # The trace's sums are those of its calls.
    assert trace["totals"]["input_tokens"] == (9 if error is None else 0)
    assert trace["totals"]["cost_usd"] == line["cost"]["total_usd"] == 0.5


def test_an_embedding_has_its_input_and_its_tokens_and_no_vectors(recorded: Recorded) -> None:
    recorder = TraceRecorder()
    recorder.record_embedding(model="text-embedding-3-small", input=["a", "b"], input_tokens=7, duration_ms=3)
    recorder.record_embedding(response=EMBEDDINGS, input="a", total_cost_usd=0.5)
    first, second = recorded.lines("embedding")
    assert (first["input"], first["usage"], first["latency_ms"]) == (["a", "b"], {"input_tokens": 7}, 3)
    assert (second["model"], second["usage"], second["cost"]) == ("e3", {"input_tokens": 9}, {"total_usd": 0.5})
    assert "0.25" not in str(second)


EMBEDDINGS = {
    "object": "list",
    "model": "e3",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25]}],
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}


def test_an_embedding_response_makes_an_embedding_of_a_generation(recorded: Recorded) -> None:
    with TraceRecorder().generation(input=["a"]) as call:
        call.finish(EMBEDDINGS)
    line = recorded.line("embedding")
    assert (line["model"], line["input"], line["usage"]) == ("e3", ["a"], {"input_tokens": 9})


def test_a_span_has_what_went_in_and_what_came_out(recorded: Recorded) -> None:
    TraceRecorder().record_span(
        "search", input={"q": "x"}, output=[1, None], duration_ms=2, kind="tool", error="none found"
    )
    line = recorded.line("span")
    assert (line["name"], line["input"], line["output"], line["kind"]) == ("search", {"q": "x"}, [1, None], "tool")
    assert (line["latency_ms"], line["error"]) == (2, {"message": "none found"})


@for_each("value", [4, -1.5, True, "high"])
def test_metrics_and_feedback_have_a_name_and_a_value(recorded: Recorded, value: Any) -> None:
    recorder = TraceRecorder(trace_id="t")
    recorder.record_metric("tests_added", value, by="bot")
    recorder.record_feedback("helpful", value, text="thanks")
    metric, feedback = recorded.lines("metric")[-1], recorded.lines("feedback")[-1]
    assert (metric["metric"], metric["value"], metric["trace_id"]) == ("tests_added", value, "t")
    assert metric["properties"] == {"by": "bot"}
    assert (feedback["feedback"], feedback["value"], feedback["text"]) == ("helpful", value, "thanks")


def test_the_trace_sums_up_what_was_recorded(recorded: Recorded) -> None:
    recorder = TraceRecorder("review", properties={"pull_request": 1})
    recorder.record_generation(usage=USAGE, total_cost_usd=0.5)
    recorder.record_generation(usage={"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 90}})
    recorder.record_generation(error="no")
    recorder.record_embedding(input_tokens=7, total_cost_usd=0.25)
    recorder.record_span("tool", error="no")
    recorder.record_trace(verdict="approve", tier="T1", input="diff", output="ok")
    line = recorded.line("trace")
    assert line["totals"] == {
        "generations": 3,
        "spans": 1,
        "embeddings": 1,
        "errors": 2,
        "input_tokens": 18 + 100 + 7,
        "output_tokens": 4,
        "cost_usd": 0.75,
    }
    assert line["properties"] == {"pull_request": 1, "verdict": "approve", "tier": "T1"}
    assert (line["name"], line["input"], line["output"], line["outcome"]) == ("review", "diff", "ok", "ok")
    assert line["latency_ms"] >= 0
    assert {one["trace_id"] for one in recorded.lines()} == {recorder.trace_id}


def test_a_trace_ends_once(recorded: Recorded) -> None:
    recorder = TraceRecorder("review")
    recorder.record_trace(error="failed", duration_ms=5)
    recorder.record_trace()
    line = recorded.line("trace")
    assert (line["outcome"], line["error"], line["latency_ms"]) == ("failed", {"message": "failed"}, 5)
    assert "cost_usd" not in line["totals"]


def test_a_recorder_as_a_context_manager_ends_its_trace(recorded: Recorded) -> None:
    with contextlib.suppress(ZeroDivisionError), TraceRecorder("review"):
        _ = 1 / 0
    assert recorded.line("trace")["error"] == {"type": "ZeroDivisionError", "message": "division by zero"}


def test_many_records_are_summed_up(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llma_recorder.recorder._FOLD_AT", 10)
    recorder = TraceRecorder()
    for _ in range(25):
        recorder.record_span("s")
    recorder.record_trace()
    assert recorded.line("trace")["totals"]["spans"] == 25


def test_a_local_trace_says_so_in_every_line(recorded: Recorded) -> None:
    with TraceRecorder("review", local=True) as recorder:
        recorder.record_generation(model="m", input="hi", output_text="ho")
        with recorder.span("inner"):
            pass
    TraceRecorder("other").record_metric("m", 1)
    assert [line.get("local") for line in recorded.lines()] == [True, True, True, None]
    assert recorded.line("generation")["input"] == "hi"


def test_in_privacy_mode_no_content_is_written(recorded: Recorded) -> None:
    secret = "c0ntent"
    whole = TraceRecorder("review", privacy_mode=True)
    single = TraceRecorder("review")
    answer = {"role": "assistant", "content": secret, "type": "message", "usage": USAGE}
    given: list[tuple[TraceRecorder, dict[str, Any]]] = [(whole, {}), (single, {"privacy_mode": True})]
    for recorder, private in given:
        recorder.record_generation(
            input_messages=secret, output_text=secret, tools=[secret], error=ValueError(secret), **private
        )
        parameters = {"temperature": 0.5, "stop": secret, "response_format": {"name": secret}}
        recorder.record_generation(
            input=secret,
            output=[secret],
            structured_output=secret,
            response=answer,
            model_parameters=parameters,
            **private,
        )
        recorder.record_embedding(input=[secret], error=secret, **private)
        recorder.record_span("s", input=secret, output={"a": secret}, error={"message": secret}, **private)
        with recorder.span("s", input=secret, **private) as span, recorder.generation(input=secret, **private) as call:
            call.finish(answer)
            span.finish(secret)
        recorder.record_metric("quality", 4, **private)
        recorder.record_feedback("helpful", text=secret, **private)
        recorder.record_trace(input=secret, output=secret, error=secret, **private)
    assert all(line["privacy_mode"] for line in recorded.lines())
    assert not any("privacy_mode" in line.get("properties", {}) for line in recorded.lines())
    assert len(recorded.lines()) == 18
    assert secret not in recorded.files[0].read_text()
    failed, answered = recorded.lines("generation")[:2]
    assert failed["error"] == {"type": "ValueError"}
    assert (answered["usage"], answered["model_parameters"]) == (USAGE, {"temperature": 0.5})


@for_each(
    "given, cost",
    [
        (0, 0),
        (0.0, 0),
        ("0.0123", 0.0123),
        ("1e-05", 1e-05),
        (decimal.Decimal("0.5"), 0.5),
        (-1, None),
        ("-1", None),
        ("$5", None),
        ("nan", None),
        (True, None),
    ],
)
def test_a_cost_is_the_callers_if_it_is_one(recorded: Recorded, given: Any, cost: float | None) -> None:
    TraceRecorder().record_generation(model="m", total_cost_usd=given)
    assert recorded.lines("generation")[-1].get("cost", {}).get("total_usd") == cost


def test_nothing_raises_where_even_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("POSTHOG_LLMA_OUTBOX", "outbox")
    gone.rmdir()
    recorder = TraceRecorder()
    assert not recorder.enabled
    recorder.record_span("s")
    assert not recorder.flush()
