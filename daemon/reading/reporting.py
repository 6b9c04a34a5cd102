"""Reports to `status` and to the status file of PostHog's plugin what the service does."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from daemon.delivering.deliveries import Deliveries
from daemon.delivering.delivery import BackingOff, EventOutcome
from daemon.delivering.sink import Stopped
from daemon.following.logs import Logs
from daemon.reading.open_sessions import OpenSession, OpenSessions
from daemon.reading.reader import ReadOutcome
from daemon.reading.turns import Turns
from daemon.running.health import Health, LogBehind
from daemon.running.plugin_status import PluginStatus, Sender
from llma_core.events import CaptureEvent

__all__ = ["Reporting"]

_log = structlog.get_logger(__name__)


class Reporting:
    """Collects what others may know and writes it down. Use it from one event loop only.

    Args:
        health: writes the file that `status` reads; None to write none.
        plugin_status: writes the status file of PostHog's plugin; None to write none.
        logs: the logs.
        sessions: the sessions in memory.
        turns: the sessions that wait to be read.
        deliveries: the delivery of each route.
    """

    def __init__(
        self,
        *,
        health: Health | None,
        plugin_status: PluginStatus | None,
        logs: Logs,
        sessions: OpenSessions,
        turns: Turns,
        deliveries: Deliveries,
    ) -> None:
        self._health = health
        self._plugin_status = plugin_status
        self._logs = logs
        self._sessions = sessions
        self._turns = turns
        self._deliveries = deliveries
        self._unknown_logs: set[str] = set()

    def note_read(self, outcome: ReadOutcome, wanted: Sequence[CaptureEvent]) -> None:
        """Note that the events *wanted*, from one slice of a session, are on their way."""
        pipeline = outcome.session.pipeline
        files, route, frozen = pipeline.files, pipeline.route, pipeline.frozen
        emissions = [emission for step in outcome.steps for emission in step.emissions]
        if self._plugin_status is None or not emissions or route is None or frozen is None:
            return
        sender = Sender(
            unit=files.name,
            session=files.session,
            folder=files.folder,
            route=route,
            distinct_id=frozen.distinct_id,
            project=Path(pipeline.first_cwd or "").name,
        )
        prompts = sum(emission.prompt is not None for emission in emissions)
        self._plugin_status.hand_over(sender, wanted, prompts)

    def note_settled(self, unit: str | None, outcome: EventOutcome) -> None:
        """Note the outcome of an event. *unit* is the name of its session."""
        if self._plugin_status is not None:
            self._plugin_status.settle(unit, outcome)

    def note_unknown(self, paths: Iterable[str]) -> None:
        """Log once for each file that it looks like a log and is not followed."""
        fresh = sorted({*paths} - self._unknown_logs)
        self._unknown_logs.update(fresh)
        if fresh:
            _log.warning(
                "logs_not_followed",
                count=len(fresh),
                path=fresh[0],
                reason="no log is known to be there",
                action="look for a newer version; `preview FOLDER` reads logs at any depth",
            )

    def note_failures(self) -> None:
        """Note which routes accept nothing at the moment. Closed deliveries no longer tell."""
        if self._plugin_status is not None:
            for route, delivery in self._deliveries.by_route.items():
                state = delivery.state
                if isinstance(state, BackingOff):
                    self._plugin_status.fail(route, state.reason)
                elif isinstance(state, Stopped):
                    self._plugin_status.fail(route, f"{state.reason}; asked again {_clock_time(state.until)}")

    async def tell(self, reading: str | None) -> None:
        """Write what has changed.

        Args:
            reading: the name of the session that is being read; None if none is.
        """
        if self._plugin_status is not None:
            self.note_failures()
            await self._plugin_status.tell()
        if self._health is not None:
            report = self._health.observe(
                sessions=len(self._logs.sessions),
                followed=len(self._sessions),
                unread=list(self._behind(reading)),
                deliveries=self._deliveries.by_route,
            )
            await self._health.tell(report)

    def _behind(self, reading: str | None) -> Iterator[LogBehind]:
        """Yield the logs of the sessions that wait to be read, each with the position up to which it was read."""
        waiting = self._turns.names
        if reading is not None:
            waiting.add(reading)
        for name in waiting:
            files, session = self._logs.sessions.get(name), self._sessions.get(name)
            for path in files.paths if files is not None else ():
                file = self._logs.files.get(path)
                if file is not None:
                    position = self._position(path, session)
                    yield LogBehind(path=path, position=position, size=file.size, modified=file.modified / 1e9)

    def _position(self, path: str, session: OpenSession | None) -> int:
        position = session.pipeline.position(path) if session is not None else None
        return position if position is not None else self._logs.position(path)


def _clock_time(at: float | None) -> str:
    """Return a time of the deliveries' clock as a time of day, to the minute, in the local zone."""
    left = (at or 0.0) - time.monotonic()
    return time.strftime("after %H:%M", time.localtime(time.time() + left))
