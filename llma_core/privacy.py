"""What of a session's content may leave the machine: levels, and cutting.

The order is: drop what the level forbids, then cut, so that nothing forbidden is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from llma_core.spans import ContentBlock, InputMessage, Request

__all__ = ["ContentLevel", "Policy", "cut", "cut_strings", "text_of"]

ContentLevel = Literal["full", "no_tool_content", "metadata"]
"""`full`: everything. `no_tool_content`: prompts and answers, but no tool inputs, outputs or tool error text.
`metadata`: no content at all."""

# Tuples: what is looked up in them comes from the log and may be unhashable.
_MEDIA = ("image", "document")
_TOOL_NAMES = ("type", "id", "name", "tool_use_id", "is_error")

_DEEPEST = 100
"""Levels of nesting that leave. Deeper than any tool's value seen, and far from where the interpreter gives up."""


def cut(text: str, limit: int) -> str:
    """Return the first *limit* characters of *text*, and how many are gone if any are."""
    gone = len(text) - limit
    return text if gone <= 0 else f"{text[:limit]}… [{gone} more characters]"


def cut_strings(value: Any, limit: int) -> Any:
    """Return a JSON value with every string in it cut to *limit* characters."""
    if isinstance(value, str):
        return cut(value, limit)
    if isinstance(value, list):
        return [cut_strings(item, limit) for item in value]
    if isinstance(value, dict):
        return {key: cut_strings(item, limit) for key, item in value.items()}
    return value


def text_of(content: Any) -> str:
    """Return the words of a message's or result's content: a string, or its text blocks joined by line ends."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _media(block: dict[str, Any]) -> dict[str, Any]:
    """Return what stands for an image or document: its type and size, never its bytes."""
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    media_type = source.get("media_type")
    data = source.get("data")
    parts = [str(block.get("type"))]
    if isinstance(media_type, str):
        parts.append(media_type)
    if isinstance(data, str):
        size = len(data) * 3 // 4 - data[-2:].count("=") if source.get("type") == "base64" else len(data)
        parts.append(f"{size} bytes")
    return {"type": "text", "text": f"[{' '.join(parts)}]"}


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with placeholders for what never leaves: images, documents, nesting without end."""
    if depth >= _DEEPEST and isinstance(value, list | dict):
        return "[nested too deep]"
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if value.get("type") in _MEDIA and "source" in value:
            return _media(value)
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may leave, and how much of it.

    Attributes:
        level: the content level.
        max_length: longest string of tool inputs, results and tool errors, in characters.
    """

    level: ContentLevel = "full"
    max_length: int = 12_000

    @property
    def conversation(self) -> bool:
        """Whether prompts, answers, names made of them and API errors' words may leave."""
        return self.level != "metadata"

    @property
    def tools(self) -> bool:
        """Whether tool inputs, results and tool errors' words may leave."""
        return self.level == "full"

    def messages(self, messages: Sequence[InputMessage]) -> list[dict[str, Any]] | None:
        """Return what the model was given, as far as it may leave; None if nothing of it may or there is nothing."""
        if not self.conversation:
            return None
        kept = []
        for message in messages:
            if message.origin in ("agent_prompt", "command_output", "notification") and not self.tools:
                # A tool's input that another model wrote, what a program printed, what a task was told to report.
                continue
            content = _decode(message.content)
            if isinstance(content, list):
                content = [self._block(block) for block in content]
            elif not isinstance(content, str):
                continue
            kept.append({"role": message.role, "content": content})
        return kept or None

    def request(self, request: Request) -> list[dict[str, Any]] | None:
        """Return a request's system prompt and messages; None if they are not known, or not all of them may leave.

        What the client put into them (files, a hook's or a command's output, reports of tasks) stands there as text
        among the words of people, and nothing tells it apart: without tool content no request is given.
        """
        if not self.tools or request.messages is None:
            return None
        messages = (
            {"role": message.role, "content": [self._block(_decode(block)) for block in message.blocks]}
            for message in request.messages
        )
        return [*self.system(request), *messages]

    def system(self, request: Request) -> list[dict[str, Any]]:
        """Return a request's system prompt as the message that it is shown as; nothing if it may not leave."""
        if not self.conversation or not request.system:
            return []
        return [{"role": "system", "content": [self._block(_decode(block)) for block in request.system]}]

    def tool_definitions(self, definitions: bytes | None) -> list[Any] | None:
        """Return the tools that a request offers: they are no tool's input or output. At `metadata` only their names.

        None if there are none.
        """
        value = _decode(definitions) if definitions is not None else None
        if not isinstance(value, list):
            return None
        if self.conversation:
            return [_plain(item) for item in value] or None
        names = (item.get("name") for item in value if isinstance(item, dict))
        return [{"name": name} for name in names if isinstance(name, str)] or None

    def blocks(self, blocks: Sequence[ContentBlock]) -> list[Any] | None:
        """Return an answer's blocks, as far as they may leave; None if nothing of it may or there is nothing."""
        if not self.conversation:
            return None
        return [self._block(_decode(block.raw)) for block in blocks] or None

    def tool_value(self, data: bytes | None) -> Any:
        """Return a tool's input or result, cut; None if there is none or it may not leave."""
        if data is None or not self.tools:
            return None
        return cut_strings(_plain(_decode(data)), self.max_length)

    def tool_text(self, data: bytes | None) -> str | None:
        """Return the words of a tool's result, cut; None if there are none or they may not leave."""
        if data is None or not self.tools:
            return None
        return cut(text_of(_decode(data)), self.max_length) or None

    def _block(self, block: Any) -> Any:
        if not isinstance(block, dict):
            return block if isinstance(block, str) else {"type": "text", "text": "[unreadable block]"}
        kind = block.get("type")
        if kind == "text":
            return {"type": "text", "text": _plain(block.get("text", ""))}
        if kind == "thinking":
            return {"type": "thinking", "thinking": _plain(block.get("thinking", ""))}
        if kind == "redacted_thinking":
            return {"type": "thinking", "thinking": "[redacted by the provider]"}
        if kind in _MEDIA:
            return _media(block)
        # What is left is a tool's: its calls and results, also of server tools this version has never heard of.
        if not self.tools:
            return {key: _plain(value) for key, value in block.items() if key in _TOOL_NAMES}
        # Ids and names are no content.
        return {
            key: _plain(value) if key in _TOOL_NAMES else cut_strings(_plain(value), self.max_length)
            for key, value in block.items()
            if key not in ("signature", "caller")
        }
