"""The first start: what was there before is history, and not sent unless that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import structlog

from daemon.following.log_roots import LogRoot
from daemon.following.logs import Logs
from daemon.following.tailer import mark_at_end
from daemon.state.rows import FileMark
from daemon.state.store import Store

__all__ = ["LOST_STORE_DAYS", "HistoryPolicy", "settle_history"]

_log = structlog.get_logger(__name__)

LOST_STORE_DAYS = 7
"""Age of the sessions that are sent again after the store was lost."""

HistoryPolicy = Literal["skip", "send"]
"""`skip`: what was there at the first start is not sent; `send`: it is."""


def settle_history(store: Store, roots: Sequence[LogRoot], history: HistoryPolicy, now: float) -> int:
    """Settle what is history, before the first sweep.

    Args:
        store: the state.
        roots: the folders that logs are in.
        history: what to do with the logs that are there at the first start.
        now: the wall clock, in seconds since the epoch.

    Returns:
        When the first start was, in milliseconds since the epoch; what is older is history. 0: nothing is.
    """
    first = store.first_start
    if first is not None:
        if history == "send":
            store.rewind_history()
            first = 0
        return first
    if history == "send":
        store.begin(0, [])
        return 0
    since = now - LOST_STORE_DAYS * 86_400 if store.lost else None
    first = 0 if store.lost else int(now * 1000)
    store.begin(first, _marks(roots, since))
    if store.lost:
        _log.warning("store_was_lost", action=f"sessions of the last {LOST_STORE_DAYS} days are sent again")
    return first


def _marks(roots: Sequence[LogRoot], since: float | None) -> Iterator[FileMark]:
    """Mark what is there as history; except, after a loss, sessions touched since."""
    logs = Logs(roots)
    logs.include(logs.sweep("full").changed)
    for files in logs.sessions.values():
        if since is None or logs.touched(files) / 1e9 < since:
            for path in files.paths:
                if (mark := mark_at_end(path, files.name)) is not None:
                    yield mark
