"""Cuts strings to a length and says how much is missing.

A string of tens of megabytes is never decoded as a whole, because a single character outside of Unicode's first plane
makes the whole string take four times as many bytes. A string that has to be cut is decoded piece by piece, and only
its beginning is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["Beginning", "beginnings", "cut", "cut_strings"]

# Whole characters only: no piece may end inside a character of several bytes or inside an escape.
_PIECE = re.compile(
    rb"(?:[^\\\x80-\xff]{1,256}+|[\xc0-\xff][\x80-\xbf]++|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\[^u]){1,256}+",
    re.DOTALL,
)

_decode = msgspec.json.Decoder().decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Beginning(msgspec.Struct, frozen=True):
    """The beginning of a string.

    Attributes:
        text: the beginning.
        length: number of characters of the whole string.
    """

    text: str
    length: int


def cut(text: str | Beginning, limit: int) -> str:
    """Return *text* cut to *limit* characters; if it is longer, followed by the number of missing characters."""
    beginning, length = (text.text, text.length) if isinstance(text, Beginning) else (text, len(text))
    gone = length - limit
    return beginning if gone <= 0 else f"{beginning[:limit]}… [{gone} more characters]"


def cut_strings(value: Any, limit: int) -> Any:
    """Return a JSON value with every string in it cut to *limit* characters."""
    if isinstance(value, str | Beginning):
        return cut(value, limit)
    if isinstance(value, list):
        return [cut_strings(item, limit) for item in value]
    if isinstance(value, dict):
        return {key: cut_strings(item, limit) for key, item in value.items()}
    return value


def beginnings(data: msgspec.Raw, limit: int) -> Any:
    """Decode JSON, with a Beginning in place of each string that takes more than *limit* bytes as logged.

    Encoded as JSON, the text of a Beginning has more than *limit* bytes, unless it is the whole string.

    Raises:
        msgspec.MsgspecError: a number in it is too large for a float.
    """
    view = memoryview(data)
    if len(view) <= limit:
        return _decode(data)
    match bytes(view[:1]):
        case b"[":
            return [beginnings(item, limit) for item in _decode_list(data)]
        case b"{":
            return {key: beginnings(item, limit) for key, item in _decode_object(data).items()}
        case b'"':
            return _beginning(view[1:-1], limit)
        case _:
            return _decode(data)


def _beginning(inside: memoryview, limit: int) -> Beginning:
    kept: list[str] = []
    size = length = 0
    for piece in _pieces(inside):
        if size <= limit:
            kept.append(piece)
            size += len(_encode(piece)) - len('""')
        length += len(piece)
    return Beginning("".join(kept), length)


def _pieces(inside: memoryview) -> Iterator[str]:
    for found in _PIECE.finditer(inside):
        yield _decode(b'"' + found[0] + b'"')
