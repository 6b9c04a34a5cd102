"""Errors, as the line format writes them."""

from __future__ import annotations

import dataclasses
from typing import Union

from llma_recorder.values import member, text

__all__ = ["Failure", "GivenError", "read", "status"]

GivenError = Union[BaseException, str, "dict[str, object]", bool, None]
"""What a caller may give as an error: an exception, a message, a dict with type and message, or that there was one."""

_LONGEST_MESSAGE = 100_000
_STATUSES = ("http_status", "status_code", "status", "code")


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why something failed.

    Attributes:
        kind: the name of the error's class, or the provider's name for it.
        message: what it says.
        status: the HTTP status, from 100 to 599.
    """

    kind: str | None = None
    message: str | None = None
    status: int | None = None


def read(given: object, http_status: object = None) -> Failure | None:
    """Return the failure that *given* stands for; None if it stands for none.

    Args:
        given: an exception, a message, a dict or an object with `type` (or `code`) and `message`, or True.
        http_status: the HTTP status, if the caller knows it. One of 400 or more is a failure by itself.
    """
    if given is None and http_status is None:
        return None
    try:
        return _read(given, http_status)
    except Exception:  # noqa: BLE001 -- the caller's object may raise anything
        return Failure(type(given).__name__)


def _read(given: object, http_status: object) -> Failure | None:
    code = status(http_status)
    if given is None or given is False or (isinstance(given, str) and not given):
        return Failure(status=code) if code is not None and code >= 400 else None  # noqa: PLR2004 -- HTTP's own limit
    if given is True:
        return Failure(status=code)
    if isinstance(given, str):
        return Failure(message=text(given, _LONGEST_MESSAGE), status=code)
    if isinstance(given, BaseException):
        return Failure(type(given).__name__, text(given, _LONGEST_MESSAGE), code or _own_status(given))
    if isinstance(given, type):
        return Failure(given.__name__, status=code)
    inner = member(given, "error")
    if isinstance(inner, dict):
        given = inner
    kind = _word(member(given, "type")) or _word(member(given, "code")) or _word(member(given, "error_class"))
    message = member(given, "message")
    if not isinstance(message, str):
        message = text(given, _LONGEST_MESSAGE) if kind is None else None
    return Failure(kind, text(message, _LONGEST_MESSAGE), code or _own_status(given))


def _own_status(error: object) -> int | None:
    """Return the HTTP status that an SDK's error carries."""
    for thing in (error, member(error, "response")):
        for name in _STATUSES:
            code = status(member(thing, name))
            if code is not None:
                return code
    return None


def status(value: object) -> int | None:
    """Return an HTTP status, from 100 to 599; None for anything else."""
    try:
        if isinstance(value, str) and len(value) == 3:  # noqa: PLR2004 -- HTTP's own length
            value = int(value)
        is_status = isinstance(value, int) and 100 <= value <= 599  # noqa: PLR2004 -- HTTP's own limits
        return int(value) if is_status else None  # type: ignore[call-overload]  # it is an int
    except Exception:  # noqa: BLE001 -- the caller's object may raise anything
        return None


def _word(value: object) -> str | None:
    return text(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
