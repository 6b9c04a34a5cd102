"""Passwords that only their position gives away: `rabbitmqctl add_user NAME ...`, `x.login("NAME", "...")`, .pgpass.

A line of .pgpass is known without the file's name if it is whole, and its port is any or one of PostgreSQL's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llma_core.redaction.commands import ARGUMENT
from llma_core.redaction.connections import CONNECTIONS, connections_in, may_be_connections
from llma_core.redaction.places import Found, hint
from llma_core.redaction.quotes import closing
from llma_core.redaction.values import PASSWORD, Form, as_text

__all__ = ["ENTRY", "POSITIONS", "may_be_positions", "positions_in"]

POSITIONS: Final = (
    *(b"rabbitmqctl", b"net use", b"pgpass", b".login(", b"sqlplus ", b"sqlldr ", b"vault login ", b"AUTH "),
    *CONNECTIONS,
)
"""Literals that one of them is in whatever gives a password by its position, unless `ENTRY` matches."""
_PORT = rb"(?:\*|543[0-9]|643[2-5]|6543|[1-5]543[0-9]|2506[01]|26257)"
ENTRY: Final = rb":" + _PORT + rb":[\w.*-]"
"""Matches the port in each line of .pgpass that nothing names."""
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
_BEFORE = 16
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
# A whole line of .pgpass. Where the file is named, its port may be any, and `grep -n` may have put a number before it.
_PORT_HINT = re.compile(ENTRY)
_ANY_PORT = re.compile(rb":(?:\*|[0-9]{2,5}):[\w.*-]")
_HOST = re.compile(rb"""(?:\A|(?<=[\s"'`])|(?<=\\[nrt]))[\w.*-]{1,128}\Z""")
_NAMED_HOST = re.compile(
    rb"""(?:\A|(?<=[\s"'`:=])|(?<=\\[nrt]))(?:[\w.*-]{1,128}|/[\w./-]{1,128}|\[[0-9A-Fa-f:.]{2,45}\])\Z"""
)
_ENTRY = re.compile(
    rb""":(?:\*|[0-9]{2,5}):(?![0-9]{1,64}:)[\w.*-]{1,64}:[\w.@*-]{1,64}:([^\s"'`\\:<>|]{3,256})(?=[\s"'`\\|>]|\Z)"""
)
_HOST_REACH = 130
# SQL*Plus and SQL*Loader; the searches begin with the rarest letter. A sentence may have them, too.
_ORACLE_HINT = re.compile(rb"ql(?<=sql)(?:plus|ldr) ")
_ORACLE = re.compile(
    rb"ql(?:plus|ldr)(?:(?<![a-z,] sqlplus)|(?=[^\r\n@]{1,128}@))(?:"
    + _GAP
    + rb"-[A-Za-z]{1,8}){0,4}"
    + _GAP
    + rb"""(?:\\{0,63}["'])?(?:userid=)?[A-Za-z][\w$#]{0,63}/(?!@)"""
    + rb"""(?:\\{0,63}"([^"'\\\r\n]{1,128})|([^\s"'`\\@|;]{1,128}))"""
)
_VAULT_HINT = hint(b"vault login ", b"gin ")
_VAULT = re.compile(
    rb"gin(?:"
    + _GAP
    + rb"-[\w-]{1,20}(?:=[^\s]{1,64})?){0,3}"
    + _GAP
    + rb"""(?:token=)?(?:\\{0,63}["'])?(?=[A-Za-z_.]{0,64}[0-9])([\w.]{6,256})(?=[\s"'`\\|;&)]|\Z)"""
)
# A command of Redis: whole, after a prompt or where a line or a string begins.
_REDIS_HINT = hint(b"AUTH ", b"H ")
_BEFORE_REDIS = re.compile(rb"""(?:\A|[\r\n"'`]|\\[nrt]|>[ ])[ \t]{0,8}AUTH [ ]{0,8}\Z""")
_REDIS = re.compile(
    rb"""H [ ]{0,8}(?:[\w.@-]{1,64}[ ]{1,8})?([^\s"'`\\]{6,256})(?=[ \t]{0,8}(?:[\r\n"'`]|\\{1,63}[rn"']|\Z))"""
)
_HINTS = (_NET_HINT, _ORACLE_HINT, _REDIS_HINT, _PORT_HINT)


def may_be_positions(data: bytes, *, with_b: bool, with_g: bool) -> bool:
    """Whether a text or JSON may hold a password that its position gives away.

    Args:
        data: the text or the JSON.
        with_b: whether `shares_b` is true of it.
        with_g: whether `shares_g` is true of it.
    """
    if with_g and any(found.search(data) is not None for found in (_LOGIN_HINT, _FILE_HINT, _VAULT_HINT)):
        return True
    if with_b and _CTL_HINT.search(data) is not None:
        return True
    return may_be_connections(data) or any(found.search(data) is not None for found in _HINTS)


def positions_in(data: bytes) -> Iterator[Found]:
    """Find passwords by the position that they have in a command, in a call, or in a line of .pgpass."""
    # A sentence may have a "net user", too.
    commands: tuple[tuple[re.Pattern[bytes], re.Pattern[bytes], Form], ...] = (
        (_CTL_HINT, _CTL, "variable"),
        (_NET_HINT, _NET, "bare"),
        (_ORACLE_HINT, _ORACLE, "variable"),
        (_VAULT_HINT, _VAULT, "variable"),
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
    yield from connections_in(data)
    yield from _entries_in(data)
    yield from _redis_in(data)


def _entries_in(data: bytes) -> Iterator[Found]:
    """Find the passwords in whole lines of .pgpass."""
    ports, host = (_ANY_PORT, _NAMED_HOST) if b"pgpass" in data else (_PORT_HINT, _HOST)
    for port in ports.finditer(data):
        line = _ENTRY.match(data, port.start())
        if (
            line is not None
            and host.search(data, max(0, port.start() - _HOST_REACH), port.start()) is not None
            and PASSWORD.hides(as_text(line[1]), "variable")
        ):
            yield Found(*line.span(1), "password", by_name=True)


def _redis_in(data: bytes) -> Iterator[Found]:
    for first in _REDIS_HINT.finditer(data):
        command = _REDIS.match(data, first.start())
        if (
            command is not None
            and _BEFORE_REDIS.search(data, max(0, first.start() - _BEFORE), first.end()) is not None
            and PASSWORD.hides(as_text(command[1]), "bare")
        ):
            yield Found(*command.span(1), "password", by_name=True)


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
