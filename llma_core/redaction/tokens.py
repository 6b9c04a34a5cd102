"""Tokens with a form of their own, such as `ghp_...`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from llma_core.redaction.places import Found, matches_at

__all__ = [
    "LITERAL_REACH",
    "LONG",
    "REPEATED",
    "TOKENS",
    "hold_literals",
    "is_mixed",
    "is_sample",
    "long_runs",
    "may_be_tokens",
    "tokens_in",
]

LONG = 18
"""Every token with a form of its own contains at least this many word characters in a row."""
REPEATED = 64
"""A text of at most this many characters is likely to come again: a name, a version, a branch."""
# If a letter comes before a token, it is another word. But the letter may end an escape (`\n` and `\u0022` in JSON,
# `%3D` in URLs) or a terminal's color.
_LEFT = (
    rb"(?:(?<![A-Za-z0-9_])|(?<=\\[abfnrtv0])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2})"
    rb"|(?<=\[[0-9]m)|(?<=[0-9;\[][0-9]m))"
)
_WORD_RUN = re.compile(rb"[A-Za-z0-9]{12,}")
_FILLING = re.compile(rb"[xX]{4,}|0{4,}|1{4,}")


def is_mixed(token: bytes) -> bool:
    """Whether a token mixes letters and digits in one run, which words joined by hyphens do not."""
    return any(not run.isalpha() and not run.isdigit() for run in _WORD_RUN.findall(token))


def _cased(token: bytes) -> bool:
    return is_mixed(token) or not (token.islower() or token.isupper())


def _any(_: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """A kind of token.

    Attributes:
        kind: its name.
        literals: a token of this kind begins with one of these.
        pattern: matches a token from its literal on. The group is what follows the prefix.
        check: a further condition for what follows the prefix.
        breaks: whether a token has a dot inside, so that the pattern may fail at a long run without one.
    """

    kind: str
    literals: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    check: Callable[[bytes], bool]
    breaks: bool


def _token(
    kind: str,
    literals: str,
    body: bytes,
    *,
    prefix: bytes | None = None,
    check: Callable[[bytes], bool] = _any,
    free: bool = False,
    breaks: bool = False,
) -> _Token:
    """Build a _Token.

    Args:
        kind: its name.
        literals: what a token of this kind may begin with.
        body: matches what follows the prefix.
        prefix: matches the literals, if another pattern than all of them in a row does. The first look is faster with
            one pattern that they share.
        check: a further condition for what follows the prefix.
        free: whether letters may come before it, because nothing else looks like it.
        breaks: see _Token.
    """
    found = tuple(literals.encode().split())
    prefix = prefix or b"(?:" + b"|".join(re.escape(literal) for literal in found) + b")"
    pattern = re.compile((b"" if free else _LEFT) + prefix + b"(" + body + b")")
    return _Token(kind=kind, literals=found, pattern=pattern, check=check, breaks=breaks)


TOKENS: Final = (
    _token("anthropic-key", "sk-ant-", rb"[A-Za-z0-9_-]{10,}", free=True),
    _token("openai-key", "sk-", rb"[A-Za-z0-9_-]{15,}", check=is_mixed),
    _token("google-key", "AIza", rb"[A-Za-z0-9_-]{35,}"),
    _token("google-oauth-secret", "GOCSPX-", rb"[A-Za-z0-9_-]{20,}", free=True),
    _token("google-oauth-token", "ya29.", rb"[A-Za-z0-9_-]{20,}"),
    _token("google-oauth-token", "1//0", rb"[A-Za-z0-9_-]{30,}"),
    _token("aws-key-id", "AKIA ASIA", rb"[A-Z0-9]{16}[A-Za-z0-9]*", prefix=rb"A[KS]IA"),
    _token("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rb"[A-Za-z0-9]{20,}", prefix=rb"gh[pousr]_", free=True),
    _token("github-token", "github_pat_", rb"[A-Za-z0-9_]{20,}", free=True),
    _token(
        "gitlab-token",
        "glpat- gldt- glrt- glrtr- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- glffct- glwt-",
        rb"[A-Za-z0-9_-]{15,}(?:\.[A-Za-z0-9_-]{2,}){0,4}",
        prefix=rb"gl(?:pat|dt|rtr?|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-",
        free=True,
    ),
    _token("grafana-token", "glsa_ glc_", rb"[A-Za-z0-9_+/]{20,}={0,2}", prefix=rb"gl(?:sa|c)_", free=True),
    _token("slack-token", "xox", rb"[A-Za-z0-9-]{10,}", prefix=rb"xox[a-z](?:\.xox[a-z])?-", free=True),
    _token("slack-token", "xapp-", rb"[0-9]-[A-Za-z0-9-]{10,}", free=True),
    _token(
        "stripe-key",
        "sk_live_ sk_test_ rk_live_ rk_test_",
        rb"[A-Za-z0-9]{10,}",
        prefix=rb"[sr]k_(?:live|test)_",
        free=True,
    ),
    _token("stripe-webhook-secret", "whsec_", rb"[A-Za-z0-9+/]{16,}={0,2}", free=True),
    _token("npm-token", "npm_", rb"[A-Za-z0-9]{30,}", free=True),
    _token("pypi-token", "pypi-", rb"[A-Za-z0-9_-]{16,}", check=is_mixed, free=True),
    _token("posthog-key", "phx_ phs_ pha_ phr_", rb"[A-Za-z0-9]{20,}", prefix=rb"ph[xsar]_"),
    _token("hugging-face-token", "hf_ api_org_", rb"[A-Za-z0-9]{20,}", check=_cased),
    _token("jwt", "eyJ", rb"[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,4}", breaks=True),
    _token("sendgrid-key", "SG.", rb"[A-Za-z0-9_-]{18,}\.[A-Za-z0-9_-]{16,}", breaks=True),
    _token("telegram-token", ":AA", rb"[A-Za-z0-9_-]{30,}", prefix=rb"(?<=[0-9]{8}):AA", free=True),
    _token("digitalocean-token", "_v1_", rb"[a-f0-9]{32,}[A-Za-z0-9]*", prefix=rb"(?<=do[opr])_v1_", free=True),
    _token("databricks-token", "dapi", rb"[a-f0-9]{32}[A-Za-z0-9]*"),
    _token("docker-token", "dckr_", rb"[A-Za-z0-9_-]{20,}", free=True),
    _token("vault-token", "hvs. hvb. hvr.", rb"[A-Za-z0-9_-]{20,}", prefix=rb"hv[sbr]\."),
    _token("linear-key", "lin_api_ lin_oauth_", rb"[A-Za-z0-9]{20,}", prefix=rb"lin_(?:api|oauth)_", free=True),
    _token("notion-token", "ntn_", rb"[A-Za-z0-9]{30,}"),
    _token("atlassian-token", "ATATT3 ATCTT3", rb"[A-Za-z0-9_-]{20,}[=A-F0-9]{0,10}", prefix=rb"AT[AC]TT3"),
    _token(
        "shopify-token",
        "shpat_ shpca_ shppa_ shpss_",
        rb"[A-Fa-f0-9]{32,}[A-Za-z0-9]*",
        prefix=rb"shp(?:[cp]a|at|ss)_",
        free=True,
    ),
    _token("sentry-token", "sntrys_ sntryu_", rb"[A-Za-z0-9_+/-]{20,}={0,2}", prefix=rb"sntry[su]_", free=True),
    _token("supabase-key", "sbp_ sb_secret_", rb"[A-Za-z0-9_-]{20,}"),
    _token("groq-key", "gsk_", rb"[A-Za-z0-9]{30,}", free=True),
    _token("xai-key", "xai-", rb"[A-Za-z0-9]{30,}"),
    _token("replicate-token", "r8_", rb"[A-Za-z0-9]{30,}"),
    _token("nvidia-key", "nvapi-", rb"[A-Za-z0-9_-]{30,}", check=is_mixed, free=True),
    _token("alibaba-key-id", "LTAI", rb"[A-Za-z0-9]{14,}", check=is_mixed),
    _token("perplexity-key", "pplx-", rb"[A-Za-z0-9]{30,}", free=True),
    _token("tavily-key", "tvly-", rb"[A-Za-z0-9-]{20,}", check=is_mixed),
    _token("age-key", "AGE-SECRET-KEY-1", rb"[A-Z0-9]{20,}[A-Za-z0-9]*", free=True),
    _token("new-relic-key", "NRAK-", rb"[A-Z0-9]{20,}[A-Za-z0-9]*"),
)
_LITERALS = tuple((literal, token) for token in TOKENS for literal in token.literals)
_SPLIT_LITERALS = tuple(
    b"1//0 ya29. SG. :AA hvs. hvb. hvr. sk-ant- xox xapp- glsa_ glc_ whsec_ sntrys_ sntryu_".split()
)
"""Literals that may come before a long run instead of inside it, because of their other characters or their length."""
_SPLIT_REACH = 4
"""Number of characters of the run that may belong to such a literal."""
_RUN_LITERALS = tuple(
    (
        tuple(literal for literal, _ in _LITERALS if literal.translate(None, b"_-").isalnum() and belongs(literal)),
        needed,
    )
    for needed, belongs in (
        (b"", bytes.isalnum),
        (b"_", lambda literal: b"_" in literal),
        (b"-", lambda literal: b"-" in literal and b"_" not in literal),
    )
)
"""Literals that may be inside a run, by what else the run then contains."""
LITERAL_REACH = 16
"""How many bytes before the long run of its token a literal with a dot, a slash or a colon may start."""
_IS_WORD = bytes(ord("w") if chr(code).isalnum() or chr(code) in "_-" else ord(" ") for code in range(128)) + b" " * 128
_RUN = b"w" * LONG
_WORDS_ON = re.compile(rb"[A-Za-z0-9_-]*")
_AWS_SECRET = re.compile(rb"""[,:;|\s"']{1,6}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])""")


