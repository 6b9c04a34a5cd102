"""Passwords that stand before their name: `... is my password`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llma_core.redaction.names import NAME_REACH
from llma_core.redaction.places import Found
from llma_core.redaction.values import PASSWORD, as_text

__all__ = ["PASSWORD_WORD", "PURPOSE", "may_be_statements", "statements_in"]

_SAID = re.compile(
    rb"pass(?:word|phrase|code)s?(?=[\s.,;:!?)\\\"']|\Z)(?! (?:hash|field|policy|manager|alg|type|of type))"
)
_SAYS = re.compile(
    rb"[ ](?:is|was|as)[ ](?:(?:my|our|the|your|a|his|her|their)[ ])?(?:[\w-]{1,20}[ ]){0,2}\Z", re.IGNORECASE
)
_SAID_BEFORE = re.compile(rb"""(?:\A|(?<=[\s("'`])|(?<=\\[nrt"]))([^\s"'`\\(]{6,64})["'`]?,?[ ]?\Z""")
PASSWORD_WORD = re.compile(rb"pass(?:word|phrase|code)s?")
PURPOSE = re.compile(rb" +(?:for|to|of|on|in) ")
"""Matches what says in JSON, in small letters, what a password is for."""


def statements_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find passwords that stand before their name: `... is my password`."""
    for match in _SAID.finditer(lower):
        says = _SAYS.search(data, max(0, match.start() - NAME_REACH), match.start())
        if says is None:
            continue
        before = _SAID_BEFORE.search(data, max(0, says.start() - NAME_REACH - 2), says.start())
        if before is not None and PASSWORD.hides(as_text(value := before[1].rstrip(b".,;:")), "bare"):
            yield Found(before.start(1), before.start(1) + len(value), "password", by_name=True)


def may_be_statements(lower: bytes, at: int) -> bool:
    """Whether JSON may say what a password is, from *at* on."""
    for match in PASSWORD_WORD.finditer(lower, at):
        if PURPOSE.match(lower, match.end()) is not None:
            return True
        if _SAYS.search(lower, max(0, match.start() - NAME_REACH), match.start()) is not None:
            return True
    return False
