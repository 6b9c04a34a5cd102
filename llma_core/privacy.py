"""Decides what content of a session leaves the machine: content levels, scrubbing of secrets, cutting.

The order is: drop what the level forbids, then scrub secrets, then cut. So nothing forbidden is looked at, and no half
of a secret stays behind. Dropping happens where `events` asks a Policy for content. The other two happen for all
properties of an event at once, in `Policy.encode`, so that none of them can be forgotten. Until then, content is one of
the types `Logged`, `Messages`, `ToolContent` and `TraceName`, which say what still has to be done.

Most content needs none of this and leaves as the bytes it was logged as. `Policy.encode` therefore tries three ways,
the fastest first. All of them give the same bytes; a property test holds them to that.

1. `_verbatim` joins the logged bytes into one JSON object and looks at it once. It gives up if any content may have to
   be scrubbed or replaced. Most events leave this way. Without it, these events took three times as long to build.
2. `Policy._by_piece` releases each piece of content by itself and remembers the result (`_released`), because the same
   piece is in an answer, in its call's span, in the result's span and in the next input. Each piece is looked at
   as bytes first. Only a piece that needs a change is decoded.
3. `Policy.release` decodes everything and goes through it value by value (`_Releaser`). It is the definition of what
   leaves, and the only way that can note where each change was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, assert_never

import msgspec

from llma_core.cut import beginnings, cut, cut_strings
from llma_core.memo import Memo
from llma_core.redaction import hides_text, is_telling, judging_keys, scrub, scrub_member
from llma_core.screen import scrub_text, surely_clean
from llma_core.spans import ContentBlock, InputMessage, Request

__all__ = [
    "Change",
    "ContentLevel",
    "Logged",
    "LoggedMessage",
    "Messages",
    "Nested",
    "Policy",
    "Properties",
    "ToolContent",
    "TraceName",
    "characters",
    "figures",
    "first_words",
    "is_code",
    "is_name",
    "members",
    "plain",
    "text_of",
]

ContentLevel = Literal["full", "no_tool_content", "metadata"]
"""How much content may leave.

`full`: everything. `no_tool_content`: prompts and answers, but no tool inputs, tool results or tool errors. `metadata`:
no content at all.
"""

Properties = msgspec.Struct | Mapping[str, Any]
"""An event's properties before they are released: a Struct that omits its defaults, or a mapping.

The values are scalars, shallow lists and objects of scalars, what `figures` returned, what a Policy returned, and None
for what is not known.
"""

# These are tuples and not sets, because the values that are looked up come from the log and may be unhashable.
_MEDIA = ("image", "document")
_MCP_MEDIA = ("image", "audio")
_TOOL_NAMES = ("type", "id", "name", "tool_use_id", "is_error")
_NUMBERS = (int, float, bool)

_TITLE_CHARACTERS: Final = 80
"""Longest title of a generation, in characters."""
_NAME_CHARACTERS: Final = 100
"""Longest trace name in an event, in characters."""

_DEEPEST = 100
"""Deepest nesting of content. No tool's value was seen to be as deep, and Python's recursion limit is far away."""

_DEEPEST_PROPERTY = _DEEPEST + 20
"""Deepest nesting of a property: of content and the messages around it."""


# The types of content are plain classes. msgspec cannot encode these by itself, so it asks `_as_logged` about each.


class ToolContent:
    """A decoded JSON value of a tool. Its strings are cut before they leave."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class TraceName:
    """The name of a trace, or the title of a generation. It is cut before it leaves.

    Attributes:
        policy: the policy it leaves under.
        words: the name, of any length.
        longest: its longest form, in characters.
    """

    __slots__ = ("longest", "policy", "words")

    def __init__(self, policy: Policy, words: str, longest: int) -> None:
        self.policy = policy
        self.words = words
        self.longest = longest


