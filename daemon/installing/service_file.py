"""Reads, writes and removes the file that describes the service to its manager."""

from __future__ import annotations

from pathlib import Path

from daemon.installing.service_manager import ManagerError, Tell
from daemon.system.messages import system_reason
from daemon.system.private_file import write_whole

__all__ = ["read", "remove", "write"]


def read(path: Path) -> str | None:
    """Return the text of the file; None if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def write(path: Path, text: str, tell: Tell, *, mode: int) -> None:
    """Write the file in one step, unless it already holds *text*.

    Args:
        path: the file.
        text: its content.
        tell: is told which of the two happened.
        mode: the file's permission bits.

    Raises:
        ManagerError: the file cannot be written.
    """
    try:
        if read(path) == text:
            tell(f"unchanged: {path}")
            return
        write_whole(path, text.encode(), mode=mode)
    except OSError as error:
        raise ManagerError(f"{path} cannot be written ({system_reason(error)})") from None
    tell(f"written: {path}")


def remove(path: Path, tell: Tell) -> None:
    """Remove the file if it exists.

    Raises:
        ManagerError: the file cannot be removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ManagerError(f"{path} cannot be removed ({system_reason(error)})") from None
    tell(f"removed: {path}")
