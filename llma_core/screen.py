r"""A first look at JSON for anything that a rule of scrubbing could begin with: many times quicker than `is_clean`.

All beginnings are looked for at once, by an automaton that runs over a gigabyte in less than a second. It knows less
than the rules: it never looks back, so that it may suspect what is clean, and then `is_clean` is asked. What it lets
pass `is_clean` lets pass, too: each expression here finds all that one of its conditions finds.

The automaton takes a moment to build, and some megabytes then: a program that reads little does without. Where
Hyperscan has no build for the machine there is none, and `is_clean` is asked at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from llma_core.redaction import STEMS, TOKENS, is_clean, name_from, scrub

__all__ = ["automaton", "scrub_text", "surely_clean"]

_SHORT = 64
"""Characters up to which a text is soon scrubbed."""
_WORTH_IT = 1024 * 1024
"""Bytes looked at before the automaton is built: it takes a tenth of a second, and 8 MB of memory from then on."""

# What may follow a name; as `is_clean` has it, without looking back or ahead. Behind a blank alone stands a flag's
# value, or a password of .netrc.
_LEADS = (
    rb"""(?:[=!>:*\]'`]|\\(?:[^nrbf]|\z)|"\s*(?:[^\s,}\]:]|:\s*(?:"|\z))"""
    rb"""| +(?:[=:!\\"'`]|is|was|[bruf]{1,2}[\\"'`]))"""
)
_NUMBER_LEADS = rb'"\s*:\s*[-0-9]'
_encode = msgspec.json.Encoder().encode
_LOOK_BEHIND = re.compile(rb"\(\?<[=!](?:[^()\\]|\\.)*\)")


def _expressions() -> Iterator[tuple[bytes, bool]]:
    """Yield what is looked for, and whether its case counts for nothing."""
    # Letters that are written in another way than as themselves.
    yield rb"\\u(?:[^0]|0[^0]|00[^01]|0{0,2}\z)", False
    # Slashes that are escaped; behind a colon also those of a path of Windows.
    yield rb"\\/|:\\\\", False
    yield rb"/webhooks|hooks\.slack\.com|curl|login ", False
    yield rb"sig(?:nature)?=|private key|bearer", True
    # Where a part of it is escaped, user and password are not what they seem.
    yield rb"(?s)://.*@", False
    for stem in STEMS:
        name = name_from(stem).replace(b"(?>", b"(?:")
        yield name + _LEADS, True
        yield rb"-[a-z0-9_.$-]*" + name + b" ", True
        if stem in (b"pass", b"pwd"):
            yield name + _NUMBER_LEADS, True
    for token in TOKENS:
        # Where one may have a dot inside, `is_clean` goes by what it begins with.
        exact = b"|".join(map(re.escape, token.literals))
        yield exact if token.breaks else _LOOK_BEHIND.sub(b"", token.pattern.pattern), False


def automaton() -> Callable[[bytes], bool] | None:
    """Return what says whether JSON holds nothing that could be suspected; None where there is none."""
    try:
        import hyperscan  # noqa: PLC0415 - a megabyte and a half, of a process that may never need it
    except ImportError:  # pragma: no cover - no build for this machine
        return None
    found = list(_expressions())
    database = hyperscan.Database()
    try:
        database.compile(
            expressions=[expression for expression, _ in found],
            ids=list(range(len(found))),
            elements=len(found),
            flags=[hyperscan.HS_FLAG_SINGLEMATCH | (hyperscan.HS_FLAG_CASELESS if folds else 0) for _, folds in found],
        )
    except hyperscan.error:  # pragma: no cover - a processor that is too old
        return None
    scan, error = database.scan, hyperscan.error

    def passes(data: bytes) -> bool:
        try:
            scan(data, match_event_handler=_stop)
        except error:
            # Something was found; or another thread is in the middle of a scan, and `is_clean` is to say.
            return False
        return True

    return passes


def _stop(*_: object) -> bool:
    return True


class _Screen:
    """The automaton, once it is worth it."""

    def __init__(self) -> None:
        self._seen = 0
        self._passes: Callable[[bytes], bool] | None = None

    def surely_clean(self, data: bytes) -> bool:
        """See the function of that name."""
        passes = self._passes or self._worth_it(len(data))
        return (passes is not None and passes(data)) or is_clean(data)

    def scrub(self, text: str, found: list[str] | None = None) -> str:
        """See the function `scrub_text`."""
        if len(text) >= _SHORT and (passes := self._passes or self._worth_it(len(text))) is not None:
            try:
                if passes(_encode(text)):
                    return text
            except UnicodeEncodeError:
                # Half of a character. It cannot be sent, and is not for this to judge.
                pass
        return scrub(text, found)

    def _worth_it(self, size: int) -> Callable[[bytes], bool] | None:
        """Count what is looked at without the automaton, and build it when that is much."""
        if self._seen < _WORTH_IT:
            self._seen += size
            if self._seen >= _WORTH_IT:
                self._passes = automaton()
        return self._passes


_screen = _Screen()
surely_clean = _screen.surely_clean
"""Whether JSON surely holds no secret; says what `is_clean` says."""
scrub_text = _screen.scrub
"""Return what `redaction.scrub` returns, of the same arguments; much sooner where a text holds nothing to suspect."""