class Logged:
    """One piece of content, as logged.

    Attributes:
        policy: the policy it leaves under.
        kind: `block`: a block of a message. `words`: a string. `value`: a tool's input or result. `definitions`: a
            list of tool definitions.
        raw: valid JSON.
    """

    __slots__ = ("kind", "policy", "raw")

    def __init__(self, policy: Policy, kind: Literal["block", "words", "value", "definitions"], raw: bytes) -> None:
        self.policy = policy
        self.kind = kind
        self.raw = raw

    def opened(self) -> Any:
        """Return the content decoded, as far as the policy's level allows; None if it cannot be decoded."""
        value = _decode(self.raw)
        match self.kind:
            case "block":
                return self.policy.opened_block(value)
            case "words":
                return value
            case "value":
                return None if value is None else ToolContent(plain(value))
            case "definitions":
                return None if value is None else plain(value)
            case _:
                assert_never(self.kind)


class Nested:
    """An object without content that may be nested too deep to leave as it was logged; see `figures`.

    Attributes:
        raw: valid JSON.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def figures(raw: bytes) -> msgspec.Raw | Nested:
    """Return a logged object without content, such as token counts, as a property. It is scrubbed but not cut."""
    return msgspec.Raw(raw) if _is_flat(raw) else Nested(raw)


class LoggedMessage:
    """One message whose content is as logged.

    Attributes:
        role: the message's role.
        content: a string, or a list of blocks.
    """

    __slots__ = ("content", "role")

    def __init__(self, role: str, content: Logged | list[Logged]) -> None:
        self.role = role
        self.content = content


class Messages:
    """Messages, as logged. They are split into blocks only if they cannot leave as they were logged.

    Attributes:
        policy: the policy they leave under.
        messages: role and content of each message. The content is JSON (a string or a list of blocks), or a sequence
            of blocks, each of them JSON.
    """

    __slots__ = ("messages", "policy")

    def __init__(self, policy: Policy, messages: Sequence[tuple[str, bytes | Sequence[bytes]]]) -> None:
        self.policy = policy
        self.messages = messages

    def opened(self) -> list[LoggedMessage]:
        """Return the messages one by one, without those that cannot be decoded."""
        found = []
        for role, content in self.messages:
            if not isinstance(content, bytes):
                found.append(LoggedMessage(role, [Logged(self.policy, "block", block) for block in content]))
            elif content.startswith(b'"'):
                found.append(LoggedMessage(role, Logged(self.policy, "words", content)))
            elif (blocks := _blocks(content)) is not None:
                found.append(LoggedMessage(role, [Logged(self.policy, "block", bytes(block)) for block in blocks]))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change that was made to a property before it left.

    Attributes:
        what: `withheld` by the content level, `scrubbed` of secrets, or `cut`.
        where: the property and the place inside it, such as `name.key[0]`.
        kind: for `scrubbed` the kind of secret; for `withheld` the content level; None for `cut`.
        count: for `scrubbed` the number of secrets; else the number of characters that did not leave.
    """

    what: Literal["withheld", "scrubbed", "cut"]
    where: str
    kind: str | None = None
    count: int


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/@+-]{0,127}")


def is_name(text: str) -> bool:
    """Whether a text looks like the name of something in a program. Any other text may be content."""
    return _NAME.fullmatch(text) is not None


_CODE = re.compile(r"[!-~]{1,300}")


def is_code(text: str) -> bool:
    """Whether a text looks like an id, or the code of an error: it is short and has no blanks, as words would."""
    return _CODE.fullmatch(text) is not None


def characters(value: Any) -> int:
    """Return the number of characters of all strings in a value, before any are cut."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, ToolContent):
        return characters(value.value)
    if isinstance(value, TraceName):
        return min(len(value.words), value.longest)
    if isinstance(value, Logged | Messages):
        return characters(value.opened())
    if isinstance(value, LoggedMessage):
        return characters(value.role) + characters(value.content)
    if isinstance(value, list):
        return sum(map(characters, value))
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    return 0


def text_of(content: Any) -> str:
    """Return the text of a message's or a result's content: a string as it is, text blocks joined by line breaks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def first_words(raw: bytes, count: int) -> str:
    """Return the first *count* characters of a text block."""
    block = _decode(raw)
    words = block.get("text") if isinstance(block, dict) else None
    return words[:count] if isinstance(words, str) else ""


