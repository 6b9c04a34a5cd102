"""The values of `Authorization`, and the schemes that give one away anywhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from llma_core.redaction.places import Found
from llma_core.redaction.quotes import OPENING
from llma_core.redaction.tokens import is_mixed, is_sample
from llma_core.redaction.values import AUTHORIZATION, BARE_REACH, as_text, is_placeholder, is_wordy

__all__ = ["BEARER_HINT", "authorization_at", "basics_in", "bearers_in", "may_be_bearers"]

_SCHEME = re.compile(
    rb"(?i)(?:(bearer|basic|token|apikey|api-key|bot|negotiate|sharedkey)|(digest|aws4-hmac-sha256|hawk|hmac))"
    rb"(?:[ \t]|\\{0,63}[\r\n]|\\{1,63}[nrt]){1,16}(?:token=)?(?:\\{0,63}[\"'])?"
)
# Any other scheme. What follows is judged.
_OTHER_SCHEME = re.compile(
    rb"""[A-Za-z][A-Za-z_-]{2,30}[ \t]{1,4}([A-Za-z0-9._~+/-]{12,512}={0,2})(?=[\s"'`,;\\)\]}]|\Z)"""
)
_CREDENTIALS = re.compile(rb"[A-Za-z0-9._~+/=:@!$%^*|-]{6,512}")
_CREDENTIALS_REST = re.compile(rb"[A-Za-z0-9._~+/=:@!$%^*|-]*")
_LINE = re.compile(rb"""[^\r\n"'`\\]{6,512}""")
_LINE_REST = re.compile(rb"""[^\r\n"'`\\]*""")
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr][ \t]{1,16}([A-Za-z0-9._~+/=-]{16,})")
_BASIC = re.compile(rb"basic {1,16}([a-z0-9+/_-]{8,1024}={0,2})", re.IGNORECASE)


def bearers_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find `Bearer ...` wherever it stands, if what follows has a digit."""
    at = lower.find(b"bearer")
    while at >= 0:
        match = _BEARER.match(data, at)
        if match is not None and any(byte in b"0123456789" for byte in match[1][:64]) and not is_sample(match[1]):
            yield Found(match.start(1), match.end(1), "bearer-token", by_name=True)
        at = lower.find(b"bearer", at + 6 if match is None else match.end())


def basics_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find `Basic ...` wherever it stands, if what follows is a user and a password in base64."""
    at = lower.find(b"basic ")
    while at >= 0:
        match = _BASIC.match(data, at)
        if match is not None and _is_user_info(match[1]):
            yield Found(match.start(1), match.end(1), "authorization", by_name=True)
        at = lower.find(b"basic ", at + 6 if match is None else match.end())


def _is_user_info(encoded: bytes) -> bool:
    try:
        text = base64.b64decode(
            encoded + b"=" * (-len(encoded) % 4), b"-_" if b"-" in encoded or b"_" in encoded else None
        )
        user, colon, password = text.decode().partition(":")
    except ValueError:
        return False
    return bool(colon) and f"{user}{password}".isprintable() and not is_placeholder(password)


def authorization_at(data: bytes, at: int) -> Found | None:
    """Find the credentials of a header `Authorization` whose value begins at *at*."""
    if data[at : at + 1] == b"[":
        at += 1
    quote = OPENING.match(data, at)
    at = quote.end() if quote is not None else at
    scheme = _SCHEME.match(data, at)
    if scheme is not None:
        at = scheme.end()
    elif (
        (other := _OTHER_SCHEME.match(data, at)) is not None and is_mixed(other[1]) and not is_wordy(as_text(other[1]))
    ):
        at = other.start(1)
    is_line = scheme is not None and scheme[2] is not None
    value = (_LINE if is_line else _CREDENTIALS).match(data, at)
    if value is None:
        return None
    if value.end() - at >= BARE_REACH:
        rest = (_LINE_REST if is_line else _CREDENTIALS_REST).match(data, value.end())
        assert rest is not None
        return Found(at, rest.end(), "authorization", by_name=True)
    credentials = as_text(value[0])
    if scheme is None:
        hidden = AUTHORIZATION.hides(credentials, "bare")
    else:
        hidden = not is_placeholder(credentials) and not is_sample(value[0])
    return Found(at, value.end(), "authorization", by_name=True) if hidden else None


BEARER_HINT = re.compile(rb"b(?:earer|asic )")


def may_be_bearers(data: bytes, lower: bytes) -> bool:
    """Whether JSON may hold credentials after `Bearer` or `Basic`. One of these words is in it."""
    return b"bearer" in lower or b"\\/" in data or _BASIC.search(data) is not None
