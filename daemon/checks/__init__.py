"""What the daemon needs, checked one by one: each check looks, changes nothing, and says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Level", "failure", "fine", "warning"]

Level = Literal["ok", "warning", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: what was checked, in a word or two.
        level: "ok"; "warning": it works, but not as one may think; "fail": it does not work.
        message: what was found, in one line without content and keys.
        hint: what to do, in one line; empty where there is nothing to do.
    """

    name: str
    level: Level
    message: str
    hint: str = ""


def fine(name: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(name=name, level="ok", message=message)


def warning(name: str, message: str, hint: str) -> Finding:
    """Return a finding of something that works otherwise than one may think."""
    return Finding(name=name, level="warning", message=message, hint=hint)


def failure(name: str, message: str, hint: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(name=name, level="fail", message=message, hint=hint)
