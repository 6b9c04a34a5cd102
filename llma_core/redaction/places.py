"""Places of secrets in a text, and the markers that replace them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MARKER_START", "Found", "hint", "marker", "matches_at", "shares_b", "shares_g", "shares_k"]

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


_WITH_B = re.compile(rb"""b(?:earer|asic |itmqctl|y +(?:password +)?\\*["'])""")
_WITH_G = re.compile(rb"g(?:(?<=sig)(?:nature)?(?:=|\\{1,8}u003d)|(?<=\.log)in\(|(?<=vault log)in |(?<=pg)pass)")
_WITH_K = re.compile(rb"k(?:(?<=cook)ie|(?<=hook)s|(?<=psk))")


def shares_b(lower: bytes) -> bool:
    """Whether a scheme of `Authorization`, `rabbitmqctl` or `by '` is in a text in small letters: one search."""
    return _WITH_B.search(lower) is not None


def shares_g(lower: bytes) -> bool:
    """Whether a signature's name, `.login(`, `vault login` or `pgpass` is in a text in small letters: one search."""
    return _WITH_G.search(lower) is not None


def shares_k(lower: bytes) -> bool:
    """Whether `cookie`, `hooks` or `psk` is in a text in small letters: one search for all."""
    return _WITH_K.search(lower) is not None


def matches_at(pattern: re.Pattern[bytes], data: bytes, *literals: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the matches of *pattern* at *literals*; the matches of one literal do not overlap."""
    for literal in literals:
        at = data.find(literal)
        while at >= 0:
            match = pattern.match(data, at)
            if match is not None:
                yield match
            at = data.find(literal, at + len(literal) if match is None else match.end())
