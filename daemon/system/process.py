"""What the system tells about another process."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_suspended"]

_SUSPENDED = frozenset("Tt")


def is_suspended(pid: int) -> bool:
    """Whether a signal or a debugger has suspended the process *pid*. Only Linux tells; elsewhere this is False."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The name in front of the state is in parentheses and may hold anything.
    return fields.rpartition(")")[2].split()[:1] in ([state] for state in _SUSPENDED)
