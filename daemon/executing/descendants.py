"""Tells which processes a command started, directly or through other processes."""

from __future__ import annotations

import sys
from pathlib import Path

from daemon.system.command import CommandError, run

__all__ = ["Descendants"]

_PROC = Path("/proc")
_MAX_DEPTH = 256


class Descendants:
    """A command's process and everything below it.

    A process counts if the command is among its ancestors. When its parent has ended, a process loses that ancestry; on
    Linux it then still counts if its environment holds the command's variable.

    Args:
        pid: the command's process id.
        variable: name and value of an environment variable that only this command was given.
    """

    def __init__(self, pid: int, variable: tuple[str, str] | None = None) -> None:
        self._pid = pid
        self._assignment = None if variable is None else "=".join(variable).encode(errors="surrogateescape")

    def has(self, pid: int) -> bool | None:
        """Whether process *pid* is the command or below it; None if the system does not tell."""
        above: int | None = pid
        for _ in range(_MAX_DEPTH):
            if above == self._pid:
                return True
            if above is None or above <= 1:
                break
            above = _parent(above)
        return self._has_variable(pid) or (None if above is None else False)

    def _has_variable(self, pid: int) -> bool:
        if self._assignment is None:
            return False
        try:
            return self._assignment in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            # The process has ended or belongs to another user, or this is not Linux.
            return False


def _parent(pid: int) -> int | None:
    """Return the parent process of *pid*; None if the system does not tell."""
    if sys.platform == "linux":
        try:
            text = (_PROC / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # The name is in parentheses and may itself contain blanks and parentheses; what follows is words.
        fields = text.rpartition(")")[2].split()
        return int(fields[1]) if len(fields) > 1 else None
    try:
        said = run("ps", "-o", "ppid=", "-p", str(pid)).stdout.strip()
    except CommandError:
        return None
    return int(said) if said.isdigit() else None
