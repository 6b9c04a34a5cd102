"""The checks of `doctor`: each examines one thing the daemon needs, changes nothing, and says what to do.

Every module is one group of checks. Only `doctor` imports from here, and it may import every module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Level", "failure", "fine", "warning"]

Level = Literal["ok", "warning", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked, in a word or two.
        level: "ok"; "warning": it works, but perhaps not as you expect; "fail": it does not work.
        message: the result, in one line without content or keys.
        hint: what to do, in one line; empty if there is nothing to do.
        group: what it is about: `sending`, `machine`, `client` or `service`.
    """

    name: str
    level: Level
    message: str
    hint: str = ""
    group: str = ""


def fine(name: str, message: str) -> Finding:
    """Return a finding of something that works."""
    return Finding(name=name, level="ok", message=message)


def warning(name: str, message: str, hint: str) -> Finding:
    """Return a finding of something that works, but perhaps not as expected."""
    return Finding(name=name, level="warning", message=message, hint=hint)


def failure(name: str, message: str, hint: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(name=name, level="fail", message=message, hint=hint)
