"""A command that runs in this process's place: with its terminal, its files, its folder and its signals."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["CANNOT_RUN", "NOT_FOUND", "ForegroundCommand", "NotStartedError"]

CANNOT_RUN = 126
"""What shells exit with when a command is there and cannot be run."""
NOT_FOUND = 127
"""What shells exit with when there is no such command."""

_FROM_TERMINALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_PASSED_ON = (*_FROM_TERMINALS, signal.SIGTERM)


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

    While the context lasts signals that would end this process go to the command; those a terminal sends have reached
    it already. Once the command has ended, they are noted.

    Args:
        command: the program and its arguments.
        environ: its environment.
        umask: its umask.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], umask: int) -> None:
        self._command = command
        self._environ = environ
        self._umask = umask
        self._process: asyncio.subprocess.Process | None = None
        self._handled: list[signal.Signals] = []
        self._early: list[signal.Signals] = []
        self.interrupted = asyncio.Event()
        """Set when a signal has come that the command does not live to see."""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _PASSED_ON:
            # What was ignored when this process began is ignored by the command as well.
            if signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._pass_on, number)
                self._handled.append(number)
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
            )
        except OSError as error:
            self._let_go()
            reason = (error.strerror or str(error)).lower()
            status = NOT_FOUND if error.errno == errno.ENOENT else CANNOT_RUN
            raise NotStartedError(f"{self._command[0]}: {reason}", status) from None
        for number in self._early:
            self._pass_on(number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

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

    def _let_go(self) -> None:
        for number in self._handled:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _pass_on(self, number: signal.Signals) -> None:
        if self._process is None:
            self._early.append(number)
        elif self._process.returncode is not None:
            self.interrupted.set()
        elif not (number in _FROM_TERMINALS and _is_in_foreground()):
            with suppress(ProcessLookupError):  # it has ended this very moment
                self._process.send_signal(number)


def _is_in_foreground() -> bool:
    """Whether the terminal, if there is one, sends its signals to this process's group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
