"""Ends what a test process has started, once that process is dead and can no longer do it.

    guard().watch(pid)
    guard().release(pid)

A process that is killed by SIGKILL cleans up nothing, and its daemons would follow their logs forever. So another
process reads from a pipe which groups of processes are to be ended. The pipe ends with whoever writes to it, on every
system; then the guard kills what is left and ends, too.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache

__all__ = ["Guard", "guard"]


class Guard:
    """A process that outlives this one for a moment. It costs the start of an interpreter without any packages."""

    def __init__(self) -> None:
        # Its own session: it must not get what ends this process.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,
        )

    def watch(self, pid: int) -> None:
        """Have a process and its group killed when this process dies. The process has, or will have, its own group."""
        self._tell(f"+{pid}\n")

    def release(self, pid: int) -> None:
        """Forget a process. It has been reaped, so its id may soon be another's."""
        self._tell(f"-{pid}\n")

    def end(self) -> None:
        """Kill what is still watched, and end."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())


@cache
def guard() -> Guard:
    """Return the guard of this process."""
    found = Guard()
    atexit.register(found.end)
    return found


def _main() -> None:
    watched: set[int] = set()
    for line in sys.stdin:
        (watched.add if line[0] == "+" else watched.discard)(int(line[1:]))
    for pid in watched:
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _main()
