"""Helpers that several verbs share: reading settings, logging, error messages, and building a service."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daemon.cli import CADENCE, complete
from daemon.cli.message import say
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import LOCAL, Route
from daemon.delivering.sink import AttemptOutcome, Sink, SinkConfigError, Stopped
from daemon.following.cadence import Cadence
from daemon.running import logs
from daemon.state.layout import events_path, forget_store, local_folder, make_outbox
from daemon.state.lock import AlreadyRunning, StateDirError, StateLock, prepare_state_dir
from daemon.state.store import Store, StoreError
from daemon.system.messages import system_reason

if TYPE_CHECKING:
    from daemon.delivering.delivery import Delivery, EventOutcome, Prepare, Settle
    from daemon.history.backfill_request import BackfillDesk
    from daemon.history.backlog import Backlog
    from daemon.parallel.crew import Crew
    from daemon.routing.routing import Purpose
    from daemon.running.health import Health
    from daemon.running.notify import Notifier
    from daemon.service import Service
    from llma_core.events import CaptureEvent

__all__ = [
    "CONFIGURATION",
    "LOG_LEVELS",
    "build_service",
    "capture_sinks",
    "config_errors",
    "embed_service",
    "fail",
    "jobs_option",
    "load_settings",
    "log_options",
    "open_local",
    "open_state",
    "prepare_local",
    "prepare_outboxes",
    "refuse",
    "session_options",
    "set_up_logs",
    "state_dir_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

CONFIGURATION = 78
"""The exit code for a configuration that the user has to change (EX_CONFIG). Services are not restarted on it."""


def fail(line: str, code: int = 1) -> click.exceptions.Exit:
    """Print an error in one line, and return the exception to raise to exit with *code*."""
    say(f"error: {line}", err=True)
    return click.exceptions.Exit(code)


def refuse(error: ConfigError) -> click.exceptions.Exit:
    """Print one line for each problem of a configuration, and return the exception to raise to exit with 78."""
    for problem in error.problems:
        say(f"error: {problem}", err=True)
    return click.exceptions.Exit(CONFIGURATION)


LOG_LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False)
"""The values of `--log-level`."""


def state_dir_option(command: _Command) -> _Command:
    """Add the option for another state directory."""
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="The state directory, instead of the configured one.",
    )(command)


def log_options(command: _Command) -> _Command:
    """Add the options for logging."""
    command = click.option(
        "--log-level",
        type=LOG_LEVELS,
        metavar="LEVEL",
        default="info",
        show_default=True,
        help="Lowest level to log: debug, info, warning, error or critical.",
    )(command)
    return click.option(
        "--log-format",
        type=click.Choice(["console", "json"]),
        metavar="FORMAT",
        help="Log as console or json.  [default: console on a terminal, else json]",
    )(command)


def session_options(command: _Command) -> _Command:
    """Add the options that choose sessions by folder and by id."""
    command = click.option(
        "--session",
        "sessions",
        multiple=True,
        metavar="ID",
        shell_complete=complete.session_ids,
        help="Only sessions whose id starts with ID. You can repeat it.",
    )(command)
    return click.option(
        "--project",
        "projects",
        multiple=True,
        metavar="FOLDER",
        shell_complete=complete.folders,
        help="Only sessions begun in this folder or below it. Can be a pattern. You can repeat it.",
    )(command)


jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many processes may read old sessions at a time; 1 starts none.  [default: as many as are worth it]",
)
"""The option for the number of workers."""


@contextmanager
def config_errors() -> Iterator[None]:
    """Turn a ConfigError into one line for each problem, and exit.

    Raises:
        click.exceptions.Exit: with 78.
    """
    try:
        yield
    except ConfigError as error:
        raise refuse(error) from None


def load_settings(flags: Mapping[str, Any], *, log_format: str | None = None, log_level: str = "info") -> Settings:
    """Read the settings, print their warnings, and set up logging.

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
    """Set up logging, or set it up again. No log line will hold a key of *settings*."""
    secrets = [key for _, key in settings.pairs()]
    if settings.personal_api_key is not None:
        secrets.append(settings.personal_api_key)
    logs.configure(log_format, log_level.upper(), secrets=secrets)  # type: ignore[arg-type] # click has checked it


class _UnusableSink:
    """Replaces a sink that cannot be built. It accepts nothing and says why; other routes continue."""

    event_limit = sys.maxsize

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def send(self, events: Sequence[CaptureEvent]) -> AttemptOutcome:
        del events
        return Stopped(reason=self._reason, hint="fix that and start the daemon again")

    async def aclose(self) -> None:
        pass


