"""The life cycle of a command under `exec`: its signals, its file of properties, and its sessions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from daemon.config import parsers
from daemon.config.table import OUTBOX_VARIABLE
from daemon.executing.descendants import Descendants
from daemon.executing.foreground import ForegroundCommand
from daemon.executing.properties_file import VARIABLE, PropertiesFile, PropertiesFileError
from daemon.executing.signals import Signals
from daemon.reading.command_sessions import CommandSessions
from daemon.system.messages import system_reason

__all__ = ["CommandEnd", "run_command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEnd:
    """How a command ended.

    Attributes:
        status: its exit status, as a shell reports it.
        is_stuck: whether the service for its sessions could not be stopped, so that this process would not end by
            itself.
    """

    status: int
    is_stuck: bool = False


async def run_command(
    command: Sequence[str],
    *,
    umask: int,
    follow: Callable[[], CommandSessions] | None,
    drain_seconds: float,
    warn: Callable[[str], None],
) -> CommandEnd:
    """Run a command, and deliver its sessions.

    Args:
        command: the program and its arguments.
        umask: the command's umask.
        follow: makes what follows the command's sessions; None to follow none.
        drain_seconds: how long to go on delivering after the command has ended.
        warn: reports a failure in one line.

    Raises:
        NotStartedError: the command cannot be started.
    """
    async with AsyncExitStack() as stack:
        # Before anything else, while there are no threads: from here on signals go to the command and do not end this
        # process.
        signals = stack.enter_context(Signals())
        file, environ = None, dict(os.environ)
        try:
            file = stack.enter_context(PropertiesFile())
            environ[VARIABLE] = str(file.path)
        except OSError as error:
            warn(f"{VARIABLE} is not set: a temporary folder cannot be made ({system_reason(error)})")
        sessions = None
        if follow is not None:
            sessions = await stack.enter_async_context(follow())
            if sessions.outbox is not None:
                environ[OUTBOX_VARIABLE] = str(sessions.outbox)
        running = ForegroundCommand(command, environ=environ, umask=umask, signals=signals)
        await running.start()
        variable = (VARIABLE, environ[VARIABLE]) if file is not None else None
        ended = asyncio.create_task(running.wait())
        if sessions is not None:
            await sessions.look_until(ended, Descendants(running.pid, variable))
        status = await ended
        if sessions is not None:
            await sessions.end(_verdict(file, warn))
            await sessions.drain(drain_seconds, running.interrupted)
            # While signals are still caught, so that none of them changes the exit status now.
            await sessions.close()
    return CommandEnd(status=status, is_stuck=sessions is not None and sessions.is_stuck)


def _verdict(file: PropertiesFile | None, warn: Callable[[str], None]) -> Mapping[str, Any]:
    """Return the properties that the command has written for its traces; warn about those that cannot be used."""
    if file is None:
        return {}
    try:
        properties, refused = file.read()
    except PropertiesFileError as error:
        warn(f"{VARIABLE} {error}; the trace is sent without it")
        return {}
    for name in sorted(refused):
        warn(f"{VARIABLE}: {parsers.shown(name)} is reserved and was left out; use another name")
    return properties
