"""Times as logs write them, and as numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["milliseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(timestamp: str | None) -> int | None:
    """Return an ISO 8601 time as milliseconds since the epoch; a time without a zone is UTC; None if it is none."""
    if not timestamp:
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
        if moment.tzinfo is not UTC:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # Integer arithmetic: a float would round some milliseconds to their neighbour.
    return (moment - _EPOCH) // _MILLISECOND
