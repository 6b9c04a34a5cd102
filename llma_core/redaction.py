r"""Finds secrets in text and replaces each by `[REDACTED:kind]`: keys, tokens, private keys, passwords.

Theory of operation
===================

How a secret is recognized. Two things give a secret away:

    1. its own form, such as `ghp_...`, a private key block, or `user:password@` in a URL;
    2. the name before it, such as `DB_PASSWORD=...`, `"api_key": "..."`, `--token ...` or `Authorization: Bearer ...`,
       also where a place of its own names it: `name: DB_PASSWORD` before `value: ...`, a session's cookie, or the flag
       of a command that takes a password, such as `mysql -p...`.

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
    """Build a _Token; *free* is whether letters may come before it, because nothing else looks like it."""
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
    _token("aws-key-id", "AKIA ASIA", rb"[A-Z0-9]{16}[A-Za-z0-9]*"),
    _token("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rb"[A-Za-z0-9]{20,}", free=True),
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
    _token("stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_", rb"[A-Za-z0-9]{10,}", free=True),
    _token("stripe-webhook-secret", "whsec_", rb"[A-Za-z0-9+/]{16,}={0,2}", free=True),
    _token("npm-token", "npm_", rb"[A-Za-z0-9]{30,}", free=True),
    _token("pypi-token", "pypi-", rb"[A-Za-z0-9_-]{16,}", check=_mixed, free=True),
    _token("posthog-key", "phx_ phs_ pha_ phr_", rb"[A-Za-z0-9]{20,}"),
    _token("hugging-face-token", "hf_ api_org_", rb"[A-Za-z0-9]{20,}", check=_cased),
    _token("jwt", "eyJ", rb"[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,4}", breaks=True),
    _token("sendgrid-key", "SG.", rb"[A-Za-z0-9_-]{18,}\.[A-Za-z0-9_-]{16,}", breaks=True),
    _token("telegram-token", ":AA", rb"[A-Za-z0-9_-]{30,}", prefix=rb"(?<=[0-9]{8}):AA", free=True),
    _token("digitalocean-token", "_v1_", rb"[a-f0-9]{32,}[A-Za-z0-9]*", prefix=rb"(?<=do[opr])_v1_", free=True),
    _token("databricks-token", "dapi", rb"[a-f0-9]{32}[A-Za-z0-9]*"),
    _token("docker-token", "dckr_", rb"[A-Za-z0-9_-]{20,}", free=True),
    _token("vault-token", "hvs. hvb. hvr.", rb"[A-Za-z0-9_-]{20,}"),
    _token("linear-key", "lin_api_ lin_oauth_", rb"[A-Za-z0-9]{20,}", free=True),
    _token("notion-token", "ntn_", rb"[A-Za-z0-9]{30,}"),
    _token("atlassian-token", "ATATT3 ATCTT3", rb"[A-Za-z0-9_-]{20,}[=A-F0-9]{0,10}"),
    _token("shopify-token", "shpat_ shpca_ shppa_ shpss_", rb"[A-Fa-f0-9]{32,}[A-Za-z0-9]*", free=True),
    _token("sentry-token", "sntrys_ sntryu_", rb"[A-Za-z0-9_+/-]{20,}={0,2}", free=True),
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
    return any(_holds_literal(data[start:end]) for start, end in runs)


def _holds_literal(run: bytes) -> bool:
    return _search_again(run) if len(run) <= _REPEATED else _search(run)


def _search(run: bytes) -> bool:
    # This is much faster than one regular expression for all literals.
    for literal, _ in _LITERALS:  # noqa: SIM110 - a generator costs as much as the search
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
    rb"(?>\\{1,15}[nrt]|\\{1,15}u[0-9a-f]{4}|[0-9]{1,6}(?=[^A-Za-z0-9+/=])|\+(?![A-Za-z0-9+/])|[^A-Za-z0-9+/]){0,64}+"
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

_USER_INFO = re.compile(rb""":(?:\\{0,15}/){2}([^\s/:@"'<>\\?#]{0,256})(?::([^\s/"'`<>\\]{1,256}))?@""")
_WEBHOOK = re.compile(
    rb"(?:(?<=/web)hooks|hooks\.slack\.com(?:\\?/)+(?:services|workflows|triggers))(?:\\?/)+([A-Za-z0-9_/\\-]{20,})"
)
_SIGNATURE = re.compile(
    rb"(?:(?:(?<![A-Za-z0-9_])|(?<=u0026))sig|(?:(?<=X-Amz-)|(?<=X-Goog-)|(?<=[?&;])|(?<=u0026))Signature)(?:=|\\{1,8}u003d)"
    rb"([A-Za-z0-9%+/=_-]{20,})"
)
_CURL_USER = re.compile(rb"""(?:-u|--user)[ =]?(?:\\{0,15}["'])?([^\s:"'\\]{1,64}):([^\s"'\\]{1,256})""")


def _urls(data: bytes) -> Iterator[_Found]:
    for match in _each(_USER_INFO, data, b"://"):
        yield from _user_info(match)
    if b"\\/" in data:
        for match in _each(_USER_INFO, data, b":\\"):
            yield from _user_info(match)
    for match in _each(_WEBHOOK, data, b"hooks"):
        if not _is_sample(match[1].rpartition(b"/")[2]):
            yield _Found(match.start(1), match.end(1), "webhook")
    if b"curl" in data:
        yield from _cookies(_CURL_COOKIE, data, data, b"-b")
        for match in _each(_CURL_USER, data, b"-u", b"--user"):
            if _PASSWORD.hides(_text(match[2]), "bare"):
                yield _Found(match.start(2), match.end(2), "password", by_name=True)


def _user_info(match: re.Match[bytes]) -> Iterator[_Found]:
    user, password = match[1], match[2]
    if len(user) >= _LONG and _mixed(user):
        yield _Found(match.start(1), match.end(1), "url-token")
    if password is not None and not _is_placeholder(_text(password)):
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
    | your.{0,40} | my[_-]?(?:api[_-]?)?(?:password|passwd|secret|token|key)
    | \[.{0,60}\] | <.{0,60}> | \(.{0,60}\)
    """
)
# Types, states and kinds of credentials: words about secrets that are not secrets.
_WORDS = frozenset(
    """
    any array base64 bool boolean byte bytes char const custom date default disabled double empty enabled enum env
    environment error expired external false field file float header hidden inherit inline input int integer internal
    invalid json keychain keyring local manual missing nil no none not null number obj object off on oauth oauth1 oauth2
    openid optional option options pass passcode passphrase passwd password passwords pwd prompt query read readonly
    required saml secret secretref secrets secretstr sha1 sha256 sha512 md5 bcrypt scrypt argon2 hs256 rs256 es256 hmac
    self session str string text token tokens true type undefined unknown unset unsigned username user valid value
    varchar vault void wrong write yes api apikey api_key api-key basic bearer digest cookie jwt auth authorization
    credential credentials key keys access_token refresh_token client_secret secret_key access_key private_key
    """.split()  # noqa: SIM905 - words are read more easily than literals
)
# References to secrets: variables, templates, calls, paths, addresses.
_REFERENCE = re.compile(
    r"""(?x)
    \$[A-Za-z_{(\[]\w*(?:[})\]].{0,80})?\Z | \$\{ | \$\( | %[A-Za-z_]\w*%?\Z | %\(\w+\)s | \{\{? | <%?
    | (?:process\.env|os\.environ|os\.getenv|getenv|import\.meta|ENV\[|secrets\.|env\.|vars\.)
    | (?:config\.|settings\.|self\.|this\.)
    | (?:op|vault|env|file|https?|s3|gs|arn|ref|secretsmanager|ssm|keychain)\+?:
    | (?:~|\.{1,2})?/[\w@.-]+(?:/[\w@.-]+)+/?\Z | ~/ | \.{1,2}/ | [A-Za-z]:\\ | !(?:Ref|Sub|GetAtt|ENV|secret)\b
    | @@?[A-Za-z_]\w*\Z | \* | &[A-Za-z] | [A-Za-z_][A-Za-z_.]{0,80}(?:\(.*\)|\[.*\]|\{.*\})\Z | f["'] | phc_
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
_NAME_LIKE = re.compile(r"[A-Za-z_$][A-Za-z]*+\d{0,2}+(?:[._:/-]++[A-Za-z]*+\d{0,4}+)*+[!?;.,]?")
_DOTTED = re.compile(r"[A-Za-z_]\w{0,30}(?:\.[A-Za-z_]\w{0,30})+")
_NUMBER = re.compile(r"[+-]?[\d_.,:/%eE+-]+")
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
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:[.:/-]+[\w$]+)*")

_LONGEST_PLACEHOLDER = 100
_SHORTEST_NUMBER = 4
"""Fewest digits of a password that is a number. A shorter number is a count."""
_SHORTEST_RANDOM = 20
"""A value that does not look like a name is a secret from this length on, even without digits."""
_LONGEST_WORD = 24
"""A bare word of this many letters is not a variable. For a password, the limit is the next one."""
_LONGEST_PASSWORD_WORD = 16
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
        if joined or _DOTTED.fullmatch(value) is not None:
            return False
        if is_password:
            return digits or _SYMBOL.search(value) is not None
        return digits and (not named or self.kind == "secret")


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
    (b"pwd", "pwd"),
    (b"secret", "secret"),
    (b"token", "token"),
    (b"auth", "auth"),
    (b"key", "key"),
)
"""The stems of names, each with its rule. The telling word of a name begins with a stem."""
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$"
_MORE = {b"pass": rb"(?>word|wd|phrase|code|)", b"auth": rb"(?>orization|)"}
_STEM = re.compile(b"|".join(stem + _MORE.get(stem, b"") for stem, _ in STEMS))
_TAIL = rb"s?(?:[_.-]?(?:[0-9]{1,4}|prod|production|dev|staging|stage|test|live|base|value|raw|plain|old|new))?"
_STEM_TAIL = re.compile(b"(?:" + _STEM.pattern + b")" + _TAIL)
# After a name: what closes it, and what connects it to its value.
_LINK = re.compile(
    rb"""(?P<close>\\{0,15}["'`]|\*\*)?\]?(?:
      (?P<typed>[ \t]{0,16}:[ \t]{0,16}[A-Za-z_][\w.|\[\] \t]{0,40}=[ \t]{0,16}(?=[bruf]?\\{0,15}["'`]))
    | [ \t]{0,16}(?:=>|:=|[!=]?={1,2}|\\{1,8}u003[dD]|:)[ \t]{0,16}(?:\*\*[ \t]{0,16})?
    | (?P<element>>)
    | (?P<is>[ \t]{1,16}(?:is|was)[ \t]{0,16}:?[ \t]{1,16})
    | (?P<comma>,[ \t]{0,16}(?=[bruf]?\\{0,15}["'`]))
    | (?P<blank>[ \t]{1,16})
    )""",
    re.VERBOSE,
)
# A name followed by a character that `_LINK` may begin with. Most words with a stem in them are not.
_NAMES = {stem: re.compile(stem + _MORE.get(stem, b"") + _TAIL + rb"""(?=[ \t:=!>\\"'`*\]])""") for stem, _ in STEMS}
_OPEN = re.compile(rb"""[bruf]{0,2}(\\{0,15})("{3}|'{3}|["'`])""")
_LINE_REACH = 200
"""How far back a line is looked at, to see whether a string is open."""
_AFTER_STRING = re.compile(rb"[ \t]{0,16}(?:[+;)\]}%&]|\.[ \t]{0,4}[$A-Za-z]|\Z|[\r\n]|\\[nr])")
_CONCATENATED = re.compile(rb"""\\{0,15}["'`][ \t]{0,8}(?:[+%&]|\.)[ \t]{0,8}[$A-Za-z(]""")
_BARE = re.compile(rb"""(?:[^\s"'`<\\]|\\(?![nrtbfu"'\\])){1,512}""")
_BARE_REST = re.compile(rb"""[^\s"'`<\\]*""")
_BARE_STOP = re.compile(rb"[,;&)}\]|>]")
_LINE_START = re.compile(
    rb"(?:\A|[\r\n]|\\[nr])[ \t]{0,16}(?:[+>-][ \t]{0,4}|export[ \t]+|set[ \t]+|ENV[ \t]+|ARG[ \t]+)?\Z"
)
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
    cursor per max min num image audio each change lock action idempotency
    """.split()  # noqa: SIM905 - as above
)
_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_SCHEME = re.compile(
    rb"(?i)(?:(bearer|basic|token|apikey|api-key|bot|negotiate|sharedkey)|(digest|aws4-hmac-sha256|hawk|hmac))"
    rb"[ \t]{1,16}"
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
    if last in ("no", "has", "is", "use", "with", "without", "needs", "require", "requires"):
        return None
    if stem.startswith((b"pass", b"pwd")):
        # "pass" alone is usually a verb, a test result, or a part of "bypass" or "compass".
        # GIT_ASKPASS is the name of a program.
        is_word = (not head[-1:].isalpha() or head.isupper()) and not last.endswith("ask")
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
        return _SOME_KEY if last and _is_loud(head) and last not in ("public", "primary", "foreign", "cache") else None
    if stem == b"authorization":
        return _AUTHORIZATION
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


def _by_name(data: bytes, lower: bytes, rules: Rules) -> Iterator[_Found]:
    for literal, rule in STEMS:
        name = _NAMES[literal].search(lower) if rule in rules else None
        while name is not None:
            at = name.start()
            found = _behind_name(data, lower, at)
            if found is not None:
                yield found
            name = name.re.search(lower, at + len(literal) if found is None else found.end)


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
    if data.endswith(_MARKER_START, 0, name_start) or _is_in_arn(data, name_start):
        return None
    if link["close"] is not None and data.endswith(b"::", 0, name_start):
        # The name of a type: "AWS::IAM::AccessKey".
        return None
    name = _name_of(head, stem[0], closed=_is_key(data, name_start, link))
    if name is None or _is_expanded(data, name_start, link) or not _leads(link, name, head, data, name_start):
        return None
    if name is _AUTHORIZATION:
        return _authorization(data, link.end())
    quote = _OPEN.match(data, link.end())
    if quote is not None:
        return _quoted(data, quote, name, link, name_start)
    return _bare(data, link, name, data[name_start : end.end()], name_start)


def _is_key(data: bytes, start: int, link: re.Match[bytes]) -> bool:
    """Whether a name is the whole of a string that is an object's key, and not the last word of something longer."""
    quote = (link["close"] or b"")[-1:]
    return quote in (b'"', b"'") and data[max(0, start - 1) : start] == quote


def _is_in_arn(data: bytes, start: int) -> bool:
    """Whether what looks like a name is a part of an address: `arn:aws:secretsmanager:...:secret:NAME`."""
    return data[start - 1 : start] == b":" and b"arn:" in data[max(0, start - _NAME_REACH) : start]


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
    if link["comma"] is not None:
        # "pass" alone is an item of a list.
        return link["close"] is not None and (name is not _PASSWORD or bool(head) or not _is_pass(data, start))
    if link["blank"] is not None:
        is_flag = head.startswith(b"-") and link["close"] is None
        quoted = _OPEN.match(data, link.end()) is not None
        in_netrc = name is _PASSWORD and b"login " in data[max(0, start - 200) : start]
        return is_flag or in_netrc or (name is _PASSWORD and quoted and link["close"] is None)
    return True


def _is_pass(data: bytes, start: int) -> bool:
    return data[start : start + 4].lower() == b"pass" and not data[start + 4 : start + 5].isalpha()


def _quoted(data: bytes, quote: re.Match[bytes], name: _Name, link: re.Match[bytes], name_start: int) -> _Found | None:
    start = quote.end()
    if link["close"] is None and _ends_string(data, name_start, quote):
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
    if link["comma"] is not None or link["blank"] is not None:
        # A list of names or a sentence looks the same, so the stricter judgment for bare values applies.
        hidden = not value.isalpha() and name.hides(value, "bare", is_string=True)
    else:
        hidden = name.hides(value, "quoted")
    return _Found(start, end, name.kind, by_name=True) if hidden else None


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


def _bare(data: bytes, link: re.Match[bytes], name: _Name, spelled: bytes, start: int) -> _Found | None:
    if link["comma"] is not None or link["typed"] is not None:
        return None
    run = _BARE.match(data, link.end())
    if run is None or run[0][:1] in (b"(", b"[", b"{"):
        return None
    connector = data[link.start() : link.end()]
    tight = connector in (b"=", b"\\u003d") or (connector.strip() == b":" and link["close"] is None)
    is_flag = connector == b"=" and spelled.startswith(b"--")
    form: _Form = "variable" if is_flag or (tight and _is_loud(spelled)) else "bare"
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
    if connector.strip() == b":" and ((kept.isalpha() and kept.istitle()) or _TYPE.fullmatch(_text(kept)) is not None):
        # This is a type.
        return None
    if connector == b"=" and form == "bare" and data[max(0, start - 1) : start] in (b"?", b"&"):
        # The query of a URL.
        form = "variable"
    if name is _PASSWORD and connector == b"=" and kept.isalpha() and _is_own_line(data, start, end):
        # password=swordfish in a settings file. Arguments in code are not on a line of their own.
        form = "variable" if _TELLING.search(_text(kept)) is None else form
    if not name.hides(_text(kept), "quoted" if link["element"] is not None else form):
        return None
    return _Found(run.start(), end if whole_line else run.start() + len(kept), name.kind, by_name=True)


def _is_own_line(data: bytes, start: int, end: int) -> bool:
    """Whether *start* to *end* is a whole line."""
    begins = start == 0 or data[start - 1 : start] in (b"\n", b"\r", b'"') or data.endswith((b"\\n", b"\\r"), 0, start)
    return begins and data[end : end + 1] in (b"", b"\n", b"\r", b"\\", b'"')


def _authorization(data: bytes, at: int) -> _Found | None:
    quote = _OPEN.match(data, at)
    at = quote.end() if quote is not None else at
    scheme = _SCHEME.match(data, at)
    at = scheme.end() if scheme is not None else at
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
    rb"""cookies?(?:\\{0,15}["'])?\]?(?: {0,4}(?:=>|[:=,]) {0,4}| {1,4})(?:\\{0,15}["'])?"""
    rb"(?=[!#$%&*+.^_|~0-9a-z-]{1,64}=)"
)
_CURL_COOKIE = re.compile(rb"""-b[ =]?(?:\\{0,15}["'])?(?=[!#$%&*+.^_|~0-9A-Za-z-]{1,64}=)""")
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

_VALUE = re.compile(rb"""value(?:\\*["'])? {0,4}[:=] {0,4}""")
# What stands before `value`: the end of a name, and what divides members.
_PAIRED = re.compile(
    rb"(?:" + b"|".join(stem for stem, _ in STEMS) + rb""")[a-z0-9_.-]*[\\"']*(?:[ \t\r\n,]|\\+[nrt])+[\\"']*\Z"""
)
_PAIR_REACH = 160
_PAIR_NAME = re.compile(
    rb"""(?:\b|_)(?:name|key)(?:\\{0,15}["'])? {0,4}[:=] {0,4}(?:\\{0,15}["'])?([A-Za-z0-9_.-]{3,64})"""
    rb"""(?:\\{0,15}["'])?(?:[ \t\r\n,]|\\{1,15}[nrt])+(?:\\{0,15}["'])?\Z"""
)
_PAIR_VALUE = re.compile(rb"""[^\s"'`<\\,}\])]{1,512}""")


def _pairs(data: bytes, lower: bytes) -> Iterator[_Found]:
    """Find the values of pairs such as `name: DB_PASSWORD` and `value: ...`, in YAML, JSON and XML."""
    for match in _each(_VALUE, lower, b"value"):
        at = max(0, match.start() - _PAIR_REACH)
        if lower.rfind(b"name", at, match.start()) < 0 > lower.rfind(b"key", at, match.start()):
            continue
        said = _PAIR_NAME.search(data, at, match.start())
        name = _name_of_key(_text(said[1])) if said is not None else None
        if name is None:
            continue
        at = match.end()
        quote = _OPEN.match(data, at)
        if quote is not None:
            at, end = quote.end(), _closing(data, quote.end(), len(quote[1]), quote[2])
        else:
            bare = _PAIR_VALUE.match(data, at)
            end = None if bare is None else bare.end()
        if end is not None and name.hides(_text(data[at:end]), "variable" if quote is None else "quoted"):
            yield _Found(at, end, name.kind, by_name=True)


def _may_be_pairs(lower: bytes, reach: int) -> bool:
    return any(
        _PAIRED.search(lower, max(0, match.start() - reach), match.start()) is not None
        for match in _each(_VALUE, lower, b"value")
    )


def judging_keys(members: Mapping[str, object]) -> Iterator[str]:
    """Yield for each member of an object, in order, the key by which it is judged.

    It is the member's own, or what the member before it says: `{"name": "DB_PASSWORD", "value": ...}`.
    """
    said: object = None
    for key, value in members.items():
        yield said if key == "value" and isinstance(said, str) and is_telling(said) else key
        said = value if key in ("name", "key") else None


# ---------------------------------------------------------------------- commands

# A command to its end. A backslash before a line end continues it.
_COMMAND = re.compile(rb"(?:[^\r\n;|\\]|\\\r?\n|\\(?![nr])){0,1024}")
_ARGUMENT = rb"""(?:\\{0,15}["']([^"'\\\r\n]{1,256})|([^\s"'`\\]{1,256}))"""
_NAMED_USER = re.compile(rb" (?:-u|-h|--user|--host)\b|[ ]-u\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command that takes a password as an argument.

    Attributes:
        literal: what its name begins with.
        flag: what the flag begins with.
        pattern: matches the flag and the password.
        sure: whether the argument is a password in any case. If not, a user or a host has to be named, too.
    """

    literal: bytes
    flag: bytes
    pattern: re.Pattern[bytes]
    sure: bool = True


_COMMANDS = (
    _Command(literal=b"mysql", flag=b" -p", pattern=re.compile(rb" -p" + _ARGUMENT), sure=False),
    _Command(literal=b"mariadb", flag=b" -p", pattern=re.compile(rb" -p" + _ARGUMENT), sure=False),
    _Command(literal=b"mongo", flag=b" -p", pattern=re.compile(rb" -p ?" + _ARGUMENT), sure=False),
    _Command(literal=b"sshpass", flag=b" -p", pattern=re.compile(rb" -p ?" + _ARGUMENT)),
    _Command(literal=b"redis-cli", flag=b" -a", pattern=re.compile(rb" -a " + _ARGUMENT)),
    _Command(literal=b" login ", flag=b" -p", pattern=re.compile(rb" -p " + _ARGUMENT), sure=False),
    _Command(literal=b"ldap", flag=b" -w", pattern=re.compile(rb" -w ?" + _ARGUMENT)),
    _Command(literal=b"client ", flag=b" -U", pattern=re.compile(rb" -U ?(?:\\{0,15}[\"'])?[^\s%]{1,64}%" + _ARGUMENT)),
)
_COMMAND_FLAG = re.compile(rb" -[pawU]")
_MAY_BE_PASS = re.compile(rb""" -pass(?:in|out|wd)? [\\"']*pass:""")
_PASS_ARGUMENT = re.compile(rb""" -pass(?:in|out|wd)? (?:\\{0,15}["'])?pass:([^\s"'`\\]{1,256})""")


def _commands(data: bytes) -> Iterator[_Found]:
    for command in _COMMANDS:
        at = data.find(command.literal)
        while at >= 0:
            whole = _COMMAND.match(data, at)
            assert whole is not None
            yield from _arguments(command, data, at, whole.end())
            at = data.find(command.literal, max(whole.end(), at + 1))
    for match in _each(_PASS_ARGUMENT, data, b" -pass"):
        if _PASSWORD.hides(_text(match[1]), "variable"):
            yield _Found(match.start(1), match.end(1), "password", by_name=True)


def _arguments(command: _Command, data: bytes, start: int, end: int) -> Iterator[_Found]:
    names_user = command.sure or _NAMED_USER.search(data, start, end) is not None
    for match in command.pattern.finditer(data, start, end):
        group = match.lastindex
        assert group is not None
        value = match[group].rstrip(b".,)")
        is_flag = value.startswith(b"-") and match[0][-len(match[group]) - 1 :][:1] == b" "
        if not is_flag and _PASSWORD.hides(_text(value), "variable" if names_user else "bare"):
            yield _Found(match.start(group), match.start(group) + len(value), "password", by_name=True)


def _may_be_commands(data: bytes) -> bool:
    return _COMMAND_FLAG.search(data) is not None and (
        _MAY_BE_PASS.search(data) is not None
        or any(0 <= data.find(command.literal) < data.rfind(command.flag) for command in _COMMANDS)
    )


# ---------------------------------------------------------------------- JSON that is not decoded

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
    | [ ]+(?:[=:!\\"'`]|is|was|[bruf]{1,2}[\\"'`])
    | (?P<blank>[ ])
    )"""


def name_from(stem: bytes) -> bytes:
    """Return a pattern for a name from *stem*, one of `STEMS`, to its end."""
    return stem + _MORE.get(stem, b"") + _LAST


def _leading(stem: bytes) -> re.Pattern[bytes]:
    """Return a pattern that finds a stem where a value may follow."""
    leads = _LEADS.replace(b"[=!>", b'"\\s*:\\s*[-0-9] | [=!>') if stem in (b"pass", b"pwd") else _LEADS
    return re.compile(name_from(stem) + leads, re.VERBOSE)


_LEADING = tuple((stem, rule, _leading(stem)) for stem, rule in STEMS)


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
    return _is_clean_again(data) if len(data) <= _REPEATED_JSON else _is_clean(data, rules)


def _is_clean(data: bytes, rules: Rules = ALL_RULES) -> bool:
    escaped = b"\\u" in data
    if escaped and hides_text(data):
        return False
    if "urls" in rules and _may_be_urls(data, escaped=escaped):
        return False
    lower = data.lower()
    if "signatures" in rules and b"sig" in lower and (b"sig=" in lower or b"signature=" in lower):
        return False
    for stem, rule, leads in _LEADING:
        at = lower.find(stem) if rule in rules else -1
        if at >= 0 and _may_lead(data, leads.search(lower, at)):
            return False
    if "blocks" in rules and b"private key" in lower:
        return False
    if "cookies" in rules and b"cookie" in lower and _COOKIE.search(lower) is not None:
        return False
    # An escape takes more bytes than its character.
    if "pairs" in rules and b"value" in lower and _may_be_pairs(lower, 4 * _PAIR_REACH):
        return False
    if "commands" in rules and _may_be_commands(data):
        return False
    if "bearers" in rules and b"basic " in lower and (b"\\/" in data or _BASIC.search(data) is not None):
        return False
    if rules.isdisjoint(("tokens", "bearers")) or not (runs := _long_runs(data)):
        return True
    if "bearers" in rules and b"bearer" in lower:
        return False
    # An escape takes more bytes than its character.
    reach = _LITERAL_REACH * (6 if escaped else 2)
    return "tokens" not in rules or not (
        b"\\/" in data or (_hold_literals(data, runs, reach) and _may_be_tokens(data, runs, reach))
    )


def _may_be_urls(data: bytes, *, escaped: bool) -> bool:
    if b"hooks" in data and (b"/webhooks" in data or b"hooks.slack.com" in data):
        return True
    if b"curl" in data and (b"-u" in data or b"-b" in data):
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
        if found["blank"] is None or b"-" in _head(data, found.start()) or b"login " in data:
            return True
        found = found.re.search(found.string, found.end())
    return False


def _may_be_tokens(data: bytes, runs: list[tuple[int, int]], reach: int) -> bool:
    long = _with_margins(data, runs, reach)
    return any(
        literal in long and (token.breaks or any(_each(token.pattern, data, literal))) for literal, token in _LITERALS
    )


# ---------------------------------------------------------------------- all together


def _find(data: bytes, rules: Rules = ALL_RULES) -> list[_Found]:
    lower = data.lower()
    found = list(_by_name(data, lower, rules))
    if "urls" in rules:
        found += _urls(data)
    if "signatures" in rules:
        found += _signatures(data, lower)
    if "bearers" in rules and b"basic " in lower:
        found += _basics(data, lower)
    if "cookies" in rules and b"cookie" in lower:
        found += _cookies(_COOKIE, data, lower, b"cookie")
    if "pairs" in rules and b"value" in lower:
        found += _pairs(data, lower)
    if "commands" in rules and _may_be_commands(data):
        found += _commands(data)
    if not rules.isdisjoint(("tokens", "bearers")) and (runs := _long_runs(data)):
        if "tokens" in rules:
            found += _tokens(data, runs)
        if "bearers" in rules:
            found += _bearers(data, lower)
    if "blocks" in rules and b"PRIVATE KEY" in data:
        found += _blocks(data)
    if found and _MARKER_START in data:
        # What was scrubbed before stays as it is: a marker is not a value, and its kind is not a name.
        markers = [match.span() for match in _MARKER.finditer(data)]
        found = [place for place in found if not _overlaps(place, markers)]
    return found


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
