"""Values that follow their name, in code, in settings and in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llma_core.redaction.authorization import authorization_at
from llma_core.redaction.names import (
    BEFORE_KEY,
    MORE,
    NAME_REACH,
    PASSWORD_STEMS,
    STEM,
    STEM_TAIL,
    STEMS,
    TAIL,
    head_before,
    is_loud,
    name_of,
)
from llma_core.redaction.places import MARKER_START, Found
from llma_core.redaction.quotes import LINE_REACH, OPENING, closing
from llma_core.redaction.setters import is_set_by_command
from llma_core.redaction.statements import PASSWORD_WORD, PURPOSE
from llma_core.redaction.values import (
    AUTHORIZATION,
    BARE_REACH,
    PASSWORD,
    SOME_AUTH,
    TELLING,
    VALUE_REACH,
    Form,
    Name,
    as_text,
    is_wordy,
    words_of,
)

__all__ = ["assignments_in"]

# A type that has digits in its name, such as Uint8Array.
_TYPE = re.compile(
    r"(?:[A-Z][A-Za-z]*\d{1,5}[A-Za-z]*(?:Array|String|Bytes|Buffer|Digest|Certificate|Type|Key|Hash|View)|[iuf]\d{1,3})\??"
)
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
        + (b"(?<=" + BEFORE_KEY + b"key)" if stem == b"key" else b"")
        + MORE.get(stem, b"")
        + TAIL
        + rb"""(?=[ \t:=!<>\\"'`*\]%"""
        + (b"[(])" if stem == b"auth" or stem in PASSWORD_STEMS else b"])")
    )
    for stem, _ in STEMS
}
_AFTER_STRING = re.compile(rb"[ \t]{0,16}(?:[+;)\]}%&]|\.[ \t]{0,4}[$A-Za-z]|\Z|[\r\n]|\\[nr])")
_CONCATENATED = re.compile(rb"""\\{0,63}["'`][ \t]{0,8}(?:[+%&]|\.)[ \t]{0,8}[$A-Za-z(]""")
_BARE = re.compile(rb"""(?:[^\s"'`<\\]|\\(?![nrtbfu"'\\])){1,512}""")
_BARE_REST = re.compile(rb"""[^\s"'`<\\]*""")
_BARE_STOP = re.compile(rb"[,;&)}\]|>]")
_LINE_START = re.compile(
    rb"(?:\A|[\r\n]|\\[nr])[ \t]{0,16}(?:[+>-][ \t]{0,4}|export[ \t]+|set[ \t]+|ENV[ \t]+|ARG[ \t]+)?\Z"
)


def assignments_in(data: bytes, lower: bytes, stem: bytes, at: int) -> Iterator[Found]:
    """Find the values that follow names of one *stem*, from *at* on."""
    name = _NAMES[stem].search(lower, at)
    while name is not None:
        at = name.start()
        found = _behind_name(data, lower, at)
        if found is not None:
            yield found
        name = name.re.search(lower, at + len(stem) if found is None else found.end)


def _behind_name(data: bytes, lower: bytes, at: int) -> Found | None:
    stem = STEM.match(lower, at)
    end = STEM_TAIL.match(lower, at)
    assert stem is not None
    assert end is not None
    link = _LINK.match(data, end.end())
    if link is None or (stem[0] == b"token" and lower[stem.end() : stem.end() + 1] == b"s"):
        return None
    head = head_before(data, at)
    name_start = at - len(head)
    if stem[0] == b"key" and not head and data[max(0, at - 1) : at] == b" ":
        # "API key: ..." in a sentence.
        head = head_before(data, at - 1) + b"_"
    if data.endswith(MARKER_START, 0, name_start) or _is_other(data, name_start, head, link):
        return None
    closed = _is_key(data, name_start, link) or (stem[0] == b"pass" and not head and _follows_user(data, lower, at))
    name = name_of(head, stem[0], closed=closed)
    if name is None or _is_expanded(data, name_start, link):
        return None
    if name is SOME_AUTH and (login := _LOGIN.match(data, end.end())) is not None:
        return _login(data, login, head)
    if link["close"] is not None and _VARIABLE.search(data, max(0, name_start - 32), name_start) is not None:
        return _default(data, link, name)
    spelled = data[name_start : end.end()]
    start = link.end()
    is_set = (
        link["blank"] is not None and data[start : start + 2] != b"--" and is_set_by_command(data, spelled, name_start)
    )
    if not is_set and not _leads(link, name, head, data, name_start):
        return None
    if name is AUTHORIZATION:
        return authorization_at(data, start)
    if link["part"] is not None:
        return _alone(data, start, name, "variable")
    following = _following(data, link)
    if following is not None:
        start = following.end()
    quote = OPENING.match(data, start)
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
    start = max(0, at - LINE_REACH)
    is_near = lower.find(b"user", start, at) >= 0 or lower.find(b"login", start, at) >= 0
    return is_near and _USER_BEFORE.search(data, start, at) is not None


