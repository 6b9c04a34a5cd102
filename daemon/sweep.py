"""The stat sweep: which log files have changed, found out without any hint.

Truth is what stat says. A full sweep looks at every file; a hot one at the files touched in the last day and at the
folders whose own time has changed, which is all a quiet tree costs every few seconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.catalog import log_files

__all__ = ["Found", "Sweep"]

HOT_SECONDS = 86_400
"""Files touched within this time are looked at by every hot sweep."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file as stat saw it."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Found:
        """Take what matters of *status*."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Sweep:
    """Remembers what every file looked like when it was last seen.

    Args:
        roots: the `projects` folders; those that do not exist are looked for each time.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._folders: dict[str, int] = {}
        self.files: dict[str, Found] = {}

    def full(self) -> tuple[list[str], list[str]]:
        """Look at everything; return the paths that are new or changed, and those that are gone."""
        found: dict[str, Found] = {}
        folders: dict[str, int] = {}
        for root in self._roots:
            _note_folder(folders, str(root))
            for path, status in log_files(root):
                found[path] = Found.of(status)
                _note_folder(folders, os.path.dirname(path))  # noqa: PTH120 - a string, ten thousand times a sweep
        changed = [path for path, file in found.items() if self.files.get(path) != file]
        gone = [path for path in self.files if path not in found]
        self.files, self._folders = found, folders
        return changed, gone

    def hot(self, now: float) -> tuple[list[str], list[str]]:
        """Look at what is likely to change; *now* is the wall clock. Everything, if a folder has changed."""
        for folder, modified in self._folders.items():
            if _modified(folder) != modified:
                return self.full()
        since = int((now - HOT_SECONDS) * 1e9)
        changed, gone = [], []
        for path in [path for path, file in self.files.items() if file.modified >= since]:
            if self.look(path):
                changed.append(path)
            elif path not in self.files:
                gone.append(path)
        return changed, gone

    def look(self, path: str) -> bool:
        """Look at one file; return whether it is new or changed. One that is gone is forgotten."""
        try:
            file = Found.of(os.lstat(path))
        except OSError:
            self.files.pop(path, None)
            return False
        if self.files.get(path) == file:
            return False
        self.files[path] = file
        return True


def _modified(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return -1


def _note_folder(folders: dict[str, int], folder: str) -> None:
    if folder not in folders:
        folders[folder] = _modified(folder)
