r"""Bytes of a growing file to complete lines, each with its place in the file.

Lines end at b"\n" and nowhere else: JSON strings may hold every other character that some text readers take for a
line end (U+2028, U+0085). Where the chunks were cut makes no difference to what comes out.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["MAX_LINE_BYTES", "Line", "LineSplitter"]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is skipped to its end. The longest seen in 980 public logs has 2 MB; an image is about as large."""


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """One complete line.

    Attributes:
        start: offset of its first byte in the file.
        end: offset behind its line end; the start of the next line.
        data: its bytes without the line end; None where the line was longer than the limit and was skipped.
    """

    start: int
    end: int
    data: bytes | None


class LineSplitter:
    """Collects chunks of one file and gives back complete lines; keeps the incomplete last one.

    Attributes:
        offset: end of the last complete line given out, where a reader that starts afresh has to go on.
    """

    def __init__(self, *, offset: int = 0, limit: int = MAX_LINE_BYTES) -> None:
        self.offset = offset
        self._limit = limit
        self._parts: list[bytes] = []
        self._pending = 0
        self._skipping = False

    @property
    def pending(self) -> int:
        """Bytes read of a line that has no end yet."""
        return self._pending

    def push(self, chunk: bytes) -> list[Line]:
        """Take the next bytes of the file and return the lines they complete."""
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        head, *middle, tail = chunk.split(b"\n")
        lines = [self._complete(head)]
        for data in middle:
            start = self.offset
            self.offset = start + len(data) + 1
            lines.append(Line(start=start, end=self.offset, data=data if len(data) <= self._limit else None))
        if tail:
            self._keep(tail)
        return lines

    def _keep(self, chunk: bytes) -> None:
        self._pending += len(chunk)
        if self._skipping:
            return
        if self._pending > self._limit:
            # From here on only the length counts: a line that is skipped anyway must not fill the memory.
            self._skipping = True
            self._parts.clear()
        else:
            self._parts.append(chunk)

    def _complete(self, head: bytes) -> Line:
        self._keep(head)
        start = self.offset
        self.offset = start + self._pending + 1
        data = None if self._skipping else b"".join(self._parts)
        self._parts.clear()
        self._pending = 0
        self._skipping = False
        return Line(start=start, end=self.offset, data=data)
