"""What the verbs that run a service share: settings, logs, the state directory, and errors as one line."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from daemon.cli import CADENCE
from daemon.cli.message import say
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.delivering.delivery import Delivery, EventOutcome, Prepare, Settle
from daemon.delivering.route import Route
from daemon.delivering.sink import AttemptOutcome, Sink, SinkConfigError, Stopped
from daemon.following.cadence import Cadence
from daemon.history.backfill_request import BackfillDesk
from daemon.history.backlog import Backlog
from daemon.reading.executions import Executions
from daemon.routing.repository import Repositories
from daemon.routing.routing import Purpose, Routing, configured_routes
from daemon.running import logs
from daemon.running.health import Health
from daemon.running.notify import Notifier
from daemon.running.plugin_status import PluginStatus
from daemon.service import Service
from daemon.state.lock import AlreadyRunning, StateDirError, StateLock, prepare_state_dir
from daemon.state.store import Store, StoreError
from llma_core.events import CaptureEvent

__all__ = [
    "CONFIGURATION",
    "LOG_LEVELS",
    "build_service",
    "capture_sinks",
    "config_errors",
    "fail",
    "load_settings",
    "log_options",
    "open_state",
    "refuse",
    "set_up_logs",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

CONFIGURATION = 78
"""Exit code for a configuration that has to be changed first; a service is not restarted on it (EX_CONFIG)."""


def fail(line: str, code: int = 1) -> click.exceptions.Exit:
    """Print one line of what failed, and return what to raise to end with *code*."""
    say(f"error: {line}", err=True)
    return click.exceptions.Exit(code)


def refuse(error: ConfigError) -> click.exceptions.Exit:
    """Print one line for each problem of a configuration, and return what to raise to end with 78."""
    for problem in error.problems:
        say(f"error: {problem}", err=True)
    return click.exceptions.Exit(CONFIGURATION)


LOG_LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False)
"""What `--log-level` takes."""


def log_options(command: _Command) -> _Command:
    """Add the options that say how to log."""
    command = click.option(
        "--log-level", type=LOG_LEVELS, default="info", show_default=True, help="Least level that is logged."
    )(command)
    formats = click.Choice(["console", "json"])
    return click.option("--log-format", type=formats, help="How to log.  [default: json, on a terminal console]")(
        command
    )


@contextmanager
def config_errors() -> Iterator[None]:
    """Turn a ConfigError into one line for each problem, and the end of the command.

    Raises:
        click.exceptions.Exit: with 78.
    """
    try:
        yield
    except ConfigError as error:
        raise refuse(error) from None


def load_settings(flags: Mapping[str, Any], *, log_format: str | None = None, log_level: str = "info") -> Settings:
    """Read the settings and set logging up.

    Raises:
        click.exceptions.Exit: with 78 and one line for each problem.
    """
    with config_errors():
        settings = loading.load(flags, os.environ)
    set_up_logs(settings, log_format=log_format, log_level=log_level)
    for warning in settings.warnings:
        say(f"warning: {warning}", err=True)
    return settings


def set_up_logs(settings: Settings, *, log_format: str | None, log_level: str) -> None:
    """Set logging up, or up again: no key of *settings* will be in a line."""
    secrets = [key for _, key in settings.pairs()]
    logs.configure(log_format, log_level.upper(), secrets=secrets)  # type: ignore[arg-type] # click has checked it


class _UnusableSink:
    """Stands for a route whose sink cannot be built: it takes nothing and says why, and other routes go on."""

    event_limit = sys.maxsize

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        del events
        return Stopped(reason=self._reason, hint="correct that and start the daemon again")

    async def aclose(self) -> None:
        pass


def capture_sinks(settings: Settings) -> Callable[[Route], Sink]:
    """Return what builds the sink of a route to PostHog.

    Raises:
        ConfigError: nothing is enabled, or a configured host or proxy cannot be used.
    """
    from daemon.delivering.posthog.sink import CaptureSink

    def build(route: Route) -> CaptureSink:
        return CaptureSink(route.host, route.key.reveal())

    settings.require_enabled()
    try:
        ready = {route: build(route) for route in configured_routes(settings)}
    except SinkConfigError as error:
        raise ConfigError([str(error)]) from None

    def make_sink(route: Route) -> Sink:
        try:
            return ready.pop(route, None) or build(route)
        except SinkConfigError as error:
            return _UnusableSink(str(error))

    return make_sink


@contextmanager
def open_state(folder: Path) -> Iterator[Store]:
    """Hold the lock on a state directory, with its store.

    Raises:
        click.exceptions.Exit: with 1: it cannot be written, is damaged, or another instance holds it.
    """
    try:
        prepare_state_dir(folder)
        with StateLock(folder):
            store = Store(folder)
            try:
                yield store
            finally:
                store.close()
    except (StateDirError, AlreadyRunning, StoreError) as error:
        raise fail(str(error)) from None
    except sqlite3.OperationalError as error:
        raise fail(f"cannot write the state store in {folder}: {error}; check the disk and the folder") from None
    except sqlite3.DatabaseError as error:
        raise fail(
            f"the state store in {folder} is damaged: {error}; start again: it is set aside and nothing is lost"
        ) from None


def build_service(
    settings: Settings,
    store: Store,
    make_sink: Callable[[Route], Sink],
    *,
    purpose: Purpose = "send",
    config_dirs: Sequence[Path] | None = None,
    notifier: Notifier | None = None,
    health: Health | None = None,
    again: bool = False,
    watch: Callable[[Sequence[EventOutcome]], None] | None = None,
    session_timeout: float | None = None,
    desk: BackfillDesk | None = None,
    backlog: Backlog | None = None,
    only_named: bool = False,
) -> Service:
    """Put a service together.

    Args:
        settings: the settings in force.
        store: the state.
        make_sink: builds the sink of a route, once for each.
        purpose: what the events are for.
        config_dirs: in place of the configured ones.
        notifier: the service manager.
        health: see `Service`.
        again: see `Service`.
        watch: called with what was settled.
        session_timeout: in place of the configured one, in seconds.
        desk: see `Service`.
        backlog: see `Service`.
        only_named: see `Service`.
    """

    def make_delivery(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        async def settle_and_tell(outcomes: Sequence[EventOutcome]) -> None:
            await settle(outcomes)
            if watch is not None:
                watch(outcomes)

        return Delivery(make_sink(route), prepare=prepare, settle=settle_and_tell, name=route.name)

    folders = config_dirs if config_dirs is not None else settings.claude_config_dirs
    # The file tells of what was sent last, which history is not.
    tells_plugin = settings.plugin_status_file and purpose == "send" and not again
    return Service(
        config_dirs=folders,
        store=store,
        make_delivery=make_delivery,
        routing=Routing(settings, Repositories(), purpose=purpose),
        session_timeout=session_timeout if session_timeout is not None else settings.session_timeout,
        notifier=notifier,
        health=health,
        again=again,
        desk=desk,
        backlog=backlog,
        # What goes to PostHog is what they tell of, and done only when it is there.
        executions=Executions(settings.state_dir) if purpose == "send" else None,
        only_named=only_named,
        plugin_status=PluginStatus(folders) if tells_plugin else None,
        cadence=cadence(),
    )


def cadence() -> Cadence:
    """Return the times and sizes to go by: those the program was started with, or the usual ones."""
    context = click.get_current_context(silent=True)
    given = context.meta.get(CADENCE) if context is not None else None
    return given if isinstance(given, Cadence) else Cadence()
