"""Places of secrets in a text, and the markers that replace them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MARKER_START", "Found", "hint", "marker", "matches_at"]

MARKER_START = b"[REDACTED:"


def marker(kind: str) -> str:
    """Return the marker that replaces a secret of *kind*."""
    return f"[REDACTED:{kind}]"


@dataclass(frozen=True, slots=True)
class Found:
    """The place of a secret, in bytes. If two overlap, the one with a form of its own determines the kind.

    Attributes:
        start: offset of its first byte.
        end: offset just after its last byte.
        kind: the kind of secret, for its marker.
        by_name: whether the name before it gave it away.
    """

    start: int
    end: int
    kind: str
    by_name: bool = False


def hint(literal: bytes, rare: bytes = b"") -> re.Pattern[bytes]:
    """Return a pattern whose matches end where *literal* does.

    Args:
        literal: what is searched for.
        rare: its end, from its rarest letter on. Such a search looks for its first letter, so it goes by this one.
    """
    return re.compile(re.escape(rare) + b"(?<=" + re.escape(literal) + b")" if rare else re.escape(literal))


def matches_at(pattern: re.Pattern[bytes], data: bytes, *literals: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the matches of *pattern* at *literals*; the matches of one literal do not overlap."""
    for literal in literals:
        at = data.find(literal)
        while at >= 0:
            match = pattern.match(data, at)
            if match is not None:
                yield match
            at = data.find(literal, at + len(literal) if match is None else match.end())
