"""A command that runs in this process's place: with its terminal, its files, its folder and its signals."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from daemon.executing.signals import Signals

__all__ = ["CANNOT_RUN", "NOT_FOUND", "ForegroundCommand", "NotStartedError"]

CANNOT_RUN = 126
"""What shells exit with when a command is there and cannot be run."""
NOT_FOUND = 127
"""What shells exit with when there is no such command."""


class NotStartedError(Exception):
    """The command could not be started; the message says why.

    Attributes:
        status: what to exit with.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ForegroundCommand:
    """A command in the process group of this process, so that a terminal treats both as one job.

    Signals that would end this process go to the command; those a terminal sends have reached it already. Once the
    command has ended, they are noted.

    Args:
        command: the program and its arguments.
        environ: its environment.
        umask: its umask.
        signals: what comes to this process.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], umask: int, signals: Signals) -> None:
        self._command = command
        self._environ = environ
        self._umask = umask
        self._signals = signals
        self._process: asyncio.subprocess.Process | None = None
        self.interrupted = asyncio.Event()
        """Set when a signal has come that the command does not live to see."""

    async def start(self) -> None:
        """Start it.

        Raises:
            NotStartedError: it cannot be started, or a signal has come that it does not live to see.
        """
        if (number := self._signals.first) is not None:
            raise NotStartedError(f"{self._command[0]}: not begun, because {number.name} came first", 128 + number)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=None,
                stdout=None,
                stderr=None,
                env=self._environ,
                umask=self._umask,
                # What was handed to this process beyond the three is the command's, too; our own are not passed on.
                close_fds=False,
                # One system call, which needs nothing that another thread could hold at this moment.
                preexec_fn=self._signals.let_through,
            )
        except OSError as error:
            name, bare = self._command[0], "/" not in self._command[0]
            if error.errno == errno.ENOENT and bare:
                raise NotStartedError(f"{name}: there is no such command on the PATH", NOT_FOUND) from None
            status = NOT_FOUND if error.errno == errno.ENOENT else CANNOT_RUN
            raise NotStartedError(f"{name}: {(error.strerror or str(error)).lower()}", status) from None
        self._signals.tell_to(self._pass_on)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def wait(self) -> int:
        """Wait for its end, and return the status a shell would give: its own, or 128 and the signal that ended it."""
        assert self._process is not None
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    def _pass_on(self, number: signal.Signals, by_terminal: bool) -> None:
        assert self._process is not None
        if self._process.returncode is not None:
            self.interrupted.set()
        elif not by_terminal:
            with suppress(ProcessLookupError):  # it has ended this very moment
                self._process.send_signal(number)
