"""Quotes in text and in JSON of any depth."""

from __future__ import annotations

import re

from llma_core.redaction.values import VALUE_REACH

__all__ = ["LINE_REACH", "OPENING", "closing"]

OPENING = re.compile(rb"""[bBrRuUfFN@]{0,2}(\\{0,63})("{3}|'{3}|["'`])""")
LINE_REACH = 200
"""How far back a line is looked at, to see whether a string is open."""


def closing(data: bytes, start: int, escapes: int, quote: bytes) -> int | None:
    """Return the end of a string that *quote* after *escapes* backslashes opened; None if it is not in reach."""
    # In n levels of JSON, a closing quote has 2**n - 1 backslashes before it. A quote inside of the string has more.
    at, reach = start, start + VALUE_REACH
    while (at := data.find(quote, at, reach)) >= 0:
        before = at - len(data[start:at].rstrip(b"\\")) - start
        if before % (2 * (escapes + 1)) == escapes or before < escapes:
            return at - before if before <= escapes else at - escapes
        at += len(quote)
    return None
