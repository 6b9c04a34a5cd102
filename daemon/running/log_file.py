"""A log file that does not grow without end, for where the service manager keeps no logs."""

from __future__ import annotations

import io
import os
from pathlib import Path

__all__ = ["LogFile"]

_LARGEST = 5_000_000


class LogFile(io.TextIOBase):
    """A text stream that appends to a file; the file is set aside as `NAME.1` when it becomes too large.

    Lines are kept whole. One process writes a file.

    Args:
        path: the file; its folder is made when it is missing. Only the user can read both.
        largest: bytes after which the file is set aside, replacing the one set aside before.

    Raises:
        OSError: the file cannot be opened.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, path: Path, *, largest: int = _LARGEST) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._largest = largest
        self._file = self._open()
        self._in_line = False

    def writable(self) -> bool:
        """Whether it can be written to; it can."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the file as it is now."""
        return self._file.fileno()

    def write(self, text: str) -> int:
        """Append *text*."""
        if self._file.tell() >= self._largest and not self._in_line:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._open()
        # Unbuffered: the last words of a process that dies are the ones that are needed.
        self._file.write(text.encode(self.encoding, self.errors))
        self._in_line = not text.endswith("\n") if text else self._in_line
        return len(text)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()
        super().close()

    def _open(self) -> io.FileIO:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        file = io.FileIO(os.fspath(self._path), "a", opener=opener)
        file.seek(0, os.SEEK_END)
        return file
