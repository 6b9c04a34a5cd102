"""Values that a name gives away: which is a secret, and which is a placeholder, a reference or code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, assert_never

__all__ = [
    "AUTHORIZATION",
    "BARE_REACH",
    "PASSWORD",
    "SOME_AUTH",
    "SOME_KEY",
    "SOME_SECRET",
    "SOME_TOKEN",
    "SURE_KEY",
    "SURE_SECRET",
    "SURE_TOKEN",
    "TELLING",
    "VALUE_REACH",
    "WORD_OF_NAME",
    "Form",
    "Name",
    "as_text",
    "is_placeholder",
    "is_wordy",
    "names_secret",
    "words_of",
]

VALUE_REACH = 1024
"""Bytes within which a quoted value has to end. A longer run without whitespace after a name is a secret, unjudged."""
BARE_REACH = 512
"""The same for a value without quotes."""
Form = Literal["quoted", "variable", "bare"]
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
TELLING = re.compile(r"pass|pwd|secret|token|auth|cred|(?<![a-z])key|key(?![a-z])", re.IGNORECASE)
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


def as_text(value: bytes) -> str:
    """Decode a value. What is no UTF-8 is replaced."""
    return value.decode("utf-8", "replace")


def is_placeholder(value: str) -> bool:
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


def names_secret(value: str) -> bool:
    """Whether *value* is the name of a variable, a field or a header for a secret, and not a secret itself.

    A password may contain such a word (`Password123!`, `SecretGarden`) or its letters only (`Monkey-Business`).
    """
    if not _IDENTIFIER.fullmatch(value):
        return False
    loud = value.isupper() and "-" not in value
    words = words_of(value)
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
class Name:
    """What a name says about its value.

    Attributes:
        kind: the kind of secret, for the marker.
        sure: whether the value of such a name is almost always a secret.
        variable: fewest characters of a secret in a variable; see Form.
        quoted: fewest characters of a secret in quotes.
        bare: fewest characters of a bare secret.
    """

    kind: str
    sure: bool
    variable: int
    quoted: int
    bare: int

    def hides(self, value: str, form: Form, *, is_string: bool = False) -> bool:
        """Whether *value* is a secret. It must not be longer than a reach, to bound the time that this takes.

        Args:
            value: the value.
            form: how it is written, or is to be judged.
            is_string: whether it is in quotes all the same, so that it is no code.
        """
        value = value.strip()
        is_password = self.kind == "password"
        if is_placeholder(value) or (not is_password and value[0] in "[(^"):
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
        telling = names_secret(value)
        if self.kind == "password":
            # PASSWORD=DB_PASSWORD names another variable.
            return not (telling and joined and value.isupper())
        if named and (telling or _SECRET_WORDS.issuperset(words_of(value))):
            return False
        return self.sure or self.kind == "secret" or (not joined and (self.kind != "key" or (digits and not named)))

    def _hides_in_quotes(self, value: str) -> bool:
        named, joined, digits = _features(value)
        telling = names_secret(value)
        if self.kind == "password":
            is_label = value.istitle() and value.lower() in _LABELS
            return not is_label and not telling
        if self.kind != "secret" and is_wordy(value):
            return False
        if self.sure:
            return not (named and (telling or joined))
        if self.kind == "secret" and not joined and not telling:
            return value.isalpha() or digits or _SYMBOL.search(value) is not None
        return not named and (digits or len(value) >= _SHORTEST_RANDOM)

    def _hides_bare(self, value: str) -> bool:
        named, joined, digits = _features(value)
        telling = TELLING.search(value) is not None
        is_password = self.kind == "password"
        if value.isalpha():
            # A bare word is a variable, unless it is too long for one.
            longest = _LONGEST_PASSWORD_WORD if is_password else _LONGEST_WORD
            return len(value) >= longest and value.islower() and not telling
        if joined or _DOTTED.fullmatch(value) is not None or (not is_password and is_wordy(value)):
            return False
        if is_password:
            return digits or _SYMBOL.search(value) is not None
        return digits and (not named or self.kind == "secret")


def is_wordy(value: str) -> bool:
    """Whether *value* is an identifier of whole words, such as `resources`, `oAuth2Token` and `0001_initial`.

    In a random string, capitals and digits divide the letters into shorter pieces.
    """
    if _CODE_NAME.fullmatch(value) is None:
        return False
    words = WORD_OF_NAME.findall(_TECHNICAL.sub("_", value))
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


def words_of(value: str) -> list[str]:
    """Return the words of a name, in small letters."""
    return [word.lower() for word in WORD_OF_NAME.findall(value)]


PASSWORD = Name(kind="password", sure=True, variable=3, quoted=3, bare=6)
SURE_SECRET = Name(kind="secret", sure=True, variable=4, quoted=6, bare=6)
SOME_SECRET = Name(kind="secret", sure=False, variable=4, quoted=6, bare=6)
SURE_TOKEN = Name(kind="token", sure=True, variable=6, quoted=6, bare=8)
SOME_TOKEN = Name(kind="token", sure=False, variable=6, quoted=8, bare=12)
SURE_KEY = Name(kind="key", sure=True, variable=6, quoted=6, bare=8)
SOME_KEY = Name(kind="key", sure=False, variable=16, quoted=16, bare=16)
SOME_AUTH = Name(kind="authorization", sure=False, variable=8, quoted=8, bare=12)
# The name of a header, whose value has a form of its own.
AUTHORIZATION = Name(kind="authorization", sure=False, variable=8, quoted=8, bare=12)
WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
