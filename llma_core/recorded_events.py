"""The properties of events that programs recorded, and what callers say of a session.

A recorded line may be of any provider, so its content is gone through by `chat`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from llma_core import chat
from llma_core.privacy import Policy, TraceName, is_name
from llma_core.properties import Attribution, adds_up, raw_usage, refused_properties, seconds, tool_name
from llma_core.spans import Recorded, RecordedCost, RecordedTotals, SessionFacts, TokenUsage

__all__ = ["callers_properties", "recorded_attribution", "recorded_properties"]

_encode = msgspec.json.Encoder().encode


def recorded_attribution(span: Recorded, attribution: Attribution) -> Attribution:
    """Return *attribution* with what the line says of itself: whose it is, its properties and groups, and its privacy.

    Nobody is known to a line that names no person, where the settings name none: then its trace stands for one.
    """
    properties = _given(span.properties, span.groups)
    distinct_id, identified = attribution.distinct_id, attribution.identified
    if span.distinct_id is not None:
        distinct_id, identified = span.distinct_id, True
    elif not identified:
        distinct_id = span.trace
    policy = replace(attribution.policy, level="metadata") if span.is_private else attribution.policy
    said = (distinct_id, identified, policy)
    if not properties and said == (attribution.distinct_id, attribution.identified, attribution.policy):
        return attribution
    return replace(
        attribution,
        distinct_id=distinct_id,
        identified=identified,
        policy=policy,
        properties={**attribution.properties, **properties},
    )


def callers_properties(facts: SessionFacts) -> dict[str, Any]:
    """Return the properties, without the refused ones, and the groups that the caller gives a session."""
    return _given(facts.properties, facts.groups)


def _given(properties: bytes | None, groups: bytes | None) -> dict[str, Any]:
    """Return the properties, without the refused ones, and the groups."""
    said = _members(properties)
    refused = refused_properties(said)
    found = {name: value for name, value in said.items() if name not in refused}
    return {**found, "$groups": belongs} if (belongs := _members(groups)) else found


def _members(data: bytes | None) -> dict[str, Any]:
    """Return what a JSON object holds, without null; nothing if there is none, or it cannot be decoded."""
    value = chat.decoded(data)
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else {}


def recorded_properties(span: Recorded, attribution: Attribution) -> dict[str, Any]:
    """Return the properties that only the line determines, as far as they may leave."""
    policy = attribution.policy
    is_trace = span.kind == "trace"
    own = span.trace if is_trace else span.span or span.identity
    found: dict[str, Any] = {
        "$ai_trace_id": span.trace,
        "$ai_session_id": span.session,
        "$ai_parent_id": None if is_trace else span.parent or span.trace,
        "$ai_span_id": None if span.kind in ("metric", "feedback") else own,
        "$ai_span_name": _label(span.name, policy),
        "$ai_trace_name": _label(span.name, policy) if is_trace else None,
    }
    if span.kind in ("metric", "feedback"):
        return found | _score(span, policy)
    found["$ai_latency"] = seconds(0, span.latency_ms)
    if span.kind in ("generation", "embedding"):
        found |= _call(span, policy)
    else:
        found |= _span(span, policy)
    found["$ai_is_error"] = span.error is not None or span.outcome == "failed"
    if span.error is not None:
        may_leave = policy.tools if span.kind == "span" else policy.conversation
        found["$ai_error"] = span.error.message or None if may_leave else None
        found["$ai_error_type"] = span.error.type if policy.conversation or is_name(span.error.type or "") else None
    found["$ai_http_status"] = span.http_status
    return found


def _call(span: Recorded, policy: Policy) -> dict[str, Any]:
    """Return the properties that a generation or an embedding has of its own."""
    usage, cost = span.usage or TokenUsage(), span.cost or RecordedCost()
    parts = (cost.input, cost.output)
    total = sum(filter(None, parts)) if cost.total is None and None not in parts else cost.total
    split = (usage.cache_creation_5m, usage.cache_creation_1h) if adds_up(usage) else (None, None)
    cached = (usage.cache_read, usage.cache_creation) != (None, None)
    found = {
        "$ai_model": span.model,
        "$ai_provider": span.provider,
        "$ai_input_tokens": usage.input,
        "$ai_cache_read_input_tokens": usage.cache_read,
        "$ai_cache_creation_input_tokens": usage.cache_creation,
        "$ai_cache_creation_5m_input_tokens": split[0],
        "$ai_cache_creation_1h_input_tokens": split[1],
        "$ai_cache_reporting_exclusive": span.is_exclusive if span.is_exclusive is not None or not cached else False,
        "$ai_usage": raw_usage(usage) if usage.raw else None,
        "$ai_total_cost_usd": total,
        "$ai_input_cost_usd": cost.input,
        "$ai_output_cost_usd": cost.output,
        # The receiver keeps a total that it is told is the caller's, and estimates none.
        "$ai_cost_passthrough": True if total is not None else None,
        "$ai_base_url": span.base_url,
        "$ai_request_id": span.request_id,
    }
    if span.kind == "embedding":
        given = chat.decoded(span.input) if policy.conversation else None
        return {**found, "$ai_input": given}
    called = [tool_name(name, policy) for name in chat.calls(span.output)]
    tools: Any = span.tools
    if tools is not None:
        offered = chat.decoded(tools) if policy.conversation else [{"name": name} for name in chat.tool_names(tools)]
        tools = offered or None
    return {
        **found,
        "$ai_output_tokens": usage.output,
        "$ai_total_tokens": None if None in (usage.input, usage.output) else (usage.input or 0) + (usage.output or 0),
        "$ai_reasoning_tokens": usage.reasoning or None,
        "$ai_web_search_count": usage.web_searches or None,
        "$ai_time_to_first_token": seconds(0, span.first_token_ms),
        "$ai_stream": span.stream,
        "$ai_stop_reason": span.stop_reason,
        "$ai_service_tier": span.service_tier,
        "$ai_model_parameters": chat.parameters(span.parameters, policy),
        "$ai_input": chat.messages(span.input, policy, "user"),
        "$ai_output_choices": chat.messages(span.output, policy, "assistant"),
        "$ai_tools": tools,
        "$ai_tools_called": ",".join(name.replace(",", "_") for name in called),
        "$ai_tool_call_count": len(called),
        f"{span.context.framework.prefix}turns": span.turns,
    }


def _span(span: Recorded, policy: Policy) -> dict[str, Any]:
    """Return the properties that a span or a trace has of its own."""
    prefix, is_trace = span.context.framework.prefix, span.kind == "trace"
    found = {
        "$ai_input_state": chat.state(span.input, policy, of_trace=is_trace),
        "$ai_output_state": chat.state(span.output, policy, of_trace=is_trace),
    }
    if not is_trace:
        kind = span.span_type or "span"
        return {**found, "$ai_span_type": kind if is_name(kind) else "span"}
    totals = span.totals or RecordedTotals()
    return {
        **found,
        "$ai_total_input_tokens": totals.input_tokens,
        "$ai_total_output_tokens": totals.output_tokens,
        f"{prefix}trace": "final",
        f"{prefix}outcome": span.outcome or ("failed" if span.error is not None else None),
        f"{prefix}generations": totals.generations,
        f"{prefix}spans": totals.spans,
        f"{prefix}embeddings": totals.embeddings,
        f"{prefix}errors": totals.errors,
        # The receiver adds up the costs of the calls. A cost of the trace would count a second time.
        f"{prefix}client_cost_usd": totals.cost,
    }


def _score(span: Recorded, policy: Policy) -> dict[str, Any]:
    """Return the properties that a metric or a feedback has of its own."""
    prefix, name = span.context.framework.prefix, _label(span.label, policy)
    value = chat.decoded(span.value)
    if isinstance(value, list | dict) or (isinstance(value, str) and not (policy.conversation or is_name(value))):
        value = None
    if span.kind == "metric":
        return {"$ai_metric_name": name, "$ai_metric_value": value}
    text = span.text if policy.conversation else None
    if not text and span.label and is_name(span.label):
        # The receiver shows a feedback by its text alone.
        text = (
            span.label
            if value is None
            else f"{span.label}: {value if isinstance(value, str) else _encode(value).decode()}"
        )
    return {"$ai_feedback_text": text, f"{prefix}feedback": name, f"{prefix}feedback_value": value}


def _label(name: str | None, policy: Policy) -> TraceName | str | None:
    """Return what a program calls something. Where no content may leave, only what looks like a name does."""
    if name is None or policy.conversation:
        return policy.trace_name(name)
    return name if is_name(name) else None
