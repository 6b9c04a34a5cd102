"""What commands add to a session's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOTHING", "Added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What commands add to a session.

    Attributes:
        properties: what all its events say besides.
        trace: what its traces say besides.
        waits: whether its traces have to wait for a command's end.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = False


NOTHING = Added()
"""No command has anything to do with the session."""
