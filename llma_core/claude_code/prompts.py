"""Tells user texts that a person typed from those that Claude Code wrapped, and makes trace names of them."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["TextKind", "classify", "command_line", "is_interrupt", "name", "notified_call", "without_notes"]

_LOOKED_AT = 20_000
"""Number of characters at the start of a text that are used for a name."""
_NAME_CHARACTERS = 1000
"""Longest name, in characters. The event's name is shorter, but it is cut only after secrets were scrubbed."""

TextKind = Literal["human", "command", "output", "notification", "interrupt", "note"]
"""The kinds of user texts.

`human`: typed, or sent through the SDK. `command`: a slash command or a bash command. `output`: what such a command
printed. `notification`: a background task or a teammate tells the model something. `interrupt`: Claude Code notes that
the user stopped it. `note`: the editor tells the model what the user looks at.
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
    ("<bash-notification>", "notification"),
    ("<teammate-message", "notification"),
    ("<system-reminder>", "output"),
    (_INTERRUPT, "interrupt"),
)
# Claude Code answers a mistyped command with a line of its own, as a user's text without a tag.
_UNKNOWN = re.compile(r"Unknown (?:skill|command|slash command): \S+(?: Did you mean \S+)?")
_LONGEST_REFUSAL = 500
# Only the tags that Claude Code writes are removed. A prompt about `a<b and c>d` keeps every character.
_MARKUP = re.compile(r"</?(?:pasted_content|system-reminder|ide_\w+|user-prompt-submit-hook)(?:\s[^<>]*)?>")

_NOTE = re.compile(r"<ide_(\w{1,40})(?:\s[^<>]{0,1000})?>(?:(?!</?ide_).)*+</ide_\1>\n?", re.DOTALL)
_ADDED = ("system-reminder", "user-prompt-submit-hook")
"""What Claude Code and hooks add before or behind what was typed. In the middle it is a part of what was typed."""


def classify(text: str) -> TextKind:
    """Return the kind of a user text, judged by how it starts."""
    start = text.lstrip()
    for prefix, kind in _WRAPPERS:
        if start.startswith(prefix):
            return kind
    return "output" if _UNKNOWN.fullmatch(start[:_LONGEST_REFUSAL].rstrip()) else "human"


def without_notes(text: str) -> str:
    """Return a user text without the notes of the editor, the client and hooks around what was typed.

    The editor's notes may also be all there is.
    """
    if "<ide_" in text:
        kept = _NOTE.sub("", text)
        text = text if kept == text else kept.strip()
    return _without_added(text) or text


def _without_added(text: str) -> str:
    """Return what stands between the additions at both ends of *text*. It takes linear time, whatever the prompt."""
    if not any(f"</{tag}>" in text for tag in _ADDED):
        return text
    start, end = 0, len(text)
    while (cut := _shorter(text, start, end)) != (start, end):
        start, end = cut
    return text if (start, end) == (0, len(text)) else text[start:end].strip()


def _shorter(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where a part of *text* starts and ends without the blanks and one addition at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    for tag in _ADDED:
        opening, closing = f"<{tag}>", f"</{tag}>"
        if text.startswith(opening, start, end) and (at := text.find(closing, start, end)) >= 0:
            return at + len(closing), end
        if text.endswith(closing, start, end) and (at := text.rfind(opening, start, end)) >= 0:
            return start, at
    return start, end


def is_interrupt(text: str) -> bool:
    """Whether *text* notes that a request was interrupted."""
    return text.lstrip().startswith(_INTERRUPT)


def command_line(text: str) -> str:
    """Return what the user typed for a wrapped command, such as `/greet world` or `!ls`; other texts as they are."""
    if classify(text) != "command":
        return text
    bash = _inside(text, "bash-input")
    if bash is not None:
        return "!" + bash
    command = _inside(text, "command-name")
    if command is None:
        return text
    return " ".join(part for part in (command, _inside(text, "command-args")) if part)


def notified_call(text: str) -> str | None:
    """Return the id of the call whose task a notification is about; None if it names none."""
    return _inside(text, "tool-use-id") or None


def _inside(text: str, tag: str) -> str | None:
    """Return the text inside the first *tag*; None if there is none. It takes linear time, whatever the prompt."""
    _, opened, rest = text.partition(f"<{tag}>")
    inside, closed, _ = rest.partition(f"</{tag}>")
    return inside.strip() if opened and closed else None


def name(text: str) -> str:
    """Return the beginning of *text*, on one line, as the name of a trace; "" if nothing is left."""
    cleaned = " ".join(_MARKUP.sub(" ", command_line(_beginning(text))).split())
    return cleaned[:_NAME_CHARACTERS].rstrip()


def _beginning(text: str) -> str:
    """Return as much of *text* as a name needs, without half a word at its end."""
    start = text[:_LOOKED_AT]
    if start == text or start[-1].isspace() or text[_LOOKED_AT].isspace():
        return start
    *_, last = start.rsplit(maxsplit=1)
    return start if len(last) > _NAME_CHARACTERS else start[: -len(last)]
