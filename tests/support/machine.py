"""The whole service on a small machine: real files, a real store, a receiver on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from daemon.config import loading
from daemon.config.settings import Settings
from daemon.delivering.deliveries import MakeDelivery
from daemon.delivering.delivery import Delivery, Prepare, Settle
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.retry import RetryPolicy
from daemon.delivering.route import Route
from daemon.following.cadence import Cadence
from daemon.history.backfill_request import BackfillDesk
from daemon.history.first_start import HistoryPolicy
from daemon.parallel import crew
from daemon.parallel.crew import Crew, Launch
from daemon.parallel.wire import Setup
from daemon.reading.preview import find_logs, preview
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.running.notify import Notifier
from daemon.service import Service
from daemon.state.store import Store
from tests.support.capture_server import CaptureServer, Event
from tests.support.logs import LogBuilder, text
from tests.support.processes import session_id, until
from tests.support.waiting import PATIENCE

__all__ = ["YEAR", "Logged", "Machine", "a_session", "of_lines", "span_ids", "times_each_came"]

Logged = list[MutableMapping[str, Any]]
"""What was logged, as `structlog.testing.capture_logs` collects it."""

YEAR = 365 * 86400.0


"""Starts a worker that listens to a socket."""


class _Ready(Notifier):
    """A service manager that sets an event when the service is ready."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__({})
        self._event = event

    def ready(self, status: str | None = None) -> bool:
        self._event.set()
        return super().ready(status)


