"""Secrets at a fixed place of a call or a statement: `jwt.sign(x, '...')`, `IDENTIFIED BY '...'`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llma_core.redaction.places import Found, matches_at
from llma_core.redaction.quotes import LINE_REACH, closing
from llma_core.redaction.values import PASSWORD, SURE_SECRET, Name, as_text

__all__ = ["IDENTIFIED", "IDENTIFIED_HINT", "JWT_HINT", "calls_in", "may_be_calls"]

IDENTIFIED: Final = rb"""identified +(?:with +[^ ]+ +)?by +(?:password +)?[\\]*["']"""
"""Matches what stands before a user's password in SQL, in small letters, in text and in JSON."""
_IDENTIFIED_IN_JSON = re.compile(IDENTIFIED)
# They begin with a rare letter, which makes the search fast.
IDENTIFIED_HINT = re.compile(rb"fied (?<=identified )")
JWT_HINT = re.compile(rb"jwt\.")
_GAP = rb"(?:\s|\\{1,63}[nrt]){0,16}"
_IDENTIFIED = re.compile(
    rb"identified {1,4}(?:with {1,4}[^\s]{1,64} {1,4})?by {1,4}(?:password {1,4})?"
    rb"""(?P<escapes>\\{0,63})(?P<quote>["'])"""
)
# Whose password it is. A sentence may say "identified by", too.
_GRANTEE = re.compile(
    rb"(?:user|role|to)(?:[ \t]+if[ \t]+(?:not[ \t]+)?exists)?(?:\s|\\{1,63}[nrt]){1,16}[^\s]{1,128}"
    rb"(?:\s|\\{1,63}[nrt]){1,16}\Z",
)
_SIGNED = re.compile(
    rb"jwt\.(?:sign|encode|verify|decode)\("
    + _GAP
    + rb"(?:\{[^{}]{0,256}\}|[\w.]{1,64}(?:\([^()]{0,64}\))?)"
    + _GAP
    + b","
    + _GAP
    + rb"""b?(?P<escapes>\\{0,63})(?P<quote>["'])"""
)


def may_be_calls(data: bytes, lower: bytes, *, with_b: bool) -> bool:
    """Whether JSON may hold a call or a statement with a secret; *with_b* is whether `shares_b` is true of it."""
    if JWT_HINT.search(data) is not None:
        return True
    return with_b and IDENTIFIED_HINT.search(lower) is not None and _IDENTIFIED_IN_JSON.search(lower) is not None


def calls_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find secrets in calls and statements that take one at a fixed place."""
    for match in matches_at(_SIGNED, data, b"jwt."):
        yield from _quoted(data, match, SURE_SECRET)
    for match in matches_at(_IDENTIFIED, lower, b"identified "):
        if _GRANTEE.search(lower, max(0, match.start() - LINE_REACH), match.start()) is not None:
            yield from _quoted(data, match, PASSWORD)


def _quoted(data: bytes, match: re.Match[bytes], name: Name) -> Iterator[Found]:
    """Find the secret in the string that *match* opens."""
    end = closing(data, match.end(), len(match["escapes"]), match["quote"])
    if end is not None and name.hides(as_text(data[match.end() : end]), "quoted"):
        yield Found(match.end(), end, name.kind, by_name=True)
