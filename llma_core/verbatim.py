"""Content of an event as it was logged, joined into what leaves: bytes from the line to the body.

Most events hold nothing that has to be scrubbed, and most content nothing that has to be cut or replaced. For these the
functions here put JSON together that is equal, byte for byte, to what `Policy.release` comes to by way of decoding.
They do not look for secrets, nor for letters that are written in another way than as themselves, where secrets are
scrubbed: whoever joins content with them has to look at the whole event, once, and to go the long way if anything in
it could be one. What is too long to leave whole is the exception: it is scrubbed here, before it is
cut, as what would be left of a secret might be none any more.

They hold at the level `full` only.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from llma_core.privacy import PLACEHELD, ROLES, Logged, Policy, is_flat, released
from llma_core.redaction import hides_text
from llma_core.spans import ContentBlock, InputMessage

__all__ = ["answer", "messages", "value"]

_ONLY_WORDS = (b'"text"', b'"thinking"')
_QUOTE = ord('"')

_decode_blocks = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def answer(policy: Policy, blocks: Sequence[ContentBlock]) -> bytes | None:
    """Return an answer as a list of one message; None where it does not leave as it was logged."""
    said = [b'[{"role":"assistant","content":[']
    for block in blocks:
        part = _block(policy, block.raw)
        if part is None:
            return None
        if len(said) > 1:
            said.append(b",")
        said.append(part)
    return b"".join((*said, b"]}]"))


def messages(policy: Policy, given: Sequence[InputMessage]) -> bytes | None:
    """Return what the model was given as a list of messages; None where it does not leave as it was logged."""
    said = []
    for message in given:
        content, role = message.content, message.role
        if content[0] != _QUOTE:
            try:
                blocks = _decode_blocks(content)
            except (msgspec.MsgspecError, RecursionError):
                return None
            if len(content) <= policy.max_length and _is_plain(policy, content):
                parts = [_short(fields) for fields in blocks]
            else:
                parts = [_block(policy, _encode(fields)) for fields in blocks]
            if None in parts:
                return None
            content = b"[" + b",".join(parts) + b"]"  # type: ignore[arg-type] # None is not among them
        if role not in ROLES:
            return None
        said.append(b'{"role":"' + role.encode() + b'","content":' + content + b"}")
    return b"[" + b",".join(said) + b"]"


def value(policy: Policy, raw: bytes) -> bytes | None:
    """Return a tool's input or result; None where it does not leave as it was logged."""
    if len(raw) > policy.max_length:
        return released(Logged(policy, "value", raw))
    return raw if raw[0] == _QUOTE or _is_plain(policy, raw) else None


def _is_plain(policy: Policy, raw: bytes) -> bool:
    """Whether nothing in a value has to be replaced."""
    return not (b'"source"' in raw or (not policy.redact and hides_text(raw)) or not is_flat(raw))


def _short(fields: dict[str, msgspec.Raw]) -> bytes | None:
    """Return a block that is short enough, and in which nothing has to be replaced unless its type says so."""
    kind = bytes(fields.get("type", b""))
    if kind in _ONLY_WORDS:
        return _only_words(kind, fields)
    if kind in PLACEHELD:
        return None
    fields.pop("signature", None)
    fields.pop("caller", None)
    return _encode(fields)


def _only_words(kind: bytes, fields: dict[str, msgspec.Raw]) -> bytes | None:
    name = kind[1:-1]
    words = memoryview(fields.get(name.decode(), b""))
    if not words or words[0] != _QUOTE:
        return None
    return b"".join((b'{"type":', kind, b',"', name, b'":', words, b"}"))


def _block(policy: Policy, raw: bytes) -> bytes | None:
    """Return a block of a message; None where it does not leave as it was logged."""
    try:
        fields = _decode_fields(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None
    kind = bytes(fields.get("type", b""))
    if kind in _ONLY_WORDS:
        return _only_words(kind, fields)
    if len(raw) <= policy.max_length:
        return _short(fields) if _is_plain(policy, raw) else None
    key = "input" if "input" in fields else "content"
    if key not in fields or kind in PLACEHELD:
        return None
    fields.pop("signature", None)
    fields.pop("caller", None)
    content = value(policy, bytes(fields[key]))
    if content is None:
        return None
    fields[key] = msgspec.Raw(b'""')
    rest = _encode(fields)
    if len(rest) > policy.max_length or not _is_plain(policy, rest):
        return None
    fields[key] = msgspec.Raw(content)
    return _encode(fields)
