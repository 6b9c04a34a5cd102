"""Commands that set the variable or the setting that is named next."""

from __future__ import annotations

import re
from typing import Final

from llma_core.redaction.quotes import LINE_REACH

__all__ = ["SETTERS", "SETTINGS", "is_set_by_command", "may_be_set"]

# What sets the variable or the setting that is named next.
_SETTER = re.compile(
    rb"""(?:(?:\b|(?<=\\[nrt]))(?:setx|setenv|ENV|set -[a-zA-Z]{1,3}(?:[ \t]+-[a-zA-Z]{1,3}){0,2}"""
    rb"""|(?:config|configure|secrets?) set"""
    rb"""|config:set)|(?i:requirepass))(?:[ \t]+--?[a-z-]{1,20}){0,3}[ \t]+(?:\\{0,63}["'])?[\w./:@-]{0,80}\Z"""
    rb"""|(?:mysqladmin|nmcli)[ \t][\w./:@$ \t"'-]{0,160}\Z"""
)
_UP_TO_NAME = rb"""[\w./:@$ \t\\"'-]*"""
SETTERS: Final = (
    rb"(?:setx |setenv |ENV |set -|config[: ]set|configure set|secrets? set|mysqladmin |nmcli )" + _UP_TO_NAME
)
"""Matches commands that set the variable or the setting that is named next, up to its stem, in text and in JSON."""
_SETTER_HINT = re.compile(SETTERS + rb"\Z")
_SET_HINT = re.compile(rb"(?:set|ENV |mysqladmin |nmcli )" + _UP_TO_NAME + rb"\Z")
SETTINGS: Final = (b"requirepass", b"masterauth", b"bindpw", b"rootpw", b"wpa-psk")
"""Names of settings whose value follows after a blank."""


def is_set_by_command(data: bytes, spelled: bytes, start: int) -> bool:
    """Whether a value follows its name after a blank, because a command before the name says so."""
    if spelled.lower() in SETTINGS:
        return True
    before = data[max(0, start - LINE_REACH) : start]
    return _follows_setter(before) and _SETTER.search(before) is not None


def _follows_setter(before: bytes) -> bool:
    """Whether *before* may end with a command that sets what is named next. This is faster than to search for it."""
    last = max(before.rfind(b"set"), before.rfind(b"ENV "), before.rfind(b"mysqladmin "), before.rfind(b"nmcli "))
    return last >= 0 and _SET_HINT.match(before, last) is not None


def may_be_set(data: bytes, at: int) -> bool:
    """Whether what is named at *at* in JSON may be set by a command, or be a setting of `SETTINGS`."""
    before = data[max(0, at - 2 * LINE_REACH) : at]
    setting = data[max(0, at - 7) : at + 4].lower()
    if any(name in setting for name in SETTINGS):
        return True
    return _follows_setter(before) and _SETTER_HINT.search(before) is not None
