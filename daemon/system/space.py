"""Whether a disk has room for the daemon's own files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["LITTLE_SPACE", "NO_SPACE", "Room", "room_at"]

NO_SPACE = 100_000_000
"""With fewer free bytes than this, the daemon may fail to record what it sent, and then sends nothing."""
LITTLE_SPACE = 1_000_000_000
"""With fewer free bytes than this, it is time to make room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The room that a file system has left for this user.

    Attributes:
        free: free bytes.
        files: how many more files it can hold; None if it does not count them.
    """

    free: int
    files: int | None = None

    @property
    def level(self) -> Literal["enough", "little", "none"]:
        """Whether that is enough for the daemon."""
        if self.free < NO_SPACE or self.files == 0:
            return "none"
        return "little" if self.free < LITTLE_SPACE else "enough"

    def __str__(self) -> str:
        if self.files == 0:
            return "no more files"
        return f"{self.free // 1_000_000:,} MB"


def room_at(path: Path) -> Room:
    """Return the room on the file system that *path* is on, or will be on once it exists.

    Raises:
        OSError: the system refuses to tell.
    """
    there = next(each for each in (path, *path.parents) if each.exists())
    said = os.statvfs(there)
    return Room(free=said.f_bavail * said.f_frsize, files=said.f_favail if said.f_files else None)
