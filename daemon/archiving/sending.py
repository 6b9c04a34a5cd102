"""Sends one chain of sources: unpacks it into a private folder, and reads and delivers that as `run --once` does.

The function runs in any process, also on another machine. It takes and returns values only: what was settled before of
the sessions of the chain, and what is settled now. So it may run again at any time: the same logs give the same uuids.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from daemon.archiving.chains import Chain
from daemon.archiving.pace import FilePace, Pace, PacedSink, VariablePace
from daemon.archiving.scratch import scratch
from daemon.archiving.source import MissingExtraError, SourceError, reason_of
from daemon.archiving.unpacking import unpack
from daemon.config.settings import Settings
from daemon.delivering.batcher import LARGE
from daemon.delivering.delivery import Delivery, Prepare, Settle
from daemon.delivering.posthog.sink import CaptureSink
from daemon.delivering.route import Route
from daemon.delivering.sink import SinkConfigError, Stopped
from daemon.following.cadence import Cadence
from daemon.following.opening import Opening
from daemon.following.session_files import SessionFiles
from daemon.history.history import History, Selection
from daemon.routing.repository import Repositories, Repository
from daemon.routing.routing import Routing
from daemon.running import logs
from daemon.service import Service
from daemon.state.rows import Excerpt
from daemon.state.store import Store
from daemon.system.figures import count

__all__ = ["Job", "PaceSpec", "Sent", "portable", "send"]

_PATIENCE = 900.0
"""Seconds without an accepted request after which a chain is given up for this run."""


@dataclass(frozen=True, slots=True)
class PaceSpec:
    """Where the common pace is kept: the path of a file, or the name of a variable of Dask's."""

    kind: Literal["file", "variable"]
    name: str

    def open(self) -> Pace:
        """Return the pace."""
        return FilePace(Path(self.name)) if self.kind == "file" else VariablePace(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A chain to send, with everything that a worker needs.

    Attributes:
        chain: the sources.
        settled: what the manifest knows of its sessions, encoded; see `Excerpt`.
        settings: the settings, as `portable` returns them.
        persons: the distinct id of a person, by the name of a session.
        since: only sessions that ended then or later, in seconds since the epoch; None: all.
        pace: where the common pace is kept.
        cadence: times and sizes; None: the usual ones.
        foreign: whether it runs in a process of its own, in which logging has to be set up.
    """

    chain: Chain
    settled: Sequence[bytes]
    settings: Settings
    persons: Mapping[str, str]
    since: float | None
    pace: PaceSpec
    cadence: Cadence | None = None
    foreign: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The result of sending a chain.

    Attributes:
        sessions: how many sessions were read.
        events: how many events were delivered.
        rejected: how many events the receiver refuses.
        size: bytes of logs, unpacked.
        settled: what the store knows of each session now, by its name, encoded; see `Excerpt`.
        is_settled: whether everything is settled, so that the sources are done.
        held: how many sessions wait for the user, and why the first does.
        errors: sources that could not be read, by URL, with the reasons.
        stopped: why the receiver accepts nothing; None if it does.
        waited: seconds that were waited because the receiver had asked another worker to.
    """

    sessions: int = 0
    events: int = 0
    rejected: int = 0
    size: int = 0
    settled: Mapping[str, bytes]
    is_settled: bool = False
    held: str | None = None
    errors: Mapping[str, str]
    stopped: str | None = None
    waited: float = 0.0


def portable(settings: Settings) -> Settings:
    """Return *settings* as another process gets them: with plain dictionaries, and no key that it does not need."""
    return replace(
        settings,
        personal_api_key=None,
        sources=dict(settings.sources),
        custom_properties=dict(settings.custom_properties),
        projects=tuple(
            replace(
                table,
                values={
                    name: dict(value) if isinstance(value, Mapping) else value for name, value in table.values.items()
                },
            )
            for table in settings.projects
        ),
    )


def send(job: Job) -> Sent:
    """Send the chain of *job*. What goes wrong with its sources is part of the result."""
    if job.foreign:
        os.umask(0o077)
        logs.configure("json", "ERROR", secrets=[key for _, key in job.settings.pairs()])
    with scratch() as folder:
        logged, state = folder / "logs", folder / "state"
        for each in (logged, state):
            each.mkdir(mode=0o700)
        errors = {}
        for part in job.chain.parts:
            try:
                unpack(part.source, logged, wanted=part.wanted)
            except (SourceError, MissingExtraError, OSError) as error:
                errors[part.source.url] = reason_of(error)
        store = Store(state)
        try:
            store.adopt(msgspec.msgpack.decode(each, type=Excerpt) for each in job.settled)
            return asyncio.run(_deliver(job, logged, store, errors))
        finally:
            store.close()


class _NoRepositories(Repositories):
    """Knows no repository: folders in archives are another machine's, whatever has their names here."""

    def of(self, cwd: str) -> Repository:
        """Return that nothing is known."""
        del cwd
        return Repository(user_email=None, origin=None)


async def _deliver(job: Job, folder: Path, store: Store, errors: Mapping[str, str]) -> Sent:
    refused: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
    sinks: list[PacedSink] = []
    pace = job.pace.open()

    def stop(stopped: Stopped) -> None:
        if not refused.done():
            refused.set_result(stopped)

    def make_delivery(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        sink = PacedSink(CaptureSink(route.host, route.key.reveal()), pace, stop)
        sinks.append(sink)
        # More workers send more; one of them needs one connection.
        return Delivery(sink, batch=LARGE, prepare=prepare, settle=settle, name=route.name, concurrency=1)

    def person(opening: Opening) -> str | None:
        return job.persons.get(f"{opening.agent}/{opening.session}")

    chosen = {
        each.files.name
        for each in Selection(since=job.since).among(History([folder]).sessions())
        if each.files.name in job.chain.units
    }

    def wanted(files: SessionFiles) -> bool:
        return files.name in chosen

    cadence = job.cadence or replace(Cadence(), once_patience=_PATIENCE)
    service = Service(
        config_dirs=[folder],
        store=store,
        make_delivery=make_delivery,
        routing=Routing(job.settings, _NoRepositories(), person=person),
        session_timeout=job.settings.session_timeout,
        # Lines that another archive has settled are read again here. Only new events are sent.
        again=True,
        cadence=cadence,
    )
    service.prepare("send", time.time())
    before = store.counters()
    work: asyncio.Future[bool] = asyncio.ensure_future(service.run_once(wanted))
    stopped: str | None = None
    try:
        await asyncio.wait(cast("set[asyncio.Future[Any]]", {work, refused}), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        settled = not work.cancelled() and work.result()
    except SinkConfigError as error:
        settled, stopped = False, str(error)
    if refused.done() and not settled:
        stopped = f"{refused.result().reason}; {refused.result().hint}"
    held = store.held()
    sent, rejected = (store.counters().get(name, 0) - before.get(name, 0) for name in ("sent", "rejected"))
    return Sent(
        sessions=len(chosen),
        events=sent,
        rejected=rejected,
        size=job.chain.size,
        settled={each.unit: msgspec.msgpack.encode(each) for each in store.excerpts()},
        is_settled=settled and not errors,
        held=f"{count(len(held), 'session')} must wait: {held[0].reason}" if held else None,
        errors=errors,
        stopped=stopped,
        waited=sum(sink.waited for sink in sinks),
    )
