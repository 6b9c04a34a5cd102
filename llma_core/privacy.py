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
   piece stands in an answer, in its call's span, in the result's span and in the next input. Each piece is looked at
   as bytes first. Only a piece that needs a change is decoded.
3. `Policy.release` decodes everything and goes through it value by value (`_Releaser`). It is the definition of what
   leaves, and the only way that can note where each change was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, assert_never

import msgspec

from llma_core.cut import beginnings, cut, cut_strings
from llma_core.memo import Memo
from llma_core.redaction import hides_text, is_telling, scrub, scrub_member
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
    "members",
    "text_of",
]

ContentLevel = Literal["full", "no_tool_content", "metadata"]
"""`full`: everything. `no_tool_content`: prompts and answers, but no tool inputs, outputs or tool error text.
`metadata`: no content at all."""

Properties = msgspec.Struct | Mapping[str, Any]
"""An event's properties, not yet released: a Struct that omits its defaults, or a mapping. None is what is not known.

The values are scalars, shallow lists and objects of scalars, what `figures` returned, and what a Policy returned.
"""

# Tuples: what is looked up in them comes from the log and may be unhashable.
_MEDIA = ("image", "document")
_TOOL_NAMES = ("type", "id", "name", "tool_use_id", "is_error")
_NUMBERS = (int, float, bool)

_NAME_CHARACTERS: Final = 100
"""Longest trace name that leaves."""

_DEEPEST = 100
"""Levels of nesting that leave. Deeper than any tool's value seen, and far from where the interpreter gives up."""

_DEEPEST_PROPERTY = _DEEPEST + 20
"""Levels of nesting of a property: content, and what it is wrapped in."""


# The types of content are plain classes: msgspec asks `_as_logged` about them, and cannot encode them by mistake.


class ToolContent:
    """A JSON value whose strings are cut before they leave."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class TraceName:
    """Words whose beginning names a trace.

    Attributes:
        policy: the policy they leave under.
        words: the words, of any length.
    """

    __slots__ = ("policy", "words")

    def __init__(self, policy: Policy, words: str) -> None:
        self.policy = policy
        self.words = words


class Logged:
    """One piece of content as it was logged.

    Attributes:
        policy: the policy it leaves under.
        kind: a `block` of a message; `words`, a string; a tool's `value`; a list of tools' `definitions`.
        raw: JSON.
    """

    __slots__ = ("kind", "policy", "raw")

    def __init__(self, policy: Policy, kind: Literal["block", "words", "value", "definitions"], raw: bytes) -> None:
        self.policy = policy
        self.kind = kind
        self.raw = raw

    def opened(self) -> Any:
        """Return it decoded, as far as its policy's level allows; None if it cannot be read."""
        value = _decode(self.raw)
        match self.kind:
            case "block":
                return self.policy.opened_block(value)
            case "words":
                return value
            case "value":
                return None if value is None else ToolContent(_plain(value))
            case "definitions":
                return None if value is None else _plain(value)
            case _:
                assert_never(self.kind)