def members(properties: Properties) -> Mapping[str, Any]:
    """Return properties as a mapping by name."""
    if isinstance(properties, msgspec.Struct):
        return dict(zip(properties.__struct_encode_fields__, msgspec.structs.astuple(properties), strict=True))
    return properties


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _media(block: dict[str, Any]) -> dict[str, Any]:
    """Return the placeholder of an image or document: its type and size, never its bytes."""
    source = block.get("source")
    if not isinstance(source, dict):
        return _placeholder(str(block.get("type")), _mcp_media_type(block), block.get("data"), is_base64=True)
    data, media_type = source.get("data"), source.get("media_type")
    if source.get("type") == "text" and isinstance(data, str):
        # A document of plain text is not media.
        return {"type": "text", "text": data}
    return _placeholder(str(block.get("type")), media_type, data, is_base64=source.get("type") == "base64")


def _placeholder(kind: str, media_type: Any, data: Any, *, is_base64: bool) -> dict[str, Any]:
    parts = [kind]
    if isinstance(media_type, str):
        parts.append(media_type)
    if isinstance(data, str):
        size = len(data) * 3 // 4 - data[-2:].count("=") if is_base64 else len(data)
        parts.append(f"{size} bytes")
    return {"type": "text", "text": f"[{' '.join(parts)}]"}


def _mcp_media_type(value: Mapping[str, Any]) -> Any:
    return value.get("mimeType") or value.get("mime_type")


def _is_media(value: Mapping[str, Any]) -> bool:
    """Whether a value is an image, a document or a sound, in the provider's form or in that of an MCP server."""
    kind = value.get("type")
    return (kind in _MEDIA and "source" in value) or (kind in _MCP_MEDIA and isinstance(value.get("data"), str))


def _is_blob(value: Mapping[str, Any]) -> bool:
    """Whether a value has its bytes in it, and not only their size in place of them."""
    blob = value.get("blob")
    if not isinstance(blob, str) or (blob.startswith("[") and blob.endswith(" bytes]")):
        return False
    return "uri" in value or _mcp_media_type(value) is not None


def _holds_media(raw: bytes) -> bool:
    """Whether a JSON value may hold media or a blob."""
    return (
        b'"source"' in raw
        or b'"blob"' in raw
        or (b'"data"' in raw and (b'"image"' in raw or b'"audio"' in raw))
    )  # fmt: skip


