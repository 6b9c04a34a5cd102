r"""Takes a first look at JSON for anything that a scrubbing rule could begin with. It is much faster than `is_clean`.

An automaton searches for all possible beginnings at once, at more than half a gigabyte per second. It knows less than
the rules: it never looks back, so it may suspect what is clean. Then `is_clean` is asked, but only about the suspected
rules. The reverse cannot happen: what the automaton lets pass, `is_clean` lets pass, too. This holds for each rule,
because for every condition of `is_clean` there is an expression here that finds at least as much.

Building the automaton takes a tenth of a second, and it needs 8 MB of memory, so a program that reads little does
without it. It uses Hyperscan. On machines for which Hyperscan has no build, `is_clean` is asked directly.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import msgspec

from llma_core.redaction import (
    ALL_RULES,
    BEFORE_KEY,
    COMMANDS,
    ENTRY,
    IDENTIFIED,
    PASSWORD_STEMS,
    POSITIONS,
    READERS,
    SETTERS,
    SETTINGS,
    STEMS,
    TOKENS,
    Rule,
    Rules,
    is_clean,
    name_from,
    scrub,
)

__all__ = ["Suspicion", "automaton", "prepare", "scrub_text", "surely_clean"]

_SHORT = 64
"""A text with fewer characters is scrubbed directly, which is fast enough."""
_WORTH_IT = 1024 * 1024
"""Bytes that are looked at before the automaton is built."""

# What may follow a name, as in `is_clean`, but without looking back or ahead. Only the value of a flag or a password of
# .netrc may follow after a single space.
_LEADS = (
    rb"""(?:[=!>:*\]'`]|\\(?:[^nrbf]|\z)|"\s*(?:[^\s,}\]:]|:\s*(?:"|\z))|<\\*/|%3d"""
    rb"""| +(?:[=:!\\"'`|]|\[(?:none|\*)|<-|is|was|[bruf]{1,2}[\\"'`]))"""
)
_PASSWORD_LEADS = rb"""(?:"\s*:\s*[-0-9]|[(\[]| +(?:string|str|text)\s*=)"""
_encode = msgspec.json.Encoder().encode
_LOOK_BEHIND = re.compile(rb"\(\?<[=!](?:[^()\\]|\\.)*\)")


def _rules(*rules: Rule) -> Rules:
    return frozenset(rules)


_ESCAPED_LETTER = rb"\\u(?:[^0]|0[^0]|00[^01]|0{0,2}\z)"
_ESCAPED_SLASH = rb"\\/|:\\\\"
"""Matches an escaped slash, and a colon with the backslashes of a Windows path."""
_IN_TEXT = {_ESCAPED_LETTER: _rules("signatures"), _ESCAPED_SLASH: _rules("urls")}
"""The rules that may begin at an escape which is a part of a text. No other escape in its JSON hides a letter."""


def _expressions() -> Iterator[tuple[bytes, bool, Rules]]:
    """Yield each expression, whether it ignores case, and the rules that may begin where it matches."""
    yield _ESCAPED_LETTER, False, ALL_RULES
    yield _ESCAPED_SLASH, False, _rules("urls", "tokens", "bearers")
    yield rb"/webhooks|hooks\.slack\.com", False, _rules("urls")
    # In .netrc, a password follows its name after a single space. So does a value that a command sets.
    stems = _rules(*(rule for _, rule in STEMS))
    yield b"login ", False, stems | _rules("commands")
    yield SETTERS + b"(?i:" + b"|".join(stem for stem, _ in STEMS) + b")", False, stems
    yield b"|".join(name + b" " for name in SETTINGS), True, stems
    yield rb"sig(?:nature)?=", True, _rules("signatures")
    yield rb"private key", True, _rules("blocks")
    yield rb"bearer|basic +[a-z0-9+/_-]{8}", True, _rules("bearers")
    yield rb"""cookies?(?:\\*["'])?\]?(?: *(?:=>|[:=,]) *| +)[\\"']*[!#$%&*+.^_|~0-9a-z-]+=""", True, _rules("cookies")
    yield rb"""value[\\"' ]*[:=>]""", True, _rules("pairs")
    yield rb"curl", False, _rules("commands", "cookies")
    yield b"|".join(re.escape(literal) for literal in COMMANDS if literal != b"login "), False, _rules("commands")
    yield b"|".join(map(re.escape, READERS)), False, _rules("inputs")
    yield rb"jwt\.", False, _rules("calls")
    yield b"|".join(map(re.escape, POSITIONS)), False, _rules("positions")
    yield ENTRY, False, _rules("positions")
    yield IDENTIFIED, True, _rules("calls")
    yield rb""" -pass(?:in|out|wd|word)? [\\"']*pass:""", False, _rules("commands")
    # A password that stands before its name, or for something.
    yield rb"pass(?:word|phrase|code)", True, _rules("pass")
    yield rb"""kind[\\"']*\s*:\s*[\\"']*secret""", True, _rules("secret")
    # The part before the `@` may have escapes, so any characters may come before it.
    yield rb"(?s)://.*@", False, _rules("urls")
    for stem, rule in STEMS:
        name = name_from(stem, looks_back=False).replace(b"(?>", b"(?:")
        yield name + _LEADS, True, _rules(rule)
        # The stem may stand right after the dash.
        yield rb"-[a-z0-9_.$-]*" + name.removeprefix(BEFORE_KEY).replace(b"(?:^|", b"(?:|") + b" ", True, _rules(rule)
        if stem in PASSWORD_STEMS:
            yield name + _PASSWORD_LEADS, True, _rules(rule)
        if stem == b"auth":
            yield name + rb"\(", True, _rules(rule)
    for token in TOKENS:
        # For tokens with a dot inside, `is_clean` only looks for their literals.
        exact = b"|".join(map(re.escape, token.literals))
        yield exact if token.breaks else _LOOK_BEHIND.sub(b"", token.pattern.pattern), False, _rules("tokens")


