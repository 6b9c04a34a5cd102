"""Blocks of private keys, also without their end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llma_core.redaction.places import Found, hint

__all__ = ["BLOCK_HINT", "blocks_in"]

_BLOCK_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY( BLOCK)?-----")
_BLOCK_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# A line of a block, with what may come before it: a line end (also `\n` in JSON), quotes, a margin, a block's headers.
_BLOCK_FIRST = re.compile(rb"[\s\S]{0,200}?[A-Za-z0-9+/]{24,}={0,2}")
_BLOCK_LINE = re.compile(rb"[\s\S]{0,64}?[A-Za-z0-9+/]{24,}={0,2}")
_BLOCK_LAST = re.compile(
    rb"(?>\\{1,63}[nrt]|\\{1,63}u[0-9a-f]{4}|[0-9]{1,6}(?=[^A-Za-z0-9+/=])|\+(?![A-Za-z0-9+/])|[^A-Za-z0-9+/]){0,64}+"
    rb"""[A-Za-z0-9+/]{1,64}={0,2}(?=\s|\\|["']|\Z)"""
)
_LINE_END = re.compile(rb"\n|\\[nr]")
_TEMPLATE = re.compile(rb"""[{}<>$()"'`]|\.\.\.|\xe2\x80\xa6|xxx|your|redacted""", re.IGNORECASE)
_SHORTEST_BLOCK = 64
_LONGEST_BLOCK = 32 * 1024


def blocks_in(data: bytes) -> Iterator[Found]:
    """Find private keys."""
    at, ending = 0, None
    while (begin := data.find(b"-----BEGIN ", at)) >= 0:
        at = begin + 1
        header = _BLOCK_BEGIN.match(data, begin)
        if header is None:
            continue
        at = header.end()
        if ending is None or 0 <= ending < at:
            ending = data.find(b"-----END ", at)
        footer = _BLOCK_END.match(data, ending) if 0 <= ending <= at + _LONGEST_BLOCK else None
        inside = data[at:ending] if footer is not None else b""
        if footer is not None and b"-----BEGIN " not in inside:
            # If it is shorter than any key, it may be a sample, or code that puts a key together.
            if len(inside) > _SHORTEST_BLOCK or (_LINE_END.search(inside) is not None and _is_body(inside)):
                at = footer.end()
                yield Found(begin, at, "private-key")
            continue
        line = _BLOCK_FIRST.match(data, at)
        if line is None:
            continue
        while line is not None:
            at = line.end()
            line = _BLOCK_LINE.match(data, at)
        last = _BLOCK_LAST.match(data, at)
        at = last.end() if last is not None else at
        yield Found(begin, at, "private-key")


def _is_body(inside: bytes) -> bool:
    return _TEMPLATE.search(inside) is None and bool(inside.strip(b" \t\r\n\\nr\"'"))


BLOCK_HINT = hint(b"private key", b"key")
