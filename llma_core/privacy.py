"""What of a session's content may leave the machine: levels, scrubbing, cutting.

The order is: drop what the level forbids, scrub secrets, cut, so that nothing forbidden is looked at and no half of
a secret stays. The first is done where content is asked for; the other two for all properties of an event at once, in
`Policy.release`, so that none can be forgotten. Until then what will be cut is a `ToolContent` or a `TraceName`.

Most content needs none of this, and stays as it was logged, JSON that nobody decodes: a `Logged` until it is released,
and mostly after that. See `_as_logged`.
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
    "NAME_CHARACTERS",
    "PLACEHELD",
    "ROLES",
    "Change",
    "ContentLevel",
    "Logged",
    "LoggedMessage",
    "Policy",
    "ToolContent",
    "TraceName",
    "characters",
    "is_flat",
    "released",
    "released_words",
    "text_of",
]

ContentLevel = Literal["full", "no_tool_content", "metadata"]
"""`full`: everything. `no_tool_content`: prompts and answers, but no tool inputs, outputs or tool error text.
`metadata`: no content at all."""

# Tuples: what is looked up in them comes from the log and may be unhashable.
_MEDIA = ("image", "document")
_TOOL_NAMES = ("type", "id", "name", "tool_use_id", "is_error")

NAME_CHARACTERS: Final = 100
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


class Logged(msgspec.Struct, frozen=True, gc=False):
    """Content as it was logged, and the policy it leaves under. What is to be done about it is done at its release.

    Attributes:
        policy: what holds.
        kind: `block` of a message; `words` of a message, a string; a tool's `value`; a list of tools' `definitions`.
        raw: JSON.
    """

    policy: Policy
    kind: Literal["block", "words", "value", "definitions"]
    raw: bytes

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


class LoggedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message whose content is as it was logged.

    Attributes:
        role: whose it is.
        content: its words or its blocks.
    """

    role: str
    content: Logged | list[Logged]


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
        return min(len(value.words), NAME_CHARACTERS)
    if isinstance(value, Logged):
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
        return TraceName(words) if words and self.conversation else None

    def messages(self, messages: Sequence[InputMessage]) -> list[LoggedMessage] | None:
        """Return what the model was given, as far as it may leave; None if nothing of it may or there is nothing."""
        if not self.conversation:
            return None
        kept = []
        for message in messages:
            if message.origin in ("agent_prompt", "command_output", "notification") and not self.tools:
                # A tool's input that another model wrote, what a program printed, what a task was told to report.
                continue
            content = self._content(message.content)
            if content is not None:
                kept.append(LoggedMessage(message.role, content))
        return kept or None

    def _content(self, data: bytes) -> Logged | list[Logged] | None:
        if data.startswith(b'"'):
            return Logged(self, "words", data)
        try:
            return [Logged(self, "block", bytes(block)) for block in _decode_list(data)]
        except (msgspec.MsgspecError, RecursionError):
            return None

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

    def answer(self, blocks: Sequence[ContentBlock]) -> list[LoggedMessage] | None:
        """Return an answer's one message, as far as it may leave; None if nothing of it may or there is nothing."""
        if not self.conversation or not blocks:
            return None
        return [LoggedMessage("assistant", [Logged(self, "block", block.raw) for block in blocks])]

    def tool_value(self, data: bytes | None) -> Logged | None:
        """Return a tool's input or result; None if there is none or it may not leave."""
        return None if data is None or not self.tools else Logged(self, "value", data)

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
        left = {}
        for key, value in properties.items():
            said = value if key in ids else way.member(key, value, 0, cutting=False)
            if said is not None:
                left[key] = said
        return left

    def release_at_once(self, properties: Mapping[str, Any], *, ids: Container[str] = ()) -> dict[str, Any]:
        """Return what `release` does: short strings are looked at all at once, long ones and content once and for all.

        Most events hold nothing to be scrubbed; here they do not pay for it string by string.
        """
        left: dict[str, Any] = {}
        words: list[str] = []
        way = _Way(self, None)
        for key, value in properties.items():
            kind = type(value)
            if kind is TraceName or (kind is str and len(value) > _SHORT_WORDS and key not in ids):
                left[key] = msgspec.Raw(released_words(self, value))
            elif kind is str:
                left[key] = value
                if key not in ids:
                    words.append(value)
            elif kind in _NUMBERS:
                left[key] = value
            elif value is not None and (said := way.value(value, 0, cutting=False)) is not None:
                left[key] = said
        if self.redact and (not surely_clean(msgspec.json.encode(words)) or any(map(is_telling, left))):
            return self.release(properties, ids=ids)
        return left

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


# ---------------------------------------------------------------------- content that leaves as it was logged

_MEMO_BYTES = 4 * 1024 * 1024
_memo = Memo(_MEMO_BYTES)
"""What content has become. The same stands in an answer, in its call's span, in the result's, in the next input."""
_UNREADABLE = b""
_ONLY_WORDS = {
    b'"text"': ("text", b'{"type":"text","text":'),
    b'"thinking"': ("thinking", b'{"type":"thinking","thinking":'),
}
ROLES = ("user", "assistant", "system")
"""Those a message may have that leaves as it was logged."""
_NUMBERS = (int, float, bool)
_SHORT_WORDS = 100
PLACEHELD = (b'"redacted_thinking"', b'"image"', b'"document"')
"""Types, as JSON, of the blocks in whose place something else leaves."""

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_nothing = msgspec.json.Decoder(msgspec.Raw).decode


