"""Coercion of what callers give: each function returns a value that the line format allows, or None."""

from __future__ import annotations

import decimal
import math
import numbers
import re
from typing import Any

__all__ = ["LONGEST_NAME", "MOST", "count", "flag", "member", "number", "text"]

LONGEST_NAME = 2000
"""The longest name, id or URL in a line, in characters. Content has no such limit."""

MOST = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


_DIGITS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")


def member(thing: object, name: str) -> Any:
    """Return a mapping's value or an object's attribute; None if it has none or the look-up fails."""
    try:
        if isinstance(thing, dict):
            return thing.get(name)
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 -- an attribute of the caller's object may run any code
        return None


def text(value: object, limit: int = LONGEST_NAME) -> str | None:
    """Return *value* as a string of at most *limit* characters; None if it is None, empty or cannot be shown."""
    if value is None:
        return None
    if type(value) is str:
        return value[:limit] or None
    try:
        shown = value if isinstance(value, str) else str(value)
        # A subclass may have methods of its own; this returns a plain string.
        return str.__getitem__(shown, slice(limit)) or None
    except Exception:  # noqa: BLE001 -- the caller's __str__ may raise anything
        return None


def number(value: object) -> float | int | None:
    """Return a finite, non-negative number; None for anything else.

    Decimals and numpy's numbers are numbers, and so is a text of digits, as in a header that a gateway adds.
    """
    if value is None or value is True or value is False:
        return None
    if type(value) is int:
        return value if 0 <= value <= MOST else None
    try:
        if isinstance(value, str):
            # `float` also reads `nan`, `1_0` and other people's digits.
            if _DIGITS.fullmatch(value) is None:
                return None
        # A mock can be turned into a number, and is none.
        elif not isinstance(value, (numbers.Real, decimal.Decimal)):
            return None
        found = float(value)
    except Exception:  # noqa: BLE001 -- the caller's __float__ may raise anything
        return None
    return found if math.isfinite(found) and 0 <= found <= MOST else None


def count(value: object) -> int | None:
    """Return a non-negative whole number; None for anything else."""
    found = number(value)
    return None if found is None or found != int(found) else int(found)


def flag(value: object) -> bool | None:
    """Return a boolean; None for anything else."""
    return True if value is True else False if value is False else None