def plain(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with placeholders for what never leaves: images, documents, and too deep nesting."""
    if depth >= _DEEPEST and isinstance(value, list | dict):
        return "[nested too deep]"
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if _is_media(value):
            return _media(value)
        if _is_blob(value):
            # An MCP server's resource: what it is stays, its bytes do not.
            placeholder = _placeholder("blob", _mcp_media_type(value), value["blob"], is_base64=True)
            value = {**value, "blob": placeholder["text"]}
        return {key: plain(item, depth + 1) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Says what content may leave, and how much of it.

    Attributes:
        level: the content level.
        max_length: longest string of tool inputs, results and tool errors, in characters.
        redact: whether secrets are scrubbed.
        conversation: whether prompts, answers, trace names and the messages of API errors may leave.
        tools: whether tool inputs, tool results and tool errors may leave.
    """

    level: ContentLevel = "full"
    max_length: int = 12_000
    redact: bool = True
    # They follow from the level, and every event asks for them a dozen times.
    conversation: bool = field(init=False, repr=False, compare=False)
    tools: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "conversation", self.level != "metadata")
        object.__setattr__(self, "tools", self.level == "full")

    def said(self, literal: bytes | None) -> Messages | None:
        """Return the text of an answer, a JSON string, as a message; None if there is none or it may not leave."""
        return None if literal is None or not self.conversation else Messages(self, [("assistant", literal)])

    def trace_name(self, words: str | None) -> TraceName | None:
        """Return the name of a trace; None if it has none or it may not leave."""
        return TraceName(self, words, _NAME_CHARACTERS) if words and self.conversation else None

    def title(self, words: str) -> TraceName | None:
        """Return the first words of an answer as its title; None if they may not leave."""
        return TraceName(self, words, _TITLE_CHARACTERS) if self.conversation else None

    def messages(self, messages: Sequence[InputMessage]) -> Messages | None:
        """Return what the model was given, as far as it may leave; None if nothing is left."""
        if not self.conversation:
            return None
        kept = [
            (message.role, message.content)
            for message in messages
            # These are tool content: a tool's input that another model wrote, a command's output, a task's report.
            if (self.tools or message.origin not in ("agent_prompt", "command_output", "notification"))
            and message.content[:1] in (b'"', b"[")
        ]
        return Messages(self, kept) if kept else None

    def request(self, request: Request) -> list[LoggedMessage] | None:
        """Return a request's system prompt and messages; None if they are not known, or not all of them may leave.

        A request has files, outputs of hooks and commands, and reports of tasks as text among what people wrote, and
        nothing tells them apart. So without tool content, no request leaves.
        """
        if not self.tools or request.messages is None:
            return None
        messages = (
            LoggedMessage(message.role, [Logged(self, "block", block) for block in message.blocks])
            for message in request.messages
        )
        return [*self.system(request), *messages]

    def system(self, request: Request) -> list[LoggedMessage]:
        """Return a request's system prompt as a message; an empty list if there is none or it may not leave."""
        if not self.conversation or not request.system:
            return []
        return [LoggedMessage("system", [Logged(self, "block", block) for block in request.system])]

    def tool_definitions(self, definitions: bytes | None) -> Logged | list[Any] | None:
        """Return the definitions of the tools that a request offers; None if there are none.

        They do not count as tool content. On the level `metadata`, only the tools' names leave.
        """
        value = _decode(definitions) if definitions is not None else None
        if not isinstance(value, list) or definitions is None:
            return None
        if self.conversation:
            return Logged(self, "definitions", definitions) if value else None
        names = (item.get("name") for item in value if isinstance(item, dict))
        return [{"name": name} for name in names if isinstance(name, str)] or None

    def answer(self, blocks: Sequence[ContentBlock]) -> Messages | None:
        """Return an answer as one message; None if it is empty or may not leave."""
        if not self.conversation or not blocks:
            return None
        return Messages(self, [("assistant", [block.raw for block in blocks])])

    def tool_value(self, data: bytes | None) -> Logged | None:
        """Return a tool's input or result; None if there is none or it may not leave."""
        return None if data is None or not self.tools else Logged(self, "value", data)

    def tool_text(self, data: bytes | None) -> ToolContent | None:
        """Return the text of a tool's result; None if there is none or it may not leave."""
        return self.tool_words(text_of(_decode(data))) if data is not None else None

    def tool_words(self, words: str | None) -> ToolContent | None:
        """Return a text of a tool, or of a hook that ran with it; None if there is none or it may not leave."""
        return ToolContent(words) if words and self.tools else None

    def encode(self, properties: Properties, *, ids: Container[str] = ()) -> bytes:
        """Return an event's properties as they leave, as a JSON object: without None, scrubbed, and cut.

        The result is what `release` returns, encoded; see the top of this module.

        Args:
            properties: the properties.
            ids: names of properties that identify the event. They are not scrubbed.
        """
        encoded = _verbatim(self, properties)
        return _encode(self._by_piece(members(properties), ids)) if encoded is None else encoded

    def release(
        self, properties: Mapping[str, Any], *, ids: Container[str] = (), changes: list[Change] | None = None
    ) -> dict[str, Any]:
        """Return an event's properties as they leave: without None, scrubbed, and cut.

        Args:
            properties: the properties. Content that cannot be decoded is left out.
            ids: names of properties that identify the event. They are not scrubbed.
            changes: a list to add the changes to; None if nobody wants to know them.
        """
        releaser = _Releaser(self, changes)
        found = {}
        for key, value in properties.items():
            released = value if key in ids else releaser.member(key, value, 0, cutting=False)
            if released is not None:
                found[key] = released
        return found

    def _by_piece(self, properties: Mapping[str, Any], ids: Container[str]) -> dict[str, Any]:
        """Return what `release` returns, but look at all short strings together, and at long ones only once.

        The short strings of most events hold no secrets, so most events pay only for one look.
        """
        found: dict[str, Any] = {}
        short: list[str] = []
        releaser = _Releaser(self, None)
        for key, value in properties.items():
            kind = type(value)
            if kind is TraceName or (kind is str and len(value) > _SHORT_WORDS and key not in ids):
                found[key] = msgspec.Raw(_released_words(self, value))
            elif kind is str:
                found[key] = value
                if key not in ids:
                    short.append(value)
            elif kind in _NUMBERS:
                found[key] = value
            elif value is not None and (released := releaser.value(value, 0, cutting=False)) is not None:
                found[key] = released
        if self.redact and (not surely_clean(_encode(short)) or any(map(is_telling, found))):
            return self.release(properties, ids=ids)
        return found

    def opened_block(self, block: Any) -> Any:
        """Return a block of a message as far as it may leave, without its signature and withheld tool content."""
        if not isinstance(block, dict):
            return block if isinstance(block, str) else {"type": "text", "text": "[unreadable block]"}
        kind = block.get("type")
        if kind == "text":
            return {"type": "text", "text": plain(block.get("text", ""))}
        if kind == "thinking":
            return {"type": "thinking", "thinking": plain(block.get("thinking", ""))}
        if kind == "redacted_thinking":
            return {"type": "thinking", "thinking": "[redacted by the provider]"}
        if kind in _MEDIA or _is_media(block):
            return _media(block)
        # All other blocks are calls and results of tools, including server tools that this version does not know.
        if not self.tools:
            return {key: plain(value) for key, value in block.items() if key in _TOOL_NAMES}
        # Ids and names are not content, so they are not cut.
        return {
            key: plain(value) if key in _TOOL_NAMES else ToolContent(plain(value))
            for key, value in block.items()
            if key not in ("signature", "caller")
        }