class Nested:
    """An object without content that may be nested too deep to leave as it was logged; see `figures`.

    Attributes:
        raw: JSON.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def figures(raw: bytes) -> msgspec.Raw | Nested:
    """Return an object that was logged and holds no content, such as token counts. It is scrubbed and not cut."""
    return msgspec.Raw(raw) if _is_flat(raw) else Nested(raw)


class LoggedMessage:
    """One message whose content is as it was logged.

    Attributes:
        role: whose it is.
        content: its words or its blocks.
    """

    __slots__ = ("content", "role")

    def __init__(self, role: str, content: Logged | list[Logged]) -> None:
        self.role = role
        self.content = content


class Messages:
    """Messages as they were logged; they are taken apart only if they cannot leave like that.

    Attributes:
        policy: the policy they leave under.
        messages: role and content of each. The content is JSON, a string or a list of blocks; or each block as JSON.
    """

    __slots__ = ("messages", "policy")

    def __init__(self, policy: Policy, messages: Sequence[tuple[str, bytes | Sequence[bytes]]]) -> None:
        self.policy = policy
        self.messages = messages

    def opened(self) -> list[LoggedMessage]:
        """Return them one by one, without those that cannot be read."""
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
    """Return the words of a message's or result's content: a string, or its text blocks joined by line ends."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def members(properties: Properties) -> Mapping[str, Any]:
    """Return properties by their names."""
    if isinstance(properties, msgspec.Struct):
        return dict(zip(properties.__struct_encode_fields__, msgspec.structs.astuple(properties), strict=True))
    return properties


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

    def words(self, literal: bytes | None) -> Logged | None:
        """Return what was said, a JSON string; None if that is nothing or may not leave."""
        return None if literal is None or not self.conversation else Logged(self, "words", literal)

    def trace_name(self, words: str | None) -> TraceName | None:
        """Return what a trace is called; None if that is nothing or may not leave."""
        return TraceName(self, words) if words and self.conversation else None

    def messages(self, messages: Sequence[InputMessage]) -> Messages | None:
        """Return what the model was given, as far as it may leave; None if nothing of it may or there is nothing."""
        if not self.conversation:
            return None
        kept = [
            (message.role, message.content)
            for message in messages
            # A tool's input that another model wrote, what a program printed, what a task was told to report.
            if (self.tools or message.origin not in ("agent_prompt", "command_output", "notification"))
            and message.content[:1] in (b'"', b"[")
        ]
        return Messages(self, kept) if kept else None

    def request(self, request: Request) -> list[LoggedMessage] | None:
        """Return a request's system prompt and messages; None if they are not known, or not all of them may leave.

        What the client put into them (files, a hook's or a command's output, reports of tasks) stands there as text
        among the words of people, and nothing tells it apart: without tool content no request is given.
        """
        if not self.tools or request.messages is None:
            return None
        messages = (
            LoggedMessage(message.role, [Logged(self, "block", block) for block in message.blocks])
            for message in request.messages
        )
        return [*self.system(request), *messages]

    def system(self, request: Request) -> list[LoggedMessage]:
        """Return a request's system prompt as the message that it is shown as; nothing if it may not leave."""
        if not self.conversation or not request.system:
            return []
        return [LoggedMessage("system", [Logged(self, "block", block) for block in request.system])]

    def tool_definitions(self, definitions: bytes | None) -> Logged | list[Any] | None:
        """Return the tools that a request offers: they are no tool's input or output. At `metadata` only their names.

        None if there are none.
        """
        value = _decode(definitions) if definitions is not None else None
        if not isinstance(value, list) or definitions is None:
            return None
        if self.conversation:
            return Logged(self, "definitions", definitions) if value else None
        names = (item.get("name") for item in value if isinstance(item, dict))
        return [{"name": name} for name in names if isinstance(name, str)] or None

    def answer(self, blocks: Sequence[ContentBlock]) -> Messages | None:
        """Return an answer's one message, as far as it may leave; None if nothing of it may or there is nothing."""
        if not self.conversation or not blocks:
            return None
        return Messages(self, [("assistant", [block.raw for block in blocks])])

    def tool_value(self, data: bytes | None) -> Logged | None:
        """Return a tool's input or result; None if there is none or it may not leave."""
        return None if data is None or not self.tools else Logged(self, "value", data)

    def tool_text(self, data: bytes | None) -> ToolContent | None:
        """Return the words of a tool's result; None if there are none or they may not leave."""
        return self.tool_words(text_of(_decode(data))) if data is not None else None

    def tool_words(self, words: str | None) -> ToolContent | None:
        """Return what a tool, or a program that ran with it, said; None if that is nothing or may not leave."""
        return ToolContent(words) if words and self.tools else None

    def encode(self, properties: Properties, *, ids: Container[str] = ()) -> bytes:
        """Return an event's properties as they leave, a JSON object: without None, scrubbed of secrets, content cut.

        It holds what `release` returns, byte for byte; see the top of this module.

        Args:
            properties: the properties.
            ids: names of properties that say what an event is, and stay as they are.
        """
        encoded = _verbatim(self, properties)
        return _encode(self._by_piece(members(properties), ids)) if encoded is None else encoded

    def release(
        self, properties: Mapping[str, Any], *, ids: Container[str] = (), changes: list[Change] | None = None
    ) -> dict[str, Any]:
        """Return an event's properties as they leave: without None, scrubbed of secrets, content cut.

        Args:
            properties: the properties; content that cannot be read is left out.
            ids: names of properties that say what an event is, and stay as they are.
            changes: where to note what was done.
        """
        releaser = _Releaser(self, changes)
        found = {}
        for key, value in properties.items():
            released = value if key in ids else releaser.member(key, value, 0, cutting=False)
            if released is not None:
                found[key] = released
        return found

    def _by_piece(self, properties: Mapping[str, Any], ids: Container[str]) -> dict[str, Any]:
        """Return what `release` returns; short strings are looked at all at once, long ones and content each once.

        Most events have short strings with nothing to scrub, and do not pay for each of them here.
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
        """Return a block of a message, as far as it may leave: no signature, nothing of a tool that is kept back."""
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


# ---------------------------------------------------------------------- whole events as they were logged

_QUOTE = ord('"')
_WORDS_BLOCKS = (b'"text"', b'"thinking"')
"""Types, as JSON, of the blocks that only hold words; the key of the words is the type's name."""
_PLACEHELD = (b'"redacted_thinking"', b'"image"', b'"document"')
"""Types, as JSON, of the blocks in whose place something else leaves."""
_BEGINNINGS = {role: b'{"role":"%b","content":' % role.encode() for role in ("user", "assistant", "system")}
"""How a message begins, by its role: only messages of these roles may leave as they were logged."""

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_blocks = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_nothing = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


