"""Writes lines of the service's log as a terminal shows them: time, level, event and fields."""

from __future__ import annotations

import json
from datetime import datetime

from daemon.installing.service_manager import LogEntry
from daemon.running.logs import render_for_people
from daemon.system.messages import escaped

__all__ = ["rendered"]

_TIME = "%Y-%m-%d %H:%M:%S"


def rendered(entry: LogEntry, *, color: bool) -> str:
    """Return *entry* as one line, or with an exception as several. A line that is none of the daemon's stays as it is.

    Args:
        entry: the entry.
        color: whether to color it.
    """
    at = None if entry.at is None else datetime.fromtimestamp(entry.at).astimezone()
    try:
        fields = json.loads(entry.text)
        fields["event"] = str(fields["event"])
    except (ValueError, KeyError, TypeError):
        return escaped(f"{at:{_TIME}} {entry.text}" if at is not None else entry.text)
    fields.pop("logger", None)
    said = fields.pop("timestamp", None)
    if at is None and isinstance(said, str):
        try:
            at = datetime.fromisoformat(said).astimezone()
        except ValueError:
            fields["timestamp"] = said
    if at is not None:
        fields["timestamp"] = f"{at:{_TIME}}"
    return render_for_people(fields, color=color)