# ---------------------------------------------------------------------- whole events as they were logged

_QUOTE = ord('"')
_WORDS_BLOCKS = (b'"text"', b'"thinking"')
"""Types, as JSON, of the blocks that consist of a text. The text's key is the same as the type."""
_PLACEHELD = (b'"redacted_thinking"', b'"image"', b'"document"', b'"audio"')
"""Types, as JSON, of the blocks that a placeholder replaces."""
_OPENING = b"[{"
_MEDIA_KEYS = frozenset({"source", "data", "blob"})
"""Names of what holds media or a blob; see `_holds_media`."""
_BEGINNINGS = {role: b'{"role":"%b","content":' % role.encode() for role in ("user", "assistant", "system")}
"""The beginning of a message as JSON, by its role. Only messages with these roles may leave as they were logged."""

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_blocks = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_nothing = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


class _NotVerbatimError(Exception):
    """Some content may have to be changed, so it cannot leave as it was logged."""


def _verbatim(policy: Policy, properties: Properties) -> bytes | None:
    """Return properties as JSON, with content as it was logged; None if any content cannot leave like that.

    The functions below do not search content for secrets, or for letters that are spelled as escapes. The whole object
    is searched once, at the end. Content that is too long is the exception: it is scrubbed before it is cut, because
    half a secret might not be recognized.
    """
    if not isinstance(properties, msgspec.Struct):
        properties = {key: value for key, value in properties.items() if value is not None}
    try:
        encoded = _encode_as_logged(properties)
    except _NotVerbatimError:
        return None
    return None if policy.redact and not surely_clean(encoded) else encoded


def _as_logged(content: object) -> str | msgspec.Raw:
    """Return content as it was logged.

    Raises:
        _NotVerbatimError: it cannot leave like that. The functions below raise this, too.
    """
    if isinstance(content, Logged):
        return msgspec.Raw(_piece_as_logged(content))
    if isinstance(content, Messages):
        return msgspec.Raw(_messages_as_logged(content))
    if isinstance(content, TraceName):
        # A longer name is cut, and has to be scrubbed before that.
        short = len(content.words) <= content.longest
        return content.words if short else msgspec.Raw(_released_words(content.policy, content))
    raise _NotVerbatimError


_encode_as_logged = msgspec.json.Encoder(enc_hook=_as_logged).encode


