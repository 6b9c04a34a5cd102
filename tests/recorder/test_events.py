"""Both ends together: what the recorder writes becomes the daemon's events."""

from __future__ import annotations

from typing import Any

from llma_recorder import TraceRecorder

from llma_core.properties import Attribution
from llma_core.spans import Recorded as RecordedSpan
from tests.recorder.program import RESPONSE
from tests.support.outbox import spans
from tests.support.recorded import Recorded
from tests.support.sessions import body, built


def events(recorded: Recorded) -> list[dict[str, Any]]:
    """Return the events of everything that was recorded."""
    found = spans(recorded.files[0].read_bytes())
    assert all(isinstance(each, RecordedSpan) for each in found), found
    return [body(event) for event in built(found, Attribution(distinct_id="somebody"))]


def test_every_line_is_an_event_with_its_uuid_and_its_time(recorded: Recorded) -> None:
    recorder = TraceRecorder("review", distinct_id="review-bot", session_id="s", properties={"pull_request": 1})
    with recorder.span("retrieve", input={"q": 1}), recorder.generation(model="opus", input="hi") as call:
        call.finish(RESPONSE)
    recorder.record_generation(model="gpt-4o", error=ValueError("no"), http_status=429, total_cost_usd=0.5)
    recorder.record_embedding(model="e", input=["a"], input_tokens=3)
    recorder.record_metric("score", 0.5)
    recorder.record_feedback("helpful", True, text="thanks")
    recorder.record_trace(verdict="approve")
    lines, found = recorded.lines(), events(recorded)
    assert [event["event"] for event in found] == [
        *("$ai_generation", "$ai_span", "$ai_generation", "$ai_embedding", "$ai_metric", "$ai_feedback", "$ai_trace")
    ]
    assert [event["uuid"] for event in found] == [line["uuid"] for line in lines]
    assert {event["distinct_id"] for event in found} == {"review-bot"}
    properties = [event["properties"] for event in found]
    assert {each["$ai_trace_id"] for each in properties} == {recorder.trace_id}
    assert {each["pull_request"] for each in properties} == {1}
    answered, span, failed, embedded, *_, trace = properties
    assert (answered["$ai_input_tokens"], answered["$ai_output_tokens"]) == (3, 4)
    assert answered["$ai_cache_read_input_tokens"] == 10
    assert answered["$ai_parent_id"] == span["$ai_span_id"]
    assert (failed["$ai_is_error"], failed["$ai_http_status"], failed["$ai_total_cost_usd"]) == (True, 429, 0.5)
    assert "$ai_input_tokens" not in failed
    assert embedded["$ai_input_tokens"] == 3
    assert (trace["verdict"], trace["$ai_trace_name"]) == ("approve", "review")
