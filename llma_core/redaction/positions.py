"""Passwords that only their position gives away: `rabbitmqctl add_user NAME ...`, `x.login("NAME", "...")`, .pgpass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llma_core.redaction.commands import ARGUMENT
from llma_core.redaction.places import Found, hint
from llma_core.redaction.quotes import closing
from llma_core.redaction.values import PASSWORD, Form, as_text

__all__ = ["POSITIONS", "may_be_positions", "positions_in"]

POSITIONS: Final = (b"rabbitmqctl", b"net use", b"pgpass", b".login(")
"""Literals that one of them is in whatever gives a password by its position."""
_LINE = rb"[^\r\n|;&<>]"
_GAP = rb"(?:[ \t]|\\{1,63}t){1,16}"
_NAME = rb"""(?:\\{0,63}["'])?[\w.@$%*+-]{1,64}(?:\\{0,63}["'])?"""
_NEXT = _GAP + rb"(?!/|--?[a-z])" + ARGUMENT
_CTL_HINT = hint(b"rabbitmqctl", b"qctl")
_CTL = re.compile(
    rb"qctl" + _LINE + rb"{0,80}?[ \t](?:add_user|change_password|authenticate_user)" + _GAP + _NAME + _NEXT
)
_NET_HINT = hint(b"net use", b"use")
_NET = re.compile(
    rb"use(?:r"
    + _GAP
    + rb"(?:/add"
    + _GAP
    + rb")?"
    + _NAME
    + rb"|(?:"
    + _GAP
    + rb"[A-Za-z*]:?)?"
    + _GAP
    # A folder of another machine, and in one order or the other who asks for it.
    + rb"\\{2,64}[^\s]{1,128}(?:"
    + _GAP
    + rb"/user:[^\s]{1,64})?)"
    + _NEXT
)
_LOGIN_HINT = hint(b".login(", b"gin(")
_FILE_HINT = hint(b"pgpass", b"gpass")
_BLANK = rb"(?:\s|\\{1,63}[nrt]){0,16}"
_LOGIN = re.compile(
    rb"gin\("
    + _BLANK
    + rb"""(?P<user>[bf]?\\{0,63}["'][^"'\\\r\n]{1,64}\\{0,63}["']|[A-Za-z_][\w.]{0,63})"""
    + _BLANK
    + b","
    + _BLANK
    + rb"""b?(?P<escapes>\\{0,63})(?P<quote>["'])"""
)
# A line of .pgpass.
_ENTRY = re.compile(
    rb""":(?<=[\w.*\]-]:)(?:[0-9]{2,5}|\*):[\w.*-]{1,64}:[\w.@*-]{1,64}:([^\s"'\\:<>|]{3,256})(?=[\s"'\\|]|\Z)"""
)


def may_be_positions(data: bytes, *, with_b: bool, with_g: bool) -> bool:
    """Whether a text or JSON may hold a password that its position gives away.

    Args:
        data: the text or the JSON.
        with_b: whether `shares_b` is true of it.
        with_g: whether `shares_g` is true of it.
    """
    if with_g and (_LOGIN_HINT.search(data) is not None or _FILE_HINT.search(data) is not None):
        return True
    return (with_b and _CTL_HINT.search(data) is not None) or _NET_HINT.search(data) is not None


def positions_in(data: bytes) -> Iterator[Found]:
    """Find passwords by the position that they have in a command, in a call, or in a line of .pgpass."""
    # A sentence may have a "net user", too.
    commands: tuple[tuple[re.Pattern[bytes], re.Pattern[bytes], Form], ...] = (
        (_CTL_HINT, _CTL, "variable"),
        (_NET_HINT, _NET, "bare"),
    )
    for found, pattern, form in commands:
        first = found.search(data)
        at = 0 if first is None else first.start()
        while first is not None and (match := pattern.search(data, at)) is not None:
            at = match.end()
            group = match.lastindex
            assert group is not None
            if PASSWORD.hides(as_text(match[group]), form):
                yield Found(*match.span(group), "password", by_name=True)
    yield from _logins_in(data)
    for line in _ENTRY.finditer(data) if b"pgpass" in data else ():
        if PASSWORD.hides(as_text(line[1]), "variable"):
            yield Found(*line.span(1), "password", by_name=True)


def _logins_in(data: bytes) -> Iterator[Found]:
    at = 0
    while (first := _LOGIN_HINT.search(data, at)) is not None:
        at = first.end()
        call = _LOGIN.match(data, first.start())
        end = closing(data, call.end(), len(call["escapes"]), call["quote"]) if call is not None else None
        if call is None or end is None:
            continue
        value = as_text(data[call.end() : end])
        # A single word may be anything else, such as the name of a strategy, unless an address logs in.
        if PASSWORD.hides(value, "quoted") and (not value.isalpha() or b"@" in call["user"]):
            yield Found(call.end(), end, "password", by_name=True)
