"""Reads small files safely: regular files only, up to a size limit."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

from daemon.system import disk
from daemon.system.messages import system_reason

__all__ = ["MAX_FILE_BYTES", "UnreadableFileError", "read_regular", "read_with_status"]


# A settings file has a few kilobytes. A larger file is something else, and not worth the memory.
MAX_FILE_BYTES = 1024 * 1024


class UnreadableFileError(Exception):
    """A file exists but cannot be used.

    Attributes:
        path: the file.
        reason: what is wrong, in a few words that follow the path, with a position if there is one. It never quotes the
            file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def read_regular(path: Path, limit: int = MAX_FILE_BYTES) -> bytes | None:
    """Return the contents of the regular file *path*, following links; None if it does not exist.

    Never blocks, even if *path* is a pipe or a device.

    Raises:
        UnreadableFileError: it is not a regular file, has more than *limit* bytes, or the system refuses to read it.
    """
    found = read_with_status(path, limit)
    return None if found is None else found[0]


def read_with_status(path: Path, limit: int = MAX_FILE_BYTES) -> tuple[bytes, os.stat_result] | None:
    """Return the contents like `read_regular`, and the status of the very file that was read.

    Raises:
        UnreadableFileError: as in `read_regular`.
    """
    try:
        return disk.call(str(path.parent), partial(_read, path, limit))
    except disk.Unanswered as error:
        raise UnreadableFileError(path, _explain(error)) from error


def _read(path: Path, limit: int) -> tuple[bytes, os.stat_result] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnreadableFileError(path, _explain(error)) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnreadableFileError(path, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise UnreadableFileError(path, _explain(error)) from error
    if len(data) > limit:
        raise UnreadableFileError(path, f"is larger than {limit} bytes")
    return data, status


def _explain(error: Exception) -> str:
    """Return what is wrong with a file, without its path."""
    return f"cannot be read ({system_reason(error) if isinstance(error, OSError) else 'not a valid path'})"
