"""Makes the uuids of events: the same log always gives the same uuids.

The scheme is that of PostHog's own plugin. So if both send an event for the same thing, the receiver's table keeps only
one (if the UTC day, the event name and the distinct id are the same).
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from llma_core.spans import TurnKey

__all__ = [
    "compaction",
    "failure",
    "generation",
    "session_trace",
    "tool_call",
    "turn_trace",
]

_NAMESPACE = hashlib.sha1(UUID("a3c3f6c2-9b8e-4a3e-b3a1-7e6b8e9a0f00").bytes, usedforsecurity=False)


def _uuid(*parts: str) -> str:
    """Return the UUIDv5 of *parts*, like `uuid.uuid5` but without creating several objects."""
    digest = _NAMESPACE.copy()
    digest.update("|".join(parts).encode())
    number = digest.hexdigest()
    variant = "89ab"[int(number[16], 16) & 3]
    return f"{number[:8]}-{number[8:12]}-5{number[13:16]}-{variant}{number[17:20]}-{number[20:32]}"


def generation(session: str, message: str) -> str:
    """Return the uuid of an API response's event."""
    return _uuid("cc-gen", session, message)


def tool_call(session: str, call: str, name: str, generation_ended: str) -> str:
    """Return the uuid of a tool call's event; *generation_ended* is the RFC 3339 time of its message's last line."""
    return _uuid("cc-span", session, call, name, generation_ended)


def failure(session: str, line: str) -> str:
    """Return the uuid of a failed attempt's event."""
    return _uuid("cc-error", session, line)


def compaction(session: str, line: str) -> str:
    """Return the uuid of a compaction's event."""
    return _uuid("cc-compaction", session, line)


def session_trace(session: str) -> str:
    """Return the uuid of a session's trace; it stays the same however often the session is resumed."""
    return _uuid("cc-trace-session", session)


def turn_trace(session: str, turn: TurnKey) -> str:
    """Return the uuid of a turn's trace."""
    return _uuid("cc-trace-msg" if turn.kind == "prompt" else "cc-trace-fallback", session, turn.id)
