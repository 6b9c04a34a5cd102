"""Pieces of messages for people: what the system says is wrong."""

from __future__ import annotations

__all__ = ["system_reason"]


def system_reason(error: OSError) -> str:
    """Return why the system refused, in its own words and in lower case, without the path."""
    return (error.strerror or str(error)).lower()
