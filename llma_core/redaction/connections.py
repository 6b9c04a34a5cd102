"""Passwords in calls that open a connection: `new PDO(dsn, user, '...')`, `getConnection(url, user, "...")`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llma_core.redaction.places import Found
from llma_core.redaction.quotes import closing
from llma_core.redaction.values import PASSWORD, as_text

__all__ = ["CONNECTIONS", "connections_in", "may_be_connections"]

CONNECTIONS: Final = (
    *(b"PDO(", b"DBI->connect(", b"mysqli(", b"mysqli_connect(", b"mysql.connect(", b"MySQLdb.connect("),
    *(b"getConnection(", b"NetworkCredential(", b"UsernamePasswordCredentials(", b"PlainAuth("),
    *(
        b"oci_connect(",
        b"odbc_connect(",
        b"ldap_bind(",
        b"simple_bind(",
        b"simple_bind_s(",
        b"ftp_login(",
        b"imap_open(",
    ),
)
"""Literals that one of them is in each such call."""
_BLANK = rb"(?:\s|\\{1,63}[nrt]){0,16}"
_COMMA = _BLANK + b"," + _BLANK
_ARGUMENT = (
    rb"""(?:[bfruN@]?\\{0,63}["'][^"'\\\r\n]{0,256}\\{0,63}["']|[$A-Za-z_][\w$.>:\[\]-]{0,80}(?:\([\w$.]{0,40}\))?)"""
)
_PASSWORD = rb"""[bfruN@]?(?P<escapes>\\{0,63})(?P<quote>["'])"""
# Where it is, who asks for it, and the password; or only the last two.
_OF_PLACE = re.compile(_BLANK + _ARGUMENT + _COMMA + _ARGUMENT + _COMMA + _PASSWORD)
_OF_USER = re.compile(_BLANK + _ARGUMENT + _COMMA + _PASSWORD)
# Each search goes by a letter that is rare in text, or in a text of its kind.
_HINTS: Final = (
    re.compile(rb"D(?:(?<=PD)O|BI->connect)\("),
    re.compile(rb"q(?<=mysq)l(?:i|\.connect)\("),
    re.compile(rb"L(?<=MySQL)db\.connect\("),
    re.compile(rb"A(?<=PlainA)uth\("),
    re.compile(rb"C(?:(?<=getC)onnection|(?P<user>(?<=NetworkC)redential|(?<=UsernamePasswordC)redentials))\("),
    re.compile(
        rb"_(?:(?<=mysqli_)connect|(?<=odbc_)connect|(?<=ldap_)bind|(?<=ftp_)login|(?<=imap_)open"
        rb"|(?P<user>(?<=oci_)connect|(?<=simple_)bind(?:_s)?))\("
    ),
)


def may_be_connections(data: bytes) -> bool:
    """Whether a text or JSON may hold such a call."""
    return any(hint.search(data) is not None for hint in _HINTS)


def connections_in(data: bytes) -> Iterator[Found]:
    """Find passwords in calls that open a connection, or make the credentials for one."""
    for hint in _HINTS:
        at = 0
        while (first := hint.search(data, at)) is not None:
            at = first.end()
            call = (_OF_USER if first.groupdict().get("user") else _OF_PLACE).match(data, at)
            end = closing(data, call.end(), len(call["escapes"]), call["quote"]) if call is not None else None
            if call is not None and end is not None and PASSWORD.hides(as_text(data[call.end() : end]), "quoted"):
                yield Found(call.end(), end, "password", by_name=True)
