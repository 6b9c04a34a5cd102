r"""Finds secrets in text and replaces each by `[REDACTED:kind]`: keys, tokens, private keys, passwords.

Theory of operation
===================

How a secret is recognized. Two things give a secret away:

    1. its own form, such as `ghp_...`, a private key block, or `user:password@` in a URL;
    2. the name before it, such as `DB_PASSWORD=...`, `"api_key": "..."`, `--token ...` or `Authorization: Bearer ...`,
       also where a place of its own names it: `name: DB_PASSWORD` beside `value: ...`, a session's cookie, a manifest
       of a Kubernetes Secret, the flag of a command that takes a password, such as `mysql -p...`, or what is piped to a
       command that reads one.

A name is weaker evidence than a form. In code, most of what follows `token` is a type, a variable or a count. So the
value after a name is judged (`_Name.hides`). How the value is written counts, too: in quotes, in an environment
variable, or bare.

What is searched. A text is searched as it is, after JSON was decoded once. The text may contain more JSON, nested to
any depth. There, quotes have backslashes before them and line ends are written as `\n`. Every rule reads these forms,
too.

What it costs. A text without secrets must cost little, and no text may cost more than time proportional to its length.
This is how:

    - Text is searched as UTF-8 bytes. All patterns are ASCII, so no character is ever split.
    - Only searches for literals run over the whole text. Every token contains at least `_LONG` word characters in a
      row. To find such runs, one pass translates each byte to "word" or "other"; then this is a literal search, too.
    - Regular expressions start only where a literal was found. Their repetitions are bounded, or they repeat one class
      of characters that what follows cannot match. If an expression can match far, the search continues after its
      match.
    - `is_clean` tells that JSON holds no secret without decoding it.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, assert_never, get_args

__all__ = [
    "ALL_RULES",
    "COMMANDS",
    "PASSWORD_STEMS",
    "READERS",
    "SETTERS",
    "SETTINGS",
    "STEMS",
    "TOKENS",
    "Rule",
    "Rules",
    "hides_text",
    "is_clean",
    "is_telling",
    "judging_keys",
    "marker",
    "name_from",
    "scrub",
    "scrub_member",
]

Rule = Literal[
    "pass",
    "pwd",
    "secret",
    "token",
    "auth",
    "key",
    "urls",
    "signatures",
    "tokens",
    "bearers",
    "blocks",
    "cookies",
    "pairs",
    "commands",
    "inputs",
]
"""A rule: one for names of each stem, and one for each kind of secret with a form of its own."""
Rules = frozenset[Rule]
"""A set of rules."""
ALL_RULES: Final[Rules] = frozenset(get_args(Rule))

_SHORTEST = 8
"""A text with fewer bytes cannot hold a secret: neither a name with its value, nor a secret with a form of its own."""
_LONG = 18
"""Every token with a form of its own contains at least this many word characters in a row."""
_NAME_REACH = 64
"""Longest part of a name before its stem that is looked at."""
_VALUE_REACH = 1024
"""Bytes within which a quoted value has to end. A longer run without whitespace after a name is a secret, unjudged."""
_BARE_REACH = 512
"""The same for a value without quotes."""

_REPEATED = 64
"""A text of at most this many characters is likely to come again: a name, a version, a branch."""
_REPEATED_JSON = 256
"""The same for JSON, in bytes."""
_ROUNDS = 4
"""How often a text is searched again after a secret was found. Once is enough for any text that is not contrived."""

_MARKER_START = b"[REDACTED:"
_MARKER = re.compile(rb"\[REDACTED:[a-z-]{1,40}\]")


def marker(kind: str) -> str:
    """Return the marker that replaces a secret of *kind*."""
    return f"[REDACTED:{kind}]"


@dataclass(frozen=True, slots=True)
class _Found:
    """The place of a secret, in bytes. If two overlap, the one with a form of its own determines the kind.

    Attributes:
        start: offset of its first byte.
        end: offset just after its last byte.
        kind: the kind of secret, for its marker.
        by_name: whether the name before it gave it away.
    """

    start: int
    end: int
    kind: str
    by_name: bool = False


# ---------------------------------------------------------------------- tokens with a form of their own

# If a letter comes before a token, it is another word. But the letter may end an escape (`\n` and `\u0022` in JSON,
# `%3D` in URLs) or a terminal's color.
_LEFT = (
    rb"(?:(?<![A-Za-z0-9_])|(?<=\\[abfnrtv0])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2})"
    rb"|(?<=\[[0-9]m)|(?<=[0-9;\[][0-9]m))"
)
_WORD_RUN = re.compile(rb"[A-Za-z0-9]{12,}")


def _mixed(token: bytes) -> bool:
    """Whether a token mixes letters and digits in one run, which words joined by hyphens do not."""
    return any(not run.isalpha() and not run.isdigit() for run in _WORD_RUN.findall(token))


def _cased(token: bytes) -> bool:
    return _mixed(token) or not (token.islower() or token.isupper())


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
    _token("openai-key", "sk-", rb"[A-Za-z0-9_-]{15,}", check=_mixed),
    _token("google-key", "AIza", rb"[A-Za-z0-9_-]{35,}"),
    _token("google-oauth-secret", "GOCSPX-", rb"[A-Za-z0-9_-]{20,}", free=True),
    _token("google-oauth-token", "ya29.", rb"[A-Za-z0-9_-]{20,}"),
    _token("google-oauth-token", "1//0", rb"[A-Za-z0-9_-]{30,}"),
    _token("aws-key-id", "AKIA ASIA", rb"[A-Z0-9]{16}[A-Za-z0-9]*", prefix=rb"A[KS]IA"),
    _token("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rb"[A-Za-z0-9]{20,}", prefix=rb"gh[pousr]_", free=True),
    _token("github-token", "github_pat_", rb"[A-Za-z0-9_]{20,}", free=True),
    _token(
        "gitlab-token",
        "gl",
        rb"[A-Za-z0-9_-]{15,}(?:\.[A-Za-z0-9_-]{2,}){0,4}",
        prefix=rb"gl(?:pat|dt|rtr?|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-",
        free=True,
    ),
    _token("grafana-token", "gl", rb"[A-Za-z0-9_+/]{20,}={0,2}", prefix=rb"gl(?:sa|c)_", free=True),
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
    _token("pypi-token", "pypi-", rb"[A-Za-z0-9_-]{16,}", check=_mixed, free=True),
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
    _token("nvidia-key", "nvapi-", rb"[A-Za-z0-9_-]{30,}", check=_mixed, free=True),
    _token("alibaba-key-id", "LTAI", rb"[A-Za-z0-9]{14,}", check=_mixed),
    _token("perplexity-key", "pplx-", rb"[A-Za-z0-9]{30,}", free=True),
    _token("tavily-key", "tvly-", rb"[A-Za-z0-9-]{20,}", check=_mixed),
    _token("age-key", "AGE-SECRET-KEY-1", rb"[A-Z0-9]{20,}[A-Za-z0-9]*", free=True),
    _token("new-relic-key", "NRAK-", rb"[A-Z0-9]{20,}[A-Za-z0-9]*"),
)
_LITERALS = tuple((literal, token) for token in TOKENS for literal in token.literals)
_SPLIT_LITERALS = tuple(b"1//0 ya29. SG. :AA hvs. hvb. hvr. sk-ant- xox xapp- gl whsec_ sntrys_ sntryu_".split())
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
_LITERAL_REACH = 16
"""How many bytes before the long run of its token a literal with a dot, a slash or a colon may start."""

_IS_WORD = bytes(ord("w") if chr(code).isalnum() or chr(code) in "_-" else ord(" ") for code in range(128)) + b" " * 128
_RUN = b"w" * _LONG
_WORDS_ON = re.compile(rb"[A-Za-z0-9_-]*")
_AWS_SECRET = re.compile(rb"""[,:;|\s"']{1,6}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])""")


def _tokens(data: bytes, runs: list[tuple[int, int]]) -> Iterator[_Found]:
    if _hold_literals(data, runs, _LITERAL_REACH):
        long = _with_margins(data, runs, _LITERAL_REACH)
        for literal, token in _LITERALS:
            if literal in long:
                yield from _tokens_at(data, literal, token)


