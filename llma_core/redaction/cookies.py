"""The values of cookies."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llma_core.redaction.places import Found, hint
from llma_core.redaction.tokens import is_mixed, is_sample
from llma_core.redaction.values import VALUE_REACH, as_text, is_placeholder

__all__ = ["COOKIE", "COOKIE_HINT", "CURL_COOKIE", "CURL_HINT", "cookies_in", "may_be_cookies"]

# A header, a flag, a key or a variable, and the name of the first cookie.
COOKIE = re.compile(
    rb"""cookies?(?:\\{0,63}["'])?\]?(?: {0,4}(?:=>|[:=,]) {0,4}| {1,4})(?:\\{0,63}["'])?"""
    rb"(?=[!#$%&*+.^_|~0-9a-z-]{1,64}=)"
)
CURL_COOKIE = re.compile(rb"""-b[ =]?(?:\\{0,63}["'])?(?=[!#$%&*+.^_|~0-9A-Za-z-]{1,64}=)""")
_CURL_COOKIE_HINT = re.compile(rb"""-b[ =]?[\\"']*[!#$%&*+.^_|~0-9A-Za-z-]{1,64}=""")
_COOKIE_VALUE = re.compile(rb"""([!#$%&*+.^_|~0-9A-Za-z-]{1,64})=([^\s;,"'`\\<>]*)(?:; {0,4})?""")
_SESSION = re.compile(
    r"sess|sid|auth|token|jwt|csrf|xsrf|secret|login|remember|ticket|identity|passport|aspnet|clearance|cf_bm|cred|sso"
    r"|saml|oidc|api.?key",
    re.IGNORECASE,
)
_SHORTEST_SESSION = 12
"""Fewest characters of the value of a cookie whose name says that it is a session's."""
_SHORTEST_COOKIE = 24
"""The same for any other cookie."""


def cookies_in(pattern: re.Pattern[bytes], data: bytes, folded: bytes, literal: bytes) -> Iterator[Found]:
    """Find the values of cookies, as far as they are a session's.

    Args:
        pattern: matches what stands before the first cookie.
        data: the text.
        folded: the text in the letters of *pattern*.
        literal: what *pattern* begins with.
    """
    at = folded.find(literal)
    while at >= 0:
        match = pattern.match(folded, at)
        at = at + len(literal) if match is None else match.end()
        while match is not None and (cookie := _COOKIE_VALUE.match(data, at)) is not None:
            at = cookie.end()
            if _is_session(as_text(cookie[1]), cookie[2]):
                yield Found(cookie.start(2), cookie.end(2), "cookie", by_name=True)
        at = folded.find(literal, at)


def _is_session(name: str, value: bytes) -> bool:
    text = as_text(value[:VALUE_REACH])
    if len(text) < _SHORTEST_SESSION or is_placeholder(text) or is_sample(value):
        return False
    if _SESSION.search(name) is None:
        return len(text) >= _SHORTEST_COOKIE and is_mixed(value)
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


COOKIE_HINT = hint(b"cookie", b"kie")
CURL_HINT = hint(b"curl", b"url")


def may_be_cookies(data: bytes, lower: bytes) -> bool:
    """Whether JSON may set a cookie."""
    return COOKIE.search(lower) is not None or (
        CURL_HINT.search(data) is not None and _CURL_COOKIE_HINT.search(data) is not None
    )