def capture_sinks(settings: Settings) -> Callable[[Route], Sink]:
    """Return the function that builds the sink of a route: to PostHog, or to the local file for what may not leave.

    Raises:
        ConfigError: nothing is enabled, or a configured host or proxy cannot be used.
    """
    from daemon.delivering.posthog.sink import CaptureSink
    from daemon.routing.routing import configured_routes

    def build(route: Route) -> CaptureSink:
        return CaptureSink(route.host, route.key.reveal())

    settings.require_enabled()
    try:
        ready = {route: build(route) for route in configured_routes(settings)}
    except SinkConfigError as error:
        raise ConfigError([str(error)]) from None

    def make_sink(route: Route) -> Sink:
        if route == LOCAL:
            from daemon.delivering.local.sink import LocalSink

            return LocalSink(events_path(settings.state_dir))
        try:
            return ready.pop(route, None) or build(route)
        except SinkConfigError as error:
            return _UnusableSink(str(error))

    return make_sink


def prepare_outboxes(settings: Settings) -> None:
    """Make the folders in which programs record their own calls, and warn of a failure. After an opt-out, make none."""
    if settings.opt_out:
        return
    for folder in settings.outboxes:
        try:
            prepare_state_dir(settings.state_dir)
            make_outbox(folder)
        except StateDirError as error:
            say(f"warning: {error}", err=True)
            return
        except OSError as error:
            reason = system_reason(error)
            say(f"warning: {folder} cannot be made ({reason}); programs record nothing until it is there", err=True)


@contextmanager
def open_state(lock: StateLock, *, describes: Path | None = None) -> Iterator[Store]:
    """Lock a state directory and open its store.

    Args:
        lock: the lock of the state directory. A caller that has taken it already also releases it.
        describes: the file that the store says everything was delivered into. If it is gone, the store starts over.

    Raises:
        click.exceptions.Exit: with 1: the directory cannot be written, is damaged, or another instance has locked it.
    """
    folder = lock.folder
    try:
        if not lock.is_held:
            prepare_state_dir(folder)
        with nullcontext() if lock.is_held else lock:
            if describes is not None and not describes.exists():
                forget_store(folder)
            store = Store(folder)
            try:
                yield store
            finally:
                store.close()
    except AlreadyRunning as error:
        hint = f"`{APP_NAME} status` shows what it does, `{APP_NAME} stop` stops the service"
        raise fail(str(error) if error.holder.verb is not None else f"{error} ({hint})") from None
    except (StateDirError, StoreError) as error:
        raise fail(str(error)) from None
    except sqlite3.OperationalError as error:
        raise fail(f"cannot write the state store in {folder}: {error}; check the disk and the folder") from None
    except sqlite3.DatabaseError as error:
        raise fail(
            f"the state store in {folder} is damaged: {error}; start again: it is set aside, and nothing is lost"
        ) from None


@contextmanager
def open_local(lock: StateLock, *, waits: bool = False) -> Iterator[Store]:
    """Lock the local sink's state directory, and open its store.

    Without the local file the store starts over, so that deleting the file costs only the time to read the logs again.

    Args:
        lock: the lock of that directory. A caller that has taken it already also releases it.
        waits: whether to wait for a command that has the lock and will end by itself, such as `usage`.

    Raises:
        click.exceptions.Exit: with 1: as `open_state`.
    """
    state_dir = lock.folder.parent
    with ExitStack() as stack:
        if not lock.is_held:
            prepare_local(state_dir)
            if waits:
                stack.callback(lock.release)
                _wait_for(lock)
        yield stack.enter_context(open_state(lock, describes=events_path(state_dir)))


def _wait_for(lock: StateLock) -> None:
    """Take a lock once every command has ended that ends by itself. Return without it if it cannot be taken at all."""
    told = False
    while not lock.is_held:
        try:
            lock.acquire()
        except AlreadyRunning as error:
            if error.holder.stage != "ends":
                return
            if not told:
                say(f"waiting for {error.holder}, which reads the logs", err=True)
                told = True
        except StateDirError:
            return


