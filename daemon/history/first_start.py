"""The first start: existing sessions are history, which is sent only on request."""

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
"""After the store was lost, sessions touched within this many days are sent again."""

HistoryPolicy = Literal["skip", "send"]
"""`skip`: sessions that exist at the first start are not sent; `send`: they are."""


def settle_history(store: Store, roots: Sequence[LogRoot], history: HistoryPolicy, now: float) -> int:
    """Settle the logs that are history, before the first sweep.

    Args:
        store: the state.
        roots: the folders that hold logs.
        history: what to do with the logs that exist at the first start.
        now: the wall clock, in seconds since the epoch.

    Returns:
        The time of the first start, in milliseconds since the epoch; older lines are history. 0: no line is.
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
    """Yield marks that make existing logs history; after a loss, not those of sessions touched after *since*.

    Nothing in a spool is history: it was written for the daemon, which was only not there yet.
    """
    logs = Logs([root for root in roots if not root.agent.is_spool])
    logs.include(logs.sweep("full").changed)
    for files in logs.sessions.values():
        if since is None or logs.touched(files) / 1e9 < since:
            for path in files.paths:
                if (mark := mark_at_end(path, files.name)) is not None:
                    yield mark