class Suspicion(Protocol):
    """Tells which rules could find something."""

    def __call__(self, data: bytes, *, is_text: bool = False) -> Rules:
        """Return the rules that could find something in JSON.

        Args:
            data: any JSON value.
            is_text: whether *data* is the JSON of a text, made by `msgspec`, of which only the text counts.
        """


def automaton() -> Suspicion | None:
    """Return a function that tells which rules could find something; None if Hyperscan is not available."""
    try:
        import hyperscan  # noqa: PLC0415 - it takes 1.5 MB, and the process may never need it
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
    in_text = [_IN_TEXT.get(expression, begin) for expression, _, begin in found]

    @lru_cache(maxsize=1024)
    def together(hits: tuple[int, ...], is_text: bool) -> Rules:
        return _NONE.union(*((in_text if is_text else rules)[number] for number in hits))

    def suspected(data: bytes, *, is_text: bool = False) -> Rules:
        hits: list[int] = []
        try:
            scan(data, _note if is_text else _note_until_all, 0, hits)
        except error:
            # All rules are suspected, or another thread is scanning right now.
            return ALL_RULES
        return together(tuple(hits), is_text) if hits else _NONE

    return suspected


def _note(number: int, _start: int, _end: int, _flags: int, hits: object) -> None:
    assert isinstance(hits, list)
    hits.append(number)


def _note_until_all(number: int, _start: int, _end: int, _flags: int, hits: object) -> bool:
    """Note a hit. After the first expression, whose rules are all, the scan ends."""
    assert isinstance(hits, list)
    hits.append(number)
    return number == 0


_NONE: Rules = frozenset()


class _Screen:
    """Looks at data with the automaton, which it builds once enough data has come."""

    def __init__(self) -> None:
        self._seen = 0
        self._suspected: Suspicion | None = None

    def surely_clean(self, data: bytes) -> bool:
        """See `surely_clean` below."""
        suspected = self._suspected or self._automaton_after(len(data))
        rules = ALL_RULES if suspected is None else suspected(data)
        return not rules or is_clean(data, rules)

    def scrub(self, text: str, found: list[str] | None = None) -> str:
        """See `scrub_text` below."""
        rules = ALL_RULES
        if len(text) >= _SHORT and (suspected := self._suspected or self._automaton_after(len(text))) is not None:
            # Lone surrogates cannot be encoded. They are replaced elsewhere.
            with contextlib.suppress(UnicodeEncodeError):
                rules = suspected(_encode(text), is_text=True)
        return scrub(text, found, rules) if rules else text

    def prepare(self) -> None:
        """See `prepare` below."""
        if self._seen < _WORTH_IT:
            self._automaton_after(_WORTH_IT)

    def _automaton_after(self, size: int) -> Suspicion | None:
        """Return the automaton if there is one. It is built after enough bytes were looked at without it."""
        if self._seen < _WORTH_IT:
            self._seen += size
            if self._seen >= _WORTH_IT:
                self._suspected = automaton()
        return self._suspected


_screen = _Screen()
prepare = _screen.prepare
"""Build the automaton now: for a process that is forked by others, each of which would build its own."""
surely_clean = _screen.surely_clean
"""Whether JSON is sure to hold no secret: the same as `is_clean`, but faster."""
scrub_text = _screen.scrub
"""The same as `redaction.scrub`, but much faster for a text with nothing suspicious in it."""