def _deliver(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
    sink = CaptureSink(route.host, route.key.reveal())
    return Delivery(sink, prepare=prepare, settle=settle, retry=RetryPolicy(base=0.05, cap=0.2))


class Machine:
    """A small machine: Claude Code's config folder, the daemon's state, its cadence, and its patience with workers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config"
        self.state = root / "state"
        self.outbox = root / "outbox"
        self.projects = self.config / "projects"
        self.projects.mkdir(parents=True)
        self.state.mkdir(mode=0o700)
        self.config_file = root / "config.toml"
        self.cadence = Cadence()
        self.patience = crew.PATIENCE

    def writes_config(self, content: str) -> None:
        """Write the user's config.toml."""
        self.config_file.write_text(content)
        self.config_file.chmod(0o600)

    def settings(self, **variables: str) -> Settings:
        environ = {"CLAUDE_CONFIG_DIR": str(self.config), "POSTHOG_LLMA_DISTINCT_ID": "ada@example.com", **variables}
        return loading.load({}, environ, config_file=self.config_file, home=self.root)

    def preview(self, **variables: str) -> dict[str, Event]:
        """The events that `preview` yields for all logs, by uuid."""
        routing = Routing(self.settings(**variables), Repositories(), purpose="preview")
        return {event.uuid: json.loads(event.body) for event in preview(list(find_logs([self.config])), routing)}

    def offsets(self) -> dict[str, int]:
        """How far each existing file is settled, by its name."""
        store = Store(self.state)
        try:
            known = {mark.inode: mark.offset for mark in store.files()}
        finally:
            store.close()
        return {path.name: known.get(path.stat().st_ino, 0) for path in self.projects.rglob("*.jsonl")}

    def held(self) -> list[str]:
        """Why sessions, or lines of them, wait for the user."""
        store = Store(self.state, read_only=True)
        try:
            return [row.reason for row in store.held()]
        finally:
            store.close()

    def sighted(self) -> set[str]:
        """The ids of the sessions of which the daemon has seen a record."""
        store = Store(self.state, read_only=True)
        try:
            return {sighting.session for sighting in store.sightings()}
        finally:
            store.close()

    def registers(self, session: str, *, pid: int | None = None, **fields: object) -> Path:
        """Note *session* as running, as the client does; the file to delete when it exits is returned.

        Args:
            session: the session's id.
            pid: its process; None: this one.
            fields: more of the record.
        """
        pid = os.getpid() if pid is None else pid
        path = self.config / "sessions" / f"{pid}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"pid": pid, "sessionId": session, **fields}))
        return path

    def moves_in(self, files: Mapping[str, bytes], *, age: float) -> None:
        """Let complete *files* appear that were last touched *age* seconds ago."""
        touched = time.time() - age
        for name, data in files.items():
            beside = self.root / "beside"
            beside.write_bytes(data)
            os.utime(beside, (touched, touched))
            (self.projects / name).parent.mkdir(parents=True, exist_ok=True)
            beside.replace(self.projects / name)

    @asynccontextmanager
    async def service(
        self,
        url: str,
        *,
        history: HistoryPolicy = "skip",
        quiet: float = YEAR,
        notifier: Notifier | None = None,
        make_delivery: MakeDelivery = _deliver,
        launch: Launch | None = None,
        desk: BackfillDesk | None = None,
        **variables: str,
    ) -> AsyncIterator[Service]:
        """A service, ready to run."""
        own = {"POSTHOG_HOST": url, "POSTHOG_API_KEY": "phc_test", "POSTHOG_LLMA_CC_ENABLED": "true"}
        settings = self.settings(**own | variables)
        store = Store(self.state)
        try:
            service = Service(
                config_dirs=[self.config],
                outboxes=[self.outbox],
                empties=True,
                store=store,
                make_delivery=make_delivery,
                routing=Routing(settings, Repositories()),
                session_timeout=quiet,
                notifier=notifier,
                desk=desk,
                hire=partial(self._hired, settings, launch) if launch is not None else lambda _size, _jobs: None,
                cadence=self.cadence,
            )
            service.prepare(history, time.time())
            yield service
        finally:
            store.close()

    def _hired(self, settings: Settings, launch: Launch, _size: int, jobs: int | None) -> Crew:
        setup = Setup(
            settings=settings, purpose="send", line_bytes=self.cadence.line_bytes, slice_bytes=self.cadence.slice_bytes
        )
        return Crew(setup, jobs or 2, launch=launch, shared=0.0, patience=self.patience)

    @asynccontextmanager
    async def following(self, url: str, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        """A service that follows until the context is left."""
        ready = asyncio.Event()
        async with self.service(url, notifier=_Ready(ready), **options) as service:
            running = asyncio.create_task(service.run())
            try:
                await until(lambda: ready.is_set() or running.done(), "the service's word that it is ready")
                yield running
            finally:
                service.stop()
                async with asyncio.timeout(PATIENCE):
                    await running

    async def once(self, url: str, *, history: HistoryPolicy = "send", **options: Any) -> bool:
        """Read and deliver everything, and return whether all is settled."""
        async with self.service(url, history=history, **options) as service, asyncio.timeout(PATIENCE):
            return await service.run_once()


def span_ids(server: CaptureServer, name: str = "") -> list[str]:
    """The span ids of what was received, in order, but for opening traces."""
    return [
        event["properties"]["$ai_span_id"]
        for event in server.events
        if event["event"].endswith(name) and event["properties"].get("claude_code_trace") != "open"
    ]


def times_each_came(server: CaptureServer) -> set[int]:
    return {len(times) for times in server.events_by_uuid.values()}


def of_lines(log: LogBuilder, start: int) -> bytes:
    """The lines of the main log from number *start* on, as bytes."""
    return b"".join(log.files()[log.path].splitlines(keepends=True)[start:])


def a_session(name: str, *, start: str | None = None, cwd: str = "/home/ada/orchard", **settings: Any) -> LogBuilder:
    """A session with one answer, `msg_{name}`, and a prompt after it that makes the answer final at once."""
    begun: dict[str, Any] = {"start": start} if start else {}
    log = LogBuilder(session_id(name), cwd=cwd, **begun, **settings)
    log.prompt(f"do {name}")
    log.answer(text(f"{name} is done"), id=f"msg_{name}")
    log.prompt("thanks")
    return log