class _NotVerbatimError(Exception):
    """Some content may have to be changed, so that it does not leave as it was logged."""


def _verbatim(policy: Policy, properties: Properties) -> bytes | None:
    """Return properties as JSON in which content stands as it was logged; None if any may not leave like that.

    Nothing here looks for secrets in a piece of content, nor for letters that are spelled as escapes: the whole object
    is searched once, at the end. Content that is too long is the exception. It is scrubbed before it is cut, since half
    of a secret might no longer be recognized.
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
        _NotVerbatimError: it does not leave like that. So do the functions below.
    """
    if isinstance(content, Logged):
        return msgspec.Raw(_piece_as_logged(content))
    if isinstance(content, Messages):
        return msgspec.Raw(_messages_as_logged(content))
    if isinstance(content, TraceName):
        # A longer one is cut, and is searched before that.
        short = len(content.words) <= _NAME_CHARACTERS
        return content.words if short else msgspec.Raw(_released_words(content.policy, content))
    raise _NotVerbatimError


_encode_as_logged = msgspec.json.Encoder(enc_hook=_as_logged).encode


def _messages_as_logged(content: Messages) -> bytes:
    policy = content.policy
    parts: list[bytes] = []
    for role, said in content.messages:
        beginning = _BEGINNINGS.get(role)
        if beginning is None:
            raise _NotVerbatimError
        parts += (b"," if parts else b"[", beginning)
        if not isinstance(said, bytes):
            parts += (b"[", b",".join([_block_as_logged(policy, block) for block in said]), b"]}")
        elif said[0] == _QUOTE:
            parts += (said, b"}")
        else:
            parts += (b"[", b",".join(_blocks_as_logged(policy, said)), b"]}")
    parts.append(b"]")
    return b"".join(parts)


