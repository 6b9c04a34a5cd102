"""Records what LiteLLM calls, in a program and in LiteLLM's proxy.

    litellm.callbacks = [llma_recorder.litellm.Logger()]

and in the proxy's configuration:

    litellm_settings:
      callbacks: llma_recorder.litellm.logger

Everything comes from LiteLLM's `StandardLoggingPayload`, which is the same for all providers. The extra `litellm` names
the versions of LiteLLM that this was made with.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from llma_recorder.encoding import plain
from llma_recorder.recorder import TraceRecorder
from llma_recorder.values import member, number, text

__all__ = ["Logger", "logger"]

_PLACED = frozenset(
    ("parent_run_id", "parent_id", "user_id", "trace_id", "session_id", "generation_name", "generation_id")
)
"""Keys of the metadata that have a place of their own in a line."""
_INTERNAL_PREFIXES = ("user_api_", "litellm_", "requester_", "global_max_", "model_group", "posthog_", "_")
_INTERNAL = frozenset(
    {
        *("endpoint", "caching_groups", "headers", "deployment", "model_info", "api_base", "hidden_params"),
        *("applied_guardrails", "applied_policies", "policy_sources", "attempted_retries", "max_retries"),
        *("usage_object", "spend_logs_metadata", "previous_models", "queue_time_seconds", "team_id", "team_alias"),
        *("attempted_fallbacks", "original_model_group", "deployment_model_name", "llm_api_timing_windows"),
        *("kubernetes_pod_routing", "routing_decision", "standard_logging_guardrail_information"),
    }
)
"""Keys of the metadata that LiteLLM 1.110 and its router put there."""
_INTERNAL_OF_PROXY = frozenset(("headers", "used_client_oauth_token", "user_agent", "agent_id"))
"""Keys that a proxy puts into the metadata before it keeps a copy of what its client has sent."""
_REDACTED = "redacted-by-litellm"
"""What LiteLLM writes in place of content that it is told to keep out of logs."""
_TRUE = frozenset({"1", "true", "yes", "on"})
_NO_PARAMETERS = frozenset({"tools", "functions", "user", "stream", "metadata", "extra_body", "input", "messages"})


class Logger(CustomLogger):  # type: ignore[misc]  # LiteLLM need not be installed where types are checked
    """A callback for LiteLLM: each call, successful or not, becomes one line of the outbox.

    The user is `user=`, or `user_id` of the metadata, or the proxy's end user, or else the trace. Trace, session and
    parent come from `trace_id`, `session_id` and `parent_id` of the metadata, or from LiteLLM's own parameters. All
    other metadata becomes properties. `posthog_api_key` and `posthog_api_url` (or `posthog_host`) in the metadata, or
    `posthog_api_key` and `posthog_host` of a call, name its PostHog project. If POSTHOG_MOCK is true, nothing
    leaves the machine.
    """

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Record a call."""
        _record(self, kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Record a call that failed."""
        _record(self, kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Record a call."""
        _record(self, kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Record a call that failed."""
        _record(self, kwargs)


logger = Logger()
"""The callback that a proxy's configuration names."""


def _record(callback: Logger, kwargs: Any) -> None:
    try:
        payload = member(kwargs, "standard_logging_object")
        if isinstance(payload, dict):
            _write(kwargs, payload, is_private=_is_private(callback, kwargs, payload))
    except Exception:  # noqa: BLE001, S110 -- recording must never disturb the caller
        pass


def _write(kwargs: dict[str, Any], payload: dict[str, Any], *, is_private: bool) -> None:
    parameters = _dict(kwargs.get("litellm_params"))
    metadata = _metadata(kwargs, parameters)
    session = _session(parameters, metadata, payload)
    trace = _trace(kwargs, parameters, metadata, payload, session)
    user = text(kwargs.get("user")) or text(metadata.get("user_id")) or text(payload.get("end_user"))
    api_key, host = _route(kwargs, metadata)
    recorder = TraceRecorder(
        trace_id=trace,
        session_id=session,
        distinct_id=user or trace,
        api_key=api_key,
        host=host,
        privacy_mode=is_private,
        local=os.environ.get("POSTHOG_MOCK", "").strip().lower() in _TRUE,
    )
    started, ended = number(payload.get("startTime")), number(payload.get("endTime"))
    failed = payload.get("status") == "failure"
    common: dict[str, Any] = {
        "span_id": payload.get("id"),
        "parent_id": metadata.get("parent_run_id") or metadata.get("parent_id"),
        "ended_at": ended,
        "duration_ms": _between(started, ended),
        "properties": _properties(parameters, metadata, payload),
        **(_failure(payload) if failed else {}),
    }
    tool = _dict(_dict(payload.get("metadata")).get("mcp_tool_call_metadata"))
    if tool or not payload.get("model"):
        recorder.record_span(
            text(tool.get("name")) or text(payload.get("call_type")),
            kind="tool" if tool else None,
            input=tool.get("arguments"),
            output=None if failed else payload.get("response"),
            **common,
        )
        return
    facts: dict[str, Any] = {
        "model": _model(payload),
        "provider": payload.get("custom_llm_provider"),
        "name": metadata.get("generation_name"),
        "base_url": _base_url(payload, parameters),
        **common,
        **({} if failed else {"total_cost_usd": _cost(payload), "usage": _usage(payload)}),
    }
    if payload.get("call_type") in {"embedding", "aembedding"}:
        recorder.record_embedding(input=_texts(payload.get("messages")), **facts)
        return
    given = _dict(payload.get("model_parameters"))
    costs = {} if failed else _dict(payload.get("cost_breakdown"))
    # LiteLLM does not say it of a stream that failed.
    is_stream = payload.get("stream") is True or kwargs.get("stream") is True
    first_token = _between(started, number(payload.get("completionStartTime")))
    recorder.record_generation(
        input_messages=payload.get("messages"),
        response=None if failed else payload.get("response"),
        input_cost_usd=costs.get("input_cost"),
        output_cost_usd=costs.get("output_cost"),
        stream=is_stream,
        time_to_first_token_ms=first_token if is_stream and not failed else None,
        model_parameters={key: value for key, value in given.items() if key not in _NO_PARAMETERS} or None,
        tools=given.get("tools") or given.get("functions"),
        **facts,
    )


def _model(payload: dict[str, Any]) -> str | None:
    """Return the model as its provider names it. A router names the provider, too."""
    model, provider = text(payload.get("model")), text(payload.get("custom_llm_provider"))
    prefix = f"{provider}/"
    return model[len(prefix) :] if model is not None and provider is not None and model.startswith(prefix) else model


def _texts(messages: Any) -> Any:
    """Return the texts that were embedded, which LiteLLM logs as if they were messages of a user."""
    if isinstance(messages, list) and all(isinstance(message, dict) and "content" in message for message in messages):
        return [message["content"] for message in messages]
    return messages


def _trace(
    kwargs: dict[str, Any],
    parameters: dict[str, Any],
    metadata: dict[str, Any],
    payload: dict[str, Any],
    session: str | None,
) -> str | None:
    """Return the trace's id. LiteLLM's own may be that of the session, which would be one trace for a conversation."""
    named = text(metadata.get("trace_id"))
    if named is not None:
        return named
    for found in (parameters.get("litellm_trace_id"), kwargs.get("litellm_trace_id"), payload.get("trace_id")):
        if text(found) is not None and text(found) != session:
            return text(found)
    return text(payload.get("litellm_call_id")) or text(payload.get("id"))


def _session(parameters: dict[str, Any], metadata: dict[str, Any], payload: dict[str, Any]) -> str | None:
    """Return the session's id. Where a call names a trace and no session, LiteLLM takes the trace for one."""
    named = text(metadata.get("session_id"))
    if named is not None:
        return named
    found = text(parameters.get("litellm_session_id")) or text(payload.get("session_id"))
    return None if found == text(metadata.get("trace_id")) else found


def _metadata(kwargs: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the caller's metadata; a proxy puts what its client sent into an entry of its own.

    A router passes that of the Responses API on as a parameter of the request.
    """
    places = (_dict(kwargs.get("optional_params")).get("metadata"), parameters.get("litellm_metadata"))
    found = {key: value for place in (*places, parameters.get("metadata")) for key, value in _dict(place).items()}
    return {**found, **_dict(found.get("requester_metadata"))}


def _properties(parameters: dict[str, Any], metadata: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
    """Return the caller's own metadata. A proxy tells it apart from what it adds, which is more with each version."""
    sent = metadata.get("requester_metadata")
    if isinstance(sent, dict) or parameters.get("proxy_server_request") is not None:
        own, others = _dict(sent), _INTERNAL_OF_PROXY | _PLACED
    else:
        own, others = metadata, _INTERNAL | _PLACED
    found = {
        key: value
        for key, value in own.items()
        if key not in others and not str(key).startswith(_INTERNAL_PREFIXES) and _is_data(value)
    }
    if payload.get("cache_hit") is True:
        found.setdefault("cache_hit", True)
    return found


def _is_data(value: object) -> bool:
    """Whether a value is JSON, and no object that LiteLLM keeps in the metadata."""
    return value is not None and (isinstance(value, (str, int, float)) or not isinstance(plain(value), str))


def _is_private(callback: Logger, kwargs: dict[str, Any], payload: dict[str, Any]) -> bool:
    """Whether LiteLLM is told to keep content out of logs.

    It replaces messages and answers then, and leaves tools, parameters, documents and errors as they are.
    """
    if member(callback, "turn_off_message_logging") is True:
        return True
    messages = payload.get("messages")
    if isinstance(messages, list) and any(member(message, "content") == _REDACTED for message in messages):
        return True
    with contextlib.suppress(Exception):  # another version may have it elsewhere
        from litellm.litellm_core_utils.redact_messages import should_redact_message_logging  # noqa: PLC0415 -- not in every version

        return bool(should_redact_message_logging(kwargs))
    return False


def _cost(payload: dict[str, Any]) -> Any:
    """Return what the call cost; None if LiteLLM has no price for it, of which it says that it is 0."""
    cost = number(payload.get("response_cost"))
    is_known = bool(cost) or payload.get("cache_hit") is True or bool(_dict(payload.get("cost_breakdown")))
    return cost if is_known else None


def _usage(payload: dict[str, Any]) -> Any:
    """Return the usage with cached tokens if LiteLLM has it, or else the bare counts, if there are any."""
    found = (
        _dict(_dict(payload.get("metadata")).get("usage_object"))
        or _dict(_dict(payload.get("hidden_params")).get("usage_object"))
        or _dict(_dict(payload.get("response")).get("usage"))
    )
    if not found:
        counts = {"prompt_tokens": payload.get("prompt_tokens"), "completion_tokens": payload.get("completion_tokens")}
        return counts if any(counts.values()) else None
    # How long written tokens are cached: Anthropic's own name, at LiteLLM's place.
    written = _dict(_dict(found.get("prompt_tokens_details")).get("cache_creation_token_details"))
    return {"cache_creation": written, **found} if written else found


def _failure(payload: dict[str, Any]) -> dict[str, Any]:
    information = _dict(payload.get("error_information"))
    message = text(payload.get("error_str")) or text(information.get("error_message"))
    return {
        "error": {"type": text(information.get("error_class")) or "Exception", "message": message},
        "http_status": text(information.get("error_code")),
    }


def _base_url(payload: dict[str, Any], parameters: dict[str, Any]) -> str | None:
    hidden = _dict(payload.get("hidden_params"))
    return text(payload.get("api_base")) or text(hidden.get("api_base")) or text(parameters.get("api_base"))


def _route(kwargs: dict[str, Any], metadata: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the key and the host that the request names. A host without a key names no project."""
    dynamic, optional = _dict(kwargs.get("standard_callback_dynamic_params")), _dict(kwargs.get("optional_params"))
    places = (dynamic, kwargs, optional, _dict(optional.get("extra_body")), metadata)
    key = _named(("posthog_api_key",), *places)
    return key, _named(("posthog_api_url", "posthog_host"), *places) if key is not None else None


def _named(names: tuple[str, ...], *places: dict[str, Any]) -> str | None:
    return next((found for place in places for name in names if (found := text(place.get(name)))), None)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None or end < start else (end - start) * 1000


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
