"""Which user text a person typed, which the client wrapped, and what a trace is called."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["TextKind", "classify", "command_line", "is_interrupt", "name"]

_LOOKED_AT = 20_000
"""Characters of a text that a name is made of."""
_NAME_CHARACTERS = 1000
"""Longest name, in characters. It leaves shorter, but is cut only then: what is looked for in it must be whole."""

TextKind = Literal["human", "command", "output", "notification", "interrupt"]
"""What a user text is.

`human`: typed, or sent through the SDK. `command`: a slash or bash command. `output`: what such a command printed.
`notification`: a background task tells the model about its end. `interrupt`: the mark the client leaves when the user
stops it.
"""

_INTERRUPT = "[Request interrupted"
_WRAPPERS: tuple[tuple[str, TextKind], ...] = (
    ("<command-name>", "command"),
    ("<command-message>", "command"),
    ("<bash-input>", "command"),
    ("<local-command-", "output"),
    ("<bash-stdout>", "output"),
    ("<bash-stderr>", "output"),
    ("<task-notification>", "notification"),
    ("<system-reminder>", "output"),
    (_INTERRUPT, "interrupt"),
)
# Only the wrappers this client writes are markup; a prompt about `a<b and c>d` keeps every character.
_MARKUP = re.compile(r"</?(?:pasted_content|system-reminder|ide_\w+|user-prompt-submit-hook)(?:\s[^<>]*)?>")


def classify(text: str) -> TextKind:
    """Say what a user text is by how it starts (session-format 7)."""
    start = text.lstrip()
    for prefix, kind in _WRAPPERS:
        if start.startswith(prefix):
            return kind
    return "human"


def is_interrupt(text: str) -> bool:
    """Whether *text* is the mark of an interrupted request."""
    return text.lstrip().startswith(_INTERRUPT)


def command_line(text: str) -> str:
    """Return what a user typed to get a wrapped command: `/greet world`, `!ls`; the text itself if it is none."""
    if classify(text) != "command":
        return text
    bash = _inside(text, "bash-input")
    if bash is not None:
        return "!" + bash
    command = _inside(text, "command-name")
    if command is None:
        return text
    return " ".join(part for part in (command, _inside(text, "command-args")) if part)


def _inside(text: str, tag: str) -> str | None:
    """Return what stands between the first *tag* and its end; in linear time, whatever a prompt holds."""
    _, opened, rest = text.partition(f"<{tag}>")
    inside, closed, _ = rest.partition(f"</{tag}>")
    return inside.strip() if opened and closed else None


def name(text: str) -> str:
    """Return *text* as the name of a trace: the beginning of its words on one line; "" if nothing is left."""
    cleaned = " ".join(_MARKUP.sub(" ", command_line(_beginning(text))).split())
    return cleaned[:_NAME_CHARACTERS].rstrip()


def _beginning(text: str) -> str:
    """Return as much of *text* as a name needs, without a half word at its end."""
    start = text[:_LOOKED_AT]
    if start == text or start[-1].isspace() or text[_LOOKED_AT].isspace():
        return start
    *_, last = start.rsplit(maxsplit=1)
    return start if len(last) > _NAME_CHARACTERS else start[: -len(last)]