def _blocks_as_logged(policy: Policy, raw: bytes) -> list[bytes]:
    try:
        blocks = _decode_blocks(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise _NotVerbatimError from None
    if (len(raw) <= policy.max_length or not policy.tools) and _needs_no_replacing(policy, raw):
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
        if not _needs_no_replacing(policy, raw):
            raise _NotVerbatimError
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
    """Return a block that need not be cut, and in which nothing has to be replaced unless its type says so."""
    kind = bytes(fields.get("type", b""))
    if kind in _WORDS_BLOCKS:
        return _words_block(kind, _words_of(kind, fields))
    if kind in _PLACEHELD:
        raise _NotVerbatimError
    if policy.level != "full":
        return _encode({key: value for key, value in fields.items() if key in _TOOL_NAMES})
    fields.pop("signature", None)
    fields.pop("caller", None)
    return _encode(fields)


def _words_of(kind: bytes, fields: dict[str, msgspec.Raw]) -> memoryview:
    """Return the JSON string of a block that only holds words."""
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
    # Blocks and definitions by themselves are those of whole inputs, and stand in every event of a session. They are
    # left to `_released`, which looks at each of them only once.
    if kind == "value":
        if len(raw) > policy.max_length:
            if (found := _released(logged)) is not None:
                return found
        elif raw[0] == _QUOTE or _needs_no_replacing(policy, raw):
            return raw
    raise _NotVerbatimError


def _needs_no_replacing(policy: Policy, raw: bytes) -> bool:
    """Whether JSON holds no media, no null of its own and no deep nesting; and, if nobody searches it, no escapes."""
    return not (b'"source"' in raw or (not policy.redact and hides_text(raw)) or not _is_flat(raw))


def _is_flat(data: bytes) -> bool:
    """Whether a value is not null, and has too few brackets to be nested too deep."""
    return data.strip() != b"null" and data.count(b"{") + data.count(b"[") <= _DEEPEST


# ---------------------------------------------------------------------- piece by piece

_MEMO_BYTES = 4 * 1024 * 1024
_memo = Memo(_MEMO_BYTES)
"""What each piece of content was released as."""
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
    """Return one piece of content as it leaves, as JSON; None if it cannot be read."""
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
    """Return words as they leave, as JSON: a prompt and a name stand in every event of their turn."""
    is_name = isinstance(words, TraceName)
    key = policy.redact, is_name, words.words if isinstance(words, TraceName) else words
    found = _memo.get(key, None)
    if found is None:
        found = _encode(_Releaser(policy, None).value(words, 0, cutting=False))
        _memo.put(key, found, 2 * len(found))
    return found


def _released_value(logged: Logged) -> bytes:
    """Return content as it was logged; decoded, scrubbed and cut if anything may have to be done about it.

    There is nothing to scrub if no rule finds a place to begin, nothing to cut if all of it is shorter than the limit,
    and nothing to replace if it names no media and has fewer brackets than the deepest nesting.
    """
    raw, policy = logged.raw, logged.policy
    if not _is_json(raw) or (logged.kind == "words" and not raw.startswith(b'"')):
        return _UNREADABLE
    is_string = raw.startswith(b'"')
    if not is_string and (b'"source"' in raw or hides_text(raw)):
        return _decoded(logged)
    if policy.redact and not surely_clean(raw):
        return _decoded(logged)
    if not (is_string or _is_flat(raw)):
        return _decoded(logged, scrubbing=False)
    if logged.kind != "value" or len(raw) <= policy.max_length:
        return raw
    try:
        # A character takes six bytes at most.
        value = beginnings(msgspec.Raw(raw), 6 * policy.max_length)
    except msgspec.MsgspecError:
        return _UNREADABLE
    return _encode(cut_strings(value, policy.max_length))


def _released_block(logged: Logged) -> bytes:
    """Return a block; its parts are looked at one by one."""
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
    # A call's input and a result's content stand in the call's span, too, and may have been looked at for that.
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
    """Return content that was decoded, scrubbed and cut; `_UNREADABLE` if it is not JSON."""
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
        changes: where to note what is done; None for nowhere.
        place: the path to the current value, from a property's name inwards.
    """

    policy: Policy
    changes: list[Change] | None
    place: list[str] = field(default_factory=list)

    def member(self, key: str, value: Any, depth: int, *, cutting: bool) -> Any:
        """Return a member of an object; its key may say that it is a secret."""
        self.place.append(f".{self._shown(key)}" if self.place else key)
        if self.policy.redact and isinstance(value, str | int) and not isinstance(value, bool):
            kinds: list[str] = []
            scrubbed = scrub_member(key, value, kinds, scrub_text)
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
            return {self._key(key): self.member(key, item, depth + 1, cutting=cutting) for key, item in value.items()}
        return value

    def _item(self, number: int, value: Any, depth: int, *, cutting: bool) -> Any:
        self.place.append(f"[{number}]")
        value = self.value(value, depth, cutting=cutting)
        self.place.pop()
        return value

    def _logged(self, logged: Logged, depth: int) -> Any:
        if self.changes is not None:
            # Only decoding everything tells where each change was made.
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
        # As it was written, where that can be: numbers have more than one spelling.
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
