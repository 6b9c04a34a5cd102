"""Names that say that their value is a secret."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from llma_core.redaction.places import hint
from llma_core.redaction.rules import Rule
from llma_core.redaction.values import (
    AUTHORIZATION,
    PASSWORD,
    SOME_AUTH,
    SOME_KEY,
    SOME_SECRET,
    SOME_TOKEN,
    SURE_KEY,
    SURE_SECRET,
    SURE_TOKEN,
    WORD_OF_NAME,
    Name,
    as_text,
)

__all__ = [
    "BEFORE_KEY",
    "MORE",
    "NAME_REACH",
    "PASSWORD_STEMS",
    "STEM",
    "STEMS",
    "STEM_HINTS",
    "STEM_TAIL",
    "TAIL",
    "head_before",
    "is_loud",
    "is_telling",
    "name_from",
    "name_of",
    "name_of_key",
]

NAME_REACH = 64
"""Longest part of a name before its stem that is looked at."""
STEMS: Final[tuple[tuple[bytes, Rule], ...]] = (
    (b"pass", "pass"),
    (b"pw", "pwd"),
    (b"psk", "pwd"),
    (b"secret", "secret"),
    (b"token", "token"),
    (b"auth", "auth"),
    (b"key", "key"),
)
"""The stems of names, each with its rule. The telling word of a name begins with a stem."""
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$"
MORE = {b"pass": rb"(?>word|wd|phrase|code|)", b"pw": rb"(?>d|)", b"auth": rb"(?>orization|)"}
STEM = re.compile(b"|".join(stem + MORE.get(stem, b"") for stem, _ in STEMS))
TAIL = rb"s?(?:[_.-]?(?:[0-9]{1,4}|prod|production|dev|staging|stage|test|live|base|value|raw|plain|old|new))?"
STEM_TAIL = re.compile(b"(?:" + STEM.pattern + b")" + TAIL)
_PASS_HEADS = tuple(
    b"""
    require store key db user root admin ssh bind login smtp mail wifi my sql ftp become sudo sasl http proxy src dest
    ldap pg redis vnc
    """.split()
)
"""Words that are written in one with `pass` or `pw`, such as in `dbpass` and `bindpw`."""
_KEY_HEADS = tuple(
    """
    api access private secret signing encryption encrypt master account auth service shared admin hmac jwt storage
    subscription license deploy webhook app application
    """.split()  # noqa: SIM905 - words are read more easily than literals
)
_SURE_HEADS = frozenset(
    """
    access auth refresh bearer api bot personal session id security deploy secret client consumer app webhook signing
    jwt shared oauth admin user service
    """.split()  # noqa: SIM905 - as above
)
_OTHER_TOKENS = frozenset(
    """
    page continuation cancellation cancel eos bos pad unk sep cls mask stop start end first last next prev special sync
    cursor per max min num image audio each change lock action idempotency request
    """.split()  # noqa: SIM905 - as above
)
_OTHER_KEYS = frozenset(
    "public primary foreign cache gpg pgp sort partition group lookup registry".split()  # noqa: SIM905 - as above
)


def name_of(head: bytes, stem: bytes, *, closed: bool) -> Name | None:
    """Return what a name says, judged by its telling word (*stem*) and the part before it; None if it says nothing."""
    words = WORD_OF_NAME.findall(as_text(head))
    last = words[-1].lower() if words else ""
    if last in ("no", "has", "is", "use", "with", "without", "needs", "require", "requires") and not (
        stem == b"pass" and head.lower().endswith(b"require")
    ):
        return None
    if stem == b"psk":
        # A pre-shared key.
        return PASSWORD if not head[-1:].isalpha() else None
    if stem == b"pw":
        return PASSWORD if not head[-1:].isalpha() or head.lower().endswith(_PASS_HEADS) else None
    if stem.startswith((b"pass", b"pwd")):
        # "pass" alone is usually a verb, a test result, or a part of "bypass" or "compass".
        # GIT_ASKPASS is the name of a program.
        is_word = not head[-1:].isalpha() or head.isupper() or head.lower().endswith(_PASS_HEADS)
        is_word = is_word and not last.endswith("ask")
        return PASSWORD if stem != b"pass" or (is_word and (last or closed)) else None
    if stem == b"secret":
        return SURE_SECRET if last in _SURE_HEADS or (last and is_loud(head)) else SOME_SECRET
    if stem == b"token":
        if last in _OTHER_TOKENS or [word.lower() for word in words[-2:]] == ["public", "key"]:
            # The "public key token" of an assembly in .NET is a part of its name.
            return None
        return SURE_TOKEN if last in _SURE_HEADS or (last and is_loud(head)) else SOME_TOKEN
    if stem == b"key":
        if last.endswith(_KEY_HEADS):
            return SURE_KEY
        return SOME_KEY if last and is_loud(head) and last not in _OTHER_KEYS else None
    if stem == b"authorization":
        return AUTHORIZATION
    if last == "master":
        return PASSWORD
    return SOME_AUTH


def is_loud(name: bytes) -> bool:
    """Whether a name is written like an environment variable."""
    return name.isupper() and b"." not in name and b"-" not in name


def head_before(data: bytes, at: int) -> bytes:
    """Return the part of a name before *at*."""
    window = data[max(0, at - NAME_REACH) : at]
    kept = len(window.rstrip(_NAME_BYTES))
    # `\n` before a name is a line end in JSON and not a part of the name.
    if kept and window[kept - 1 : kept] == b"\\" and window[kept : kept + 1] in (b"n", b"r", b"t"):
        kept += 1
    return window[kept:]


_RARE_ENDS = {b"psk": b"k", b"secret": b"cret", b"token": b"ken", b"auth": b"uth"}
STEM_HINTS = tuple((stem, rule, hint(stem, _RARE_ENDS.get(stem, b""))) for stem, rule in STEMS)
"""For each stem its rule, and a pattern that ends with it."""
# The possible ends of a name, as in `STEM_TAIL`. The order of alternatives cannot hide a longer end.
_LAST = (
    rb"(?>stag(?:ing|e)|s?(?:[_.-]?(?:"
    rb"[0-9]{1,4}|production|prod|dev|stag(?:ing|e)|test|live|base|value|raw|plain|old|new))?)"
)
PASSWORD_STEMS: Final = (b"pass", b"pw", b"psk")
"""The stems of names of passwords."""
BEFORE_KEY: Final = rb"[a-z0-9_.$ -]"
"""Matches what is before the key in a name, in small letters; in a sentence, a blank. "key" alone tells nothing."""
# What may stand before `pw` without `d`, beside what is no letter: an escape of JSON, or the end of a word that is
# written in one with it. Two letters are rare enough.
_BEFORE_PW = (rb"\\[bfnrt]", rb"u00[01][a-f]", *sorted({head[-2:] for head in _PASS_HEADS}))


def name_from(stem: bytes, *, looks_back: bool = True) -> bytes:
    """Return a pattern for a name from its stem to its end.

    Args:
        stem: one of `STEMS`.
        looks_back: whether the pattern may look at what stands before the stem. If not, it matches that, too.
    """
    if stem == b"key":
        return (b"key(?<=" + BEFORE_KEY + b"key)" if looks_back else BEFORE_KEY + b"key") + _LAST
    if stem != b"pw":
        return stem + MORE.get(stem, b"") + _LAST
    if looks_back:
        return rb"pw(?:d|(?<![a-z]pw)|" + b"|".join(b"(?<=%bpw)" % before for before in _BEFORE_PW) + b")" + _LAST
    return b"(?:pwd|(?:^|[^a-z]|" + b"|".join(_BEFORE_PW) + b")pw)" + _LAST


@lru_cache(maxsize=4096)
def name_of_key(key: str) -> Name | None:
    """Return what the key of a member says of its value; None if it says nothing."""
    data = key.encode("utf-8", "replace")
    lower = data.lower()
    for literal, _ in STEMS:
        at = lower.rfind(literal)
        if at >= 0 and STEM_TAIL.fullmatch(lower, at) is not None:
            stem = STEM.match(lower, at)
            assert stem is not None
            if stem[0] != b"token" or lower[stem.end() : stem.end() + 1] != b"s":
                return name_of(data[:at], stem[0], closed=True)
    return None


@lru_cache(maxsize=4096)
def is_telling(key: str) -> bool:
    """Whether the key of an object's member says that the member may be a secret, whatever the member looks like."""
    return len(key) <= NAME_REACH and name_of_key(key) is not None
