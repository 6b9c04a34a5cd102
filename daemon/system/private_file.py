"""Writes files as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

__all__ = ["temporary_prefix", "write_private", "write_whole"]


def write_private(path: Path, data: bytes) -> None:
    """Replace the file *path* by one that contains *data* and that only its owner can read. Create missing folders.

    Raises:
        OSError: the system refuses. The file is unchanged.
    """
    write_whole(path, data, mode=0o600)


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Replace the file *path* by one that contains *data*, in one step. If it is a symbolic link, replace its target.

    Raises:
        OSError: the system refuses. The file is unchanged.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=temporary_prefix(target.name))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def temporary_prefix(name: str) -> str:
    """Return the beginning of the names of temporary files, in the same folder, for writing the file *name*."""
    return f".{name}."
