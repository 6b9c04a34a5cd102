"""Backfilling: how a running service takes up a request of `backfill`, reports progress on it, and ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import replace

import structlog

from daemon.delivering.deliveries import Deliveries
from daemon.delivering.delivery import BackingOff
from daemon.delivering.route import Route
from daemon.delivering.sink import Stopped
from daemon.following.session_files import SessionFiles
from daemon.history.backfill_request import BackfillDesk, BackfillReport
from daemon.history.backlog import Backlog
from daemon.reading.settlement import Settlement
from daemon.reading.standing import Standing

__all__ = ["Backfilling"]

_log = structlog.get_logger(__name__)

BACKLOG_EVENTS = 100
"""No more of the backlog is read while this many of its events are on their way: live events wait for one request."""


class Backfilling:
    """The current backlog of a service. Belongs to one event loop.

    Args:
        desk: where requests of `backfill` appear; None: this service takes none.
        backlog: the backlog to begin with.
        settlement: which events are on their way.
        deliveries: deliver them.
        route_of: returns the route of a session, by name, also of one that has left memory while its events wait.

    Attributes:
        backlog: the current backlog.
    """

    def __init__(
        self,
        *,
        desk: BackfillDesk | None,
        backlog: Backlog,
        settlement: Settlement,
        deliveries: Deliveries,
        route_of: Callable[[str], Route | None],
    ) -> None:
        self.backlog = backlog
        self._desk = desk
        self._id: str | None = None
        self._settlement = settlement
        self._deliveries = deliveries
        self._route_of = route_of

    @property
    def is_asked(self) -> bool:
        """Whether there is a request that was not taken up yet."""
        request = self._desk.pending() if self._desk is not None else None
        return request is not None and request.id != self._id

    def look(self) -> bool:
        """Take up a new request, or drop one that was withdrawn; return whether there is one now."""
        if self._desk is None:
            return False
        request = self._desk.pending()
        wanted = request.id if request is not None else None
        if wanted != self._id:
            self.backlog, self._id = Backlog(), wanted
            if request is not None:
                self.backlog = Backlog(request.units, request.resends, jobs=request.jobs)
                _log.info("backfill_begun", sessions=len(request.units))
        return self._id is not None

    def next(
        self,
        sessions: Mapping[str, SessionFiles],
        *,
        held: Container[str],
        unreadable: Container[str],
        stalled_on: Callable[[str], Route | None],
    ) -> SessionFiles | None:
        """Return the next session of the backlog to read; None if there is none, or it has to wait.

        Args:
            sessions: the sessions that have a log, by name.
            held: the names of sessions that wait for the user.
            unreadable: the names of sessions that cannot be read for now.
            stalled_on: returns a session's route, by name, if that route has no room.
        """
        while (name := self.backlog.next) is not None:
            files, route = sessions.get(name), stalled_on(name)
            if files is None:
                self.backlog.finish(name, "missing")
            elif name in held:
                self.backlog.finish(name, "held")
            elif name in unreadable:
                self.backlog.finish(name, "missing")
            elif route is None:
                return files if self.has_room else None
            elif self._deliveries.is_stopped(route):
                self.backlog.finish(name, "stopped")
            else:
                return None
        return None

    @property
    def has_room(self) -> bool:
        """Whether more of the backlog may be read now."""
        return self._under_way().total() < BACKLOG_EVENTS

    def reads_again(self, name: str) -> bool:
        """Whether to send everything of a session that was never settled."""
        return self.backlog.resends is None and name in self.backlog

    def resends(self, name: str) -> Container[str] | None:
        """Return the uuids of the events of a session that are to be sent again; None if there are none."""
        return self.backlog.resends if name in self.backlog else None

    def has_begun(self, pipeline: Standing) -> bool:
        """Whether a pipeline was built for the current backlog, and not to follow its session."""
        name = pipeline.files.name
        return pipeline.again == self.reads_again(name) and pipeline.resends is self.resends(name)

    def is_stopped(self, name: str) -> bool:
        """Whether a session's route accepts nothing for now."""
        route = self._route_of(name)
        return route is not None and self._deliveries.is_stopped(route)

    def _under_way(self) -> Counter[str]:
        """Count the events of each session of the backlog that are on their way on a route that is not stopped."""
        waiting = self._settlement.waiting_of(self.backlog)
        return Counter({name: number for name, number in waiting.items() if not self.is_stopped(name)})

    async def report(self, *, settling: bool) -> None:
        """Report progress on the request, and end it when nothing more will come of it.

        Args:
            settling: whether something open in its sessions will be final soon.
        """
        if self._desk is None or self._id is None:
            return
        headway, under_way = self.backlog.headway(), self._under_way()
        busy = [delivery.state for delivery in self._deliveries.by_route.values() if delivery.queued_events]
        # A rejected event settles only with the next accepted request, which may never come: only queued events count.
        sending = under_way and any(not isinstance(state, Stopped) for state in busy)
        done = self.backlog.next is None and not settling and not sending
        if done:
            stopped = self._settlement.waiting_of(self.backlog).keys() - under_way.keys()
            headway = replace(headway, stopped=headway.stopped + len(stopped))
        reason = next((state.reason for state in busy if isinstance(state, BackingOff | Stopped)), None)
        await asyncio.to_thread(
            self._desk.tell, BackfillReport(id=self._id, headway=headway, done=done, waiting=reason)
        )
        if done:
            _log.info("backfill_done", sessions=headway.sessions, sent=headway.sent)
            self.backlog, self._id = Backlog(), None
