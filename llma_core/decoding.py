"""Decodes JSON from programs that may write it wrong, as far as possible.

Lone surrogates, NULs and bytes that are not UTF-8 become U+FFFD; a byte order mark before the value is no part of it; a
field with a value of another type than expected is dropped and the others are kept. Nothing here knows a log's keys.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import Raw, Struct

from llma_core.errors import RecordError

__all__ = ["build", "decode_as", "decode_object", "sendable"]

_S = TypeVar("_S", bound=Struct)

# One pass instead of one for each kind. It also finds complete surrogate pairs, which are valid.
_UNSENDABLE = re.compile(rb"\\u(?:[dD]|0000)")
_SURROGATE_OR_NUL = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u"
    rb"(?:([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|[dD][89a-fA-F][0-9a-fA-F]{2}|0000)"
)
_REPLACEMENT = "\ufffd".encode()
_PIECE = 64 * 1024
"""Bytes that are decoded to text at once. One character can make a whole text take four times as much memory."""


def sendable(data: bytes) -> bytes:
    """Return JSON with U+FFFD in place of whatever is not valid UTF-8, which would make a receiver reject a batch."""
    data = data.removeprefix(codecs.BOM_UTF8)
    if _UNSENDABLE.search(data) is not None:
        data = _SURROGATE_OR_NUL.sub(_replacement, data)
    if data.isascii():
        return data
    try:
        for _ in _text(data, "strict"):
            pass
    except UnicodeDecodeError:
        return b"".join(text.encode() for text in _text(data, "replace"))
    return data


def _replacement(found: re.Match[bytes]) -> bytes:
    slashes, high, low = found.groups()
    if high is None:
        return bytes(slashes) + _REPLACEMENT
    return bytes(slashes) + chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00).encode()


def _text(data: bytes, errors: str) -> Iterator[str]:
    """Yield *data* as text, piece by piece.

    Raises:
        UnicodeDecodeError: it is not UTF-8, and *errors* is `strict`.
    """
    if len(data) <= _PIECE:
        yield data.decode(errors=errors)
        return
    decoder = _Decoder(errors)
    for at in range(0, len(data), _PIECE):
        yield decoder.decode(data[at : at + _PIECE])
    yield decoder.decode(b"", final=True)


_Decoder = codecs.getincrementaldecoder("utf-8")


def decode_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds.

    Raises:
        RecordError: the line is no JSON object. The reason names no content.
    """
    try:
        value = json.loads(line.decode(), parse_constant=_nothing, parse_float=_finite)
    except ValueError as error:
        # The parser's message may quote the line, so only the position is used.
        place = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise RecordError(f"not JSON{place}") from None
    except RecursionError:
        raise RecordError("nested too deep") from None
    if not isinstance(value, dict):
        raise RecordError("not a JSON object")
    return value


def _nothing(_constant: str) -> None:
    """Decode NaN and Infinity, which some writers use although they are not JSON, as null."""


def _finite(digits: str) -> float | None:
    """Decode a number; one that is too large for a float becomes null, because Infinity cannot be encoded as JSON."""
    number = float(digits)
    return number if math.isfinite(number) else None


@cache
def _fields(struct: type[Struct]) -> tuple[tuple[str, str, Any], ...]:
    hints = get_type_hints(struct)
    return tuple(
        (field.name, field.encode_name, hints[field.name])
        for field in msgspec.structs.fields(struct)
        if field.name != "raw"
    )


def _options(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", None) or (hint,)


def build(struct: type[Struct], value: dict[str, Any]) -> Struct:
    """Build *struct* from *value*, leaving out each field whose value does not fit."""
    known: dict[str, Any] = {}
    for name, key, hint in _fields(struct):
        if key not in value:
            continue
        item = value[key]
        options = _options(hint)
        nested = next((option for option in options if isinstance(option, type) and issubclass(option, Struct)), None)
        if Raw in options:
            known[name] = Raw(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode())
        elif nested is not None:
            if isinstance(item, dict):
                known[name] = build(nested, item)
        else:
            # In JSON, 10.0 is an integer; the decoder wants it without the fraction.
            for fit in (item, int(item)) if isinstance(item, float) and item.is_integer() else (item,):
                with suppress(msgspec.ValidationError):
                    known[name] = msgspec.convert(fit, hint)
                    break
    return struct(**known)


def decode_as(struct: type[_S], decoder: Callable[[bytes | Raw], _S], data: bytes | Raw) -> _S | None:
    """Decode an object that stayed raw; None if it is none."""
    try:
        return decoder(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        built = build(struct, decode_object(bytes(data)))
    except (RecordError, ValueError, RecursionError):
        return None
    assert isinstance(built, struct)
    return built
