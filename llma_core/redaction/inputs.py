"""Commands that read a password from their input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llma_core.redaction.commands import ARGUMENT
from llma_core.redaction.places import Found, hint, matches_at
from llma_core.redaction.quotes import LINE_REACH
from llma_core.redaction.values import PASSWORD, as_text

__all__ = ["READERS", "inputs_in", "may_be_inputs"]

READERS: Final = (
    *b"password-stdin with-token passphrase-fd passwd wrangler".split(),
    *(b"sudo -S", b"secret set", b"secret create"),
)
"""Literals that one of them is in each command that reads a password from its input."""
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
_HERE_HINT = re.compile(rb"<<")
_WRITER_HINTS = (hint(b"printf"), hint(b"echo", b"cho"), hint(b"Write-Output"))
_HERE = re.compile(rb"<<<[ \t]{0,4}\$?" + ARGUMENT)
_HERE_DOCUMENT = re.compile(
    rb"""<<-?[ \t]{0,4}(?:\\{0,63}["'])?(?P<end>\w{1,16})(?:\\{0,63}["'])?(?:\r?\n|\\{1,63}n)"""
    rb"""[ \t]{0,32}(?P<value>[^\r\n\\]{3,256})"""
    rb"""(?:\r?\n|\\{1,63}n)[ \t]{0,32}(?P=end)"""
)


def may_be_inputs(data: bytes) -> bool:
    """Whether a command may read a password from its input."""
    is_given = (b"<" in data and _HERE_HINT.search(data) is not None) or (b"|" in data and _holds_writer(data))
    return is_given and any(literal in data for literal in READERS)


def inputs_in(data: bytes) -> Iterator[Found]:
    """Find passwords that are piped to a command, or follow after `<<`."""
    for piped in matches_at(_PIPED, data, b"echo", b"printf", b"Write-Output"):
        yield from _inputs(data, *piped.span("value"), piped["reader"])
    at = data.find(b"<<")
    while at >= 0:
        reader = _READS.search(data, max(0, at - LINE_REACH), at)
        here = _HERE.match(data, at)
        document = _HERE_DOCUMENT.match(data, at) if here is None else None
        if reader is not None and here is not None and here.lastindex is not None:
            yield from _inputs(data, *here.span(here.lastindex), reader[0])
        elif reader is not None and document is not None:
            yield from _inputs(data, *document.span("value"), reader[0])
        at = data.find(b"<<", at + 3)


def _inputs(data: bytes, start: int, end: int, reader: bytes) -> Iterator[Found]:
    """Find the secret in what a command reads: all of it, or what follows the user's name."""
    if b"chpasswd" in reader:
        colon = data.find(b":", start, end)
        start = colon + 1 if colon >= 0 else start
    if PASSWORD.hides(as_text(data[start:end]), "variable"):
        yield Found(start, end, "password", by_name=True)


def _holds_writer(data: bytes) -> bool:
    return any(hint.search(data) is not None for hint in _WRITER_HINTS)
