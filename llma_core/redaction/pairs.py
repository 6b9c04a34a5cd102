"""Pairs such as `name: DB_PASSWORD` and `value: ...`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llma_core.redaction.authorization import authorization_at
from llma_core.redaction.names import STEMS, is_loud, is_telling, name_of_key
from llma_core.redaction.places import Found, hint
from llma_core.redaction.quotes import OPENING, closing
from llma_core.redaction.values import AUTHORIZATION, PASSWORD, Form, as_text, names_secret

__all__ = ["judging_keys", "may_be_pairs", "pairs_in"]

_VALUE = re.compile(rb"""value(?:\\*["'])?(?: {0,4}[:=] {0,4}|>)""")
_PAIR_REACH = 160
_PAIR_NAME = re.compile(
    rb"""(?:\b|_|(?<=\\[nrt])|option|parameter|setting)(?:name|key|type)(?:\\{0,63}["'])? {0,4}[:=] {0,4}"""
    rb"""(?:\\{0,63}["'])?"""
    rb"""([A-Za-z0-9_.-]{3,64})(?=[\s"'\\,<>]|\Z)"""
)
_PAIR_BREAK = re.compile(rb"[{}\[]|value|(?:\r?\n|\\{1,63}n)[ \t]*(?:\r?\n|\\{1,63}n|-)")
_PAIR_VALUE = re.compile(rb"""[^\s"'`<\\,}\])]{1,512}""")
_PAIR_NAME_AFTER = re.compile(
    rb"""(?:\\{0,63}["'])?(?:[ \t\r\n,]|\\{1,63}[nrt]){1,16}(?:\\{0,63}["'])?(?:name|key)"""
    rb"""(?:\\{0,63}["'])? {0,4}[:=] {0,4}"""
    rb"""(?:\\{0,63}["'])?([A-Za-z0-9_.-]{3,64})(?=[\s"'\\,]|\Z)"""
)
_PAIR_STEMS = re.compile(b"|".join(stem for stem, _ in STEMS))


def pairs_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find the values of pairs such as `name: DB_PASSWORD` and `value: ...`, in YAML, JSON and XML."""
    for match in _VALUE.finditer(lower):
        at = match.end()
        quote = OPENING.match(data, at)
        if quote is not None:
            at, end = quote.end(), closing(data, quote.end(), len(quote[1]), quote[2])
        else:
            bare = _PAIR_VALUE.match(data, at)
            end = None if bare is None else bare.end()
        if end is None:
            continue
        spelled = _paired_name(data, lower, match.start(), end)
        name = name_of_key(as_text(spelled)) if spelled is not None else None
        if name is None or spelled is None:
            continue
        if name is AUTHORIZATION:
            found = authorization_at(data, match.end())
            if found is not None:
                yield found
            continue
        form: Form = "quoted" if quote is not None else "variable" if name is PASSWORD or is_loud(spelled) else "bare"
        value = as_text(data[at:end])
        if name.hides(value, form) and (quote is not None or not names_secret(value)):
            yield Found(at, end, name.kind, by_name=True)


def _paired_name(data: bytes, lower: bytes, start: int, end: int) -> bytes | None:
    """Return the name that belongs to a value: it stands before it, with other members in between, or after it."""
    first = max(0, start - _PAIR_REACH)
    if (
        lower.rfind(b"name", first, start) >= 0
        or lower.rfind(b"key", first, start) >= 0
        or lower.rfind(b"type", first, start) >= 0
    ):
        names = [
            (said, span)
            for said in _PAIR_NAME.finditer(lower, first, start)
            if _PAIR_STEMS.search(lower, *(span := said.span(1))) is not None
        ]
        last = max((said.end() for said in _PAIR_NAME.finditer(lower, first, start)), default=0)
        if (
            names
            and (names[-1][0].end() == last or b"type" in names[-1][0][0])
            and _PAIR_BREAK.search(lower, names[-1][0].end(), start) is None
        ):
            return data[slice(*names[-1][1])]
    after = _PAIR_NAME_AFTER.match(lower, end)
    return data[slice(*after.span(1))] if after is not None else None


# The name of a pair, in small letters, in text and in JSON. One expression for all would be searched more slowly.
_PAIR_HINTS = tuple(
    re.compile(said.pattern + rb"""[\\"']*\s*[:=]\s*[\\"']*[a-z0-9_.-]*(?:""" + _PAIR_STEMS.pattern + b")")
    for said in (hint(b"key"), hint(b"type", b"ype"), hint(b"name", b"me"))
)
_VALUE_HINT = re.compile(rb"""value[\\"' ]*[:=>]""")


def judging_keys(members: Mapping[str, object]) -> Iterator[str]:
    """Yield for each member of an object, in order, the key by which it is judged.

    It is the member's own, or what another member says: `{"name": "DB_PASSWORD", "value": ...}`.
    """
    if not any(key[-5:].lower() == "value" for key in members):
        yield from members
        return
    said: dict[str, str] = {}
    for key, value in members.items():
        part = _PAIR_KEY.fullmatch(key)
        if part is not None and part[2].lower() != "value" and isinstance(value, str) and is_telling(value):
            said.setdefault(part[1].lower(), value)
    for key in members:
        part = _PAIR_KEY.fullmatch(key) if said else None
        if part is None or part[2].lower() != "value":
            yield key
        else:
            yield said.get(part[1].lower()) or next(iter(said.values()))


_PAIR_KEY = re.compile(r"(parameter|option|setting|variable|)_?(name|key|value)", re.IGNORECASE)


def may_be_pairs(lower: bytes) -> bool:
    """Whether JSON, in small letters, may hold a pair whose name says that its value is a secret."""
    return _VALUE_HINT.search(lower) is not None and any(said.search(lower) is not None for said in _PAIR_HINTS)
