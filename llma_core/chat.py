"""Messages of any provider's API, as far as a policy lets them leave.

Claude Code logs messages in one form, which `privacy` lets leave as bytes. Programs that record their own calls have
messages of every provider: Anthropic's, OpenAI's of both APIs, and what frameworks make of them. Here they are decoded
and gone through by what they are: text of a conversation, content of a tool, media, or a name. What is not known to be
text counts as a tool's content, so that a level keeps it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from llma_core.privacy import Policy, ToolContent, plain

__all__ = ["calls", "decoded", "messages", "parameters", "state", "tool_names"]

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,100};base64,")
_NOTHING: Mapping[str, Any] = {}
_SHORTEST_MEDIA = 256
# No character is tried twice: a value may be a megabyte of line ends.
_BASE64 = re.compile(r"(?=[^a-z]*+[a-z])(?=[^A-Z]*+[A-Z])(?=[^0-9]*+[0-9])[A-Za-z0-9+/_\r\n-]++={0,2}+\s*+")
"""Base64 that is long has small letters, capital letters and digits. What has only some of them may be a word."""
_MEDIA_TYPES = ("mime_type", "mimeType", "media_type", "mediaType")
_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal")
"""Types of blocks that are text. The text is under `text`, or under the name of the type."""
_WORDS = ("content", "text", "refusal", "reasoning", "reasoning_content", "thinking", "summary")
"""Keys of a message that hold text of the conversation, or blocks."""
_NAMES = (
    "type", "role", "id", "index", "name", "call_id", "tool_call_id", "tool_use_id", "finish_reason", "stop_reason",
    "status", "is_error", "phase",
)  # fmt: skip
"""Keys whose values are names, not content."""
_CALLS = ("tool_calls", "function_call", "function", "message")
"""Keys of objects that are gone through in turn."""
_TOOL_ROLES = ("tool", "function")
_MEDIA = ("image_url", "input_image", "input_audio", "file", "input_file", "audio", "video", "media", "document")
_SETTINGS = ("service_tier", "effort", "reasoning_effort", "verbosity", "speed", "type", "encoding_format")
"""Parameters of requests that are words and no content."""


def decoded(data: bytes | None) -> Any:
    """Return a JSON value without media; None if there is none, or it cannot be decoded."""
    if data is None:
        return None
    try:
        return _without_media(plain(msgspec.json.decode(data)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _without_media(value: Any, key: str | None = None, around: Mapping[str, Any] = _NOTHING) -> Any:
    """Return a value with placeholders for the media that `plain` does not know.

    Args:
        value: the value.
        key: the key that it, or a list with it, stands under; None without one.
        around: the object that it stands in, under the key.
    """
    if isinstance(value, str):
        found = _DATA_URI.match(value)
        if found is not None:
            return f"[{found[1] or 'data'} {(len(value) - found.end()) * 3 // 4} bytes]"
        return _media_size(value, around) if key is not None and _is_media(key, value, around) else value
    if isinstance(value, list):
        return [_without_media(item, key) for item in value]
    if isinstance(value, dict):
        return {name: _without_media(item, name, value) for name, item in value.items()}
    return value


def _is_media(key: str, item: str, around: Mapping[str, Any]) -> bool:
    """Whether a text under a key is what providers write media as: long base64, or anything where only media stand.

    What people and models say never is, whatever it looks like.
    """
    if key in ("file_data", "b64_json") or (key == "data" and "format" in around):
        return True
    return (
        len(item) >= _SHORTEST_MEDIA
        and key not in _WORDS
        and key not in _TEXTS
        and key not in _NAMES
        and _BASE64.fullmatch(item) is not None
    )


def _media_size(data: str, around: Mapping[str, Any]) -> str:
    named = next((name for key in _MEDIA_TYPES if isinstance(name := around.get(key), str)), None)
    return f"[{f'{named} ' if named else ''}{len(data) * 3 // 4} bytes]"


def messages(data: bytes | None, policy: Policy, role: str) -> list[Any] | None:
    """Return a text or messages as messages; None if there are none, or they may not leave.

    Args:
        data: JSON: a text, a message, a list of messages, or a response with its choices.
        policy: what may leave.
        role: the role of a text that is no message.
    """
    if not policy.conversation:
        return None
    value = decoded(data)
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        value = value["choices"]
    if isinstance(value, list) and value and all(map(_is_block, value)):
        value = {"role": role, "content": value}
    found = [_message(each, policy, role) for each in (value if isinstance(value, list) else [value])]
    return [each for each in found if each not in (None, {})] or None


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and "type" in value and not {"role", "message", "call_id", "summary"} & value.keys()


def _message(value: Any, policy: Policy, role: str) -> Any:
    if isinstance(value, str):
        return {"role": role, "content": value}
    return _object(value, policy) if isinstance(value, dict) else None


def _object(value: dict[str, Any], policy: Policy) -> Any:
    """Return a message, a choice, a call or another item of a conversation as it leaves."""
    of_tool = value.get("role") in _TOOL_ROLES
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key in _NAMES and not isinstance(item, list | dict):
            found[key] = item
        elif key in _WORDS and not of_tool:
            found[key] = _content(item, policy)
        elif key in _CALLS and isinstance(item, dict):
            found[key] = _object(item, policy)
        elif key in _CALLS and isinstance(item, list):
            found[key] = [_object(each, policy) for each in item if isinstance(each, dict)]
        elif policy.tools and item is not None:
            found[key] = ToolContent(item)
    return {key: item for key, item in found.items() if item is not None}


def _content(value: Any, policy: Policy) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return [_block(each, policy) for each in value]
    return ToolContent(value) if policy.tools and value is not None else None


def _block(value: Any, policy: Policy) -> Any:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else "[unreadable block]"
    kind = value.get("type")
    if kind in _TEXTS:
        text = value.get("text", value.get(kind))
        return {"type": kind, "refusal" if kind == "refusal" else "text": text if isinstance(text, str) else ""}
    if kind in _MEDIA:
        return {"type": "text", "text": f"[{kind}{_size(value)}]"}
    return policy.opened_block(value)


def _size(value: Any) -> str:
    """Return what `_without_media` says of the media in a block, after a blank."""
    if isinstance(value, str):
        return f" {value[1:-1]}" if value.startswith("[") and value.endswith(" bytes]") else ""
    if isinstance(value, dict):
        return next((found for item in value.values() if (found := _size(item))), "")
    return ""


def state(data: bytes | None, policy: Policy, *, of_trace: bool) -> Any:
    """Return what went into a span or a trace, or came out of it; None if it may not leave.

    That of a trace is a conversation, that of any other span is a tool's content.
    """
    value = decoded(data)
    if of_trace:
        if not policy.conversation:
            return None
        if isinstance(value, list) and any(isinstance(each, dict) and "role" in each for each in value):
            return messages(data, policy, "user")
        # Whether an object is a tool's is not known.
        return value if isinstance(value, str) or policy.tools else None
    return ToolContent(value) if policy.tools and value is not None else None


def parameters(data: bytes | None, policy: Policy) -> dict[str, Any] | None:
    """Return the parameters of a request; where no tool content may leave, only numbers and known words."""
    value = decoded(data)
    if not isinstance(value, dict):
        return None
    if policy.tools:
        return value or None
    kept = {
        key: item
        for key, item in value.items()
        if isinstance(item, int | float) or (key in _SETTINGS and isinstance(item, str))
    }
    return kept or None


def tool_names(data: bytes | None) -> list[str]:
    """Return the names of the tools whose definitions are in a JSON list."""
    value = decoded(data)
    definitions = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    inner = [each["function"] if isinstance(each.get("function"), dict) else each for each in definitions]
    return [name for each in inner if isinstance(name := each.get("name"), str) and name]


def calls(data: bytes | None) -> list[str]:
    """Return the names of the tools that an answer calls, in order."""
    return [*_calls(decoded(data), 0)]


_DEEPEST = 6
"""A call is at most this deep in an answer: choices, message, content, block, function."""


def _calls(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value:
            yield from _calls(item, depth + 1)
        return
    if not isinstance(value, dict):
        return
    function = value.get("function")
    named = value.get("name")
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        yield function["name"]
    elif str(value.get("type", "")).endswith(("_call", "tool_use")) and isinstance(named, str):
        yield named
    else:
        for key in ("choices", "message", "content", "tool_calls"):
            yield from _calls(value.get(key), depth + 1)
        old = value.get("function_call")
        if isinstance(old, dict) and isinstance(old.get("name"), str):
            yield old["name"]
