"""What a caller says of whose its lines are: properties, groups, and whether content stays out."""

from __future__ import annotations

from typing import Any

from llma_recorder import values
from llma_recorder.encoding import plain

__all__ = ["groups", "is_on", "mapping"]


def is_on(value: object) -> bool:
    """Whether a switch is on. One that cannot be read is on, because it keeps content back."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 -- the caller's __bool__ may raise anything
        return True


def mapping(value: object) -> dict[str, Any]:
    """Return properties as a new dict; what is no mapping is the property `value`."""
    if value is None:
        return {}
    if type(value) is dict:
        return dict(value)
    found = plain(value)
    return found if isinstance(found, dict) else {"value": found}


def groups(value: object) -> dict[str, str] | None:
    """Return group keys by group type; None if there are none."""
    found = {kind: values.text(key) for kind, key in mapping(plain(value)).items()}
    return {kind: key for kind, key in found.items() if key is not None} or None
