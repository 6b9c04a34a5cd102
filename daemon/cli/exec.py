"""`exec`: run a command and deliver its sessions, for CI and one-time use."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from daemon.cli.message import say
from daemon.cli.startup import LOG_LEVELS, embed_service, fail, set_up_logs
from daemon.config import loading, parsers
from daemon.config.settings import ConfigError, Settings
from daemon.executing.foreground import NotStartedError
from daemon.reading.command_run import run_command
from daemon.reading.command_sessions import CommandSessions, is_served
from llma_core.properties import refused_properties

__all__ = ["exec"]


def _properties(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> Mapping[str, Any]:
    """Read the values of `--property`, each as name=value."""
    del ctx, param
    found: dict[str, str] = {}
    for each in given:
        name, sign, value = each.partition("=")
        name = name.strip()
        if not sign or not name:
            raise click.BadParameter(f"{parsers.shown(each)} has no name or no value; write --property team=web")
        if name in found:
            raise click.BadParameter(f"{parsers.shown(name)} is given twice; remove one")
        found[name] = value
    if refused := sorted(refused_properties(found)):
        raise click.BadParameter(f"{parsers.shown(refused[0])} is reserved; use another name")
    try:
        return parsers.json_object(found, parsers.Context(home=Path.home()))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    del ctx, param
    if not math.isfinite(value) or value < 0:
        raise click.BadParameter(f"{value:g} is not valid; give a number of seconds, 0 or more")
    return value


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option(
    "--property",
    "properties",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_properties,
    help="Add this property, as text, to every event of the command's sessions. You can repeat it.",
)
@click.option(
    "--drain-timeout",
    type=float,
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    callback=_seconds,
    help="How long to keep delivering after the command has ended.",
)
@click.option(
    "--log-level",
    type=LOG_LEVELS,
    metavar="LEVEL",
    default="critical",
    show_default=True,
    help="Lowest level to log, on stderr: debug, info, warning, error or critical.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec(  # noqa: A001 - the verb's name; nothing here uses the builtin
    ctx: click.Context,
    properties: Mapping[str, Any],
    drain_timeout: float,
    log_level: str,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and deliver the sessions that it starts, directly or indirectly.

    The exit code is the command's own (128 plus the signal number if a signal ended it), whether or not the events
    were delivered. Undelivered events stay in the state directory, and the next run sends them.

    What the command and its children record of their own calls is delivered, too: POSTHOG_LLMA_OUTBOX tells them where.

    The command may write a JSON object to the file named by POSTHOG_LLMA_PROPERTIES_FILE. Its values become properties
    of the trace.
    """
    settings = _settings(log_level)
    umask = ctx.obj if isinstance(ctx.obj, int) else 0o077
    try:
        status = asyncio.run(_run(command, umask, settings, properties, drain_timeout))
    except NotStartedError as error:
        raise fail(str(error), error.status) from None
    raise click.exceptions.Exit(status)


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

    def follow() -> CommandSessions:
        assert settings is not None
        return CommandSessions(settings, properties, embed=lambda stack: embed_service(settings, stack), warn=_warn)

    end = await run_command(
        command,
        umask=umask,
        follow=follow if settings is not None else None,
        drain_seconds=drain_timeout,
        warn=_warn,
    )
    if end.is_stuck:
        # A file system or a receiver that does not answer must not keep the command's caller waiting, and the end of
        # the event loop would wait for it. The store is consistent at any moment.
        sys.stderr.flush()
        os._exit(end.status)
    return end.status


def _warn(line: str) -> None:
    say(f"warning: {parsers.one_line(line)}", err=True)


def _settings(log_level: str) -> Settings | None:
    """Read the settings; return None, after a warning, if nothing can be sent with them."""
    try:
        settings = loading.load({}, os.environ)
    except ConfigError as error:
        _warn(f"{'; '.join(error.problems)}; the command's sessions are not sent")
        return None
    set_up_logs(settings, log_format=None, log_level=log_level)
    for warning in settings.warnings:
        _warn(warning)
    if settings.opt_out:
        return None
    if not is_served(settings.state_dir) and (reason := settings.why_disabled()) is not None:
        _warn(f"{reason}; the command's sessions are not sent")
        return None
    return settings
