"""Receives the signals that would end this process, and tells whether a terminal sent them.

A terminal sends a signal to all processes of a job, whereas `kill` sends it to one of them. So a program that runs a
command in its own job must pass on the latter only. On Linux the system says who sent a signal. Elsewhere, the terminal
counts as the sender while this process's group is in its foreground.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

__all__ = ["FROM_TERMINALS", "Heard", "Signals"]

FROM_TERMINALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""The signals that a terminal sends."""

Heard = Callable[[signal.Signals, bool], None]
"""Called with each signal, and with whether a terminal sent it, and thus sent it to the whole job."""

_NUMBERS = (*FROM_TERMINALS, signal.SIGTERM)


class Signals:
    """A context that keeps signals from ending this process. Enter it before anything starts a thread.

    Signals that are ignored when it is entered stay ignored.

    Raises:
        RuntimeError: on entering: no event loop is running.
    """

    def __init__(self) -> None:
        self._heard: Heard | None = None
        self._early: list[tuple[signal.Signals, bool]] = []
        self._numbers: tuple[signal.Signals, ...] = ()
        self._mask: Iterable[int] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: threading.Thread | None = None
        self._closing = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._numbers = tuple(number for number in _NUMBERS if signal.getsignal(number) != signal.SIG_IGN)
        if sys.platform == "linux":
            # Threads started from now on inherit the mask, so only the waiting thread receives these signals.
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
            self._waiter = threading.Thread(target=self._wait, name="signals", daemon=True)
            self._waiter.start()
        else:
            for number in self._numbers:
                self._loop.add_signal_handler(number, self._guess, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        if sys.platform == "linux":
            assert self._waiter is not None
            if self._numbers:
                os.kill(os.getpid(), self._numbers[0])
            self._waiter.join()
            # Drop that signal, and any that arrived meanwhile: none of them may end this process now.
            while signal.sigtimedwait(self._numbers, 0) is not None:
                pass
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        else:
            assert self._loop is not None
            for number in self._numbers:
                self._loop.remove_signal_handler(number)

    @property
    def first(self) -> signal.Signals | None:
        """The first signal that arrived before `tell_to`; None if there is none."""
        return self._early[0][0] if self._early else None

    def tell_to(self, heard: Heard) -> None:
        """Call *heard* for each signal, in the event loop, starting with those that have already arrived."""
        early, self._early = self._early, []
        self._heard = heard
        for number, by_terminal in early:
            heard(number, by_terminal)

    def let_through(self) -> None:
        """Restore the signal mask in a child process, before it becomes another program."""
        if sys.platform == "linux":
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _tell(self, number: signal.Signals, by_terminal: bool) -> None:
        if self._heard is None:
            self._early.append((number, by_terminal))
        else:
            self._heard(number, by_terminal)

    if sys.platform == "linux":

        def _wait(self) -> None:
            assert self._loop is not None
            while self._numbers:
                found = signal.sigwaitinfo(self._numbers)
                if self._closing:
                    return
                # Positive: the kernel sent it, on behalf of a terminal. Otherwise a process did.
                self._loop.call_soon_threadsafe(self._tell, signal.Signals(found.si_signo), found.si_code > 0)

    def _guess(self, number: signal.Signals) -> None:
        self._tell(number, number in FROM_TERMINALS and _is_in_foreground())


def _is_in_foreground() -> bool:
    """Whether there is a terminal that sends its signals to this process's group."""
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
