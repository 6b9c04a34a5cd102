"""The properties that commands under `exec` add to a session's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOTHING", "Added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The properties that commands add to one session.

    Attributes:
        properties: additional properties of all its events.
        trace: additional properties of its traces.
        waits: whether its traces have to wait until a command ends.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, Any] = field(default_factory=dict)
    waits: bool = False


NOTHING = Added()
"""The value for a session that belongs to no command."""
