"""What of a session's content may leave the machine: levels, scrubbing, cutting.

The order is: drop what the level forbids, scrub secrets, cut, so that nothing forbidden is looked at and no half of
a secret stays. The first is done where content is asked for; the other two for all properties of an event at once, in
`Policy.release`, so that none can be forgotten. Until then what will be cut is a `ToolContent` or a `TraceName`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from llma_core.redaction import scrub, scrub_member
from llma_core.spans import ContentBlock, InputMessage, Request

__all__ = [
    "Change",
    "ContentLevel",
    "Policy",
    "ToolContent",
    "TraceName",
    "characters",
    "cut",
    "cut_strings",
    "text_of",
]

ContentLevel = Literal["full", "no_tool_content", "metadata"]
"""`full`: everything. `no_tool_content`: prompts and answers, but no tool inputs, outputs or tool error text.
`metadata`: no content at all."""

# Tuples: what is looked up in them comes from the log and may be unhashable.
_MEDIA = ("image", "document")
_TOOL_NAMES = ("type", "id", "name", "tool_use_id", "is_error")

_NAME_CHARACTERS = 100
"""Longest trace name that leaves."""

_DEEPEST = 100
"""Levels of nesting that leave. Deeper than any tool's value seen, and far from where the interpreter gives up."""


_DEEPEST_PROPERTY = _DEEPEST + 20
"""Levels of nesting of a property: content, and what it is wrapped in."""


@dataclass(frozen=True, slots=True)
class ToolContent:
    """A JSON value whose strings are cut before they leave."""

    value: Any


@dataclass(frozen=True, slots=True)
class TraceName:
    """Words whose beginning names a trace."""

    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done to a property before it left.

    Attributes:
        what: `withheld` by the content level, `scrubbed` of secrets, or `cut`.
        where: the property, and the place in it: `name.key[0]`.
        kind: of a secret; the content level that withheld something; None of what was cut.
        count: of secrets; of characters that did not leave.
    """

    what: Literal["withheld", "scrubbed", "cut"]
    where: str
    kind: str | None = None
    count: int


def characters(value: Any) -> int:
    """Return how many characters the strings in a value have together, those that are about to be cut included."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, ToolContent):
        return characters(value.value)
    if isinstance(value, TraceName):
        return min(len(value.words), _NAME_CHARACTERS)
    if isinstance(value, list):
        return sum(map(characters, value))
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    return 0


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
        redact: whether secrets are scrubbed.
    """

    level: ContentLevel = "full"
    max_length: int = 12_000
    redact: bool = True

    @property
    def conversation(self) -> bool:
        """Whether prompts, answers, names made of them and API errors' words may leave."""
        return self.level != "metadata"

    @property
    def tools(self) -> bool:
        """Whether tool inputs, results and tool errors' words may leave."""
        return self.level == "full"

    def trace_name(self, words: str | None) -> TraceName | None:
        """Return what a trace is called; None if that is nothing or may not leave."""
        return TraceName(words) if words and self.conversation else None

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
        """Return a tool's input or result as ToolContent; None if there is none or it may not leave."""
        if data is None or not self.tools:
            return None
        value = _plain(_decode(data))
        return None if value is None else ToolContent(value)

    def tool_text(self, data: bytes | None) -> ToolContent | None:
        """Return the words of a tool's result; None if there are none or they may not leave."""
        return self.tool_words(text_of(_decode(data))) if data is not None else None

    def tool_words(self, words: str | None) -> ToolContent | None:
        """Return what a tool, or a program that ran with it, said; None if that is nothing or may not leave."""
        return ToolContent(words) if words and self.tools else None

    def release(
        self, properties: Mapping[str, Any], *, ids: Container[str] = (), changes: list[Change] | None = None
    ) -> dict[str, Any]:
        """Return an event's properties as they leave: without None, scrubbed of secrets, tool content cut.

        Args:
            properties: JSON values, ToolContent and raw JSON, which is left out if it cannot be read.
            ids: names of properties that say what an event is, and stay as they are.
            changes: where to note what was done.
        """
        way = _Way(self, changes)
        released = {}
        for key, value in properties.items():
            said = value if key in ids else way.member(key, value, 0, cutting=False)
            if said is not None:
                released[key] = said
        return released

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
            key: _plain(value) if key in _TOOL_NAMES else ToolContent(_plain(value))
            for key, value in block.items()
            if key not in ("signature", "caller")
        }