def _login(data: bytes, login: re.Match[bytes], head: bytes) -> Found | None:
    if head and not head.lower().endswith(_LOGIN_HEADS[1:]):
        return None
    end = closing(data, login.end(), len(login[2]), login[3])
    if end is None:
        return None
    value = as_text(data[login.end() : end])
    if not PASSWORD.hides(value, "quoted") or (not head and value.isalpha() and b"=" not in login[0][:8]):
        return None
    return Found(login.end(), end, "password", by_name=True)


def _default(data: bytes, link: re.Match[bytes], name: Name) -> Found | None:
    """Find the default of a variable of Terraform, before the end of its block."""
    reach = data.find(b"}", link.end(), link.end() + _DEFAULT_REACH)
    default = _DEFAULT.search(data, link.end(), reach if reach >= 0 else link.end() + _DEFAULT_REACH)
    quote = OPENING.match(data, default.end()) if default is not None else None
    if quote is None:
        return None
    end = closing(data, quote.end(), len(quote[1]), quote[2])
    if end is None or not name.hides(as_text(data[quote.end() : end]), "quoted"):
        return None
    return Found(quote.end(), end, name.kind, by_name=True)


def _alone(data: bytes, start: int, name: Name, form: Form) -> Found | None:
    """Find a value that is all of the line that begins at *start*."""
    value = _ALONE.match(data, start)
    if value is None or not name.hides(as_text(value[1]), form):
        return None
    return Found(value.start(1), value.end(1), name.kind, by_name=True)


def _is_key(data: bytes, start: int, link: re.Match[bytes]) -> bool:
    """Whether a name is the whole of a string that is an object's key, and not the last word of something longer."""
    quote = (link["close"] or b"")[-1:]
    return quote in (b'"', b"'") and data[max(0, start - 1) : start] == quote


def _is_other(data: bytes, start: int, head: bytes, link: re.Match[bytes]) -> bool:
    """Whether what looks like a name is a part of an address, a type, or a flag that says where a password is."""
    if data[start - 1 : start] == b":" and b"arn:" in data[max(0, start - NAME_REACH) : start]:
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
    line = data[max(0, start - LINE_REACH) : start]
    line = line[max(line.rfind(b"\n"), line.rfind(b"\\n")) + 1 :]
    if line.count(quote[2]) % 2 == 0:
        return False
    return quote[2] == b"`" or _AFTER_STRING.match(data, quote.end()) is not None


def _leads(link: re.Match[bytes], name: Name, head: bytes, data: bytes, start: int) -> bool:
    """Whether *link* connects a name to a value, where this depends on the name."""
    if link["element"] is not None:
        return data[max(0, start - 1) : start] == b"<" and b"</" in data[link.end() : link.end() + BARE_REACH]
    if link["is"] is not None and PURPOSE.match(link["is"].replace(b"\t", b" ")) is not None:
        return (
            name is PASSWORD
            and PASSWORD_WORD.match(data[start + len(head) : start + len(head) + 16].lower()) is not None
        )
    if link["tag"] is not None:
        return data[max(0, start - 1) : start] == b">"
    if link["part"] is not None:
        return link["close"] is not None and data[max(0, start - 72) : start].rstrip(b"\\\"'").endswith(b"name=")
    if link["call"] is not None:
        words = words_of(as_text(head))
        return link["close"] is None and name is PASSWORD and (words[-1] if words else "") in _SET_HEADS
    if link["cell"] is not None:
        return data[max(0, start - 8) : start].rstrip(b" \t`*").endswith(b"|")
    if link["comma"] is not None:
        # "pass" alone is an item of a list.
        is_item = name is SOME_AUTH or (name is PASSWORD and not head and _is_pass(data, start))
        return link["close"] is not None and not is_item
    if link["blank"] is not None:
        is_flag = head.startswith(b"-") and link["close"] is None
        quoted = OPENING.match(data, link.end()) is not None
        in_netrc = name is PASSWORD and _NETRC.search(data, max(0, start - LINE_REACH), start) is not None
        return is_flag or in_netrc or (name is PASSWORD and quoted and link["close"] is None)
    return True


# The login before a password in .netrc, on the same line or the line before.
_NETRC = re.compile(rb"(?:machine[ \t]|default)[\s\S]{1,120}?login[ \t]+[^\s\\]{1,80}(?:[ \t\r\n]|\\{1,63}[nrt])+\Z")


def _is_pass(data: bytes, start: int) -> bool:
    return data[start : start + 4].lower() == b"pass" and not data[start + 4 : start + 5].isalpha()


