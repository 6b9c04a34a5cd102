"""`exec`: run a command and deliver the sessions it begins, for CI and one-shot use."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import click

from daemon.cli.message import say
from daemon.cli.startup import LOG_LEVELS, build_service, capture_sinks, fail, set_up_logs
from daemon.config import loading, parsers
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.executing.descendants import Descendants
from daemon.executing.foreground import ForegroundCommand, NotStartedError
from daemon.executing.ownership import Ownership
from daemon.executing.properties_file import VARIABLE, PropertiesFile, PropertiesFileError
from daemon.executing.signals import Signals
from daemon.reading.executions import Notice
from daemon.service import Service
from daemon.state.lock import AlreadyRunning, StateDirError, StateLock, is_locked, prepare_state_dir
from daemon.state.store import Store, StoreError
from llma_core import events

__all__ = ["exec"]

_LOOK_SECONDS = 0.1
"""How often the client's registry is looked at: a client that lives shorter has had no answer."""
_LOGS_EVERY = 3
"""How many such looks lie between two at the logs."""
_CLOSE_SECONDS = 5.0
"""What the service may take to end when nothing is to be delivered any more."""


def _properties(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> Mapping[str, Any]:
    """Read what was given as name=value."""
    del ctx, param
    found: dict[str, str] = {}
    for each in given:
        name, sign, value = each.partition("=")
        name = name.strip()
        if not sign or not name:
            raise click.BadParameter(f"{parsers.shown(each)} is no property; give name and value: --property team=web")
        if name in found:
            raise click.BadParameter(f"{parsers.shown(name)} is given twice; remove one")
        found[name] = value
    if refused := sorted(events.refused_properties(found)):
        raise click.BadParameter(f"{parsers.shown(refused[0])} is the daemon's to set; give it another name")
    try:
        return parsers.json_object(found, parsers.Context(home=Path.home()))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    del ctx, param
    if not math.isfinite(value) or value < 0:
        raise click.BadParameter("is no time; give a number of seconds, 0 or more")
    return value


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option(
    "--property",
    "properties",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_properties,
    help="Add a property, as text, to every event of the command's sessions; may be given several times.",
)
@click.option(
    "--drain-timeout",
    type=float,
    default=30.0,
    show_default=True,
    callback=_finite,
    help="Seconds to go on delivering after the command has ended.",
)
@click.option(
    "--log-level",
    type=LOG_LEVELS,
    default="critical",
    show_default=True,
    help="Least level that is logged, to stderr.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec(  # noqa: A001 - the verb's name; nothing here wants the builtin
    ctx: click.Context,
    properties: Mapping[str, Any],
    drain_timeout: float,
    log_level: str,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and deliver the sessions that it, or what it starts, begins.

    Exits as the command does (128 and the signal's number for a signal), whatever becomes of the events: what is not
    accepted in time stays in the state directory, and the next run sends it. The command may write a JSON object to the
    file that POSTHOG_LLMA_PROPERTIES_FILE names; it becomes part of the trace.
    """
    settings = _settings(log_level)
    umask = ctx.obj if isinstance(ctx.obj, int) else 0o077
    try:
        status = asyncio.run(_run(command, umask, settings, properties, drain_timeout))
    except NotStartedError as error:
        raise fail(str(error), error.status) from None
    raise click.exceptions.Exit(status)


def _warn(line: str) -> None:
    say(f"warning: {parsers.one_line(line)}", err=True)


def _settings(log_level: str) -> Settings | None:
    """Read the settings; None, after a warning, where nothing can be sent by them."""
    try:
        settings = loading.load({}, os.environ)
    except ConfigError as error:
        _warn(f"{'; '.join(error.problems)}; nothing of the command's sessions is sent")
        return None
    set_up_logs(settings, log_format=None, log_level=log_level)
    for warning in settings.warnings:
        _warn(warning)
    if settings.opt_out:
        return None
    if not _is_served(settings.state_dir) and (reason := settings.why_disabled()) is not None:
        _warn(f"{reason}; nothing of the command's sessions is sent")
        return None
    return settings


async def _run(
    command: tuple[str, ...],
    umask: int,
    settings: Settings | None,
    properties: Mapping[str, Any],
    drain_timeout: float,
) -> int:
    """Run the command and return its status.

    Raises:
        NotStartedError: it cannot be started.
    """
    async with AsyncExitStack() as stack:
        # First of all, while there is no thread: from here on no signal ends this process but through the command.
        signals = stack.enter_context(Signals())
        file, environ = None, dict(os.environ)
        try:
            file = stack.enter_context(PropertiesFile())
            environ[VARIABLE] = str(file.path)
        except OSError as error:
            _warn(f"there is no folder for {VARIABLE} ({(error.strerror or str(error)).lower()}); it is not set")
        following = None
        if settings is not None:
            following = await stack.enter_async_context(_Following(settings, properties))
        running = ForegroundCommand(command, environ=environ, umask=umask, signals=signals)
        await running.start()
        mark = (VARIABLE, environ[VARIABLE]) if file is not None else None
        ended = asyncio.create_task(running.wait())
        if following is not None:
            await following.look_until(ended, Descendants(running.pid, mark))
        status = await ended
        if following is not None:
            await following.end(_verdict(file))
            await following.drain(drain_timeout, running.interrupted)
            # While signals are still caught: whatever comes now, the status is the command's.
            await following.close()
    if following is not None and following.is_stuck:
        # A file system or a receiver that does not answer must not keep the command's caller waiting; what is noted in
        # the store is whole at any moment.
        sys.stderr.flush()
        os._exit(status)
    return status


def _verdict(file: PropertiesFile | None) -> Mapping[str, Any]:
    """Return what the command has to say of its sessions; where it cannot be read, nothing, after a warning."""
    if file is None:
        return {}
    try:
        properties, refused = file.read()
    except PropertiesFileError as error:
        _warn(f"{VARIABLE} {error}; the trace goes without it")
        return {}
    for name in sorted(refused):
        _warn(f"{VARIABLE}: {parsers.shown(name)} is the daemon's to set and was left out; give it another name")
    return properties


def _is_served(folder: Path) -> bool:
    """Whether a daemon runs on the state directory, as far as this user may know."""
    try:
        return is_locked(folder)
    except OSError:
        return False


class _Following:
    """The sessions of one command, from before its start until they are delivered. A context.

    Nothing that goes wrong here is the command's business: it is told in one line, when the command has ended.
    """

    def __init__(self, settings: Settings, properties: Mapping[str, Any]) -> None:
        self._settings = settings
        self._properties = properties
        self._folder = settings.state_dir
        self._stack = ExitStack()
        self._notice: Notice | None = None
        self._ownership: Ownership | None = None
        self._service: Service | None = None
        self._state = ExitStack()
        self._serving: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        try:
            prepare_state_dir(self._folder)
            self._notice = self._stack.enter_context(Notice(self._folder, self._properties))
            self._ownership = Ownership(self._settings.claude_config_dirs, Path.cwd())
        except StateDirError as error:
            self._trouble = str(error)
        except OSError as error:
            where = error.filename or "the folder this was started in"
            self._trouble = f"{where}: {(error.strerror or str(error)).lower()}"
        else:
            self._serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End what was begun. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._stop()
        if self._notice is not None and not self._notice.sessions:
            with suppress(OSError):  # a service removes it when it finds nothing to deliver
                self._notice.withdraw()
        self._stack.close()

    async def look_until(self, ended: asyncio.Task[int], descendants: Descendants) -> None:
        """Find the command's sessions until it has *ended*."""
        looks = 0
        while True:
            over = ended.done()
            await self._look(descendants, logs=over or looks % _LOGS_EVERY == 0)
            if over:
                return
            looks += 1
            await asyncio.wait({ended}, timeout=_LOOK_SECONDS)

    async def _look(self, descendants: Descendants, *, logs: bool) -> None:
        ownership, notice = self._ownership, self._notice
        if ownership is None or notice is None:
            return

        def look() -> None:
            ownership.look_at_processes(descendants)
            if logs:
                ownership.look_at_logs()
            notice.name(ownership.sessions)

        try:
            await asyncio.to_thread(look)
        except OSError as error:
            self._trouble = str(error)

    async def end(self, trace: Mapping[str, Any]) -> None:
        """Say that the command has ended, and what its traces are to say."""
        if self._notice is not None:
            try:
                self._notice.end(trace)
            except OSError as error:
                self._trouble = str(error)

    async def drain(self, limit: float, interrupted: asyncio.Event) -> None:
        """Wait until everything is delivered, for *limit* seconds at most; tell in one line where it is not."""
        notice = self._notice
        if notice is None or not notice.sessions:
            if self._trouble is not None:
                _warn(f"{self._trouble}; the command's sessions were not followed")
            return
        signalled = asyncio.create_task(interrupted.wait())
        try:
            await self._drain(notice, limit, signalled)
        finally:
            signalled.cancel()

    async def _drain(self, notice: Notice, limit: float, signalled: asyncio.Task[bool]) -> None:
        deadline = time.monotonic() + limit
        while notice.is_there:
            if self._serving is not None and self._serving.done():
                await self._stop()
            if self._serving is None and self._trouble is None:
                # The service that was there may have gone.
                self._serve()
            refusal = self._service.refusal() if self._service is not None else None
            if refusal is not None:
                self._trouble = f"{refusal.reason}; {refusal.hint}"
            left = deadline - time.monotonic()
            if self._trouble is not None or left <= 0 or signalled.done():
                reason = self._trouble or ("a signal came" if signalled.done() else f"{limit:g} s were not enough")
                _warn(
                    f"not everything of the command's sessions was delivered ({reason}); "
                    f"what is left stays in {self._folder} and the next `{APP_NAME} run` sends it"
                )
                return
            await asyncio.wait({signalled}, timeout=min(left, _LOOK_SECONDS))

    # ------------------------------------------------------------------ being the daemon

    def _serve(self) -> None:
        """Be the daemon for the command's sessions, unless one runs."""
        if _is_served(self._folder):
            return
        stack = ExitStack()
        try:
            make_sink = capture_sinks(self._settings)
            stack.enter_context(StateLock(self._folder))
            store = Store(self._folder)
            stack.callback(store.close)
            service = build_service(self._settings, store, make_sink, only_named=True)
            service.prepare("skip", time.time())
        except AlreadyRunning:
            stack.close()
        except (ConfigError, StateDirError, StoreError, sqlite3.Error, OSError) as error:
            stack.close()
            self._trouble = str(error)
        else:
            self._service = service
            self._state = stack
            self._serving = asyncio.create_task(service.run())

    async def _stop(self) -> None:
        """End being the daemon; what is under way stays as it was last noted."""
        serving, service = self._serving, self._service
        if serving is None or service is None:
            return
        service.stop(drain=0.0)
        await asyncio.wait({serving}, timeout=_CLOSE_SECONDS)
        if not serving.done():
            return
        self._serving = self._service = None
        self._state.close()
        error = None if serving.cancelled() else serving.exception()
        if error is not None:
            # The words of other errors may quote what they stumbled over.
            spoken = isinstance(error, sqlite3.Error | StoreError | OSError)
            self._trouble = str(error) if spoken else f"the daemon failed with {type(error).__name__}"

    @property
    def is_stuck(self) -> bool:
        """Whether being the daemon could not be ended."""
        return self._serving is not None
