"""Which processes a command has started, itself or through others."""

from __future__ import annotations

import sys
from pathlib import Path

from daemon.system.command import CommandError, run

__all__ = ["Descendants"]

_PROC = Path("/proc")
_MAX_DEPTH = 256


class Descendants:
    """The processes below a command.

    A process counts when the command is among its ancestors. One that has lost them, because what started it has ended,
    counts on Linux by a variable that it has inherited.

    Args:
        pid: the command's process.
        variable: name and value of a variable that the command was given, and nobody else has.
    """

    def __init__(self, pid: int, variable: tuple[str, str] | None = None) -> None:
        self._pid = pid
        self._mark = None if variable is None else "=".join(variable).encode(errors="surrogateescape")

    def has(self, pid: int) -> bool | None:
        """Whether process *pid* is the command or below it; None where the system does not say."""
        above: int | None = pid
        for _ in range(_MAX_DEPTH):
            if above == self._pid:
                return True
            if above is None or above <= 1:
                break
            above = _parent(above)
        return self._is_marked(pid) or (None if above is None else False)

    def _is_marked(self, pid: int) -> bool:
        if self._mark is None:
            return False
        try:
            return self._mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            # It has gone, is somebody else's, or this is no Linux.
            return False


def _parent(pid: int) -> int | None:
    """Return the process that is said to have started *pid*; None where nobody says so."""
    if sys.platform == "linux":
        try:
            text = (_PROC / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # The name stands in parentheses and may hold blanks and parentheses itself; the rest are words.
        fields = text.rpartition(")")[2].split()
        return int(fields[1]) if len(fields) > 1 else None
    try:
        said = run("ps", "-o", "ppid=", "-p", str(pid)).stdout.strip()
    except CommandError:
        return None
    return int(said) if said.isdigit() else None