def _quoted(
    data: bytes, quote: re.Match[bytes], name: Name, link: re.Match[bytes], name_start: int, *, is_set: bool
) -> Found | None:
    start = quote.end()
    if link["close"] is None and not is_set and link["call"] is None and _ends_string(data, name_start, quote):
        return None
    if _CONCATENATED.match(data, start) is not None:
        # The string ends here, and code goes on: `"password='" + password`.
        return None
    if link["close"] is None and data[start : start + 1] in (b"", b")", b",", b";", b"]", b"\n"):
        # The end of a string: "Password: ".
        return None
    end = closing(data, start, len(quote[1]), quote[2])
    if end is None:
        # No end in reach: the string was cut off, or it is not a string. A run without whitespace counts as one value.
        rest = _BARE_REST.match(data, start)
        assert rest is not None
        if rest.end() - start > VALUE_REACH:
            return Found(start, rest.end(), name.kind, by_name=True)
        line = data.find(b"\n", start, start + VALUE_REACH)
        end = rest.end() if line >= 0 or len(data) > start + VALUE_REACH else len(data)
    value = as_text(data[start:end])
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
    return Found(start, end, name.kind, by_name=True) if hidden else None


def _is_listed(value: str, name: Name) -> bool:
    """Whether a value after a comma or a blank is one of several names or texts, and no value of the one before."""
    if len(value.split()) > 1:
        return True
    return _LISTED.fullmatch(value) is not None if name is PASSWORD else TELLING.search(value) is not None


# A call that sets what is named next to what comes then: `setenv("DB_PASSWORD", "...")`.
_SETS_MEMBER = re.compile(
    rb"""(?i)(?:define|set_?\w{0,16}|putenv|put|append|header|fill|of)\((?:\\{0,63}["'])[#.]?\Z"""
)


def _joined_letters(name: bytes) -> bytes:
    return name.translate(None, b"_-. \"'\\").lower()


_LISTED = re.compile(r"(?i)(?:pass|password|passwd|pwd|secret|token|key)[_-]?\d{0,2}")


def _bare(
    data: bytes, link: re.Match[bytes], at: int, name: Name, spelled: bytes, start: int, *, is_set: bool
) -> Found | None:
    if link["comma"] is not None or link["typed"] is not None or link["call"] is not None:
        return None
    run = _BARE.match(data, at)
    if run is None or run[0][:1] in (b"(", b"[", b"{"):
        return None
    connector = data[link.start() : link.end()]
    tight = connector in (b"=", b"\\u003d") or (connector.strip() == b":" and link["close"] is None)
    is_flag = connector == b"=" and spelled.startswith(b"--")
    form: Form = "variable" if is_set or is_flag or (tight and is_loud(spelled)) else "bare"
    whole_line = form == "variable" and _LINE_START.search(data, max(0, start - 40), start) is not None
    stop = None if whole_line else _BARE_STOP.search(data, run.start() + 1, run.end())
    if stop is None and run.end() - run.start() >= BARE_REACH:
        rest = _BARE_REST.match(data, run.end())
        assert rest is not None
        return Found(run.start(), rest.end(), name.kind, by_name=True)
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
            and (kept.istitle() or (name is not PASSWORD and kept[:1].isupper() and is_wordy(as_text(kept))))
        )
        or _TYPE.fullmatch(as_text(kept)) is not None
    ):
        # This is a type.
        return None
    if connector == b":" and run[0].startswith(b"//"):
        # This is the scheme of a URL.
        return None
    if connector == b"=" and form == "bare" and data[max(0, start - 1) : start] in (b"?", b"&"):
        # The query of a URL.
        form = "variable" if name is PASSWORD or not is_wordy(as_text(kept)) else form
    if name is PASSWORD and connector == b"=" and kept.isalpha() and _is_own_line(data, start, end):
        # password=swordfish in a settings file. Arguments in code are not on a line of their own.
        form = "variable" if TELLING.search(as_text(kept)) is None else form
    if form == "bare" and name is PASSWORD and kept.isalpha() and _is_argument(data, connector, start, run.end()):
        form = "variable"
    is_element = link["element"] is not None or link["tag"] is not None
    if not name.hides(as_text(kept), "quoted" if is_element else form):
        return None
    return Found(run.start(), end if whole_line else run.start() + len(kept), name.kind, by_name=True)


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
            _ARGUMENT_BEFORE.search(data, max(0, start - LINE_REACH), start) is not None
        )
    if connector.isspace():
        before = _NETRC.search(data, max(0, start - LINE_REACH), start)
        return before is not None or _USER_FLAG.search(data, max(0, start - LINE_REACH), start) is not None
    return False


def _is_own_line(data: bytes, start: int, end: int) -> bool:
    """Whether *start* to *end* is a whole line."""
    begins = start == 0 or data[start - 1 : start] in (b"\n", b"\r", b'"') or data.endswith((b"\\n", b"\\r"), 0, start)
    return begins and data[end : end + 1] in (b"", b"\n", b"\r", b"\\", b'"')