def _long_runs(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of all long runs of word characters."""
    words = data.translate(_IS_WORD)
    runs: list[tuple[int, int]] = []
    end = 0
    while (start := words.find(_RUN, end)) >= 0:
        end = words.find(b" ", start + _LONG)
        end = len(data) if end < 0 else end
        runs.append((start, end))
    return runs


def _with_margins(data: bytes, runs: list[tuple[int, int]], reach: int) -> bytes:
    """Return all runs, each with *reach* bytes before it."""
    return b"\n".join([data[max(0, start - reach) : end] for start, end in runs])


def _hold_literals(data: bytes, runs: list[tuple[int, int]], reach: int) -> bool:
    """Whether a literal of a token is in one of *runs*, or at most *reach* bytes before it."""
    margins = b"\n".join([data[max(0, start - reach) : start + _SPLIT_REACH] for start, _ in runs])
    for literal in _SPLIT_LITERALS:
        if literal in margins:
            return True
    for start, end in runs:  # noqa: SIM110 - a generator costs as much as the search
        if (_search_again if end - start <= _REPEATED else _search)(data[start:end]):
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


def _tokens_at(data: bytes, literal: bytes, token: _Token) -> Iterator[_Found]:
    at = data.find(literal)
    while at >= 0:
        match = token.pattern.match(data, at)
        end = at + len(literal)
        if match is not None:
            end = match.end()
            if not _is_sample(match[1]) and token.check(match[1]):
                yield _Found(at, end, token.kind)
                secret = _AWS_SECRET.match(data, end) if token.kind == "aws-key-id" else None
                if secret is not None:
                    yield _Found(secret.start(1), secret.end(1), "aws-secret-key")
        elif token.breaks and (words := _WORDS_ON.match(data, end)) is not None:
            # The run is not followed by what this token needs, so no other literal in the same run needs a try.
            end = words.end()
        at = data.find(literal, end)


def _is_sample(body: bytes) -> bool:
    """Whether the part of a token after its prefix is a sample, as documentation has it."""
    if body.endswith((b"EXAMPLE", b"EXAMPLEKEY")):
        return True
    lower = body.lower()
    if max(lower.count(sample) for sample in (b"x", b"0", b"1")) * 2 >= len(body):
        return True
    # Words joined by hyphens: `your-key-here`.
    return lower == body and all(part.isalpha() for part in re.split(rb"[_-]", body) if part) and b"your" in body


# ---------------------------------------------------------------------- private keys

_BLOCK_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY( BLOCK)?-----")
_BLOCK_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# A line of a block, with what may come before it: a line end (also `\n` in JSON), quotes, a margin, a block's headers.
_BLOCK_FIRST = re.compile(rb"[\s\S]{0,200}?[A-Za-z0-9+/]{24,}={0,2}")
_BLOCK_LINE = re.compile(rb"[\s\S]{0,64}?[A-Za-z0-9+/]{24,}={0,2}")
_BLOCK_LAST = re.compile(
    rb"(?>\\{1,63}[nrt]|\\{1,63}u[0-9a-f]{4}|[0-9]{1,6}(?=[^A-Za-z0-9+/=])|\+(?![A-Za-z0-9+/])|[^A-Za-z0-9+/]){0,64}+"
    rb"""[A-Za-z0-9+/]{1,64}={0,2}(?=\s|\\|["']|\Z)"""
)
_LINE_END = re.compile(rb"\n|\\[nr]")
_TEMPLATE = re.compile(rb"""[{}<>$()"'`]|\.\.\.|\xe2\x80\xa6|xxx|your|redacted""", re.IGNORECASE)
_SHORTEST_BLOCK = 64
_LONGEST_BLOCK = 32 * 1024


def _blocks(data: bytes) -> Iterator[_Found]:
    at, ending = 0, None
    while (begin := data.find(b"-----BEGIN ", at)) >= 0:
        at = begin + 1
        header = _BLOCK_BEGIN.match(data, begin)
        if header is None:
            continue
        at = header.end()
        if ending is None or 0 <= ending < at:
            ending = data.find(b"-----END ", at)
        footer = _BLOCK_END.match(data, ending) if 0 <= ending <= at + _LONGEST_BLOCK else None
        inside = data[at:ending] if footer is not None else b""
        if footer is not None and b"-----BEGIN " not in inside:
            # If it is shorter than any key, it may be a sample, or code that puts a key together.
            if len(inside) > _SHORTEST_BLOCK or (_LINE_END.search(inside) is not None and _is_body(inside)):
                at = footer.end()
                yield _Found(begin, at, "private-key")
            continue
        line = _BLOCK_FIRST.match(data, at)
        if line is None:
            continue
        while line is not None:
            at = line.end()
            line = _BLOCK_LINE.match(data, at)
        last = _BLOCK_LAST.match(data, at)
        at = last.end() if last is not None else at
        yield _Found(begin, at, "private-key")


def _is_body(inside: bytes) -> bool:
    return _TEMPLATE.search(inside) is None and bool(inside.strip(b" \t\r\n\\nr\"'"))


# ---------------------------------------------------------------------- URLs

_USER_INFO = re.compile(rb""":(?:\\{0,63}/){2}([^\s/:@"'<>\\?#]{0,256})(?::([^\s/"'`<>\\]{1,256}))?@""")
_WEBHOOK = re.compile(
    rb"(?:(?<=/web)hooks|hooks\.slack\.com(?:\\?/)+(?:services|workflows|triggers))(?:\\?/)+([A-Za-z0-9_/\\-]{20,})"
)
_SIGNATURE = re.compile(
    rb"(?:(?:(?<![A-Za-z0-9_])|(?<=u0026))sig|(?:(?<=X-Amz-)|(?<=X-Goog-)|(?<=[?&;])|(?<=u0026))Signature)(?:=|\\{1,8}u003d)"
    rb"([A-Za-z0-9%+/=_-]{20,})"
)


def _urls(data: bytes) -> Iterator[_Found]:
    if b"@" in data:
        for match in _each(_USER_INFO, data, b"://"):
            yield from _user_info(match)
        if b"\\" in data and b"\\/" in data:
            for match in _each(_USER_INFO, data, b":\\"):
                yield from _user_info(match)
    if b"hooks" in data:
        for match in _each(_WEBHOOK, data, b"hooks"):
            if not _is_sample(match[1].rpartition(b"/")[2]):
                yield _Found(match.start(1), match.end(1), "webhook")


def _user_info(match: re.Match[bytes]) -> Iterator[_Found]:
    user, password = match[1], match[2]
    if len(user) >= _LONG and _mixed(user):
        yield _Found(match.start(1), match.end(1), "url-token")
    if password is not None and not _is_placeholder(text := _text(password)) and not _names_secret(text):
        yield _Found(match.start(2), match.end(2), "url-password")


def _signatures(data: bytes, lower: bytes) -> Iterator[_Found]:
    at = lower.find(b"sig")
    while at >= 0:
        match = _SIGNATURE.match(data, at)
        if match is not None and not _is_sample(match[1]):
            yield _Found(match.start(1), match.end(1), "signature")
        at = lower.find(b"sig", at + 3 if match is None else match.end())


def _each(pattern: re.Pattern[bytes], data: bytes, *literals: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the matches of *pattern* at *literals*; the matches of one literal do not overlap."""
    for literal in literals:
        at = data.find(literal)
        while at >= 0:
            match = pattern.match(data, at)
            if match is not None:
                yield match
            at = data.find(literal, at + len(literal) if match is None else match.end())


# ---------------------------------------------------------------------- judging values

_Form = Literal["quoted", "variable", "bare"]
"""How a value is written: in quotes; after `NAME=` of an environment variable or `=` of a flag; in any other way."""

_PLACEHOLDER = re.compile(
    r"""(?ix) [x*.…•_\#?0:-]+ | .{0,40}%[sr].{0,40}
    | .{0,40}(?:example|placeholder|changeme|change[_-]me|redacted|your[_-]|dummy).{0,40}
    | your.{0,40} | my[_-]?(?:\w{1,20}[_-]){0,3}(?:api[_-]?)?(?:password|passwd|secret|token|key) | .{1,40}[_-]here
    | \[.{0,60}\] | <.{0,60}> | \(.{0,60}\)
    | [^\w\s]*\[?(?:user|pass|password)\]{1,3} | ![A-Za-z]+ | not[_-](?:needed|used|set)
    | ([a-z])\1*
    """
)
# What is put in at run time: `${...}`, `{{...}}`, `{0}`, `%(name)s`, `<%= ... %>`.
_TEMPLATE_IN = re.compile(r"\$\{|\$\(|\{\{|\{[A-Za-z_][\w.]*(?:![rsa])?\}|\{\d?\}|%\(\w{1,40}\)s|<%|#\{|\w\.\.\.\w")
# Types, states and kinds of credentials: words about secrets that are not secrets.
_WORDS = frozenset(
    """
    accesskey always any array auto automatic base64 bool boolean byte bytes char const custom date default
    disable disabled double empty enable
    enabled enum env environment error expired external false field file float function functions header hidden inherit
    inline input int integer internal invalid json keychain keyring local manual missing never nil no none not null
    number obj object off on on_create oauth oauth1 oauth2
    openid optional option options pass passcode passphrase passwd password passwords pwd prompt query read readonly
    required saml secret secretref secrets secretstr sha1 sha256 sha512 md5 bcrypt scrypt argon2 hs256 rs256 es256 hmac
    secretkey self session str string text token tokens true type undefined unknown unset unsigned username
    user valid value varchar vault void when_required wrong write yes api apikey api_key api-key basic bearer digest
    cookie jwt auth authorization
    credential credentials key keys access_token refresh_token client_secret secret_key access_key private_key
    """.split()  # noqa: SIM905 - words are read more easily than literals
)
# References to secrets: variables, templates, calls, paths, addresses.
_REFERENCE = re.compile(
    r"""(?x)
    \$[A-Za-z_]\w*(?:[.:]\w+)+\Z
    | \$[A-Za-z_{(\[]\w*(?:[})\]].{0,80})?\Z | \$\{ | \$\( | %[A-Za-z_]\w*%?\Z | %\(\w+\)s | \{\{? | <%?
    | (?:process\.env|os\.environ|os\.getenv|getenv|import\.meta|ENV\[|secrets\.|env\.|vars\.)
    | (?:config\.|settings\.|self\.|this\.)
    | (?:op|vault|env|file|https?|s3|gs|arn|ref|secretsmanager|ssm|keychain)\+?:
    | (?:~|\.{1,2})?/[\w@.-]+(?:/[\w@.-]+)+/?\Z | ~/ | \.{1,2}/ | [A-Za-z]:\\ | !(?:Ref|Sub|GetAtt|ENV|secret)\b
    | @@?[A-Za-z_]\w*\Z | @[\w./~-]{1,80}\.(?:p8|p12|pem|key|txt|json|crt|yml|yaml)\b
    | // | \* | &[A-Za-z] | [A-Za-z_][A-Za-z_.]{0,80}(?:\(.*\)|\[.*\]|\{.*\})\Z | f["'] | phc_
    | pk_(?:live|test)_
    """
)
# Code outside of quotes: calls, items, members of what may be missing, regular expressions.
_CODE = re.compile(
    r"""(?x)
    [A-Za-z_$][\w.$]{0,80}(?:[(\[{] | (?:\?\.|!\.|->|::)[A-Za-z_$(\[])
    | \\[sSdDwWb][*+?{)]? | \.[*+] | \[\^ | \(\?
    """
)
# A type that has digits in its name, such as Uint8Array.
_TYPE = re.compile(
    r"(?:[A-Z][A-Za-z]*\d{1,5}[A-Za-z]*(?:Array|String|Bytes|Buffer|Digest|Certificate|Type|Key|Hash|View)|[iuf]\d{1,3})\??"
)
# A rule for what a field may be, as frameworks have it: `required|string|min:8`.
_RULES = re.compile(r"(?:[a-z_]{2,30}(?::[\w,.=/^$-]{0,60})?\|)+[a-z_]{2,30}(?::[\w,.=/^$-]{0,60})?")
_RULE = re.compile(
    r"(?:^|\|)(?:required|nullable|optional|sometimes|filled|string|min|max|confirmed|email|between|size|same|different"
    r"|current_password|regex|alpha|alpha_num|trim|min_length|max_length|matches|len|not_empty|bail)(?:$|[:|])"
)
# Words, possibly joined: names of types and variables, slugs.
_NAME_LIKE = re.compile(r"[A-Za-z_$][A-Za-z]*+\d{0,3}+(?:[._:/-]++[A-Za-z]*+\d{0,4}+)*+[!?;.,]?")
_DOTTED = re.compile(r"[A-Za-z_]\w{0,30}(?:\.[A-Za-z_]\w{0,30})+")
_NUMBER = re.compile(r"[+-]?[\d_.,:/%eE+-]+|0[xX][0-9a-fA-F]{1,16}")
_TELLING = re.compile(r"pass|pwd|secret|token|auth|cred|(?<![a-z])key|key(?![a-z])", re.IGNORECASE)
# A value that is only the name of a secret's place consists of whole words. The last is the secret's, such as in
# `DB_PASSWORD`, `dbPassword` and `X-Auth-Token`, or says what kind of place it is, as in `passwordField`.
_SECRET_WORDS = frozenset(
    """
    pass password passwords passwd passphrase passcode pwd secret secrets token tokens auth authorization cred creds
    credential credentials key keys apikey
    """.split()  # noqa: SIM905 - words are read more easily than literals
)
_PLACE_WORDS = frozenset(
    """
    field fields name names ref id ids file path hash hashed digest input label value values text placeholder env var
    prompt box form error errors message hint help title type provider manager store reset arn uri url data view
    """.split()  # noqa: SIM905 - as above
)
_LABEL_VERBS = frozenset(
    """
    enter confirm repeat retype verify forgot forgotten reset change update show hide new old current invalid wrong
    missing incorrect empty no set create choose your
    """.split()  # noqa: SIM905 - as above
)
_SENTENCE_WORDS = frozenset(
    """
    a an the is are was at least must should to for of with be not and or by if please only required optional de la le
    el il ist mit das die der den und au pour por per con
    """.split()  # noqa: SIM905 - as above
)
# The label of a field for passwords, in the languages that interfaces are often translated to.
_LABELS = frozenset(
    """
    account change confirm create forgot hide login protected reset secure security show sign update verify
    adgangskode clave contrasena contraseña contrasenya geslo haslo hasło heslo hidasana jelszó kata kennwort kennword
    lozinka losenord lösenord mật motdepasse parola paroli parole parool passaord passe passord passort passwort pin
    salasana sandi senha slaptažodis şifre sifre wachtwoord κωδικός пароль лозинка парола סיסמה كلمة
    """.split()  # noqa: SIM905 - as above
)
_SYMBOL = re.compile(r"[!@#$%^&*?~+=]")
_CODE_NAME = re.compile(r"[A-Za-z_$][\w$-]*|\d{1,4}_[A-Za-z]\w*")
# Parts of names that have digits in them, and the number of a migration.
_TECHNICAL = re.compile(r"(?i)\A\d{1,4}_|x509|sha\d{1,3}|base\d\d|aes\d{3}|[hre]s\d{3}")
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:[.:/-]+[\w$]+)*")

_LONGEST_PLACEHOLDER = 100
_SHORTEST_NUMBER = 4
"""Fewest digits of a password that is a number. A shorter number is a count."""
_SHORTEST_RANDOM = 20
"""A value that does not look like a name is a secret from this length on, even without digits."""
_LONGEST_WORD = 24
"""A bare word of this many letters is not a variable. For a password, the limit is the next one."""
_LONGEST_PASSWORD_WORD = 16
_SHORTEST_PART = 3
"""Fewest letters of a word in an identifier, on the average."""
_MOST_DIGITS = 2
"""Most digits of an identifier of whole words."""
_SHORTEST_SENTENCE = 4
"""Fewest words of a sentence that none of its words gives away."""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _is_placeholder(value: str) -> bool:
    """Whether *value* is a placeholder for a secret or a reference to one."""
    return (
        not value
        or "[REDACTED:" in value
        or value.lower().strip(" .,;:!?") in _WORDS
        or (len(value) <= _LONGEST_PLACEHOLDER and _PLACEHOLDER.fullmatch(value) is not None)
        or value.endswith(("EXAMPLE", "EXAMPLEKEY"))
        or not any(map(str.isalnum, value))
        or _TEMPLATE_IN.search(value) is not None
        or _REFERENCE.match(value) is not None
        or (_RULES.fullmatch(value) is not None and _RULE.search(value) is not None)
    )


def _names_secret(value: str) -> bool:
    """Whether *value* is the name of a variable, a field or a header for a secret, and not a secret itself.

    A password may contain such a word (`Password123!`, `SecretGarden`) or its letters only (`Monkey-Business`).
    """
    if not _IDENTIFIER.fullmatch(value):
        return False
    loud = value.isupper() and "-" not in value
    words = _words(value)
    if loud and len(words) > 1 and words[-1].isdigit():
        # DB_PASSWORD_2
        words.pop()
    if any(word.isdigit() for word in words):
        return False
    told = [position for position, word in enumerate(words) if word in _SECRET_WORDS]
    if not told or any(word not in _PLACE_WORDS for word in words[told[-1] + 1 :]):
        return False
    if value[0].isupper() and value.isalpha() and not loud:
        # `SuperSecret` is a password, `ResetPassword` and `PasswordField` are names.
        return words[0] in _LABEL_VERBS or words[-1] in _PLACE_WORDS
    return len(words) > 1


def _is_prose(value: str) -> bool:
    """Whether a value of several words is a label or a sentence, and not a passphrase.

    It begins with a capital, has only whole words, and one of them belongs to labels or sentences. Without such a word
    it is a sentence if it has four words or more that do not all begin with a capital.
    """
    words = [word.strip(".,;:!?'\"()-") for word in value.replace("\\n", " ").split()]
    if not value[:1].isupper() or not all(word.isalpha() or word.isdigit() or not word for word in words):
        return False
    lower = {word.lower() for word in words}
    if not lower.isdisjoint(_SECRET_WORDS | _LABELS | _LABEL_VERBS | _SENTENCE_WORDS):
        return True
    return len(words) >= _SHORTEST_SENTENCE and not all(word[:1].isupper() for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """What a name says about its value.

    Attributes:
        kind: the kind of secret, for the marker.
        sure: whether the value of such a name is almost always a secret.
        variable: fewest characters of a secret in a variable; see _Form.
        quoted: fewest characters of a secret in quotes.
        bare: fewest characters of a bare secret.
    """

    kind: str
    sure: bool
    variable: int
    quoted: int
    bare: int

    def hides(self, value: str, form: _Form, *, is_string: bool = False) -> bool:
        """Whether *value* is a secret. It must not be longer than a reach, to bound the time that this takes.

        Args:
            value: the value.
            form: how it is written, or is to be judged.
            is_string: whether it is in quotes all the same, so that it is no code.
        """
        value = value.strip()
        is_password = self.kind == "password"
        if _is_placeholder(value) or (not is_password and value[0] in "[(^"):
            return False
        if form != "quoted" and not is_string and _CODE.match(value) is not None:
            return False
        if _NUMBER.fullmatch(value):
            return is_password and value.isdigit() and len(value) >= _SHORTEST_NUMBER
        if len(value.split()) > 1:
            return is_password and not _is_prose(value)
        match form:
            case "variable":
                return len(value) >= self.variable and self._hides_in_variable(value)
            case "quoted":
                return len(value) >= self.quoted and self._hides_in_quotes(value)
            case "bare":
                return len(value) >= self.bare and self._hides_bare(value)
            case _:
                assert_never(form)

    def _hides_in_variable(self, value: str) -> bool:
        named, joined, digits = _features(value)
        telling = _names_secret(value)
        if self.kind == "password":
            # PASSWORD=DB_PASSWORD names another variable.
            return not (telling and joined and value.isupper())
        if named and (telling or _SECRET_WORDS.issuperset(_words(value))):
            return False
        return self.sure or self.kind == "secret" or (not joined and (self.kind != "key" or (digits and not named)))

    def _hides_in_quotes(self, value: str) -> bool:
        named, joined, digits = _features(value)
        telling = _names_secret(value)
        if self.kind == "password":
            is_label = value.istitle() and value.lower() in _LABELS
            return not is_label and not telling
        if self.kind != "secret" and _is_wordy(value):
            return False
        if self.sure:
            return not (named and (telling or joined))
        if self.kind == "secret" and not joined and not telling:
            return value.isalpha() or digits or _SYMBOL.search(value) is not None
        return not named and (digits or len(value) >= _SHORTEST_RANDOM)

    def _hides_bare(self, value: str) -> bool:
        named, joined, digits = _features(value)
        telling = _TELLING.search(value) is not None
        is_password = self.kind == "password"
        if value.isalpha():
            # A bare word is a variable, unless it is too long for one.
            longest = _LONGEST_PASSWORD_WORD if is_password else _LONGEST_WORD
            return len(value) >= longest and value.islower() and not telling
        if joined or _DOTTED.fullmatch(value) is not None or (not is_password and _is_wordy(value)):
            return False
        if is_password:
            return digits or _SYMBOL.search(value) is not None
        return digits and (not named or self.kind == "secret")


def _is_wordy(value: str) -> bool:
    """Whether *value* is an identifier of whole words, such as `resources`, `oAuth2Token` and `0001_initial`.

    In a random string, capitals and digits divide the letters into shorter pieces.
    """
    if _CODE_NAME.fullmatch(value) is None:
        return False
    words = _WORD_OF_NAME.findall(_TECHNICAL.sub("_", value))
    parts = [word for word in words if not word.isdigit()]
    long = sum(len(part) >= _SHORTEST_PART for part in parts)
    if sum(map(len, parts)) < _SHORTEST_PART * len(parts) or sum(map(len, words)) - sum(map(len, parts)) > _MOST_DIGITS:
        return False
    return long > 1 or (long == 1 and value.isalpha() and len(value) < _LONGEST_WORD)


def _features(value: str) -> tuple[bool, bool, bool]:
    """Return whether *value* looks like a name, is a name of several words, and has digits."""
    named = _NAME_LIKE.fullmatch(value) is not None
    joined = named and not value.rstrip("!?;.,").isalnum()
    return named, joined, any(letter.isdigit() for letter in value)


def _words(value: str) -> list[str]:
    return [word.lower() for word in _WORD_OF_NAME.findall(value)]


_PASSWORD = _Name(kind="password", sure=True, variable=3, quoted=3, bare=6)
_SURE_SECRET = _Name(kind="secret", sure=True, variable=4, quoted=6, bare=6)
_SOME_SECRET = _Name(kind="secret", sure=False, variable=4, quoted=6, bare=6)
_SURE_TOKEN = _Name(kind="token", sure=True, variable=6, quoted=6, bare=8)
_SOME_TOKEN = _Name(kind="token", sure=False, variable=6, quoted=8, bare=12)
_SURE_KEY = _Name(kind="key", sure=True, variable=6, quoted=6, bare=8)
_SOME_KEY = _Name(kind="key", sure=False, variable=16, quoted=16, bare=16)
_SOME_AUTH = _Name(kind="authorization", sure=False, variable=8, quoted=8, bare=12)
# The name of a header, whose value has a form of its own.
_AUTHORIZATION = _Name(kind="authorization", sure=False, variable=8, quoted=8, bare=12)


# ---------------------------------------------------------------------- names

STEMS: Final[tuple[tuple[bytes, Rule], ...]] = (
    (b"pass", "pass"),
    (b"pw", "pwd"),
    (b"secret", "secret"),
    (b"token", "token"),
    (b"auth", "auth"),
    (b"key", "key"),
)
"""The stems of names, each with its rule. The telling word of a name begins with a stem."""
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$"
_MORE = {b"pass": rb"(?>word|wd|phrase|code|)", b"pw": rb"(?>d|)", b"auth": rb"(?>orization|)"}
_STEM = re.compile(b"|".join(stem + _MORE.get(stem, b"") for stem, _ in STEMS))
_TAIL = rb"s?(?:[_.-]?(?:[0-9]{1,4}|prod|production|dev|staging|stage|test|live|base|value|raw|plain|old|new))?"
_STEM_TAIL = re.compile(b"(?:" + _STEM.pattern + b")" + _TAIL)
# After a name: what closes it, and what connects it to its value.
_LINK = re.compile(
    rb"""(?P<close>\\{0,63}["'`]|\*\*)?\]?(?:
      (?P<typed>(?:[ \t]{0,16}:[ \t]{0,16}[&*]?(?:'\w{1,16}[ \t])?[A-Za-z_][\w.|\[\] \t]{0,40}
        | [ \t]{1,4}(?:string|String|str|text)[ \t]{0,4})=[ \t]{0,16}(?=[bruf]?\\{0,63}["'`]))
    | (?:[ \t]\[(?:None|\*{4,32}[A-Za-z0-9]{0,8})\])?[ \t]{0,16}
      (?:=>|:=|<-|[!=]?={1,2}|\\{1,8}u003[dD]|%3[dD]|:)[ \t]{0,16}(?:\*\*[ \t]{0,16})?
    | (?P<element>>)
    | (?P<tag><\\{0,63}/(?:key|string|name)>(?:\s|\\{1,63}[nrt]){0,40}<(?:string|value)>)
    | (?P<part>(?:\r?\n|\\{1,63}(?:r\\{1,63})?n){2})
    | (?P<is>(?:[ \t]{1,4}(?:for|to|of|on|in)(?:[ \t]{1,4}[\w.'-]{1,24}){1,4}?)?
        [ \t]{1,16}(?:is|was)[ \t]{0,16}:?[ \t]{1,16})
    | (?P<comma>,[ \t]{0,16}(?=[bruf]?\\{0,63}["'`]))
    | (?P<call>\([ \t]{0,4}(?=[bruf]?\\{0,63}["'`]))
    | (?P<cell>[ \t]{1,16}\|[ \t]{1,16})
    | (?P<blank>[ \t]{1,16})
    )""",
    re.VERBOSE,
)
# A name followed by a character that `_LINK` may begin with. Most words with a stem in them are not.
_NAMES = {
    stem: re.compile(
        stem
        + _MORE.get(stem, b"")
        + _TAIL
        + rb"""(?=[ \t:=!<>\\"'`*\]%"""
        + (b"[(])" if stem in (b"pass", b"pw", b"auth") else b"])")
    )
    for stem, _ in STEMS
}
_OPEN = re.compile(rb"""[bBrRuUfFN@]{0,2}(\\{0,63})("{3}|'{3}|["'`])""")
_LINE_REACH = 200
"""How far back a line is looked at, to see whether a string is open."""
_AFTER_STRING = re.compile(rb"[ \t]{0,16}(?:[+;)\]}%&]|\.[ \t]{0,4}[$A-Za-z]|\Z|[\r\n]|\\[nr])")
_CONCATENATED = re.compile(rb"""\\{0,63}["'`][ \t]{0,8}(?:[+%&]|\.)[ \t]{0,8}[$A-Za-z(]""")
_BARE = re.compile(rb"""(?:[^\s"'`<\\]|\\(?![nrtbfu"'\\])){1,512}""")
_BARE_REST = re.compile(rb"""[^\s"'`<\\]*""")
_BARE_STOP = re.compile(rb"[,;&)}\]|>]")
_LINE_START = re.compile(
    rb"(?:\A|[\r\n]|\\[nr])[ \t]{0,16}(?:[+>-][ \t]{0,4}|export[ \t]+|set[ \t]+|ENV[ \t]+|ARG[ \t]+)?\Z"
)
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
    """.split()  # noqa: SIM905 - as above
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
_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
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


def _name_of(head: bytes, stem: bytes, *, closed: bool) -> _Name | None:
    """Return what a name says, judged by its telling word (*stem*) and the part before it; None if it says nothing."""
    words = _WORD_OF_NAME.findall(_text(head))
    last = words[-1].lower() if words else ""
    if last in ("no", "has", "is", "use", "with", "without", "needs", "require", "requires") and not (
        stem == b"pass" and head.lower().endswith(b"require")
    ):
        return None
    if stem == b"pw":
        return _PASSWORD if not head[-1:].isalpha() or head.lower().endswith(_PASS_HEADS) else None
    if stem.startswith((b"pass", b"pwd")):
        # "pass" alone is usually a verb, a test result, or a part of "bypass" or "compass".
        # GIT_ASKPASS is the name of a program.
        is_word = not head[-1:].isalpha() or head.isupper() or head.lower().endswith(_PASS_HEADS)
        is_word = is_word and not last.endswith("ask")
        return _PASSWORD if stem != b"pass" or (is_word and (last or closed)) else None
    if stem == b"secret":
        return _SURE_SECRET if last in _SURE_HEADS or (last and _is_loud(head)) else _SOME_SECRET
    if stem == b"token":
        if last in _OTHER_TOKENS or [word.lower() for word in words[-2:]] == ["public", "key"]:
            # The "public key token" of an assembly in .NET is a part of its name.
            return None
        return _SURE_TOKEN if last in _SURE_HEADS or (last and _is_loud(head)) else _SOME_TOKEN
    if stem == b"key":
        if last.endswith(_KEY_HEADS):
            return _SURE_KEY
        return _SOME_KEY if last and _is_loud(head) and last not in _OTHER_KEYS else None
    if stem == b"authorization":
        return _AUTHORIZATION
    if last == "master":
        return _PASSWORD
    return _SOME_AUTH


def _is_loud(name: bytes) -> bool:
    """Whether a name is written like an environment variable."""
    return name.isupper() and b"." not in name and b"-" not in name


def _head(data: bytes, at: int) -> bytes:
    """Return the part of a name before *at*."""
    window = data[max(0, at - _NAME_REACH) : at]
    kept = len(window.rstrip(_NAME_BYTES))
    # `\n` before a name is a line end in JSON and not a part of the name.
    if kept and window[kept - 1 : kept] == b"\\" and window[kept : kept + 1] in (b"n", b"r", b"t"):
        kept += 1
    return window[kept:]


def _by_name(data: bytes, lower: bytes, stem: bytes, at: int) -> Iterator[_Found]:
    name = _NAMES[stem].search(lower, at)
    while name is not None:
        at = name.start()
        found = _behind_name(data, lower, at)
        if found is not None:
            yield found
        name = name.re.search(lower, at + len(stem) if found is None else found.end)


def _bearers(data: bytes, lower: bytes) -> Iterator[_Found]:
    at = lower.find(b"bearer")
    while at >= 0:
        match = _BEARER.match(data, at)
        if match is not None and any(byte in b"0123456789" for byte in match[1][:64]) and not _is_sample(match[1]):
            yield _Found(match.start(1), match.end(1), "bearer-token", by_name=True)
        at = lower.find(b"bearer", at + 6 if match is None else match.end())


def _basics(data: bytes, lower: bytes) -> Iterator[_Found]:
    """Find `Basic ...` wherever it stands, if what follows is a user and a password in base64."""
    at = lower.find(b"basic ")
    while at >= 0:
        match = _BASIC.match(data, at)
        if match is not None and _is_user_info(match[1]):
            yield _Found(match.start(1), match.end(1), "authorization", by_name=True)
        at = lower.find(b"basic ", at + 6 if match is None else match.end())


def _is_user_info(encoded: bytes) -> bool:
    try:
        text = base64.b64decode(
            encoded + b"=" * (-len(encoded) % 4), b"-_" if b"-" in encoded or b"_" in encoded else None
        )
        user, colon, password = text.decode().partition(":")
    except ValueError:
        return False
    return bool(colon) and f"{user}{password}".isprintable() and not _is_placeholder(password)


def _behind_name(data: bytes, lower: bytes, at: int) -> _Found | None:
    stem = _STEM.match(lower, at)
    end = _STEM_TAIL.match(lower, at)
    assert stem is not None
    assert end is not None
    link = _LINK.match(data, end.end())
    if link is None or (stem[0] == b"token" and lower[stem.end() : stem.end() + 1] == b"s"):
        return None
    head = _head(data, at)
    name_start = at - len(head)
    if stem[0] == b"key" and not head and data[max(0, at - 1) : at] == b" ":
        # "API key: ..." in a sentence.
        head = _head(data, at - 1) + b"_"
    if data.endswith(_MARKER_START, 0, name_start) or _is_other(data, name_start, head, link):
        return None
    closed = _is_key(data, name_start, link) or (stem[0] == b"pass" and not head and _follows_user(data, lower, at))
    name = _name_of(head, stem[0], closed=closed)
    if name is None or _is_expanded(data, name_start, link):
        return None
    if name is _SOME_AUTH and (login := _LOGIN.match(data, end.end())) is not None:
        return _login(data, login, head)
    if link["close"] is not None and _VARIABLE.search(data, max(0, name_start - 32), name_start) is not None:
        return _default(data, link, name)
    spelled = data[name_start : end.end()]
    start = link.end()
    is_set = link["blank"] is not None and _is_set(data, spelled, name_start)
    if not is_set and not _leads(link, name, head, data, name_start):
        return None
    if name is _AUTHORIZATION:
        return _authorization(data, start)
    if link["part"] is not None:
        return _alone(data, start, name, "variable")
    following = _following(data, link)
    if following is not None:
        start = following.end()
    quote = _OPEN.match(data, start)
    if quote is not None:
        return _quoted(data, quote, name, link, name_start, is_set=is_set or following is not None)
    if following is not None and link["blank"] is None:
        return _alone(data, start, name, "variable" if following["block"] else "bare")
    return _bare(data, link, start, name, spelled, name_start, is_set=is_set)


def _following(data: bytes, link: re.Match[bytes]) -> re.Match[bytes] | None:
    """Match what stands before a value in the line after its name; None if it is not there."""
    if link["blank"] is not None:
        return _CONTINUED.match(data, link.end())
    if link["is"] is None and link["comma"] is None and link["element"] is None:
        return _NEXT_LINE.match(data, link.end())
    return None


# A value that stands in the line after its name: a block in YAML, or a string in parentheses.
_NEXT_LINE = re.compile(
    rb"(?P<block>[|>][0-9+-]{0,2}[ \t]{0,8})?\(?(?:\\{0,63}\r?\n|\\{1,63}(?:r\\{1,63})?n)(?:[ \t]{1,64}|\\{1,63}t)"
)
_CONTINUED = re.compile(rb"(?:\\{1,63}\r?\n|\\{2,63}(?:r\\{1,63})?n)[ \t]{0,64}")
_ALONE = re.compile(rb"""([^\s"'`<\\:{}\[\](),]{3,512})[ \t]*(?=[\r\n]|\\{1,63}[nr]|\\{0,63}["']|\Z)""")
_USER_BEFORE = re.compile(
    rb"""(?i)(?:user|login)(?:name)?\\{0,63}["']?[ \t]{0,4}[:=][ \t]{0,4}(?:\\{0,63}["'])?[^\s"'\\]{1,64}"""
    rb"""(?:[\s,"'/]|\\{1,63}[nrt"']){1,16}\Z"""
)
# What sets the variable or the setting that is named next.
_SETTER = re.compile(
    rb"""(?:(?:\b|(?<=\\[nrt]))(?:setx|setenv|ENV|set -[a-zA-Z]{1,3}(?:[ \t]+-[a-zA-Z]{1,3}){0,2}"""
    rb"""|(?:config|configure|secrets?) set"""
    rb"""|config:set)|(?i:requirepass))(?:[ \t]+--?[a-z-]{1,20}){0,3}[ \t]+(?:\\{0,63}["'])?[\w./:@-]{0,80}\Z"""
)
_UP_TO_NAME = rb"""[\w./:@$ \t\\"'-]*"""
SETTERS: Final = rb"(?:setx |setenv |ENV |set -|config[: ]set|configure set|secrets? set)" + _UP_TO_NAME
"""Matches commands that set the variable or the setting that is named next, up to its stem, in text and in JSON."""
_SETTER_HINT = re.compile(SETTERS + rb"\Z")
_SET_HINT = re.compile(rb"(?:set|ENV )" + _UP_TO_NAME + rb"\Z")
SETTINGS: Final = (b"requirepass", b"masterauth", b"bindpw", b"rootpw")
"""Names of settings whose value follows after a blank."""
_VARIABLE = re.compile(rb"""variable[ \t]{1,4}\\{0,63}["'][\w-]{0,24}\Z""")
_DEFAULT = re.compile(rb"""default[ \t]{0,32}=[ \t]{0,8}(?=\\{0,63}["'])""")
_DEFAULT_REACH = 512
# A user and a password as the arguments of a call, or as a pair.
_LOGIN = re.compile(
    rb"""[ \t]{0,4}[=:]?[ \t]{0,4}[(][ \t]{0,4}b?(\\{0,63}["'])[^\s"'\\]{1,64}\1[ \t]{0,4},"""
    rb"""[ \t]{0,4}b?(\\{0,63})(["'])"""
)
_LOGIN_HEADS = (b"", b"basic", b"digest", b"ntlm", b"proxy", b".", b"_")
_SET_HEADS = ("set", "with", "use", "new", "change", "update", "")


def _follows_user(data: bytes, lower: bytes, at: int) -> bool:
    start = max(0, at - _LINE_REACH)
    is_near = lower.find(b"user", start, at) >= 0 or lower.find(b"login", start, at) >= 0
    return is_near and _USER_BEFORE.search(data, start, at) is not None


def _is_set(data: bytes, spelled: bytes, start: int) -> bool:
    """Whether a value follows its name after a blank, because a command before the name says so."""
    if spelled.lower() in SETTINGS:
        return True
    before = data[max(0, start - _LINE_REACH) : start]
    return _follows_setter(before) and _SETTER.search(before) is not None


def _follows_setter(before: bytes) -> bool:
    """Whether *before* may end with a command that sets what is named next. This is faster than to search for it."""
    last = max(before.rfind(b"set"), before.rfind(b"ENV "))
    return last >= 0 and _SET_HINT.match(before, last) is not None


def _login(data: bytes, login: re.Match[bytes], head: bytes) -> _Found | None:
    if head and not head.lower().endswith(_LOGIN_HEADS[1:]):
        return None
    end = _closing(data, login.end(), len(login[2]), login[3])
    if end is None:
        return None
    value = _text(data[login.end() : end])
    if not _PASSWORD.hides(value, "quoted") or (not head and value.isalpha() and b"=" not in login[0][:8]):
        return None
    return _Found(login.end(), end, "password", by_name=True)


def _default(data: bytes, link: re.Match[bytes], name: _Name) -> _Found | None:
    """Find the default of a variable of Terraform, before the end of its block."""
    reach = data.find(b"}", link.end(), link.end() + _DEFAULT_REACH)
    default = _DEFAULT.search(data, link.end(), reach if reach >= 0 else link.end() + _DEFAULT_REACH)
    quote = _OPEN.match(data, default.end()) if default is not None else None
    if quote is None:
        return None
    end = _closing(data, quote.end(), len(quote[1]), quote[2])
    if end is None or not name.hides(_text(data[quote.end() : end]), "quoted"):
        return None
    return _Found(quote.end(), end, name.kind, by_name=True)


def _alone(data: bytes, start: int, name: _Name, form: _Form) -> _Found | None:
    """Find a value that is all of the line that begins at *start*."""
    value = _ALONE.match(data, start)
    if value is None or not name.hides(_text(value[1]), form):
        return None
    return _Found(value.start(1), value.end(1), name.kind, by_name=True)


def _is_key(data: bytes, start: int, link: re.Match[bytes]) -> bool:
    """Whether a name is the whole of a string that is an object's key, and not the last word of something longer."""
    quote = (link["close"] or b"")[-1:]
    return quote in (b'"', b"'") and data[max(0, start - 1) : start] == quote


def _is_other(data: bytes, start: int, head: bytes, link: re.Match[bytes]) -> bool:
    """Whether what looks like a name is a part of an address, a type, or a flag that says where a password is."""
    if data[start - 1 : start] == b":" and b"arn:" in data[max(0, start - _NAME_REACH) : start]:
        # As in `arn:aws:secretsmanager:...:secret:NAME`.
        return True
    if link["close"] is not None:
        # As in "AWS::IAM::AccessKey".
        return data.endswith(b"::", 0, start)
    # As in `openssl pkcs12 -password pass:...`.
    return head.endswith(b"-") and data.startswith(b"pass:", link.end())


def _is_expanded(data: bytes, start: int, link: re.Match[bytes]) -> bool:
    """Whether what looks like a name and its value is an expansion of the variable, or a choice between two strings."""
    if data[start : start + 4] == b"$PWD" and link["close"] is not None:
        # The current directory, as in `[[ "$PWD" == "/x" ]]`.
        return True
    if not data[link.end("close") if link["close"] else link.start() :][:32].lstrip(b" \t").startswith(b":"):
        return False
    if data[start : start + 1] == b"$" and link["close"] is None:
        # As in `-v "$PWD:/work"`.
        return data[link.start() : link.start() + 2] != b":="
    if data[max(0, start - 2) : start] == b"${":
        # What follows is said if the variable is missing, or used if it is not: ${PASSWORD:?not set}.
        return data[link.end() : link.end() + 1] in (b"?", b"+")
    # ok ? "PASS" : "FAIL"
    return link["close"] is not None and data[max(0, start - 32) : start].rstrip(b" \t\\\"'`").endswith(b"?")


def _ends_string(data: bytes, start: int, quote: re.Match[bytes]) -> bool:
    """Whether a quote after a name closes the string that the name is in: `"password=" + password`."""
    mark = quote[1] + quote[2]
    if len(quote[2]) > 1 or quote.start(1) != quote.start():
        return False
    if data.endswith(mark, 0, start):
        return True
    line = data[max(0, start - _LINE_REACH) : start]
    line = line[max(line.rfind(b"\n"), line.rfind(b"\\n")) + 1 :]
    if line.count(quote[2]) % 2 == 0:
        return False
    return quote[2] == b"`" or _AFTER_STRING.match(data, quote.end()) is not None


def _leads(link: re.Match[bytes], name: _Name, head: bytes, data: bytes, start: int) -> bool:
    """Whether *link* connects a name to a value, where this depends on the name."""
    if link["element"] is not None:
        return data[max(0, start - 1) : start] == b"<" and b"</" in data[link.end() : link.end() + _BARE_REACH]
    if link["is"] is not None and _PURPOSE.match(link["is"].replace(b"\t", b" ")) is not None:
        return (
            name is _PASSWORD
            and _PASSWORD_WORD.match(data[start + len(head) : start + len(head) + 16].lower()) is not None
        )
    if link["tag"] is not None:
        return data[max(0, start - 1) : start] == b">"
    if link["part"] is not None:
        return link["close"] is not None and data[max(0, start - 72) : start].rstrip(b"\\\"'").endswith(b"name=")
    if link["call"] is not None:
        words = _words(_text(head))
        return link["close"] is None and name is _PASSWORD and (words[-1] if words else "") in _SET_HEADS
    if link["cell"] is not None:
        return data[max(0, start - 8) : start].rstrip(b" \t`*").endswith(b"|")
    if link["comma"] is not None:
        # "pass" alone is an item of a list.
        is_item = name is _SOME_AUTH or (name is _PASSWORD and not head and _is_pass(data, start))
        return link["close"] is not None and not is_item
    if link["blank"] is not None:
        is_flag = head.startswith(b"-") and link["close"] is None
        quoted = _OPEN.match(data, link.end()) is not None
        in_netrc = name is _PASSWORD and _NETRC.search(data, max(0, start - _LINE_REACH), start) is not None
        return is_flag or in_netrc or (name is _PASSWORD and quoted and link["close"] is None)
    return True


# The login before a password in .netrc, on the same line or the line before.
_NETRC = re.compile(rb"(?:machine[ \t]|default)[\s\S]{1,120}?login[ \t]+[^\s\\]{1,80}(?:[ \t\r\n]|\\{1,63}[nrt])+\Z")


def _is_pass(data: bytes, start: int) -> bool:
    return data[start : start + 4].lower() == b"pass" and not data[start + 4 : start + 5].isalpha()


def _quoted(
    data: bytes, quote: re.Match[bytes], name: _Name, link: re.Match[bytes], name_start: int, *, is_set: bool
) -> _Found | None:
    start = quote.end()
    if link["close"] is None and not is_set and link["call"] is None and _ends_string(data, name_start, quote):
        return None
    if _CONCATENATED.match(data, start) is not None:
        # The string ends here, and code goes on: `"password='" + password`.
        return None
    if link["close"] is None and data[start : start + 1] in (b"", b")", b",", b";", b"]", b"\n"):
        # The end of a string: "Password: ".
        return None
    end = _closing(data, start, len(quote[1]), quote[2])
    if end is None:
        # No end in reach: the string was cut off, or it is not a string. A run without whitespace counts as one value.
        rest = _BARE_REST.match(data, start)
        assert rest is not None
        if rest.end() - start > _VALUE_REACH:
            return _Found(start, rest.end(), name.kind, by_name=True)
        line = data.find(b"\n", start, start + _VALUE_REACH)
        end = rest.end() if line >= 0 or len(data) > start + _VALUE_REACH else len(data)
    value = _text(data[start:end])
    if _joined_letters(data[name_start : link.start()]) == _joined_letters(data[start:end]):
        # A constant that says its own name.
        return None
    if is_set or (link["comma"] is not None and _SETS_MEMBER.search(data, max(0, name_start - 48), name_start)):
        hidden = name.hides(value, "quoted")
    elif link["comma"] is not None or link["blank"] is not None or link["call"] is not None:
        # A list of names or a sentence looks the same, so the stricter judgment for bare values applies.
        hidden = not value.isalpha() and name.hides(value, "bare", is_string=True) and not _is_listed(value, name)
    elif data[link.start() : link.end()].strip(b" \t").endswith(b"=="):
        # A comparison with a word is code.
        hidden = not value.isalpha() and name.hides(value, "bare", is_string=True)
    else:
        hidden = name.hides(value, "quoted")
    return _Found(start, end, name.kind, by_name=True) if hidden else None


def _is_listed(value: str, name: _Name) -> bool:
    """Whether a value after a comma or a blank is one of several names or texts, and no value of the one before."""
    if len(value.split()) > 1:
        return True
    return _LISTED.fullmatch(value) is not None if name is _PASSWORD else _TELLING.search(value) is not None


# A call that sets what is named next to what comes then: `setenv("DB_PASSWORD", "...")`.
_SETS_MEMBER = re.compile(
    rb"""(?i)(?:define|set_?\w{0,16}|putenv|put|append|header|fill|of)\((?:\\{0,63}["'])[#.]?\Z"""
)


def _joined_letters(name: bytes) -> bytes:
    return name.translate(None, b"_-. \"'\\").lower()


_LISTED = re.compile(r"(?i)(?:pass|password|passwd|pwd|secret|token|key)[_-]?\d{0,2}")


def _closing(data: bytes, start: int, escapes: int, quote: bytes) -> int | None:
    """Return the end of a string that *quote* after *escapes* backslashes opened; None if it is not in reach."""
    # In n levels of JSON, a closing quote has 2**n - 1 backslashes before it. A quote inside of the string has more.
    at, reach = start, start + _VALUE_REACH
    while (at := data.find(quote, at, reach)) >= 0:
        before = at - len(data[start:at].rstrip(b"\\")) - start
        if before % (2 * (escapes + 1)) == escapes or before < escapes:
            return at - before if before <= escapes else at - escapes
        at += len(quote)
    return None


def _bare(
    data: bytes, link: re.Match[bytes], at: int, name: _Name, spelled: bytes, start: int, *, is_set: bool
) -> _Found | None:
    if link["comma"] is not None or link["typed"] is not None or link["call"] is not None:
        return None
    run = _BARE.match(data, at)
    if run is None or run[0][:1] in (b"(", b"[", b"{"):
        return None
    connector = data[link.start() : link.end()]
    tight = connector in (b"=", b"\\u003d") or (connector.strip() == b":" and link["close"] is None)
    is_flag = connector == b"=" and spelled.startswith(b"--")
    form: _Form = "variable" if is_set or is_flag or (tight and _is_loud(spelled)) else "bare"
    whole_line = form == "variable" and _LINE_START.search(data, max(0, start - 40), start) is not None
    stop = None if whole_line else _BARE_STOP.search(data, run.start() + 1, run.end())
    if stop is None and run.end() - run.start() >= _BARE_REACH:
        rest = _BARE_REST.match(data, run.end())
        assert rest is not None
        return _Found(run.start(), rest.end(), name.kind, by_name=True)
    end = run.end() if stop is None else stop.start()
    if connector.strip() in (b"==", b"===", b"!=", b"!=="):
        return None
    if connector.startswith(b"= ") and run[0].endswith(b"="):
        # A list of names, as in `user= password= host=`.
        return None
    if form == "bare" and data[end : end + 1] in (b"(", b"["):
        return None
    value = data[run.start() : end]
    kept = value.rstrip(b".,;:")
    if link["cell"] is not None and data[end : end + 8].lstrip(b" \t")[:1] != b"|":
        return None
    if connector.strip() == b":" and (
        (
            kept.isalpha()
            and (kept.istitle() or (name is not _PASSWORD and kept[:1].isupper() and _is_wordy(_text(kept))))
        )
        or _TYPE.fullmatch(_text(kept)) is not None
    ):
        # This is a type.
        return None
    if connector == b":" and run[0].startswith(b"//"):
        # This is the scheme of a URL.
        return None
    if connector == b"=" and form == "bare" and data[max(0, start - 1) : start] in (b"?", b"&"):
        # The query of a URL.
        form = "variable" if name is _PASSWORD or not _is_wordy(_text(kept)) else form
    if name is _PASSWORD and connector == b"=" and kept.isalpha() and _is_own_line(data, start, end):
        # password=swordfish in a settings file. Arguments in code are not on a line of their own.
        form = "variable" if _TELLING.search(_text(kept)) is None else form
    if form == "bare" and name is _PASSWORD and kept.isalpha() and _is_argument(data, connector, start, run.end()):
        form = "variable"
    is_element = link["element"] is not None or link["tag"] is not None
    if not name.hides(_text(kept), "quoted" if is_element else form):
        return None
    return _Found(run.start(), end if whole_line else run.start() + len(kept), name.kind, by_name=True)


# What stands before `password=word` where it is an argument of a command or a part of a connection string.
_ARGUMENT_BEFORE = re.compile(
    rb"""(?:--?[\w-]{1,24}[ \t=]{1,2}(?:\\{0,63}["'])?|[^\s(,]=[^\s(,;]{1,64}[ \t,]"""
    rb"""|\b(?:put|create|set|login)[ \t][^\r\n]{1,64}[ \t]"""
    rb"""|[?&;]|:_)[\w.]{0,24}\Z"""
)
# Another flag names a user, so this is a command and not its description.
_USER_FLAG = re.compile(rb" -{1,2}(?:u|U|D|user|username|Username|docker-username)[ =]{1,2}[^\s-]")


def _is_argument(data: bytes, connector: bytes, start: int, end: int) -> bool:
    """Whether a word after the name of a password is an argument of a command, and not a variable in code."""
    if connector == b"=":
        after = data[end : end + 1]
        return (not after or after in b" \t\r\n\\\"'&") and (
            _ARGUMENT_BEFORE.search(data, max(0, start - _LINE_REACH), start) is not None
        )
    if connector.isspace():
        before = _NETRC.search(data, max(0, start - _LINE_REACH), start)
        return before is not None or _USER_FLAG.search(data, max(0, start - _LINE_REACH), start) is not None
    return False


def _is_own_line(data: bytes, start: int, end: int) -> bool:
    """Whether *start* to *end* is a whole line."""
    begins = start == 0 or data[start - 1 : start] in (b"\n", b"\r", b'"') or data.endswith((b"\\n", b"\\r"), 0, start)
    return begins and data[end : end + 1] in (b"", b"\n", b"\r", b"\\", b'"')


def _authorization(data: bytes, at: int) -> _Found | None:
    if data[at : at + 1] == b"[":
        at += 1
    quote = _OPEN.match(data, at)
    at = quote.end() if quote is not None else at
    scheme = _SCHEME.match(data, at)
    if scheme is not None:
        at = scheme.end()
    elif (other := _OTHER_SCHEME.match(data, at)) is not None and _mixed(other[1]) and not _is_wordy(_text(other[1])):
        at = other.start(1)
    is_line = scheme is not None and scheme[2] is not None
    value = (_LINE if is_line else _CREDENTIALS).match(data, at)
    if value is None:
        return None
    if value.end() - at >= _BARE_REACH:
        rest = (_LINE_REST if is_line else _CREDENTIALS_REST).match(data, value.end())
        assert rest is not None
        return _Found(at, rest.end(), "authorization", by_name=True)
    credentials = _text(value[0])
    if scheme is None:
        hidden = _AUTHORIZATION.hides(credentials, "bare")
    else:
        hidden = not _is_placeholder(credentials) and not _is_sample(value[0])
    return _Found(at, value.end(), "authorization", by_name=True) if hidden else None


# ---------------------------------------------------------------------- cookies

# A header, a flag, a key or a variable, and the name of the first cookie.
_COOKIE = re.compile(
    rb"""cookies?(?:\\{0,63}["'])?\]?(?: {0,4}(?:=>|[:=,]) {0,4}| {1,4})(?:\\{0,63}["'])?"""
    rb"(?=[!#$%&*+.^_|~0-9a-z-]{1,64}=)"
)
_CURL_COOKIE = re.compile(rb"""-b[ =]?(?:\\{0,63}["'])?(?=[!#$%&*+.^_|~0-9A-Za-z-]{1,64}=)""")
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


def _cookies(pattern: re.Pattern[bytes], data: bytes, folded: bytes, literal: bytes) -> Iterator[_Found]:
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
            if _is_session(_text(cookie[1]), cookie[2]):
                yield _Found(cookie.start(2), cookie.end(2), "cookie", by_name=True)
        at = folded.find(literal, at)


def _is_session(name: str, value: bytes) -> bool:
    text = _text(value[:_VALUE_REACH])
    if len(text) < _SHORTEST_SESSION or _is_placeholder(text) or _is_sample(value):
        return False
    if _SESSION.search(name) is None:
        return len(text) >= _SHORTEST_COOKIE and _mixed(value)
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


# ---------------------------------------------------------------------- pairs of a name and a value

_VALUE = re.compile(rb"""value(?:\\*["'])?(?: {0,4}[:=] {0,4}|>)""")
_PAIR_REACH = 160
_PAIR_NAME = re.compile(
    rb"""(?:\b|_|(?<=\\[nrt])|option|parameter|setting)(?:name|key|type)(?:\\{0,63}["'])? {0,4}[:=] {0,4}"""
    rb"""(?:\\{0,63}["'])?"""
    rb"""([A-Za-z0-9_.-]{3,64})(?=[\s"'\\,<>]|\Z)"""
)
_PAIR_BREAK = re.compile(rb"[{}\[]|value|(?:\r?\n|\\{1,63}n)[ \t]*(?:\r?\n|\\{1,63}n|-)")
_PAIR_VALUE = re.compile(rb"""[^\s"'`<\\,}\])]{1,512}""")
_PAIR_NAME_AFTER = re.compile(
    rb"""(?:\\{0,63}["'])?(?:[ \t\r\n,]|\\{1,63}[nrt]){1,16}(?:\\{0,63}["'])?(?:name|key)"""
    rb"""(?:\\{0,63}["'])? {0,4}[:=] {0,4}"""
    rb"""(?:\\{0,63}["'])?([A-Za-z0-9_.-]{3,64})(?=[\s"'\\,]|\Z)"""
)
_PAIR_STEMS = re.compile(b"|".join(stem for stem, _ in STEMS))


def _pairs(data: bytes, lower: bytes) -> Iterator[_Found]:
    """Find the values of pairs such as `name: DB_PASSWORD` and `value: ...`, in YAML, JSON and XML."""
    for match in _each(_VALUE, lower, b"value"):
        at = match.end()
        quote = _OPEN.match(data, at)
        if quote is not None:
            at, end = quote.end(), _closing(data, quote.end(), len(quote[1]), quote[2])
        else:
            bare = _PAIR_VALUE.match(data, at)
            end = None if bare is None else bare.end()
        if end is None:
            continue
        spelled = _paired_name(data, lower, match.start(), end)
        name = _name_of_key(_text(spelled)) if spelled is not None else None
        if name is None or spelled is None:
            continue
        if name is _AUTHORIZATION:
            found = _authorization(data, match.end())
            if found is not None:
                yield found
            continue
        form: _Form = (
            "quoted" if quote is not None else "variable" if name is _PASSWORD or _is_loud(spelled) else "bare"
        )
        value = _text(data[at:end])
        if name.hides(value, form) and (quote is not None or not _names_secret(value)):
            yield _Found(at, end, name.kind, by_name=True)


def _paired_name(data: bytes, lower: bytes, start: int, end: int) -> bytes | None:
    """Return the name that belongs to a value: it stands before it, with other members in between, or after it."""
    first = max(0, start - _PAIR_REACH)
    if (
        lower.rfind(b"name", first, start) >= 0
        or lower.rfind(b"key", first, start) >= 0
        or lower.rfind(b"type", first, start) >= 0
    ):
        names = [
            (said, span)
            for said in _PAIR_NAME.finditer(lower, first, start)
            if _PAIR_STEMS.search(lower, *(span := said.span(1))) is not None
        ]
        last = max((said.end() for said in _PAIR_NAME.finditer(lower, first, start)), default=0)
        if (
            names
            and (names[-1][0].end() == last or b"type" in names[-1][0][0])
            and _PAIR_BREAK.search(lower, names[-1][0].end(), start) is None
        ):
            return data[slice(*names[-1][1])]
    after = _PAIR_NAME_AFTER.match(lower, end)
    return data[slice(*after.span(1))] if after is not None else None


# The name of a pair, in small letters, in text and in JSON. One expression for all would be searched more slowly.
_PAIR_HINTS = tuple(
    re.compile(said + rb"""[\\"']*\s*[:=]\s*[\\"']*[a-z0-9_.-]*(?:""" + _PAIR_STEMS.pattern + b")")
    for said in (b"name", b"key", b"type")
)
_VALUE_HINT = re.compile(rb"""value[\\"' ]*[:=>]""")


def judging_keys(members: Mapping[str, object]) -> Iterator[str]:
    """Yield for each member of an object, in order, the key by which it is judged.

    It is the member's own, or what another member says: `{"name": "DB_PASSWORD", "value": ...}`.
    """
    if not any(key[-5:].lower() == "value" for key in members):
        yield from members
        return
    said: dict[str, str] = {}
    for key, value in members.items():
        part = _PAIR_KEY.fullmatch(key)
        if part is not None and part[2].lower() != "value" and isinstance(value, str) and is_telling(value):
            said.setdefault(part[1].lower(), value)
    for key in members:
        part = _PAIR_KEY.fullmatch(key) if said else None
        if part is None or part[2].lower() != "value":
            yield key
        else:
            yield said.get(part[1].lower()) or next(iter(said.values()))


_PAIR_KEY = re.compile(r"(parameter|option|setting|variable|)_?(name|key|value)", re.IGNORECASE)


# ---------------------------------------------------------------------- commands

# What divides commands: also a line end in JSON, unless a backslash before it continues the command.
# Each alternative begins with a literal, which makes the search fast.
_SEPARATOR = re.compile(
    rb"\n(?<!\\\n)|\r(?<!\\\r)|;|\||`|&&|\$\(|\\(?<!\\\\)(?:n|r(?![a-z])|\\[nr]|\\{3}[nr]|\\{7}[nr]|\\{15}[nr]|\\{31}[nr])"
)
_COMMAND_REACH = 512
"""How far back a command may begin, and how far on it is searched."""
_ARGUMENT = rb"""(?:\\{0,63}(?:"([^"\\\r\n]{1,256})|'([^'\\\r\n]{1,256}))|([^\s"'`\\|;]{1,256}))"""
_SPACE = rb"(?:[ \t=]|\\{1,63}[\r\n]{1,2}[ \t]{0,32}|\\{3,63}n[ \t]{0,32}){1,4}"
_MAYBE_SPACE = b"(?:" + _SPACE + b")?"
_USER = rb"""(?:\\{0,63}["'])?[^\s:"'\\]{1,64}"""
_NAMED_USER = re.compile(rb" (?:-u|-h|--user(?:name)?|--host|-U)\b|[ ]-u\w")
# A flag that may be that of a password, for some command. It begins with the rarer character, which makes the search
# fast.
_FLAG = re.compile(
    rb"-(?<= -)(?:[A-Za-z]{0,5}[pPawuUNkb]|-?(?:user|proxy-user|auth|creds|src-creds|dest-creds|pass|body|value"
    rb"|secret-string|from-literal|String|AsPlainText))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command that takes a password as an argument.

    Attributes:
        words: its names, or other words that it cannot be without.
        arguments: matches the flag and the password.
        sure: whether the argument is a password in any case. If not, a user or a host has to be named, too.
        needs: what else has to be in the command.
    """

    words: tuple[bytes, ...]
    arguments: re.Pattern[bytes]
    sure: bool = True
    needs: bytes = b""


def _command(words: bytes, flags: bytes, *, sure: bool = True, needs: bytes = b"") -> _Command:
    return _Command(
        words=tuple(words.split()), arguments=re.compile(b"[ \t]" + flags + _ARGUMENT), sure=sure, needs=needs
    )


_COMMANDS = (
    _command(
        b"""mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlsh mysqlpump mysqlslap mariadb mariadb-dump
        mariadb-admin mariadb-import mariadb-check""",
        rb"-p",
        sure=False,
    ),
    _command(
        b"mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop mongofiles login",
        rb"-p" + _MAYBE_SPACE,
        sure=False,
    ),
    _command(b"sshpass", rb"-p" + _MAYBE_SPACE),
    _command(b"--creds --src-creds --dest-creds", rb"--(?:src-|dest-)?creds" + _SPACE + _USER + b":"),
    _command(b"redis-cli", rb"(?:-a|--pass)" + _SPACE),
    _command(b"ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldappasswd ldapcompare", rb"-w" + _MAYBE_SPACE),
    _command(b"smbclient rpcclient", rb"-U" + _MAYBE_SPACE + rb"""(?:\\{0,63}["'])?[^\s%"'\\]{1,64}%"""),
    _command(b"curl", rb"(?:-[a-zA-Z]{0,5}[uU]|--(?:proxy-)?user)" + _MAYBE_SPACE + _USER + b":"),
    _command(b"sqlcmd", rb"-P" + _MAYBE_SPACE),
    _command(b"zip unzip ssh-keygen", rb"-P" + _SPACE),
    _command(b"ssh-keygen", rb"-N" + _SPACE),
    _command(b"openssl", rb"-k" + _SPACE, needs=b" enc"),
    _command(b"htpasswd", rb"-[A-Za-z]*b[A-Za-z]*(?:[ \t]+-\w+)*(?:[ \t]+[^\s-][^\s]{0,128}){1,2}[ \t]+"),
    _command(b"--from-literal", rb"--from-literal" + _SPACE + rb"""(?:\\{0,63}["'])?[\w.-]{1,64}=(?:\\{0,63}["'])?"""),
    _command(b"secret", rb"(?:-b|--body)" + _SPACE, needs=b"gh secret set"),
    _command(b"secretsmanager", rb"--secret-string" + _SPACE + rb"(?!\\{0,63}.?\{)"),
    _command(b"put-parameter", rb"--value" + _SPACE, needs=b"SecureString"),
    _command(b"keyvault", rb"--value" + _SPACE, needs=b"secret set"),
    _command(b"ConvertTo-SecureString", rb"(?<=SecureString.)(?:-String" + _SPACE + b")?(?!-)", needs=b"-AsPlainText"),
)
_BY_WORD: Final = {
    word: tuple(command for command in _COMMANDS if word in command.words)
    for command in _COMMANDS
    for word in command.words
}
READERS: Final = (
    *b"password-stdin with-token passphrase-fd passwd wrangler".split(),
    *(b"sudo -S", b"secret set", b"secret create"),
)
"""Literals that one of them is in each command that reads a password from its input."""
COMMANDS: Final = (
    *b"""
    mysql mariadb mongo sshpass redis-cli ldap openssl htpasswd from-literal put-parameter keyvault SecureString
    secretsmanager smbclient rpcclient keygen -creds sqlcmd
    """.split(),
    *(b"login ", b"http -a", b"https -a", b"zip -"),
)
"""Literals that one of them is in each command, other than curl, that takes a password."""
_DIVIDERS = bytes(code if chr(code).isalnum() or chr(code) in "_.:-" else ord(" ") for code in range(128)) + b" " * 128
_CONTROL = re.compile(rb"\\(?:u00[01][0-9a-f]|[tbfnr])")
_MAY_BE_ARGUMENT = re.compile(rb"""-(?<= -)(?:pass(?:in|out|wd|word)? [\\"']*pass:|a(?<=http -a)|a(?<=https -a))""")
_ADJACENT = 160
"""Bytes that what `_MAY_BE_ARGUMENT` matches may take, with the quotes of nested JSON, and more."""
_HTTP_ARGUMENT = re.compile(rb"(?:(?<=http)|(?<=https)) -a" + _SPACE + _USER + b":" + _ARGUMENT)
_PASS_ARGUMENT = re.compile(rb""" -pass(?:in|out|wd|word)? (?:\\{0,63}["'])?pass:""" + _ARGUMENT)
# Commands that read a password from their input: what is piped to them, or follows after `<<<`.
_READING_FLAG = rb"--?(?:password-stdin|with-token|passphrase-fd[ =]0)(?![\w-])"
_READING_COMMAND = (
    rb"(?:sudo -S|(?:sudo )?(?:npx )?(?:chpasswd|passwd|smbpasswd|wrangler (?:pages )?secret|gh secret set"
    rb"|(?:docker|podman) secret create))(?![\w./-])"
)
_READER = rb"(?:" + _READING_COMMAND + rb"|[^\r\n|;&<]{0,160}?[ \t]" + _READING_FLAG + b")"
_PIPED = re.compile(
    rb"(?:echo|printf|Write-Output)[ \t]+(?:-[neE]+[ \t]+)?(?:\\{0,63}[\"']%s(?:\\{1,63}n)?\\{0,63}[\"'][ \t]+)?"
    rb"(?P<quote>\\{0,63}[\"'])?"
    rb"(?P<value>(?(quote)[^\"'\r\n]{1,256}?|[^\s\"'|;&)]{1,256}))(?(quote)(?P=quote)|)[ \t]*(?:\\{1,63}\r?n?[ \t]*)?"
    rb"\|[ \t]*(?:\\{1,63}\n[ \t]*|\\{3,63}n[ \t]*)?(?P<reader>" + _READER + b")"
)
_READS = re.compile(
    rb"(?:(?:\A|(?<=[\s;|&`(\"'])|(?<=\\[nrt]))" + _READING_COMMAND + b"|" + _READING_FLAG + rb")[^\r\n|;&<]{0,160}\Z"
)
# An expression is searched faster than the same bytes if their first one is rare.
_HERE_HINT = re.compile(rb"<<")
_WRITER_HINTS = tuple(map(re.compile, (b"printf", b"echo", b"Write-Output")))
_HERE = re.compile(rb"<<<[ \t]{0,4}\$?" + _ARGUMENT)
_HERE_DOCUMENT = re.compile(
    rb"""<<-?[ \t]{0,4}(?:\\{0,63}["'])?(?P<end>\w{1,16})(?:\\{0,63}["'])?(?:\r?\n|\\{1,63}n)"""
    rb"""[ \t]{0,32}(?P<value>[^\r\n\\]{3,256})"""
    rb"""(?:\r?\n|\\{1,63}n)[ \t]{0,32}(?P=end)"""
)


def _commands(data: bytes) -> Iterator[_Found]:
    if (flag := _FLAG.search(data)) is not None:
        for start, end in _flagged(data, flag.start(), _COMMAND_REACH):
            if named := _BY_WORD.keys() & _command_words(data[start:end]):
                yield from _arguments_in(data, start, end, named)
        for match in _each(_PASS_ARGUMENT, data, b" -pass"):
            yield from _argument(match, "variable")
        for match in _each(_HTTP_ARGUMENT, data, b" -a"):
            yield from _argument(match, "variable")


def _is_fed(data: bytes) -> bool:
    """Whether a command may read a password from its input."""
    is_given = (b"<" in data and _HERE_HINT.search(data) is not None) or (b"|" in data and _holds_writer(data))
    return is_given and any(literal in data for literal in READERS)


def _fed(data: bytes) -> Iterator[_Found]:
    for piped in _each(_PIPED, data, b"echo", b"printf", b"Write-Output"):
        yield from _inputs(data, *piped.span("value"), piped["reader"])
    at = data.find(b"<<")
    while at >= 0:
        reader = _READS.search(data, max(0, at - _LINE_REACH), at)
        here = _HERE.match(data, at)
        document = _HERE_DOCUMENT.match(data, at) if here is None else None
        if reader is not None and here is not None and here.lastindex is not None:
            yield from _inputs(data, *here.span(here.lastindex), reader[0])
        elif reader is not None and document is not None:
            yield from _inputs(data, *document.span("value"), reader[0])
        at = data.find(b"<<", at + 3)


def _command_words(data: bytes) -> list[bytes]:
    """Return the words of a text, or of JSON, in which a control character is written as an escape."""
    return (_CONTROL.sub(b" ", data) if b"\\" in data else data).translate(_DIVIDERS).split()


def _flagged(data: bytes, at: int, reach: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each command with a flag, from *at* on, that may be that of a password."""
    end = 0
    while (flag := _FLAG.search(data, at)) is not None:
        start = max(end, flag.start() - reach)
        for separator in _SEPARATOR.finditer(data, start, flag.start()):
            start = separator.end()
        after = _SEPARATOR.search(data, flag.end(), flag.end() + reach)
        at = end = after.start() if after is not None else min(len(data), flag.end() + reach)
        yield start, end


def _inputs(data: bytes, start: int, end: int, reader: bytes) -> Iterator[_Found]:
    """Find the secret in what a command reads: all of it, or what follows the user's name."""
    if b"chpasswd" in reader:
        colon = data.find(b":", start, end)
        start = colon + 1 if colon >= 0 else start
    if _PASSWORD.hides(_text(data[start:end]), "variable"):
        yield _Found(start, end, "password", by_name=True)


def _arguments_in(data: bytes, start: int, end: int, named: set[bytes]) -> Iterator[_Found]:
    """Find passwords among the arguments of one command, by its telling words."""
    for word in named:
        for command in _BY_WORD[word]:
            if command.needs and data.find(command.needs, start, end) < 0:
                continue
            is_sure = command.sure or _NAMED_USER.search(data, start, end) is not None
            for match in command.arguments.finditer(data, max(0, start - 1), min(len(data), end + 64)):
                if match.start() < end:
                    yield from _argument(match, "variable" if is_sure else "bare")


def _argument(match: re.Match[bytes], form: _Form) -> Iterator[_Found]:
    group = match.lastindex
    assert group is not None
    value = match[group].rstrip(b".,)")
    is_flag = value.startswith(b"-") and match[0][-len(match[group]) - 1 :][:1] in b" \t"
    if not is_flag and _PASSWORD.hides(_text(value), form):
        yield _Found(match.start(group), match.start(group) + len(value), "password", by_name=True)


def _may_be_commands(data: bytes) -> bool:
    flag = _FLAG.search(data)
    if flag is None:
        return False
    # An escape takes more bytes than its character.
    reach = 6 * _COMMAND_REACH
    for start, end in _flagged(data, flag.start(), reach):
        # What is adjacent to a flag may be divided by the end of a reach.
        if _MAY_BE_ARGUMENT.search(data, max(0, start - _ADJACENT), end + _ADJACENT) is not None:
            return True
        if end - start > reach or not _BY_WORD.keys().isdisjoint(_command_words(data[start:end])):
            return _CURL_HINT.search(data) is not None or any(literal in data for literal in COMMANDS)
    return False


def _holds_writer(data: bytes) -> bool:
    return any(hint.search(data) is not None for hint in _WRITER_HINTS)


# ---------------------------------------------------------------------- Kubernetes

_MANIFEST = re.compile(rb"""kind\\{0,63}["']?[ \t]{0,4}:[ \t]{0,4}\\{0,63}["']?secret\\{0,63}["']?(?=\s|,|\\|\}|\Z)""")
_MANIFEST_REACH = 16 * 1024
_DOCUMENT = re.compile(rb"(?:\n|\\n)---")
_DATA = re.compile(
    rb"""(?:\A|[\n{,]|\\n)[ \t\\"']{0,72}(?:string)?data\\{0,63}["']?[ \t]{0,4}:[ \t]{0,4}"""
    rb"""(?:\{[\s\\n]{0,80}|\r?\n|\\{1,63}n)""",
    re.IGNORECASE,
)
_DATUM = re.compile(
    rb"""[ \t\\"']{1,72}[\w.-]{1,128}\\{0,63}["']?[ \t]{0,4}:[ \t]{1,4}(?:\\{0,63}["'])?([^\s"'\\{}|>,]{2,8192})"""
    rb"""(?:\\{0,63}["'])?[ \t]*(?:,[ \t]*)?(?:\r?\n|\\{1,63}n|(?=[\\"'}]|\Z)){0,4}"""
)


def _manifests(data: bytes, lower: bytes) -> Iterator[_Found]:
    """Find the values in manifests of Secrets. In `data` they are base64 and in `stringData` they are text."""
    end = 0
    for manifest in _each(_MANIFEST, lower, b"kind"):
        if manifest.start() < end:
            continue
        start = max(end, manifest.start() - _MANIFEST_REACH)
        for divider in _DOCUMENT.finditer(data, start, manifest.start()):
            start = divider.end()
        after = _DOCUMENT.search(data, manifest.end(), manifest.end() + _MANIFEST_REACH)
        end = after.start() if after is not None else min(len(data), manifest.end() + _MANIFEST_REACH)
        for block in _DATA.finditer(data, start, end):
            at = block.end()
            while (datum := _DATUM.match(data, at, end)) is not None:
                at = datum.end()
                if not _is_placeholder(_text(datum[1][:_VALUE_REACH])):
                    yield _Found(datum.start(1), datum.end(1), "secret", by_name=True)


# ---------------------------------------------------------------------- a value before its name

_SAID = re.compile(
    rb"pass(?:word|phrase|code)s?(?=[\s.,;:!?)\\\"']|\Z)(?! (?:hash|field|policy|manager|alg|type|of type))"
)
_SAYS = re.compile(
    rb"[ ](?:is|was|as)[ ](?:(?:my|our|the|your|a|his|her|their)[ ])?(?:[\w-]{1,20}[ ]){0,2}\Z", re.IGNORECASE
)
_SAID_BEFORE = re.compile(rb"""(?:\A|(?<=[\s("'`])|(?<=\\[nrt"]))([^\s"'`\\(]{6,64})["'`]?,?[ ]?\Z""")


def _said(data: bytes, lower: bytes) -> Iterator[_Found]:
    """Find passwords that stand before their name: `... is my password`."""
    for match in _each(_SAID, lower, b"pass"):
        says = _SAYS.search(data, max(0, match.start() - _NAME_REACH), match.start())
        if says is None:
            continue
        before = _SAID_BEFORE.search(data, max(0, says.start() - _NAME_REACH - 2), says.start())
        if before is not None and _PASSWORD.hides(_text(value := before[1].rstrip(b".,;:")), "bare"):
            yield _Found(before.start(1), before.start(1) + len(value), "password", by_name=True)


# ---------------------------------------------------------------------- JSON that is not decoded

# Literals are searched as expressions, because these look for their first byte, which is faster than `in`.
_STEM_HINTS = tuple((stem, rule, re.compile(stem)) for stem, rule in STEMS)
_SIGNED = re.compile(rb"sig(?:nature)?=")
_BLOCK_HINT = re.compile(rb"private key")
_SIGNATURE_HINT = re.compile(rb"sig")
_COOKIE_HINT = re.compile(rb"cookie")
_CURL_HINT = re.compile(rb"curl")
_BEARER_HINT = re.compile(rb"b(?:earer|asic )")
# The possible ends of a name, as in `_STEM_TAIL`. The order of alternatives cannot hide a longer end.
_LAST = (
    rb"(?>stag(?:ing|e)|s?(?:[_.-]?(?:"
    rb"[0-9]{1,4}|production|prod|dev|stag(?:ing|e)|test|live|base|value|raw|plain|old|new))?)"
)
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
PASSWORD_STEMS: Final = (b"pass", b"pw")
"""The stems of names of passwords."""


# What may stand before `pw` without `d`, beside what is no letter: an escape of JSON, or the end of a word that is
# written in one with it. Two letters are rare enough.
_BEFORE_PW = (rb"\\[bfnrt]", rb"u00[01][a-f]", *sorted({head[-2:] for head in _PASS_HEADS}))


def name_from(stem: bytes, *, looks_back: bool = True) -> bytes:
    """Return a pattern for a name from its stem to its end.

    Args:
        stem: one of `STEMS`.
        looks_back: whether the pattern may look at what stands before the stem. If not, it matches that, too.
    """
    if stem != b"pw":
        return stem + _MORE.get(stem, b"") + _LAST
    if looks_back:
        return rb"pw(?:d|(?<![a-z]pw)|" + b"|".join(b"(?<=%bpw)" % before for before in _BEFORE_PW) + b")" + _LAST
    return b"(?:pwd|(?:^|[^a-z]|" + b"|".join(_BEFORE_PW) + b")pw)" + _LAST


def _leading(stem: bytes) -> re.Pattern[bytes]:
    """Return a pattern that finds a stem where a value may follow."""
    leads = _PASSWORD_LEADS if stem in PASSWORD_STEMS else _LEADS
    if stem == b"auth":
        leads = leads.replace(b"[=!>", b"[(=!>", 1)
    return re.compile(name_from(stem) + leads, re.VERBOSE)


_MANIFEST_HINT = re.compile(rb"""kind[\\"']*\s*:\s*[\\"']*secret""")
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
    if "urls" in rules and _may_be_urls(data, escaped=escaped):
        return False
    lower = data.lower()
    if "signatures" in rules and b"=" in data and _SIGNED.search(lower) is not None:
        return False
    if _may_be_named(data, lower, rules):
        return False
    if "cookies" in rules and b"=" in data and _may_be_cookies(data, lower):
        return False
    if ("commands" in rules and _may_be_commands(data)) or ("inputs" in rules and _is_fed(data)):
        return False
    if "bearers" in rules and _BEARER_HINT.search(lower) is not None and _may_be_bearers(data, lower):
        return False
    if "tokens" not in rules or not (runs := _long_runs(data)):
        return True
    # An escape takes more bytes than its character.
    reach = _LITERAL_REACH * (6 if escaped else 2)
    return not (b"\\/" in data or (_hold_literals(data, runs, reach) and _may_be_tokens(data, runs, reach)))


def _may_be_named(data: bytes, lower: bytes, rules: Rules) -> bool:
    for stem, rule, hint in _STEM_HINTS:
        first = hint.search(lower) if rule in rules else None
        if first is None:
            continue
        if _may_lead(data, _LEADING[stem].search(lower, first.start())):
            return True
        if stem == b"pass" and _may_be_said(lower, first.start()):
            return True
        if stem == b"secret" and _MANIFEST_HINT.search(lower) is not None:
            return True
    if "blocks" in rules and _BLOCK_HINT.search(lower) is not None:
        return True
    return "pairs" in rules and _is_pair(lower)


def _is_pair(lower: bytes) -> bool:
    return _VALUE_HINT.search(lower) is not None and any(hint.search(lower) is not None for hint in _PAIR_HINTS)


def _may_be_bearers(data: bytes, lower: bytes) -> bool:
    return b"bearer" in lower or b"\\/" in data or _BASIC.search(data) is not None


def _may_be_cookies(data: bytes, lower: bytes) -> bool:
    return _COOKIE.search(lower) is not None or (
        _CURL_HINT.search(data) is not None and _CURL_COOKIE_HINT.search(data) is not None
    )


def _may_be_urls(data: bytes, *, escaped: bool) -> bool:
    if b"hooks" in data and (b"/webhooks" in data or b"hooks.slack.com" in data):
        return True
    if b"@" not in data:
        return False
    if b"\\/" in data or b":\\\\" in data:
        return True
    return b"://" in data and (escaped or any(_each(_USER_INFO, data, b"://")))


# Names, models and states are repeated in every event.
_is_clean_again = lru_cache(maxsize=1024)(_is_clean)


def hides_text(data: bytes) -> bool:
    r"""Whether JSON may spell letters as escapes: it has a `\u` escape that is not a control character's."""
    return b"\\u" in data and data.count(b"\\u") != data.count(b"\\u000") + data.count(b"\\u001")


def _may_lead(data: bytes, found: re.Match[bytes] | None) -> bool:
    while found is not None:
        at = found.start()
        if found["blank"] is None or b"-" in _head(data, at) or b"login " in data or _may_be_set(data, at):
            return True
        found = found.re.search(found.string, found.end())
    return False


_PASSWORD_WORD = re.compile(rb"pass(?:word|phrase|code)s?")
_PURPOSE = re.compile(rb" +(?:for|to|of|on|in) ")


def _may_be_said(lower: bytes, at: int) -> bool:
    for match in _PASSWORD_WORD.finditer(lower, at):
        if _PURPOSE.match(lower, match.end()) is not None:
            return True
        if _SAYS.search(lower, max(0, match.start() - _NAME_REACH), match.start()) is not None:
            return True
    return False


def _may_be_set(data: bytes, at: int) -> bool:
    before = data[max(0, at - 2 * _LINE_REACH) : at]
    setting = data[max(0, at - 7) : at + 4].lower()
    if any(name in setting for name in SETTINGS):
        return True
    return _follows_setter(before) and _SETTER_HINT.search(before) is not None


def _may_be_tokens(data: bytes, runs: list[tuple[int, int]], reach: int) -> bool:
    long = _with_margins(data, runs, reach)
    return any(
        literal in long and (token.breaks or any(_each(token.pattern, data, literal))) for literal, token in _LITERALS
    )


# ---------------------------------------------------------------------- all together


def _find(data: bytes, rules: Rules = ALL_RULES) -> list[_Found]:
    lower = data.lower()
    found: list[_Found] = []
    # Each search through a whole text counts, so what cannot be without a rarer literal or byte is searched after it.
    _find_named(data, lower, rules, found)
    if "urls" in rules and b"/" in data:
        found += _urls(data)
    if b"=" in data or (b"\\" in data and b"u003d" in lower):
        if "signatures" in rules and _SIGNATURE_HINT.search(lower) is not None:
            found += _signatures(data, lower)
        if "cookies" in rules and _COOKIE_HINT.search(lower) is not None:
            found += _cookies(_COOKIE, data, lower, b"cookie")
        if "cookies" in rules and _CURL_HINT.search(data) is not None:
            found += _cookies(_CURL_COOKIE, data, data, b"-b")
    if "commands" in rules:
        found += _commands(data)
    if "inputs" in rules and _is_fed(data):
        found += _fed(data)
    if "bearers" in rules and _BEARER_HINT.search(lower) is not None:
        found += _bearers(data, lower)
        found += _basics(data, lower)
    if "tokens" in rules and (runs := _long_runs(data)):
        found += _tokens(data, runs)
    if found and _MARKER_START in data:
        # What was scrubbed before stays as it is: a marker is not a value, and its kind is not a name.
        markers = [match.span() for match in _MARKER.finditer(data)]
        found = [place for place in found if not _overlaps(place, markers)]
    return found


def _find_named(data: bytes, lower: bytes, rules: Rules, found: list[_Found]) -> None:
    """Add what is by a name, and what cannot be without the stem of one."""
    for stem, rule, hint in _STEM_HINTS:
        if rule in rules and (first := hint.search(lower)) is not None:
            found += _by_name(data, lower, stem, first.start())
            if stem in _BESIDE:
                found += _BESIDE[stem](data, lower)
    if "blocks" in rules and _BLOCK_HINT.search(lower) is not None:
        found += _blocks(data)
    if "pairs" in rules and _VALUE_HINT.search(lower) is not None:
        found += _pairs(data, lower)


_BESIDE: Final[Mapping[bytes, Callable[[bytes, bytes], Iterator[_Found]]]] = {b"pass": _said, b"secret": _manifests}
"""What else can only be where the stem of a name is."""


def _overlaps(place: _Found, markers: list[tuple[int, int]]) -> bool:
    """Whether a place begins or ends within a marker. A secret with a form of its own may contain a whole marker."""
    last = bisect_right(markers, (place.end, 0)) - 1
    if last < 0 or markers[last][1] <= place.start:
        return False
    return (
        place.by_name
        or markers[last][1] > place.end
        or markers[bisect_right(markers, (place.start, 0)) - 1][1] > place.start
    )


def scrub(text: str, found: list[str] | None = None, rules: Rules = ALL_RULES) -> str:
    """Return *text* with every secret replaced by its marker; the same object if there is none.

    Scrubbing twice gives the same result as scrubbing once.

    Args:
        text: any text, including JSON.
        found: a list to add the kind of each secret to.
        rules: the rules that may begin in it. The others are already known not to.
    """
    if len(text) < _SHORTEST:
        return text
    scrubbed, kinds = _scrubbed_before(text) if len(text) <= _REPEATED else _scrubbed(text, rules)
    if found is not None:
        found += kinds
    return scrubbed


def _scrubbed(text: str, rules: Rules = ALL_RULES) -> tuple[str, tuple[str, ...]]:
    data = text.encode("utf-8", "surrogatepass")
    places = _find(data, rules)
    if not places:
        return text, ()
    kinds: list[str] = []
    # A marker ends the word that it is in. So what follows may be recognizable as a secret only now.
    for _ in range(_ROUNDS):
        data = _replaced(data, places, kinds)
        if not (places := _find(data)):
            break
    return data.decode("utf-8", "surrogatepass"), tuple(kinds)


_scrubbed_before = lru_cache(maxsize=1024)(_scrubbed)


def _replaced(data: bytes, places: list[_Found], kinds: list[str]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for start, end, kind in _joined(places):
        parts += (data[at:start], marker(kind).encode())
        at = end
        kinds.append(kind)
    parts.append(data[at:])
    return b"".join(parts)


def _joined(places: list[_Found]) -> Iterator[tuple[int, int, str]]:
    """Yield the places in order, overlapping ones as one, so that everything that any rule found is removed."""
    places.sort(key=lambda place: (place.start, place.end))
    group = places[:1]
    end = group[0].end
    for place in places[1:]:
        if place.start >= end:
            yield group[0].start, end, _kind(group)
            group = []
        group.append(place)
        end = max(end, place.end) if len(group) > 1 else place.end
    yield group[0].start, end, _kind(group)


def _kind(group: list[_Found]) -> str:
    return min(group, key=lambda place: (place.by_name, place.start)).kind


@lru_cache(maxsize=4096)
def _name_of_key(key: str) -> _Name | None:
    data = key.encode("utf-8", "replace")
    lower = data.lower()
    for literal, _ in STEMS:
        at = lower.rfind(literal)
        if at >= 0 and _STEM_TAIL.fullmatch(lower, at) is not None:
            stem = _STEM.match(lower, at)
            assert stem is not None
            if stem[0] != b"token" or lower[stem.end() : stem.end() + 1] != b"s":
                return _name_of(data[:at], stem[0], closed=True)
    return None


@lru_cache(maxsize=4096)
def is_telling(key: str) -> bool:
    """Whether the key of an object's member says that the member may be a secret, whatever the member looks like."""
    return len(key) <= _NAME_REACH and _name_of_key(key) is not None


def scrub_member(
    key: str,
    value: str | int,
    found: list[str] | None = None,
    scrub: Callable[[str, list[str] | None], str] = scrub,
) -> str | int:
    """Return the *value* of an object's member scrubbed; if *key* says that it is a secret, replaced as a whole.

    Args:
        key: the member's key.
        value: a string or a number.
        found: a list to add the kind of each secret to.
        scrub: the function that scrubs a text.
    """
    name = _name_of_key(key) if len(key) <= _NAME_REACH else None
    if isinstance(value, int):
        if name is not _PASSWORD or not name.hides(str(value), "quoted"):
            return value
    elif name is None:
        return scrub(value, found)
    elif name is _AUTHORIZATION:
        data = value.encode("utf-8", "surrogatepass")
        place = _authorization(data, 0)
        if place is None or place.end < len(data):
            return scrub(value, found)
        if found is not None:
            found.append(place.kind)
        return data[: place.start].decode() + marker(place.kind)
    else:
        kinds: list[str] = []
        scrubbed = scrub(value, kinds)
        is_run = len(value) > _VALUE_REACH and not any(map(str.isspace, value))
        is_known = len(kinds) == 1 and scrubbed == marker(kinds[0])
        if is_known or not (is_run or name.hides(value[:_VALUE_REACH], "quoted")):
            if found is not None:
                found += kinds
            return scrubbed
    if found is not None:
        found.append(name.kind)
    return marker(name.kind)