def tokens_in(data: bytes, runs: list[tuple[int, int]]) -> Iterator[Found]:
    """Find tokens. Each is in one of *runs*, or begins shortly before it."""
    if hold_literals(data, runs, LITERAL_REACH):
        long = _with_margins(data, runs, LITERAL_REACH)
        for literal, token in _LITERALS:
            if literal in long:
                yield from _tokens_at(data, literal, token)


def long_runs(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of all long runs of word characters."""
    words = data.translate(_IS_WORD)
    runs: list[tuple[int, int]] = []
    end = 0
    while (start := words.find(_RUN, end)) >= 0:
        end = words.find(b" ", start + LONG)
        end = len(data) if end < 0 else end
        runs.append((start, end))
    return runs


def _with_margins(data: bytes, runs: list[tuple[int, int]], reach: int) -> bytes:
    """Return all runs, each with *reach* bytes before it."""
    return b"\n".join([data[max(0, start - reach) : end] for start, end in runs])


def hold_literals(data: bytes, runs: list[tuple[int, int]], reach: int) -> bool:
    """Whether a literal of a token is in one of *runs*, or at most *reach* bytes before it."""
    margins = b"\n".join([data[max(0, start - reach) : start + _SPLIT_REACH] for start, _ in runs])
    for literal in _SPLIT_LITERALS:
        if literal in margins:
            return True
    for start, end in runs:  # noqa: SIM110 - a generator costs as much as the search
        if (_search_again if end - start <= REPEATED else _search)(data[start:end]):
            return True
    return False


def _search(run: bytes) -> bool:
    # This is much faster than one regular expression for all literals. Base64 has neither `_` nor `-`.
    for literals, needed in _RUN_LITERALS:
        if needed in run:
            for literal in literals:
                if literal in run:
                    return True
    return False


# The same names, folders and branches are searched again and again.
_search_again = lru_cache(maxsize=4096)(_search)


def _tokens_at(data: bytes, literal: bytes, token: _Token) -> Iterator[Found]:
    at = data.find(literal)
    while at >= 0:
        match = token.pattern.match(data, at)
        end = at + len(literal)
        if match is not None:
            end = match.end()
            if not is_sample(match[1]) and token.check(match[1]):
                yield Found(at, end, token.kind)
                secret = _AWS_SECRET.match(data, end) if token.kind == "aws-key-id" else None
                if secret is not None:
                    yield Found(secret.start(1), secret.end(1), "aws-secret-key")
        elif token.breaks and (words := _WORDS_ON.match(data, end)) is not None:
            # The run is not followed by what this token needs, so no other literal in the same run needs a try.
            end = words.end()
        at = data.find(literal, end)


def is_sample(body: bytes) -> bool:
    """Whether the part of a token after its prefix is a sample, as documentation has it."""
    if body.endswith((b"EXAMPLE", b"EXAMPLEKEY")):
        return True
    lower = body.lower()
    if max(lower.count(sample) for sample in (b"x", b"0", b"1")) * 2 >= len(body):
        # A path or a mask may follow a token whose letters may be those of a path: `whsec_a1B2c3D4e5F6g7H8/xxxxxxxx`.
        return not is_mixed(_FILLING.sub(b" ", body))
    # Words joined by hyphens: `your-key-here`.
    return lower == body and all(part.isalpha() for part in re.split(rb"[_-]", body) if part) and b"your" in body


def may_be_tokens(data: bytes, runs: list[tuple[int, int]], reach: int) -> bool:
    """Whether JSON may hold a token in one of *runs*, or at most *reach* bytes before it."""
    long = _with_margins(data, runs, reach)
    return any(
        literal in long and (token.breaks or any(matches_at(token.pattern, data, literal)))
        for literal, token in _LITERALS
    )
