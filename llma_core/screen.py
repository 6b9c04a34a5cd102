r"""A first look at JSON for anything that a rule of scrubbing could begin with: many times quicker than `is_clean`.

All beginnings are looked for at once, by an automaton that runs over a gigabyte in less than two seconds. It knows less
than the rules: it never looks back, so that it may suspect what is clean, and then `is_clean` is asked, of the rules
that are suspected alone. What it lets pass `is_clean` lets pass, too, rule by rule: each expression here finds all that
one of its conditions finds.

The automaton takes a moment to build, and some megabytes then: a program that reads little does without. Where
Hyperscan has no build for the machine there is none, and `is_clean` is asked at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import msgspec

from llma_core.redaction import ALL_RULES, STEMS, TOKENS, Rule, Rules, is_clean, name_from, scrub

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


def _rules(*rules: Rule) -> Rules:
    return frozenset(rules)


def _expressions() -> Iterator[tuple[bytes, bool, Rules]]:
    """Yield what is looked for, whether its case counts for nothing, and the rules that may begin there."""
    # Letters that are written in another way than as themselves.
    yield rb"\\u(?:[^0]|0[^0]|00[^01]|0{0,2}\z)", False, ALL_RULES
    # Slashes that are escaped; behind a colon also those of a path of Windows.
    yield rb"\\/|:\\\\", False, _rules("urls", "tokens")
    yield rb"/webhooks|hooks\.slack\.com|curl", False, _rules("urls")
    # Behind it a password stands behind a mere blank.
    yield rb"login ", False, _rules(*(rule for _, rule in STEMS))
    yield rb"sig(?:nature)?=", True, _rules("signatures")
    yield rb"private key", True, _rules("blocks")
    yield rb"bearer", True, _rules("bearers")
    # Where a part of it is escaped, user and password are not what they seem.
    yield rb"(?s)://.*@", False, _rules("urls")
    for stem, rule in STEMS:
        name = name_from(stem).replace(b"(?>", b"(?:")
        yield name + _LEADS, True, _rules(rule)
        yield rb"-[a-z0-9_.$-]*" + name + b" ", True, _rules(rule)
        if stem in (b"pass", b"pwd"):
            yield name + _NUMBER_LEADS, True, _rules(rule)
    for token in TOKENS:
        # Where one may have a dot inside, `is_clean` goes by what it begins with.
        exact = b"|".join(map(re.escape, token.literals))
        yield exact if token.breaks else _LOOK_BEHIND.sub(b"", token.pattern.pattern), False, _rules("tokens")


def automaton() -> Callable[[bytes], Rules] | None:
    """Return what says which rules could find something in JSON; None where there is none."""
    try:
        import hyperscan  # noqa: PLC0415 - a megabyte and a half, of a process that may never need it
    except ImportError:  # pragma: no cover - no build for this machine
        return None
    found = list(_expressions())
    database = hyperscan.Database()
    try:
        database.compile(
            expressions=[expression for expression, _, _ in found],
            ids=list(range(len(found))),
            elements=len(found),
            flags=[hyperscan.HS_FLAG_SINGLEMATCH | (hyperscan.HS_FLAG_CASELESS if fold else 0) for _, fold, _ in found],
        )
    except hyperscan.error:  # pragma: no cover - a processor that is too old
        return None
    scan, error = database.scan, hyperscan.error
    rules = [begin for _, _, begin in found]

    def suspected(data: bytes) -> Rules:
        hits: list[int] = []
        try:
            scan(data, match_event_handler=_note, context=hits)
        except error:
            # Another thread is in the middle of a scan.
            return ALL_RULES
        return _NONE.union(*(rules[number] for number in hits)) if hits else _NONE

    return suspected


def _note(number: int, _start: int, _end: int, _flags: int, hits: object) -> None:
    assert isinstance(hits, list)
    hits.append(number)


_NONE: Rules = frozenset()


class _Screen:
    """The automaton, once it is worth it."""

    def __init__(self) -> None:
        self._seen = 0
        self._suspected: Callable[[bytes], Rules] | None = None

    def surely_clean(self, data: bytes) -> bool:
        """See the function of that name."""
        suspected = self._suspected or self._worth_it(len(data))
        rules = ALL_RULES if suspected is None else suspected(data)
        return not rules or is_clean(data, rules)

    def scrub(self, text: str, found: list[str] | None = None) -> str:
        """See the function `scrub_text`."""
        rules = ALL_RULES
        if len(text) >= _SHORT and (suspected := self._suspected or self._worth_it(len(text))) is not None:
            # Half of a character cannot be sent, and is not for this to judge.
            with contextlib.suppress(UnicodeEncodeError):
                rules = suspected(_encode(text))
        return scrub(text, found, rules) if rules else text

    def _worth_it(self, size: int) -> Callable[[bytes], Rules] | None:
        """Count what is looked at without the automaton, and build it when that is much."""
        if self._seen < _WORTH_IT:
            self._seen += size
            if self._seen >= _WORTH_IT:
                self._suspected = automaton()
        return self._suspected


_screen = _Screen()
surely_clean = _screen.surely_clean
"""Whether JSON surely holds no secret; says what `is_clean` says."""
scrub_text = _screen.scrub
"""Return what `redaction.scrub` returns, of the same arguments; much sooner where a text holds nothing to suspect."""