def _messages_as_logged(messages: Messages) -> bytes:
    policy = messages.policy
    parts: list[bytes] = []
    for role, content in messages.messages:
        beginning = _BEGINNINGS.get(role)
        if beginning is None:
            raise _NotVerbatimError
        parts += (b"," if parts else b"[", beginning)
        if not isinstance(content, bytes):
            parts += (b"[", b",".join([_block_as_logged(policy, block) for block in content]), b"]}")
        elif content[0] == _QUOTE:
            parts += (content, b"}")
        else:
            parts += (b"[", b",".join(_blocks_as_logged(policy, content)), b"]}")
    parts.append(b"]")
    return b"".join(parts)


def _blocks_as_logged(policy: Policy, raw: bytes) -> list[bytes]:
    try:
        blocks = _decode_blocks(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise _NotVerbatimError from None
    if len(raw) <= policy.max_length or not policy.tools:
        return [_short_block_as_logged(policy, fields) for fields in blocks]
    return [_block_as_logged(policy, _encode(fields)) for fields in blocks]


def _block_as_logged(policy: Policy, raw: bytes) -> bytes:
    try:
        fields = _decode_fields(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise _NotVerbatimError from None
    kind = bytes(fields.get("type", b""))
    if kind in _WORDS_BLOCKS:
        return _words_block(kind, _words_of(kind, fields))
    if len(raw) <= policy.max_length or not policy.tools:
        return _short_block_as_logged(policy, fields)
    key = "input" if "input" in fields else "content"
    if key not in fields or kind in _PLACEHELD:
        raise _NotVerbatimError
    fields.pop("signature", None)
    fields.pop("caller", None)
    content = _piece_as_logged(Logged(policy, "value", bytes(fields[key])))
    fields[key] = msgspec.Raw(b'""')
    others = _encode(fields)
    if len(others) > policy.max_length or not _needs_no_replacing(policy, others):
        raise _NotVerbatimError
    fields[key] = msgspec.Raw(content)
    return _encode(fields)


def _short_block_as_logged(policy: Policy, fields: dict[str, msgspec.Raw]) -> bytes:
    """Return a block that needs no cutting."""
    kind = bytes(fields.get("type", b""))
    if kind in _WORDS_BLOCKS:
        return _words_block(kind, _words_of(kind, fields))
    if kind in _PLACEHELD or b"\\" in kind or not _MEDIA_KEYS.isdisjoint(fields):
        raise _NotVerbatimError
    for value in fields.values():
        # Most of a block is the text of a result. What it reads like makes no difference.
        view = memoryview(value)
        if view[0] in _OPENING and not _needs_no_replacing(policy, bytes(view)):
            raise _NotVerbatimError
    if not policy.redact:
        text = "input" if "input" in fields else "content"
        if hides_text(_encode({key: value for key, value in fields.items() if key != text})):
            raise _NotVerbatimError
    if policy.level != "full":
        return _encode({key: value for key, value in fields.items() if key in _TOOL_NAMES})
    fields.pop("signature", None)
    fields.pop("caller", None)
    return _encode(fields)


def _words_of(kind: bytes, fields: dict[str, msgspec.Raw]) -> memoryview:
    """Return the JSON string in a block that consists of a text."""
    words = memoryview(fields.get(kind[1:-1].decode(), b""))
    if not words or words[0] != _QUOTE:
        raise _NotVerbatimError
    return words


def _words_block(kind: bytes, words: bytes | memoryview) -> bytes:
    return b"".join((b'{"type":', kind, b",", kind, b":", words, b"}"))


def _piece_as_logged(logged: Logged) -> bytes:
    raw, policy, kind = logged.raw, logged.policy, logged.kind
    if kind == "words":
        return raw
    # Single blocks and definitions belong to whole inputs, and are repeated in every event of a session. `_released`
    # handles these better, because it looks at each of them only once.
    if kind == "value":
        if len(raw) > policy.max_length:
            if (found := _released(logged)) is not None:
                return found
        elif raw[0] == _QUOTE or _needs_no_replacing(policy, raw):
            return raw
    raise _NotVerbatimError


def _needs_no_replacing(policy: Policy, raw: bytes) -> bool:
    """Whether a value is not null and has no media and no deep nesting; and, if it will not be searched, no escapes."""
    return _is_flat(raw) and not _holds_media(raw) and (policy.redact or not hides_text(raw))


def _is_flat(data: bytes) -> bool:
    """Whether a value is not null and has too few brackets to be nested too deep."""
    if data.strip() == b"null":
        return False
    # A bracket has a partner.
    return len(data) <= 2 * _DEEPEST or data.count(b"{") + data.count(b"[") <= _DEEPEST


# ---------------------------------------------------------------------- piece by piece

_MEMO_BYTES = 4 * 1024 * 1024
_memo = Memo(_MEMO_BYTES)
"""The released form of each piece of content."""
_UNREADABLE = b""
_SHORT_WORDS = 100


def _blocks(data: bytes) -> list[msgspec.Raw] | None:
    try:
        return _decode_list(data)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _is_json(data: bytes) -> bool:
    try:
        _decode_nothing(data)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _released(logged: Logged) -> bytes | None:
    """Return one piece of content as it leaves, as JSON; None if it cannot be decoded."""
    policy = logged.policy
    key = logged.kind, policy.level, policy.max_length, policy.redact, logged.raw
    found = _memo.get(key, None)
    if found is None:
        found = _released_block(logged) if logged.kind == "block" else _released_value(logged)
        _memo.put(key, found, len(logged.raw) + (0 if found is logged.raw else len(found)))
    return found or None


def _released_message(message: LoggedMessage) -> dict[str, Any]:
    content = message.content
    found = _released_raw(content) if isinstance(content, Logged) else [_released_raw(block) for block in content]
    return {"role": message.role, "content": found}


def _released_raw(logged: Logged) -> msgspec.Raw | None:
    found = _released(logged)
    return None if found is None else msgspec.Raw(found)


def _released_words(policy: Policy, words: str | TraceName) -> bytes:
    """Return a text as it leaves, as JSON. It is remembered: prompts and names are in every event of their turn."""
    longest, said = (words.longest, words.words) if isinstance(words, TraceName) else (0, words)
    key = policy.redact, longest, said
    found = _memo.get(key, None)
    if found is None:
        found = _encode(_Releaser(policy, None).value(words, 0, cutting=False))
        _memo.put(key, found, 2 * len(found))
    return found


def _released_value(logged: Logged) -> bytes:
    """Return content as it was logged; or decoded, scrubbed and cut if that may be necessary.

    Nothing has to be scrubbed if the first look finds no secret. Nothing has to be cut if all of it is shorter than the
    limit. Nothing has to be replaced if there is no media and there are fewer brackets than the deepest nesting.
    """
    raw, policy = logged.raw, logged.policy
    if not _is_json(raw) or (logged.kind == "words" and not raw.startswith(b'"')):
        return _UNREADABLE
    is_string = raw.startswith(b'"')
    if not is_string and (_holds_media(raw) or hides_text(raw)):
        return _decoded(logged)
    if policy.redact and not surely_clean(raw):
        return _decoded(logged)
    if not (is_string or _is_flat(raw)):
        return _decoded(logged, scrubbing=False)
    if logged.kind != "value" or len(raw) <= policy.max_length:
        return raw
    try:
        # A character takes at most six bytes in JSON.
        value = beginnings(msgspec.Raw(raw), 6 * policy.max_length)
    except msgspec.MsgspecError:
        return _UNREADABLE
    return _encode(cut_strings(value, policy.max_length))


def _released_block(logged: Logged) -> bytes:
    """Return a block; a tool's input or result in it is released and remembered by itself."""
    policy = logged.policy
    try:
        fields = _decode_fields(logged.raw)
    except (msgspec.MsgspecError, RecursionError):
        return _decoded(logged)
    kind = bytes(fields.get("type", b""))
    if kind in _WORDS_BLOCKS:
        try:
            words = bytes(_words_of(kind, fields))
        except _NotVerbatimError:
            return _decoded(logged)
        return _words_block(kind, _released_value(Logged(policy, "words", words)))
    if not policy.tools or kind in _PLACEHELD or b"\\" in kind:
        return _decoded(logged)
    fields.pop("signature", None)
    fields.pop("caller", None)
    # A call's input and a result's content are in the call's span, too, and may have been released for it already.
    key = "input" if "input" in fields else "content"
    if key in fields:
        value = _released(Logged(policy, "value", bytes(fields[key])))
        fields[key] = msgspec.Raw(b'""')
    others = _encode(fields)
    if _released_value(Logged(policy, "value", others)) != others:
        return _decoded(logged)
    if key not in fields:
        return others
    if value is None:
        return _decoded(logged)
    fields[key] = msgspec.Raw(value)
    return _encode(fields)


def _decoded(logged: Logged, *, scrubbing: bool = True) -> bytes:
    """Return content decoded, scrubbed, cut and encoded again; `_UNREADABLE` if it cannot be decoded."""
    value = logged.opened()
    if value is None:
        return _UNREADABLE
    policy = logged.policy if scrubbing else replace(logged.policy, redact=False)
    return _encode(_Releaser(policy, None).value(value, 0, cutting=False))


# ---------------------------------------------------------------------- value by value


@dataclass(slots=True)
class _Releaser:
    """Scrubs and cuts one event's properties.

    Attributes:
        policy: the policy they leave under.
        changes: a list to add the changes to; None if nobody wants to know them.
        place: the path to the current value, from a property's name inwards.
    """

    policy: Policy
    changes: list[Change] | None
    place: list[str] = field(default_factory=list)

    def member(self, key: str, value: Any, depth: int, *, cutting: bool, judged_by: str | None = None) -> Any:
        """Return a member of an object as it leaves. Its key, or *judged_by*, may say that it is a secret."""
        self.place.append(f".{self._shown(key)}" if self.place else key)
        if self.policy.redact and isinstance(value, str | int) and not isinstance(value, bool):
            kinds: list[str] = []
            scrubbed = scrub_member(judged_by or key, value, kinds, scrub_text)
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
            return words if len(words) <= value.longest else words[: value.longest - 1].rstrip() + "…"
        if isinstance(value, Logged):
            return self._logged(value, depth)
        if isinstance(value, msgspec.Raw):
            return self._figures(bytes(value), depth)
        if isinstance(value, Nested):
            return self._figures(value.raw, depth)
        if isinstance(value, Messages):
            return self.value(value.opened() or None, depth, cutting=False)
        if isinstance(value, LoggedMessage):
            if self.changes is None and value.role in _BEGINNINGS:
                return _released_message(value)
            return self.value({"role": value.role, "content": value.content}, depth, cutting=False)
        if isinstance(value, list | dict) and depth >= _DEEPEST_PROPERTY:
            return "[nested too deep]"
        if isinstance(value, list):
            return [self._item(number, item, depth + 1, cutting=cutting) for number, item in enumerate(value)]
        if isinstance(value, dict):
            return {
                self._key(key): self.member(key, item, depth + 1, cutting=cutting, judged_by=judge)
                for (key, item), judge in zip(value.items(), judging_keys(value), strict=True)
            }
        return value

    def _item(self, number: int, value: Any, depth: int, *, cutting: bool) -> Any:
        self.place.append(f"[{number}]")
        value = self.value(value, depth, cutting=cutting)
        self.place.pop()
        return value

    def _logged(self, logged: Logged, depth: int) -> Any:
        if self.changes is not None:
            # To note where each change was made, everything has to be decoded.
            return self.value(logged.opened(), depth, cutting=False)
        return _released_raw(logged)

    def _figures(self, raw: bytes, depth: int) -> Any:
        stays = self.changes is None and _is_flat(raw) and _is_json(raw)
        if stays and (not self.policy.redact or surely_clean(raw)):
            return msgspec.Raw(raw)
        value = _decode(raw)
        if value is None:
            return None
        found = self.value(value, depth, cutting=False)
        # Without a change it stays as it was logged, because numbers have more than one spelling.
        return msgspec.Raw(raw) if found == value else found

    def _text(self, text: str, *, cutting: bool) -> str:
        if self.policy.redact:
            kinds: list[str] = []
            text = scrub_text(text, kinds)
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
