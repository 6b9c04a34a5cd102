"""Makes the uuids of events: the same log always gives the same uuids.

The scheme is that of PostHog's own plugin. So if both send an event for the same thing, the receiver's table keeps only
one (if the UTC day, the event name and the distinct id are the same). The framework's
*ids* are a part of each, so two kinds of logs never share a uuid.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from llma_core.spans import TurnKey

__all__ = [
    "compaction",
    "failure",
    "generation",
    "metric",
    "opaque",
    "opening_trace",
    "session_trace",
    "side_calls",
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


def generation(ids: str, session: str, message: str) -> str:
    """Return the uuid of an API response's event."""
    return _uuid(f"{ids}gen", session, message)


def tool_call(ids: str, session: str, call: str, name: str, generation_ended: str) -> str:
    """Return the uuid of a tool call's event; *generation_ended* is the RFC 3339 time of its message's last line."""
    return _uuid(f"{ids}span", session, call, name, generation_ended)


def failure(ids: str, session: str, line: str) -> str:
    """Return the uuid of a failed attempt's event."""
    return _uuid(f"{ids}error", session, line)


def compaction(ids: str, session: str, line: str) -> str:
    """Return the uuid of a compaction's event."""
    return _uuid(f"{ids}compaction", session, line)


def side_calls(ids: str, session: str, model: str, number: int) -> str:
    """Return the uuid of the event for what a session's ending *number* tells of calls that are not logged."""
    return _uuid(f"{ids}side", session, model, str(number))


def metric(ids: str, session: str, name: str, number: int) -> str:
    """Return the uuid of the event for a figure that a session's ending *number* tells of."""
    return _uuid(f"{ids}metric", session, name, str(number))


def opaque(text: str) -> str:
    """Return an id that stands for another one, and does not tell it."""
    return _uuid("opaque", text)


def session_trace(ids: str, session: str) -> str:
    """Return the uuid of a session's trace; it stays the same however often the session is resumed."""
    return _uuid(f"{ids}trace-session", session)


def opening_trace(ids: str, session: str) -> str:
    """Return the uuid of the trace that is sent when a session begins."""
    return _uuid(f"{ids}trace-open", session)


def turn_trace(ids: str, session: str, turn: TurnKey) -> str:
    """Return the uuid of a turn's trace."""
    return _uuid(f"{ids}trace-msg" if turn.kind == "prompt" else f"{ids}trace-fallback", session, turn.id)
