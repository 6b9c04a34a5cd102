"""What a response of an SDK says: text, tool calls, usage, why the model stopped.

Responses are objects of the Anthropic and OpenAI SDKs, or the same as dicts: messages, chat completions, text
completions, the Responses API, embeddings, the final objects of streams, a list of all chunks of a streamed chat
completion, and the Claude Agent SDK's result message.
They are told apart by what they hold, so that a wrapped or copied one is understood as well.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from llma_recorder import failures, usage
from llma_recorder.encoding import encode, plain
from llma_recorder.failures import Failure
from llma_recorder.usage import Usage
from llma_recorder.values import count, member, number, text

__all__ = ["Response", "message", "read"]


@dataclasses.dataclass
class Response:
    """The facts of one response; what it does not say is None.

    Attributes:
        is_embedding: whether it has vectors instead of an answer.
        model: the model that answered.
        provider: anthropic or openai, if the object comes from one of their SDKs or has a form that only one has.
        output: messages with role and content, in JSON's types.
        usage: the token counts.
        model_usage: the usage by model, as the Claude Agent SDK reports it.
        stop_reason: why the model stopped, in the provider's words.
        failure: the error that the response reports.
        request_id: the provider's id of the request.
        service_tier: the tier that served it.
        model_parameters: the parameters that the response repeats.
        tools: the tool definitions that the response repeats.
        duration_ms: how long it took, in milliseconds.
        total_cost_usd: what it cost, in US dollars.
        num_turns: the number of turns it took.
    """

    is_embedding: bool = False
    model: str | None = None
    provider: str | None = None
    output: list[Any] | None = None
    usage: Usage | None = None
    model_usage: object = None
    stop_reason: str | None = None
    failure: Failure | None = None
    request_id: str | None = None
    service_tier: str | None = None
    model_parameters: dict[str, Any] | None = None
    tools: list[Any] | None = None
    duration_ms: float | None = None
    total_cost_usd: float | None = None
    num_turns: int | None = None

    def fill(self, line: dict[str, Any]) -> None:
        """Add to a generation's line what it lacks and the response says, except for content and counts."""
        for key in _FILLED:
            value = getattr(self, key)
            if value is not None and line.get(key) is None:
                line[key] = value
        if self.duration_ms is not None:
            line.setdefault("latency_ms", self.duration_ms)
        if self.tools is not None and "privacy_mode" not in line:
            line.setdefault("tools", self.tools)


_NOTHING = Response()
_FILLED = ("provider", "stop_reason", "model_parameters", "num_turns", "request_id", "service_tier")

_PARAMETERS = (
    "temperature",
    "top_p",
    "max_output_tokens",
    "reasoning",
    "truncation",
    "parallel_tool_calls",
    "tool_choice",
)


def read(given: object) -> Response:
    """Return what *given* says. What is no response of a known form is the output, if it is JSON at all."""
    if given is None:
        return _NOTHING
    try:
        return _read(given)
    except Exception:  # noqa: BLE001 -- the caller's object may raise anything
        return Response(output=[plain(given)])


def _read(given: object) -> Response:
    if isinstance(given, str):
        return Response(output=[message(given)])
    inner = member(given, "response")
    # The last event of a stream of the Responses API holds the response.
    if (
        _word(member(given, "type")) in {"response.completed", "response.incomplete", "response.failed"}
        and inner is not None
    ):
        given = inner
    chunks = _items(given) or []
    # Azure begins with one that only says how the prompt was judged.
    if any(_word(member(chunk, "object")) == "chat.completion.chunk" for chunk in chunks[:2]):
        return _streamed(chunks)
    found = _of_known_form(given)
    if found is None:
        found = Response()
        output = plain(given)
        # An object that does not say what it consists of has become its repr, such as a stream.
        if isinstance(output, (dict, list)):
            found.output = output if isinstance(output, list) else [output]
    found.model = found.model or _word(member(given, "model"))
    found.usage = found.usage or usage.read(member(given, "usage"))
    found.request_id = found.request_id or _word(member(given, "_request_id"))
    found.service_tier = (
        found.service_tier
        or _word(member(given, "service_tier"))
        or _word(member(member(given, "usage"), "service_tier"))
    )
    found.provider = found.provider or _provider(given)
    return found


def _of_known_form(given: object) -> Response | None:
    kind = _word(member(given, "object"))
    content = member(given, "content")
    choices = _items(member(given, "choices"))
    output = _items(member(given, "output"))
    data = _items(member(given, "data"))
    if choices is not None:
        return _completion(choices)
    if kind == "response" or (output is not None and member(given, "status") is not None):
        return _response(given, output or [])
    if data is not None and (kind == "list" or _word(member(data[0] if data else None, "object")) == "embedding"):
        return Response(is_embedding=True)
    if _word(member(given, "role")) == "assistant" and (isinstance(content, str) or _items(content) is not None):
        return _anthropic_message(given, content)
    if _word(member(given, "subtype")) is not None and member(given, "session_id") is not None:
        return _agent_result(given)
    return None


def _anthropic_message(given: object, content: object) -> Response:
    return Response(
        output=[{"role": "assistant", "content": plain(content)}],
        stop_reason=_word(member(given, "stop_reason")),
        provider="anthropic" if _word(member(given, "type")) == "message" else None,
    )


def _completion(choices: list[Any]) -> Response:
    """Read a chat completion, or a text completion, whose choices have a text instead of a message."""
    found = Response(output=[])
    assert found.output is not None
    for choice in choices:
        answer = member(choice, "message")
        words = member(choice, "text")
        if answer is not None:
            shown = plain(answer)
            found.output.append(_without_nulls(shown) if isinstance(shown, dict) else message(str(shown)))
        elif isinstance(words, str):
            found.output.append(message(words))
        found.stop_reason = found.stop_reason or _word(member(choice, "finish_reason"))
    return found


