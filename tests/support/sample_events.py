"""Encoded events in the shape of the public contract, for tests of what keeps, reads and shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from llma_core.events import CaptureEvent

__all__ = ["START", "generation", "measure", "opening", "span", "trace"]

START = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def generation(
    span_id: str,
    *,
    at: float = 0.0,
    trace_id: str = "trace-1",
    parent: str | None = None,
    model: str | None = "claude-opus-5-5",
    tokens: tuple[int, int] | None = (100, 10),
    cache: tuple[int, int] | None = None,
    latency: float | None = 1.0,
    stop_reason: str | None = "end_turn",
    error: tuple[str, str] | None = None,
    agent: str = "claude-code",
    text: str = "",
    title: str | None = None,
    prompt: str | None = None,
) -> CaptureEvent:
    """Make a generation that ended *at* seconds after START; *tokens* are (in, out), *error* is (type, message)."""
    properties: dict[str, object] = {
        "$ai_model": model,
        "$ai_latency": latency,
        "$ai_stop_reason": stop_reason,
        "$ai_agent_name": agent,
        "$ai_is_error": error is not None,
        "$ai_trace_name": title,
        "$ai_user_prompt": prompt,
        "$ai_output_choices": [{"role": "assistant", "content": [{"type": "text", "text": text}]}],
    }
    if tokens is not None:
        properties |= {"$ai_input_tokens": tokens[0], "$ai_output_tokens": tokens[1]}
    if cache is not None:
        properties |= {"$ai_cache_read_input_tokens": cache[0], "$ai_cache_creation_input_tokens": cache[1]}
    if error is not None:
        properties |= {"$ai_error_type": error[0], "$ai_error": error[1]}
    return _event("$ai_generation", span_id, trace_id, parent or trace_id, at, properties)


def span(
    span_id: str,
    name: str,
    *,
    parent: str,
    at: float = 0.0,
    trace_id: str = "trace-1",
    latency: float | None = 0.5,
    status: str = "ok",
    error: str | None = None,
) -> CaptureEvent:
    """Make a tool call whose result came *at* seconds after START."""
    properties: dict[str, object] = {
        "$ai_span_name": name,
        "$ai_span_type": "agent" if name == "Agent" else "tool",
        "$ai_latency": latency,
        "$ai_is_error": error is not None,
        "$ai_error": error,
        "claude_code_tool_status": status,
    }
    return _event("$ai_span", span_id, trace_id, parent, at, properties)


def trace(
    name: str = "Count the files",
    *,
    at: float = 0.0,
    trace_id: str = "trace-1",
    latency: float | None = 9.0,
) -> CaptureEvent:
    """Make the event of a whole trace."""
    properties: dict[str, object] = {"$ai_trace_name": name, "$ai_span_name": name, "$ai_latency": latency}
    properties["claude_code_trace"] = "final"
    return _event("$ai_trace", trace_id, trace_id, None, at, properties)


def opening(name: str = "Count the files", *, at: float = 0.0, trace_id: str = "trace-1") -> CaptureEvent:
    """Make the trace of a session that has begun."""
    properties: dict[str, object] = {"$ai_trace_name": name, "$ai_span_name": name, "claude_code_trace": "open"}
    return _event("$ai_trace", trace_id, trace_id, None, at, properties)


def measure(name: str, *, at: float = 0.0, trace_id: str = "trace-1", **said: object) -> CaptureEvent:
    """Make an event that measures something: an `$ai_embedding`, `$ai_metric` or `$ai_feedback`, with what it says."""
    return _event(name, f"{name}-{at}", trace_id, trace_id, at, {f"$ai_{key}": value for key, value in said.items()})


def _event(
    name: str, span_id: str, trace_id: str, parent: str | None, at: float, properties: dict[str, object]
) -> CaptureEvent:
    uuid = str(uuid5(NAMESPACE_URL, f"{name}|{trace_id}|{span_id}"))
    timestamp = START + timedelta(seconds=at)
    known = {
        "$ai_trace_id": trace_id,
        "$ai_session_id": trace_id,
        "$ai_span_id": span_id,
        "$ai_parent_id": parent,
        "$ai_project_name": "sample-project",
        **properties,
    }
    body = {
        "event": name,
        "uuid": uuid,
        "distinct_id": "someone",
        "timestamp": timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "properties": {key: value for key, value in known.items() if value is not None},
    }
    return CaptureEvent(name=name, uuid=uuid, identity=f"{name}|{span_id}", body=json.dumps(body).encode())