def _is_json(data: bytes) -> bool:
    try:
        _decode_nothing(data)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def is_flat(data: bytes) -> bool:
    """Whether a value is not null, and surely not nested too deep."""
    return data.strip() != b"null" and data.count(b"{") + data.count(b"[") <= _DEEPEST


def released(logged: Logged) -> bytes | None:
    """Return content as it leaves, as JSON; None if it cannot be read."""
    policy = logged.policy
    key = logged.kind, policy.level, policy.max_length, policy.redact, logged.raw
    said = _memo.get(key, None)
    if said is None:
        said = _block_as_logged(logged) if logged.kind == "block" else _value_as_logged(logged)
        _memo.put(key, said, len(logged.raw) + (0 if said is logged.raw else len(said)))
    return said or None


def _message(message: LoggedMessage) -> dict[str, Any]:
    """Return a message as it leaves."""
    content = message.content
    said = _content(content) if isinstance(content, Logged) else [_content(block) for block in content]
    return {"role": message.role, "content": said}


def _content(logged: Logged) -> msgspec.Raw | None:
    said = released(logged)
    return None if said is None else msgspec.Raw(said)


def released_words(policy: Policy, words: str | TraceName) -> bytes:
    """Return words as they leave, as JSON: a prompt and a name stand in every event of their turn."""
    is_name = isinstance(words, TraceName)
    key = policy.redact, is_name, words.words if isinstance(words, TraceName) else words
    said = _memo.get(key, None)
    if said is None:
        said = msgspec.json.encode(_Way(policy, None).value(words, 0, cutting=False))
        _memo.put(key, said, 2 * len(said))
    return said


def _value_as_logged(logged: Logged) -> bytes:
    """Return content as it was logged, the fast path, or all the way if anything may have to be done about it.

    There is nothing to scrub if no rule finds a place to begin, nothing to cut if all of it is shorter than the limit,
    and nothing to be replaced if there is no place for media and fewer brackets than are nested at most.
    """
    raw, policy = logged.raw, logged.policy
    if not _is_json(raw) or (logged.kind == "words" and not raw.startswith(b'"')):
        return _UNREADABLE
    is_string = raw.startswith(b'"')
    if not is_string and (b'"source"' in raw or hides_text(raw)):
        return _all_the_way(logged)
    if policy.redact and not surely_clean(raw):
        return _all_the_way(logged)
    if not (is_string or is_flat(raw)):
        return _all_the_way(logged, scrubbing=False)
    if logged.kind != "value" or len(raw) <= policy.max_length:
        return raw
    try:
        # A character takes six bytes at most.
        value = beginnings(msgspec.Raw(raw), 6 * policy.max_length)
    except msgspec.MsgspecError:
        return _UNREADABLE
    return msgspec.json.encode(cut_strings(value, policy.max_length))


def _block_as_logged(logged: Logged) -> bytes:
    """Return a block, its parts likewise."""
    policy = logged.policy
    try:
        fields = _decode_fields(logged.raw)
    except (msgspec.MsgspecError, RecursionError):
        return _all_the_way(logged)
    kind = bytes(fields.get("type", b""))
    if kind in _ONLY_WORDS:
        key, beginning = _ONLY_WORDS[kind]
        words = bytes(fields.get(key, b""))
        return (
            beginning + _value_as_logged(Logged(policy, "words", words)) + b"}"
            if words.startswith(b'"')
            else _all_the_way(logged)
        )
    if not policy.tools or kind in PLACEHELD or b"\\" in kind:
        return _all_the_way(logged)
    fields.pop("signature", None)
    fields.pop("caller", None)
    # What a call is given and a result brings is the span's own, too, and may have been looked at for that.
    key = "input" if "input" in fields else "content"
    if key in fields:
        value = released(Logged(policy, "value", bytes(fields[key])))
        fields[key] = msgspec.Raw(b'""')
    rest = msgspec.json.encode(fields)
    if _value_as_logged(Logged(policy, "value", rest)) != rest:
        return _all_the_way(logged)
    if key not in fields:
        return rest
    if value is None:
        return _all_the_way(logged)
    fields[key] = msgspec.Raw(value)
    return msgspec.json.encode(fields)


def _all_the_way(logged: Logged, *, scrubbing: bool = True) -> bytes:
    """Return content that was decoded, scrubbed and cut; `_UNREADABLE` if it is no JSON."""
    value = logged.opened()
    if value is None:
        return _UNREADABLE
    policy = logged.policy if scrubbing else replace(logged.policy, redact=False)
    return msgspec.json.encode(_Way(policy, None).value(value, 0, cutting=False))


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
            return words if len(words) <= NAME_CHARACTERS else words[: NAME_CHARACTERS - 1].rstrip() + "…"
        if isinstance(value, Logged):
            return self._logged(value, depth)
        if isinstance(value, LoggedMessage):
            if self.changes is None and value.role in ROLES:
                return _message(value)
            return self.value({"role": value.role, "content": value.content}, depth, cutting=False)
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

    def _logged(self, logged: Logged, depth: int) -> Any:
        if self.changes is not None:
            # Where each change was made is only known to those who go all the way.
            return self.value(logged.opened(), depth, cutting=False)
        return _content(logged)

    def _raw(self, raw: msgspec.Raw, depth: int) -> Any:
        data = bytes(raw)
        stays = self.changes is None and is_flat(data) and _is_json(data)
        if stays and (not self.policy.redact or surely_clean(data)):
            return raw
        value = _decode(data)
        if value is None:
            return None
        left = self.value(value, depth, cutting=False)
        # As it was written, where that can be: numbers have more than one spelling.
        return raw if left == value else left

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
