"""Passwords, tokens and signatures in URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llma_core.redaction.places import Found, matches_at
from llma_core.redaction.tokens import LONG, is_mixed, is_sample
from llma_core.redaction.values import as_text, is_placeholder, names_secret

__all__ = ["SIGNATURE_HINT", "SIGNED", "may_be_urls", "signatures_in", "urls_in"]

_USER_INFO = re.compile(rb""":(?:\\{0,63}/){2}([^\s/:@"'<>\\?#]{0,256})(?::([^\s/"'`<>\\]{1,256}))?@""")
_WEBHOOK = re.compile(
    rb"(?:(?<=/web)hooks|hooks\.slack\.com(?:\\?/)+(?:services|workflows|triggers))(?:\\?/)+([A-Za-z0-9_/\\-]{20,})"
)
_SIGNATURE = re.compile(
    rb"(?:(?:(?<![A-Za-z0-9_])|(?<=u0026))sig|(?:(?<=X-Amz-)|(?<=X-Goog-)|(?<=[?&;])|(?<=u0026))Signature)(?:=|\\{1,8}u003d)"
    rb"([A-Za-z0-9%+/=_-]{20,})"
)


def urls_in(data: bytes, *, shared: bool) -> Iterator[Found]:
    """Find passwords and tokens before the host of URLs, and the secrets in those of webhooks.

    Args:
        data: the text.
        shared: whether `shares_k` is true of it.
    """
    if b"@" in data:
        for match in _USER_INFO.finditer(data):
            yield from _user_info(match)
    if shared:
        for match in matches_at(_WEBHOOK, data, b"hooks"):
            if not is_sample(match[1].rpartition(b"/")[2]):
                yield Found(match.start(1), match.end(1), "webhook")


def _user_info(match: re.Match[bytes]) -> Iterator[Found]:
    user, password = match[1], match[2]
    if len(user) >= LONG and is_mixed(user):
        yield Found(match.start(1), match.end(1), "url-token")
    if password is not None and not is_placeholder(text := as_text(password)) and not names_secret(text):
        yield Found(match.start(2), match.end(2), "url-password")


def signatures_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find the signatures of signed URLs."""
    at = 0
    while (sign := SIGNATURE_HINT.search(lower, at)) is not None:
        match = _SIGNATURE.match(data, sign.start())
        if match is not None and not is_sample(match[1]):
            yield Found(match.start(1), match.end(1), "signature")
        at = sign.end() if match is None else match.end()


# They are searched by the sign after the name, which is rarer than its letters.
SIGNED = re.compile(rb"=(?:(?<=sig=)|(?<=signature=))")
SIGNATURE_HINT = re.compile(rb"sig(?:nature)?(?:=|\\{1,8}u003d)")


def may_be_urls(data: bytes, *, escaped: bool, shared: bool) -> bool:
    r"""Whether JSON may hold a URL with a secret.

    Args:
        data: the JSON.
        escaped: whether it has `\u` escapes.
        shared: whether `shares_k` is true of it.
    """
    if shared and (b"/webhooks" in data or b"hooks.slack.com" in data):
        return True
    if b"@" not in data:
        return False
    if b"\\/" in data or b":\\\\" in data:
        return True
    return b"://" in data if escaped else _USER_INFO.search(data) is not None
