"""What is read from the responses of the Anthropic and OpenAI SDKs, as objects and as dicts."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from llma_recorder import TraceRecorder

from tests.support.each import for_each
from tests.support.recorded import Recorded

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "hi"}, {"type": "tool_use", "id": "t", "name": "bash", "input": {"a": 1}}],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 3,
        "output_tokens": 4,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 9,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5},
        "output_tokens_details": {"thinking_tokens": 1},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "standard",
    },
}
MESSAGE_LINE = {
    "model": "claude-opus-5-5",
    "provider": "anthropic",
    "output": [{"role": "assistant", "content": MESSAGE["content"]}],
    "stop_reason": "tool_use",
    "service_tier": "standard",
    "cache_exclusive": True,
    "raw_usage": MESSAGE["usage"],
    "usage": {
        "input_tokens": 3,
        "output_tokens": 4,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 9,
        "cache_creation_5m_input_tokens": 4,
        "cache_creation_1h_input_tokens": 5,
        "reasoning_tokens": 1,
        "web_search_count": 2,
    },
}
CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "model": "gpt-5",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
        },
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}},
    ],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}
COMPLETION_LINE = {
    "model": "gpt-5",
    "output": [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "hi"},
    ],
    "stop_reason": "tool_calls",
    "service_tier": "default",
    "cache_exclusive": False,
    "raw_usage": COMPLETION["usage"],
    "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4, "reasoning_tokens": 3},
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "id": "rs", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
        {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"},
    ],
    "temperature": 1.0,
    "tools": [{"type": "function", "name": "f"}],
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
    },
}
BLOCKS = [{"type": "reasoning", "id": "rs", "summary": []}, {"type": "text", "text": "hi"}, CALL]
RESPONSE_LINE = {
    "model": "gpt-5",
    "provider": "openai",
    "output": [{"role": "assistant", "content": BLOCKS}],
    "stop_reason": "completed",
    "model_parameters": {"temperature": 1.0},
    "tools": RESPONSE["tools"],
    "cache_exclusive": False,
    "raw_usage": RESPONSE["usage"],
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 2,
        "reasoning_tokens": 3,
    },
}
AGENT_RESULT = {
    "type": "result",
    "subtype": "success",
    "session_id": "s",
    "is_error": False,
    "result": "Done.",
    "duration_ms": 1200,
    "num_turns": 3,
    "total_cost_usd": 0.5,
    "usage": {"input_tokens": 1, "output_tokens": 2},
    "model_usage": {"claude-opus-5-5": {"inputTokens": 1, "outputTokens": 2, "costUSD": 0.5}},
}
AGENT_LINE = {
    "model": "claude-opus-5-5",
    "provider": "anthropic",
    "output": [{"role": "assistant", "content": "Done."}],
    "stop_reason": "success",
    "latency_ms": 1200,
    "num_turns": 3,
    "cost": {"total_usd": 0.5},
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
TEXT_COMPLETION = {"object": "text_completion", "model": "g", "choices": [{"text": "abc", "finish_reason": "length"}]}
TEXT_LINE = {"model": "g", "output": [{"role": "assistant", "content": "abc"}], "stop_reason": "length"}


class Model:
    """An object as the SDKs' models are: attributes, and a method that dumps them."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value
        for name, item in value.items():
            setattr(self, name, wrapped(item))

    def model_dump(self, *, mode: str, exclude_none: bool, warnings: bool) -> dict[str, Any]:
        assert (mode, exclude_none, warnings) == ("json", True, False)
        return without_nulls(self._value)  # type: ignore[no-any-return]  # a dict stays one


def wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Model(value) if not {"costUSD", "claude-opus-5-5"} & set(value) else value
    return [wrapped(item) for item in value] if isinstance(value, list) else value


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def read(recorded: Recorded, response: object, **given: Any) -> dict[str, Any]:
    TraceRecorder().record_generation(response=response, **given)
    line = recorded.lines("generation")[-1]
    return {key: value for key, value in line.items() if key not in {"v", "type", "uuid", "at", "trace_id"}}


@for_each(
    "response, line",
    [
        (MESSAGE, MESSAGE_LINE),
        (COMPLETION, COMPLETION_LINE),
        (RESPONSE, RESPONSE_LINE),
        ({"type": "response.completed", "response": RESPONSE}, RESPONSE_LINE),
        (AGENT_RESULT, AGENT_LINE),
        (TEXT_COMPLETION, TEXT_LINE),
    ],
)
def test_a_response_says_what_was_answered(recorded: Recorded, response: dict[str, Any], line: dict[str, Any]) -> None:
    assert read(recorded, response) == line
    # Models leave out what is null.
    found = read(recorded, wrapped(response))
    assert without_nulls(found) == without_nulls(line)


def test_what_the_caller_says_comes_before_what_the_response_says(recorded: Recorded) -> None:
    found = read(
        recorded, MESSAGE, model="opus", provider="bedrock", output_text="x", usage={"input_tokens": 1}, stop_reason="s"
    )
    assert (found["model"], found["provider"], found["output"], found["stop_reason"]) == ("opus", "bedrock", "x", "s")
    assert found["usage"] == {"input_tokens": 1}


