"""What may hold a secret: JSON that has to be decoded to find out, and JSON that is sure to be clean."""

from __future__ import annotations

import re
from functools import lru_cache

from llma_core.redaction.authorization import BEARER_HINT, may_be_bearers
from llma_core.redaction.blocks import BLOCK_HINT
from llma_core.redaction.calls import may_be_calls
from llma_core.redaction.commands import may_be_commands
from llma_core.redaction.cookies import may_be_cookies
from llma_core.redaction.inputs import may_be_inputs
from llma_core.redaction.manifests import MANIFEST_HINT
from llma_core.redaction.names import PASSWORD_STEMS, STEM_HINTS, STEMS, head_before, name_from
from llma_core.redaction.pairs import may_be_pairs
from llma_core.redaction.places import shares_b, shares_g, shares_k
from llma_core.redaction.positions import may_be_positions
from llma_core.redaction.rules import ALL_RULES, Rules
from llma_core.redaction.setters import may_be_set
from llma_core.redaction.statements import may_be_statements
from llma_core.redaction.tokens import LITERAL_REACH, hold_literals, long_runs, may_be_tokens
from llma_core.redaction.urls import SIGNED, may_be_urls

__all__ = ["hides_text", "is_clean"]

_REPEATED_JSON = 256
"""JSON of at most this many bytes is likely to come again: a name, a version, a branch."""
# What may follow a name in encoded JSON so that its value can be a secret. A comma counts only after a quote. Nothing
# follows if the string ends there. A key is followed by a string, or by a number if it names a password. Only the value
# of a flag or a password of .netrc may follow after a single space.
_LEADS = rb"""(?:
      [=!>:*\]'`]
    | \\(?![nrbf])
    | "(?!\s*(?:[,}\]]|\Z)|\s*:\s*[^"\s])
    | <\\*/
    | %3d
    | [ ]+(?:[=:!\\"'`|]|\[(?:none|\*)|<-|is|was|[bruf]{1,2}[\\"'`])
    | (?P<blank>[ ])
    )"""
# After a name that tells of a password, also: a number, a call, the size of an array, a type, what the password is for.
_PASSWORD_LEADS = rb"""(?:
      "\s*:\s*[-0-9]
    | [(\[]
    | [ ]+(?:[sS]tring|str|text)\s*=
    | """ + _LEADS.removeprefix(b"(?:")


def _leading(stem: bytes) -> re.Pattern[bytes]:
    """Return a pattern that finds a stem where a value may follow."""
    leads = _PASSWORD_LEADS if stem in PASSWORD_STEMS else _LEADS
    if stem == b"auth":
        leads = leads.replace(b"[=!>", b"[(=!>", 1)
    return re.compile(name_from(stem) + leads, re.VERBOSE)


_LEADING = {stem: _leading(stem) for stem, _ in STEMS}


def is_clean(data: bytes, rules: Rules = ALL_RULES) -> bool:
    r"""Whether JSON is sure to hold no secret, so that `scrub` and `scrub_member` would change nothing in it.

    False means that it has to be decoded and scrubbed to find out. No value is judged here. It is only checked whether
    a rule could begin: each rule begins at literals, which look the same in JSON and in text. If JSON could spell a
    literal in another way (`\u0070`, `\/`), that spelling counts as the literal. Control characters have to be escaped
    in JSON, and terminal output is full of them. So here, as in text, they end a name, a value and a word. The one
    exception is the part before the `@` of a URL.

    Args:
        data: any JSON value.
        rules: the rules that may begin in it. The others are already known not to.
    """
    return _is_clean_again(data) if len(data) <= _REPEATED_JSON and rules is ALL_RULES else _is_clean(data, rules)


def _is_clean(data: bytes, rules: Rules = ALL_RULES) -> bool:
    escaped = b"\\u" in data
    if escaped and hides_text(data):
        return False
    lower = data.lower()
    with_k = not rules.isdisjoint(("urls", "pwd")) and shares_k(lower)
    if "urls" in rules and may_be_urls(data, escaped=escaped, shared=with_k):
        return False
    with_g = not rules.isdisjoint(("signatures", "positions")) and shares_g(lower)
    if with_g and "signatures" in rules and SIGNED.search(lower) is not None:
        return False
    if _may_be_named(data, lower, rules, with_k=with_k):
        return False
    if "cookies" in rules and b"=" in data and may_be_cookies(data, lower):
        return False
    if ("commands" in rules and may_be_commands(data)) or ("inputs" in rules and may_be_inputs(data)):
        return False
    with_b = not rules.isdisjoint(("bearers", "calls", "positions")) and shares_b(lower)
    if "calls" in rules and may_be_calls(data, lower, with_b=with_b):
        return False
    if "positions" in rules and may_be_positions(data, with_b=with_b, with_g=with_g):
        return False
    if with_b and "bearers" in rules and BEARER_HINT.search(lower) is not None and may_be_bearers(data, lower):
        return False
    if "tokens" not in rules or not (runs := long_runs(data)):
        return True
    # An escape takes more bytes than its character.
    reach = LITERAL_REACH * (6 if escaped else 2)
    return not (b"\\/" in data or (hold_literals(data, runs, reach) and may_be_tokens(data, runs, reach)))


def _may_be_named(data: bytes, lower: bytes, rules: Rules, *, with_k: bool) -> bool:
    key = 0
    for stem, rule, hint in STEM_HINTS:
        if rule not in rules or (stem == b"psk" and not with_k):
            continue
        at = first.end() - len(stem) if (first := hint.search(lower)) is not None else -1
        if stem == b"key":
            key = at
        if at < 0:
            continue
        if _may_lead(data, _LEADING[stem].search(lower, at)):
            return True
        if stem == b"pass" and may_be_statements(lower, at):
            return True
        if stem == b"secret" and MANIFEST_HINT.search(lower) is not None:
            return True
    if "blocks" in rules and key >= 0 and BLOCK_HINT.search(lower, key) is not None:
        return True
    return "pairs" in rules and may_be_pairs(lower)


# Names, models and states are repeated in every event.
_is_clean_again = lru_cache(maxsize=1024)(_is_clean)


def hides_text(data: bytes) -> bool:
    r"""Whether JSON may spell letters as escapes: it has a `\u` escape that is not a control character's."""
    return _HIDDEN_LETTER.search(data) is not None


_HIDDEN_LETTER = re.compile(rb"\\u(?!00[01])")


def _may_lead(data: bytes, found: re.Match[bytes] | None) -> bool:
    while found is not None:
        at = found.start()
        if found["blank"] is None or b"-" in head_before(data, at) or b"login " in data or may_be_set(data, at):
            return True
        found = found.re.search(found.string, found.end())
    return False
