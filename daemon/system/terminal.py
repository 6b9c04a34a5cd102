"""The terminal that this process was started on, if any."""

from __future__ import annotations

import os
import select

__all__ = ["Terminal"]


class Terminal:
    """The terminal of this process, as of now: one of its standard streams, or the one that controls it.

    Attributes:
        exists: whether there is one. A process of a service manager has none.
    """

    def __init__(self) -> None:
        self._descriptors = [number for number in range(3) if os.isatty(number)]
        self.exists = bool(self._descriptors) or _is_controlled()

    def has_hung_up(self) -> bool:
        """Whether a standard stream's terminal is gone.

        The system signals that only to a process which the terminal controls.
        """
        poll = select.poll()
        for descriptor in self._descriptors:
            # A hang-up is reported although nothing is asked for.
            poll.register(descriptor, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0)) if self._descriptors else False

    def let_go(self) -> None:
        """Let the standard streams lead nowhere: writing to a terminal that is gone fails, again at the exit."""
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in self._descriptors:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _is_controlled() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