@dataclass(slots=True)
class _Way:
    """The way out of one event's properties.

    Attributes:
        policy: what holds.
        changes: where to note what is done; None for nowhere.
        place: where the way is now, from a property's name inwards.
    """

    policy: Policy
    changes: list[Change] | None
    place: list[str] = field(default_factory=list)

    def member(self, key: str, value: Any, depth: int, *, cutting: bool) -> Any:
        """Return a member of an object; its key may say that it is a secret."""
        self.place.append(f".{self._shown(key)}" if self.place else key)
        if self.policy.redact and isinstance(value, str | int) and not isinstance(value, bool):
            kinds: list[str] = []
            scrubbed = scrub_member(key, value, kinds)
            self._note_secrets(kinds)
            value = self._cut(scrubbed) if cutting and isinstance(scrubbed, str) else scrubbed
        else:
            value = self.value(value, depth, cutting=cutting)
        self.place.pop()
        return value

    def value(self, value: Any, depth: int, *, cutting: bool) -> Any:
        """Return any value as it leaves."""
        if isinstance(value, str):
            return self._text(value, cutting=cutting)
        if isinstance(value, ToolContent):
            return self.value(value.value, depth, cutting=True)
        if isinstance(value, TraceName):
            words = self._text(value.words, cutting=False)
            return words if len(words) <= _NAME_CHARACTERS else words[: _NAME_CHARACTERS - 1].rstrip() + "…"
        if isinstance(value, msgspec.Raw):
            return self._raw(value, depth)
        if isinstance(value, list | dict) and depth >= _DEEPEST_PROPERTY:
            return "[nested too deep]"
        if isinstance(value, list):
            return [self._item(number, item, depth + 1, cutting=cutting) for number, item in enumerate(value)]
        if isinstance(value, dict):
            return {self._key(key): self.member(key, item, depth + 1, cutting=cutting) for key, item in value.items()}
        return value

    def _item(self, number: int, value: Any, depth: int, *, cutting: bool) -> Any:
        self.place.append(f"[{number}]")
        value = self.value(value, depth, cutting=cutting)
        self.place.pop()
        return value

    def _raw(self, raw: msgspec.Raw, depth: int) -> Any:
        value = _decode(bytes(raw))
        if value is None:
            return None
        left = self.value(value, depth, cutting=False)
        # As it was written, where that can be: numbers have more than one spelling.
        return raw if left == value else left

    def _text(self, text: str, *, cutting: bool) -> str:
        if self.policy.redact:
            kinds: list[str] = []
            text = scrub(text, kinds)
            self._note_secrets(kinds)
        return self._cut(text) if cutting else text

    def _key(self, key: str) -> str:
        return self._text(key, cutting=False)

    def _shown(self, key: str) -> str:
        return scrub(key) if self.policy.redact and self.changes is not None else key

    def _cut(self, text: str) -> str:
        gone = len(text) - self.policy.max_length
        if gone > 0 and self.changes is not None:
            self.changes.append(Change(what="cut", where="".join(self.place), count=gone))
        return cut(text, self.policy.max_length)

    def _note_secrets(self, kinds: list[str]) -> None:
        if kinds and self.changes is not None:
            self.changes += (
                Change(what="scrubbed", where="".join(self.place), kind=kind, count=count)
                for kind, count in Counter(kinds).items()
            )
