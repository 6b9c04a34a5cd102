"""Scratch folders: where a worker unpacks logs, which are private.

A folder is removed when its work is done. A worker that is killed cannot do that. So the command does it, or the next
worker on the machine: whoever works in a folder holds a lock in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["remove_left", "scratch"]

_PREFIX = "posthog-llma-archive-"
_LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder that only its owner can enter, and remove it afterwards."""
    remove_left()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    descriptor = os.open(folder / f".{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Only a lock that is held has this name.
        (folder / f".{_LOCK}").rename(folder / _LOCK)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_left() -> None:
    """Remove the folders that workers have left behind who were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                continue
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
