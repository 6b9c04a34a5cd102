r"""Finds secrets in text and replaces each by `[REDACTED:kind]`: keys, tokens, private keys, passwords.

Theory of operation
===================

How a secret is recognized. Two things give a secret away:

    1. its own form, such as `ghp_...`, a private key block, or `user:password@` in a URL;
    2. the name before it, such as `DB_PASSWORD=...`, `"api_key": "..."`, `--token ...` or `Authorization: Bearer ...`,
       also where a place of its own names it: `name: DB_PASSWORD` beside `value: ...`, a session's cookie, a manifest
       of a Kubernetes Secret, the flag of a command that takes a password, such as `mysql -p...`, what is piped to a
       command that reads one, or the position in a command, such as `net user NAME ...`, in a call, such as
       `new PDO(dsn, user, '...')`, or in a line of .pgpass.

A name is weaker evidence than a form. In code, most of what follows `token` is a type, a variable or a count. So the
value after a name is judged (`values.Name.hides`). How the value is written counts, too: in quotes, in an environment
variable, or bare.

What is searched. A text is searched as it is, after JSON was decoded once. The text may contain more JSON, nested to
any depth. There, quotes have backslashes before them and line ends are written as `\n`. Every rule reads these forms,
too.

What it costs. A text without secrets must cost little, and no text may cost more than time proportional to its length.
This is how:

    - Text is searched as UTF-8 bytes. All patterns are ASCII, so no character is ever split.
    - Only searches for literals run over the whole text. Every token contains at least `tokens.LONG` word characters
      in a row. To find such runs, one pass translates each byte to "word" or "other"; then this is a literal search,
      too. Literals are searched as expressions, because these look for their first byte, which is faster than `in`.
      Where the first is a frequent letter, they begin at a rarer one and look back from there.
    - Regular expressions start only where a literal was found. Their repetitions are bounded, or they repeat one class
      of characters that what follows cannot match. If an expression can match far, the search continues after its
      match.
    - `is_clean` tells that JSON holds no secret without decoding it.
"""

from __future__ import annotations

from llma_core.redaction.calls import IDENTIFIED
from llma_core.redaction.commands import COMMANDS
from llma_core.redaction.inputs import READERS
from llma_core.redaction.names import BEFORE_KEY, PASSWORD_STEMS, STEMS, is_telling, name_from
from llma_core.redaction.pairs import judging_keys
from llma_core.redaction.places import marker
from llma_core.redaction.positions import ENTRY, POSITIONS
from llma_core.redaction.rules import ALL_RULES, Rule, Rules
from llma_core.redaction.scrubbing import scrub, scrub_member
from llma_core.redaction.setters import SETTERS, SETTINGS
from llma_core.redaction.suspicion import hides_text, is_clean
from llma_core.redaction.tokens import TOKENS

__all__ = [
    "ALL_RULES",
    "BEFORE_KEY",
    "COMMANDS",
    "ENTRY",
    "IDENTIFIED",
    "PASSWORD_STEMS",
    "POSITIONS",
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