def prepare_local(state_dir: Path) -> None:
    """Make the local sink's state directory in *state_dir*, as `prepare_state_dir` does.

    Raises:
        click.exceptions.Exit: with 1: it cannot be used.
    """
    try:
        prepare_state_dir(state_dir)
        prepare_state_dir(local_folder(state_dir))
    except StateDirError as error:
        raise fail(str(error)) from None


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
    jobs: int | None = None,
    on_current: Callable[[], None] | None = None,
) -> Service:
    """Build a service.

    Args:
        settings: the settings in force.
        store: the state store.
        make_sink: builds the sink of a route; called once for each route.
        purpose: what the events are for.
        config_dirs: Claude Code's folders, instead of the configured ones.
        notifier: tells the service manager how the service is.
        health: see `Service`.
        again: see `Service`.
        watch: called with the outcomes of delivered and refused events.
        session_timeout: seconds, instead of the configured time.
        desk: see `Service`.
        backlog: see `Service`.
        only_named: see `Service`.
        jobs: how many processes may read old sessions at a time where a backlog does not say it; None: as many as are
            worth it.
        on_current: see `Service`.
    """
    # Most verbs build none, and should not wait for what only a service needs.
    from daemon.delivering.batcher import LARGE, BatchLimits
    from daemon.delivering.delivery import Delivery
    from daemon.parallel.crew import Crew
    from daemon.parallel.wire import Setup
    from daemon.reading.executions import Executions
    from daemon.routing.repository import Repositories
    from daemon.routing.routing import Routing
    from daemon.running.memory import share_heap
    from daemon.running.plugin_status import PluginStatus
    from daemon.service import Service

    def make_delivery(route: Route, prepare: Prepare, settle: Settle) -> Delivery:
        async def settle_and_tell(outcomes: Sequence[EventOutcome]) -> None:
            await settle(outcomes)
            if watch is not None:
                watch([outcome for outcome in outcomes if outcome.outcome != "superseded"])

        return Delivery(make_sink(route), batch=batch, prepare=prepare, settle=settle_and_tell, name=route.name)

    def hire(size: int, wanted: int | None) -> Crew | None:
        number = Crew.wanted(size, jobs if wanted is None else wanted)
        return Crew(Setup(settings=settings, purpose=purpose, line_bytes=pace.line_bytes), number) if number else None

    # Each batch for the local file is a transaction, which waits for the disk and writes whole pages: the larger the
    # better. An event that comes alone waits no longer.
    batch = LARGE if purpose == "local" else BatchLimits()
    pace = cadence()
    share_heap()
    folders = config_dirs if config_dirs is not None else settings.claude_config_dirs
    # The status file reports the session sent last, which history never is.
    tells_plugin = settings.plugin_status_file and purpose == "send" and not again
    return Service(
        config_dirs=folders,
        outboxes=settings.outboxes,
        # The other purposes only look at what is recorded.
        empties=purpose == "send" and not again,
        store=store,
        make_delivery=make_delivery,
        routing=Routing(settings, Repositories(), purpose=purpose),
        session_timeout=session_timeout if session_timeout is not None else settings.session_timeout,
        notifier=notifier,
        health=health,
        again=again,
        desk=desk,
        backlog=backlog,
        # Only events for PostHog get the properties of `exec`, and only they complete its records.
        executions=Executions(settings.state_dir) if purpose == "send" else None,
        only_named=only_named,
        plugin_status=PluginStatus(folders) if tells_plugin else None,
        hire=hire,
        on_current=on_current,
        cadence=pace,
    )


def cadence() -> Cadence:
    """Return the times and sizes to go by: those the program was started with, or the usual ones."""
    context = click.get_current_context(silent=True)
    given = context.meta.get(CADENCE) if context is not None else None
    return given if isinstance(given, Cadence) else Cadence()


def embed_service(settings: Settings, stack: ExitStack) -> Service:
    """Build a service, for `exec`, that reads only the sessions that a command names.

    Args:
        settings: the settings in force.
        stack: takes the lock on the state directory and the store, to release them when the service has ended.

    Raises:
        ConfigError: nothing is enabled, or a configured host or proxy cannot be used.
        AlreadyRunning: another instance has locked the state directory.
        StateDirError: the state directory cannot be used.
        StoreError: the state store cannot be used.
        sqlite3.Error: the state store cannot be used.
        OSError: the system refuses something.
    """
    make_sink = capture_sinks(settings)
    stack.enter_context(StateLock(settings.state_dir, stage="ends", verb="exec"))
    store = Store(settings.state_dir)
    stack.callback(store.close)
    service = build_service(settings, store, make_sink, only_named=True)
    service.prepare("skip", time.time())
    return service
