"""A log file of bounded size, for service managers that keep no logs."""

from __future__ import annotations

import io
import os
from pathlib import Path

__all__ = ["LogFile"]

_LARGEST = 5_000_000


class LogFile(io.TextIOBase):
    """A text stream that appends to a file, and renames the file to `NAME.1` when it becomes too large.

    A line is never split between two files. Only one process may write a file.

    Args:
        path: the file. A missing folder is made. Only the user can read either.
        largest: size in bytes at which the file is renamed, replacing the one renamed before.

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
        """Return True: the stream can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the current file."""
        return self._file.fileno()

    def write(self, text: str) -> int:
        """Append *text*."""
        if self._file.tell() >= self._largest and not self._in_line:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._open()
        # Unbuffered: the last lines before a crash matter most.
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