def _streamed(chunks: list[Any]) -> Response:
    """Join all chunks of a chat completion. Only the last one has a usage, if it was asked for."""
    found = Response(provider=_provider(chunks[-1]))
    texts: dict[int, dict[str, list[str]]] = {}
    calls: dict[int, dict[int, dict[str, Any]]] = {}
    for chunk in chunks:
        found.model = found.model or _word(member(chunk, "model"))
        found.service_tier = found.service_tier or _word(member(chunk, "service_tier"))
        found.usage = usage.read(member(chunk, "usage")) or found.usage
        for choice in _items(member(chunk, "choices")) or []:
            place, delta = count(member(choice, "index")) or 0, member(choice, "delta")
            found.stop_reason = found.stop_reason or _word(member(choice, "finish_reason"))
            pieces = texts.setdefault(place, {"content": []})
            for key in ("content", "refusal", "reasoning_content", "reasoning"):
                if isinstance(piece := member(delta, key), str):
                    pieces.setdefault(key, []).append(piece)
            for call in _items(member(delta, "tool_calls")) or []:
                _add_call(calls.setdefault(place, {}), call)
            # As one call was made before there were several.
            if (function := member(delta, "function_call")) is not None:
                _add_call(calls.setdefault(place, {}), {"function": function})
    found.output = []
    for place, pieces in sorted(texts.items()):
        answer: dict[str, Any] = {"role": "assistant", **{key: "".join(words) for key, words in pieces.items()}}
        if made := calls.get(place):
            answer["content"] = answer["content"] or None
            answer["tool_calls"] = [made[index] for index in sorted(made)]
        found.output.append(answer)
    return found


def _add_call(calls: dict[int, dict[str, Any]], piece: object) -> None:
    """Add a piece of a tool call. The first one has the id and the name, all have parts of the arguments."""
    index, function = count(member(piece, "index")) or 0, member(piece, "function")
    call = calls.setdefault(index, {"type": "function", "function": {"arguments": ""}})
    if (identity := _word(member(piece, "id"))) is not None:
        call["id"] = identity
    if (name := _word(member(function, "name"))) is not None:
        call["function"]["name"] = name
    if isinstance(words := member(function, "arguments"), str):
        call["function"]["arguments"] += words


def _response(given: object, output: list[Any]) -> Response:
    """Read a response of the Responses API. Its items become one message: text, and tool calls as functions."""
    blocks: list[Any] = []
    for item in output:
        shown = plain(item)
        if not isinstance(shown, dict):
            continue
        if shown.get("type") == "message":
            parts = shown.get("content")
            for part in parts if isinstance(parts, list) else []:
                is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
                blocks.append({"type": "text", "text": part["text"]} if is_text else part)
        elif shown.get("type") == "function_call":
            call = {"name": shown.get("name"), "arguments": shown.get("arguments")}
            blocks.append({"type": "function", "id": shown.get("call_id"), "function": call})
        else:
            blocks.append(shown)
    error = member(given, "error")
    status = _word(member(given, "status"))
    parameters = {name: plain(member(given, name)) for name in _PARAMETERS if _is_json(member(given, name))}
    tools = plain(member(given, "tools"))
    return Response(
        output=[{"role": "assistant", "content": blocks}] if blocks else [],
        stop_reason=_word(member(member(given, "incomplete_details"), "reason")) or status,
        failure=failures.read(plain(error)) if _is_json(error) else failures.read(status == "failed"),
        model_parameters=parameters or None,
        tools=tools if isinstance(tools, list) and tools else None,
        provider="openai",
    )


def _agent_result(given: object) -> Response:
    """Read the Claude Agent SDK's ResultMessage."""
    result = member(given, "result")
    structured = member(given, "structured_output")
    words = result if isinstance(result, str) and result else None
    failed = member(given, "is_error") is True
    return Response(
        output=[message(words, structured)] if words or _is_json(structured) else None,
        stop_reason=_word(member(given, "stop_reason")) or _word(member(given, "subtype")),
        model_usage=member(given, "model_usage") or member(given, "modelUsage"),
        failure=Failure(_word(member(given, "subtype")), words) if failed else None,
        duration_ms=number(member(given, "duration_ms")),
        total_cost_usd=number(member(given, "total_cost_usd")),
        num_turns=count(member(given, "num_turns")),
        provider="anthropic",
    )


def message(words: str | None, structured: object = None) -> dict[str, Any]:
    """Return an answer as a message: a text, data, or both."""
    if structured is None:
        return {"role": "assistant", "content": words}
    blocks = [words, str(encode(structured))]
    return {"role": "assistant", "content": [{"type": "text", "text": block} for block in blocks if block]}


def _provider(given: object) -> str | None:
    library = type(given).__module__.partition(".")[0]
    return library if library in {"anthropic", "openai"} else None


def _items(value: object) -> list[Any] | None:
    return list(value) if isinstance(value, (list, tuple)) else None


def _word(value: object) -> str | None:
    return text(value) if isinstance(value, str) else None


def _is_json(value: object) -> bool:
    """Whether a member is there, and is no stand-in that a mock made up."""
    return value is not None and (isinstance(value, (bool, int, float, str)) or isinstance(plain(value), (dict, list)))


def _without_nulls(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without the keys that have no value; its content stays, because tool calls come without any."""
    return {key: value for key, value in message.items() if value is not None or key == "content"}
