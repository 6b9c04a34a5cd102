"""Runs a command in this process's place: with its terminal, files, folder and signals."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from daemon.executing.signals import Signals
from daemon.system.messages import system_reason

__all__ = ["CANNOT_RUN", "NOT_FOUND", "ForegroundCommand", "NotStartedError"]

CANNOT_RUN = 126
"""Exit status of shells for a command that exists but cannot be run."""
NOT_FOUND = 127
"""Exit status of shells for a command that does not exist."""


class NotStartedError(Exception):
    """The command could not be started; the message says why.

    Attributes:
        status: the status to exit with.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ForegroundCommand:
    """A command in this process's group, so that a terminal treats both as one job.

    Signals that would end this process are passed on to the command. Those that a terminal sent are not: the command
    has received them already. After the command has ended, a signal sets `interrupted`.

    Args:
        command: the program and its arguments.
        environ: its environment.
        umask: its umask.
        signals: the signals that this process receives.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], umask: int, signals: Signals) -> None:
        self._command = command
        self._environ = environ
        self._umask = umask
        self._signals = signals
        self._process: asyncio.subprocess.Process | None = None
        self.interrupted = asyncio.Event()
        """Set when a signal arrives after the command has ended."""

    async def start(self) -> None:
        """Start the command.

        Raises:
            NotStartedError: it cannot be started, or a signal arrived first.
        """
        if (number := self._signals.first) is not None:
            raise NotStartedError(f"{self._command[0]}: not started: {number.name} arrived first", 128 + number)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=None,
                stdout=None,
                stderr=None,
                env=self._environ,
                umask=self._umask,
                # The command also gets the other descriptors that this process was given. Our own are not inheritable.
                close_fds=False,
                # A single system call: it needs no lock that another thread might hold right now.
                preexec_fn=self._signals.let_through,
            )
        except OSError as error:
            name, bare = self._command[0], "/" not in self._command[0]
            if error.errno == errno.ENOENT and bare:
                raise NotStartedError(f"{name}: there is no such command on the PATH", NOT_FOUND) from None
            status = NOT_FOUND if error.errno == errno.ENOENT else CANNOT_RUN
            raise NotStartedError(f"{name}: {system_reason(error)}", status) from None
        self._signals.tell_to(self._pass_on)

    @property
    def pid(self) -> int:
        """The command's process id."""
        assert self._process is not None
        return self._process.pid

    async def wait(self) -> int:
        """Wait until it ends; return the status a shell would: its own, or 128 plus the signal that ended it."""
        assert self._process is not None
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    def _pass_on(self, number: signal.Signals, by_terminal: bool) -> None:
        assert self._process is not None
        if self._process.returncode is not None:
            self.interrupted.set()
        elif not by_terminal:
            with suppress(ProcessLookupError):  # it has just ended
                self._process.send_signal(number)