def test_responses_that_failed_are_errors(recorded: Recorded) -> None:
    failed = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "sorry"}, "output": []}
    found = read(recorded, failed)
    assert (found["error"], found["output"]) == ({"type": "server_error", "message": "sorry"}, [])
    cut = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert (read(recorded, cut)["stop_reason"], "error" in read(recorded, cut)) == ("max_output_tokens", False)
    # An agent that gave up has cost something all the same.
    gave_up = read(recorded, {**AGENT_RESULT, "subtype": "error_max_turns", "is_error": True, "result": None})
    assert (gave_up["error"], gave_up["cost"]) == ({"type": "error_max_turns"}, {"total_usd": 0.5})


@for_each(
    "response, output",
    [
        ("plain text", [{"role": "assistant", "content": "plain text"}]),
        ({"some": "form"}, [{"some": "form"}]),
        (["a", "b"], ["a", "b"]),
        (iter(["not read"]), None),
        (MagicMock(), None),
        (12, None),
    ],
)
def test_what_is_no_response_is_the_output_if_it_is_json(recorded: Recorded, response: object, output: Any) -> None:
    found = read(recorded, response)
    assert found == ({} if output is None else {"output": output})


def test_a_stream_is_not_consumed(recorded: Recorded) -> None:
    stream = iter([1, 2])
    read(recorded, stream, output=stream, input_messages=stream, properties={"s": stream})
    assert list(stream) == [1, 2]


@for_each(
    "usage, counts, exclusive",
    [
        (SimpleNamespace(prompt_tokens=1, completion_tokens=2), {"input_tokens": 1, "output_tokens": 2}, None),
        (
            SimpleNamespace(prompt_tokens=5, prompt_tokens_details=SimpleNamespace(cached_tokens=2)),
            {"input_tokens": 5, "cache_read_input_tokens": 2},
            False,
        ),
        # LiteLLM adds Anthropic's counts to OpenAI's, which contain them.
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 3,
            },
            {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3},
            False,
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 4},
            {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4},
            True,
        ),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}},
            {
                "cache_creation_5m_input_tokens": 1,
                "cache_creation_1h_input_tokens": 2,
                "cache_creation_input_tokens": 3,
            },
            True,
        ),
        ({"input_tokens": 5.0, "output_tokens": None}, {"input_tokens": 5}, None),
        ({"input_tokens": "5", "output_tokens": "7.0"}, {"input_tokens": 5, "output_tokens": 7}, None),
        ({"input_tokens": -1, "output_tokens": "-7", "reasoning_tokens": True}, None, None),
        ({"input_tokens": 5.5, "output_tokens": "nan"}, None, None),
        ({"input_tokens": float("nan"), "output_tokens": 10**30}, None, None),
        ({}, None, None),
        ("many", None, None),
        (MagicMock(), None, None),
    ],
)
def test_token_counts_are_read_from_all_shapes(
    recorded: Recorded, usage: object, counts: dict[str, int] | None, exclusive: bool | None
) -> None:
    found = read(recorded, None, usage=usage)
    assert (found.get("usage"), found.get("cache_exclusive")) == (counts, exclusive)


def test_an_object_of_an_unknown_form_that_says_what_it_consists_of_is_the_output(recorded: Recorded) -> None:
    @dataclasses.dataclass
    class Transcription:
        text: str

    assert read(recorded, Transcription("hello"))["output"] == [{"text": "hello"}]
    assert "output" not in read(recorded, iter(["a stream"]))


def test_the_chunks_of_a_stream_are_one_answer(recorded: Recorded) -> None:
    def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}]
        return {"object": "chat.completion.chunk", "model": "gpt-4o", "choices": choices, **more}

    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunks: list[Any] = [
        chunk({"role": "assistant", "content": "Let "}),
        chunk({"content": "me see."}, usage=None),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        chunk({}, finish_reason="tool_calls"),
        {"object": "chat.completion.chunk", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 9}},
    ]
    found = read(recorded, chunks)
    assert found["output"] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"type": "function", "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}],
        }
    ]
    assert (found["model"], found["stop_reason"], found["usage"]) == ("gpt-4o", "tool_calls", {"input_tokens": 9})
    assert read(recorded, [*chunks[:1], None, 7])["output"] == [{"role": "assistant", "content": "Let "}]
    # Azure begins with what its filters say; others write `reasoning`; older clients name one function.
    azure = {"object": "", "model": "", "choices": [], "prompt_filter_results": []}
    thought, one = chunk({"reasoning": "Hm."}), chunk({"function_call": {"name": "f", "arguments": "{}"}})
    found = read(recorded, [azure, thought, one])
    made = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "reasoning": "Hm.", "tool_calls": [made]}
    assert (found["model"], found["output"]) == ("gpt-4o", [said])
