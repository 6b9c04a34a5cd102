"""`view`: a page on this machine with sessions, costs and steps, live."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from daemon.cli.followed_file import FollowedFile
from daemon.cli.message import say
from daemon.cli.startup import cadence, fail, load_settings, log_options, state_dir_option
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import log_roots
from daemon.following.logs import Logs
from daemon.following.session_files import SessionFiles, unit_name
from daemon.state.layout import STORE, events_path, prices_path
from daemon.state.reader import StoreReader
from daemon.system.messages import escaped, system_reason
from daemon.usage.list_process import ListProcess
from daemon.usage.prices import memory

if TYPE_CHECKING:
    from daemon.config.settings import Settings
    from daemon.running.condition import Condition

__all__ = ["view"]

_log = structlog.get_logger(__name__)

_LINES_BYTES = 200_000
"""Bytes of a log's lines that the page shows of one step."""


@click.command("view")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port.  [default: any that is free]")
@click.option("--no-open", is_flag=True, help="Do not open a browser; only print the address.")
@state_dir_option
@log_options
def view(*, port: int, no_open: bool, state_dir: Path | None, log_format: str | None, log_level: str) -> None:
    """Show sessions in a browser: what they cost, what they do right now, and every step of them. Ctrl-C stops.

    The page is served to this machine alone, and only to the browser that opens the printed address. It follows the
    logs by itself, needs no account, and sends nothing.
    """
    settings = load_settings({"state_dir": state_dir}, log_format=log_format, log_level=log_level)
    try:
        import daemon.page.app  # noqa: F401 - says early whether the extra is there
    except ModuleNotFoundError as error:
        raise fail(
            f"the page needs the extra `view` ({error.name} is missing): pip install 'posthog-llma-daemon[view]'"
        ) from None
    try:
        listening = _listen(port)
    except OSError as error:
        raise fail(f"cannot listen on 127.0.0.1:{port}: {system_reason(error)}; choose another --port") from None
    # The list of prices takes 15 MB, and is rarely needed.
    with (
        closing(listening),
        ListProcess() as lists,
        memory.kept_in(prices_path(settings.state_dir), lists.ask),
        FollowedFile(settings, cadence()) as source,
    ):
        try:
            asyncio.run(_serve(settings, listening, source, opens=not no_open))
        except BaseExceptionGroup as group:
            refused, _ = group.split(click.exceptions.Exit)
            if refused is None:
                raise
            # Whoever had the lock has ended, and the file cannot be used here.
            raise click.exceptions.Exit(1) from None


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        # A browser may be quicker than what is left to prepare: it waits then, and is not refused.
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


async def _serve(settings: Settings, listening: socket.socket, source: FollowedFile, *, opens: bool) -> None:
    import uvicorn

    from daemon.page.access import Access
    from daemon.page.app import Sources, application
    from daemon.page.running import Watch, tell_running

    await source.begin()
    path = events_path(settings.state_dir).absolute()
    live = LiveSessions(settings.claude_config_dirs)
    access = Access(listening.getsockname()[1])
    look = _Look(settings)
    sources = Sources(
        path=path,
        is_made=source.is_made,
        changes=source.changes,
        running=Watch(path, live.statuses).now,
        condition=look.condition,
        explain=look.explain,
        posthog_url=look.address,
        reading=source.reading,
    )

    stopping = asyncio.Event()

    class _Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Signals end the service too, so they are handled here.
            yield

        async def main_loop(self) -> None:
            # uvicorn's own looks ten times a second at whether to stop, and for that alone.
            await stopping.wait()

    server = _Server(
        uvicorn.Config(
            application(sources, access),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
    )

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()
        source.stop()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    click.echo(f"serving {access.address}")
    say("the address works once, in one browser; Ctrl-C stops", err=True)
    if opens:
        import webbrowser

        # A browser may be a program that stays, longer than this one: nothing waits for it.
        threading.Thread(target=webbrowser.open, args=(access.address,), name="browser", daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        told = tasks.create_task(tell_running(LiveSessions(settings.claude_config_dirs).statuses, source.changes))
        tasks.create_task(source.run())
        await server.serve(sockets=[listening])
        told.cancel()


@dataclass(frozen=True, slots=True)
class _Place:
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class _Shown:
    changes: list[str]
    lines: list[_Place]


class _Look:
    """Answers what the page asks and the local file does not hold: delivery, links to PostHog, lines of logs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def condition(self) -> Condition | None:
        """Return what `status` says; None if nothing was ever to be sent from here."""
        from daemon.running.condition import condition_of
        from daemon.state.store import StoreError, read_store

        folder = self._settings.state_dir
        try:
            with read_store(folder) as store:
                if store is None:
                    return None
                return condition_of(
                    store,
                    folder,
                    self._settings.claude_config_dirs,
                    time.time(),
                    outboxes=self._settings.outboxes,
                )
        except (StoreError, sqlite3.Error):
            return None

    def address(self, session: str, trace: str) -> str | None:
        """Return where PostHog shows a trace; None if its session was not sent from here."""
        from daemon.delivering.posthog.web_app import trace_url

        store_path = self._settings.state_dir / STORE
        if not store_path.exists():
            return None
        names = {
            unit_name(root.agent, session)
            for root in log_roots(self._settings.claude_config_dirs, self._settings.outboxes)
        }
        try:
            with closing(StoreReader(store_path)) as store:
                hosts = [route.host for name in names if (route := store.route(name)) is not None]
        except sqlite3.Error:
            return None
        return next((trace_url(host, trace) for host in hosts if host is not None), None)

    def explain(self, session: str, uuid: str) -> Any:
        """Return what became of an event on its way out, and its lines; None if the log does not yield it."""
        from daemon.reading.explanation import explain, summed_up
        from daemon.routing.repository import Repositories
        from daemon.routing.routing import Routing

        files = self._files(session)
        if files is None:
            return None
        routing = Routing(self._settings, Repositories(), purpose="preview", explain=True)
        try:
            found = explain([*files.paths, *files.metas, *files.guests], routing, uuid)
        except OSError:
            return None
        if found is None:
            return None
        lines = found.lines
        places = [_read(lines.file, lines.start, lines.end)] if lines is not None else []
        return _Shown(changes=summed_up(found.event.changes), lines=[place for place in places if place is not None])

    def _files(self, session: str) -> SessionFiles | None:
        logs = Logs(log_roots(self._settings.claude_config_dirs, self._settings.outboxes))
        logs.include(logs.sweep("full").changed)
        files = next((files for files in logs.sessions.values() if files.session == session), None)
        if files is not None:
            for host in filter(None, map(logs.sessions.get, self._hosts(files.name))):
                logs.note_host(host, session)
        return files

    def _hosts(self, unit: str) -> Sequence[str]:
        """Return the names of the sessions whose logs hold lines of *unit*, as far as the daemon knows."""
        path = self._settings.state_dir / STORE
        if not path.exists():
            return []
        try:
            with closing(StoreReader(path)) as store:
                return store.hosts(unit)
        except sqlite3.Error:
            return []


def _read(path: str, start: int, end: int) -> _Place | None:
    try:
        with Path(path).open("rb") as log:
            before = log.read(start).count(b"\n")
            data = log.read(min(end - start, _LINES_BYTES))
    except OSError:
        return None
    first, last = before + 1, before + max(1, data.count(b"\n"))
    where = f"line {first}" if first == last else f"lines {first} to {last}"
    return _Place(escaped(f"{path}, {where}"), data.decode("utf-8", "replace"))
