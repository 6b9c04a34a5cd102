"""The sessions of a command that `exec` runs, from before its start until they are delivered.

A daemon that runs already delivers them. If none runs, a service inside this process does, and only these sessions.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, Self

from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.delivering.sink import Stopped
from daemon.executing.descendants import Descendants
from daemon.executing.ownership import Ownership
from daemon.reading.executions import Notice
from daemon.state.dropped import dropped, why
from daemon.state.layout import make_outbox, outbox_folder
from daemon.state.lock import AlreadyRunning, StateDirError, is_locked, prepare_state_dir
from daemon.state.store import StoreError
from daemon.system.messages import system_reason

__all__ = ["CommandSessions", "EmbeddedService", "is_served"]

_LOOK_SECONDS = 0.1
"""How often to look at the client's registry of live processes. A client that lives shorter has had no answer."""
_LOGS_EVERY = 3
"""Every so many looks include the logs."""
_CLOSE_SECONDS = 5.0
"""How long the embedded service may take to stop when it has nothing more to deliver."""


class EmbeddedService(Protocol):
    """What is used here of a service that runs inside this process."""

    async def run(self) -> None:
        """Follow the sessions until `stop` is called."""

    def stop(self, *, drain: float) -> None:
        """Begin to stop; deliver what was read for *drain* seconds."""

    def refusal(self) -> Stopped | None:
        """Return why nothing can be delivered until the user changes something; None if something can."""


class CommandSessions:
    """The sessions of one command. An async context manager, entered before the command starts.

    Failures in here never concern the command. They are reported in one warning, after the command has ended.

    Args:
        settings: the settings in force.
        properties: what all events of the sessions carry besides.
        embed: locks the state directory and prepares a service that reads only the sessions that a command names. What
            has to be released afterwards goes into the stack. It may raise AlreadyRunning, ConfigError, StateDirError,
            StoreError, sqlite3.Error or OSError.
        warn: reports a failure in one line.

    Attributes:
        outbox: the folder in which the command records its own calls; None until this is entered, and if it cannot be
            made.
    """

    def __init__(
        self,
        settings: Settings,
        properties: Mapping[str, Any],
        *,
        embed: Callable[[ExitStack], EmbeddedService],
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._properties = properties
        self._embed = embed
        self._warn = warn
        self._folder = settings.state_dir
        self._stack = ExitStack()
        self._notice: Notice | None = None
        self._ownership: Ownership | None = None
        self._service: EmbeddedService | None = None
        self._state = ExitStack()
        self._serving: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._closed = False
        self.outbox: Path | None = None

    async def __aenter__(self) -> Self:
        try:
            prepare_state_dir(self._folder)
            self._notice = self._stack.enter_context(Notice(self._folder, self._properties))
            self.outbox = self._make_outbox()
            self._ownership = Ownership(self._settings.claude_config_dirs, Path.cwd(), self.outbox)
        except StateDirError as error:
            self._failure = str(error)
        except OSError as error:
            where = error.filename or "the current folder"
            self._failure = f"{where}: {system_reason(error)}"
        else:
            self._serve()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop the embedded service and release everything. Can be called more than once."""
        if self._closed:
            return
        self._closed = True
        await self._stop()
        if self._notice is not None and not self._notice.sessions:
            with suppress(OSError):  # a service removes the file when it finds nothing to deliver
                self._notice.withdraw()
        if self.outbox is not None:
            if (lost := dropped([self.outbox])).total():
                self._warn(f"{lost.total():,} calls of the command were not recorded: {why(lost)}")
            if self._notice is None or not self._notice.is_there:
                # Everything in it is delivered, or there is nothing.
                shutil.rmtree(self.outbox, ignore_errors=True)
        self._stack.close()

    def _make_outbox(self) -> Path | None:
        """Make a folder of the command's own where every daemon with this state looks. Without it, go on."""
        folder = outbox_folder(self._folder) / f"exec-{uuid.uuid4().hex[:12]}"
        try:
            make_outbox(folder)
        except OSError as error:
            self._warn(f"{folder} cannot be made ({system_reason(error)}); what the command records is not sent")
            return None
        return folder

    async def look_until(self, ended: asyncio.Task[int], descendants: Descendants) -> None:
        """Find the command's sessions until the command has ended."""
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
            self._failure = str(error)

    async def end(self, trace: Mapping[str, Any]) -> None:
        """Record that the command has ended.

        Args:
            trace: properties for the traces of its sessions.
        """
        if self._notice is not None:
            try:
                self._notice.end(trace)
            except OSError as error:
                self._failure = str(error)

    async def drain(self, limit: float, interrupted: asyncio.Event) -> None:
        """Wait until everything is delivered, and warn if it was not.

        Args:
            limit: seconds to wait at most.
            interrupted: ends the wait when it is set.
        """
        notice = self._notice
        if notice is None or not notice.sessions:
            if self._failure is not None:
                self._warn(f"{self._failure}; the command's sessions were not followed")
            return
        signaled = asyncio.create_task(interrupted.wait())
        try:
            await self._drain(notice, limit, signaled)
        finally:
            signaled.cancel()

    async def _drain(self, notice: Notice, limit: float, signaled: asyncio.Task[bool]) -> None:
        deadline = time.monotonic() + limit
        while notice.is_there:
            if self._serving is not None and self._serving.done():
                await self._stop()
            if self._serving is None and self._failure is None:
                # The daemon that was running may have ended.
                self._serve()
            refusal = self._service.refusal() if self._service is not None else None
            if refusal is not None:
                self._failure = f"{refusal.reason}; {refusal.hint}"
            left = deadline - time.monotonic()
            if self._failure is not None or left <= 0 or signaled.done():
                stopped = "a signal arrived" if signaled.done() else f"{limit:g} s were not enough"
                self._warn(
                    f"not all events of the command's sessions were delivered ({self._failure or stopped}); the rest "
                    f"stays in {self._folder} and the next `{APP_NAME} run` sends it"
                )
                return
            await asyncio.wait({signaled}, timeout=min(left, _LOOK_SECONDS))

    # ------------------------------------------------------------------ the embedded service

    def _serve(self) -> None:
        """Run a service for the command's sessions, unless a daemon already runs."""
        if is_served(self._folder):
            return
        stack = ExitStack()
        try:
            service = self._embed(stack)
        except AlreadyRunning:
            stack.close()
        except (ConfigError, StateDirError, StoreError, sqlite3.Error, OSError) as error:
            stack.close()
            self._failure = str(error)
        else:
            self._service = service
            self._state = stack
            self._serving = asyncio.create_task(service.run())

    async def _stop(self) -> None:
        """Stop the embedded service. Events on their way stay as they were last recorded."""
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
            # The message of any other error may quote content.
            is_safe = isinstance(error, sqlite3.Error | StoreError | OSError)
            self._failure = str(error) if is_safe else f"the service failed with {type(error).__name__}"

    @property
    def is_stuck(self) -> bool:
        """Whether the embedded service could not be stopped."""
        return self._serving is not None


def is_served(state_dir: Path) -> bool:
    """Whether a daemon runs on *state_dir*, as far as this user can tell."""
    try:
        return is_locked(state_dir)
    except OSError:
        return False
