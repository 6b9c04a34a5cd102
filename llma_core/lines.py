r"""Splits the bytes of a growing file into complete lines, each with its place in the file.

A line ends at b"\n" and nowhere else: JSON strings may contain all other characters that some readers treat as a line
end (U+2028, U+0085). How the bytes are cut into chunks makes no difference to the lines.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["MAX_LINE_BYTES", "Line", "LineSplitter"]

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is skipped. The longest line in 980 public logs has 2 MB, which is about the size of an image."""


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """One complete line.

    Attributes:
        start: offset of its first byte in the file.
        end: offset just after its line end, where the next line starts; of a last line without one, where it ends.
        data: its bytes without the line end; None if it was longer than the limit and was skipped.
    """

    start: int
    end: int
    data: bytes | None


class LineSplitter:
    """Takes chunks of one file and returns complete lines. The incomplete last line is kept for the next chunk.

    Args:
        offset: where in the file the first chunk starts; the start of a line.
        limit: longest line in bytes.

    Attributes:
        offset: end of the last complete line that was returned. A new reader can continue there.
    """

    def __init__(self, *, offset: int = 0, limit: int = MAX_LINE_BYTES) -> None:
        self.offset = offset
        self._limit = limit
        self._parts: list[bytes] = []
        self._pending = 0
        self._skipping = False

    @property
    def pending(self) -> int:
        """Number of bytes of the incomplete last line."""
        return self._pending

    @property
    def rest(self) -> bytes:
        """The incomplete last line; b"" if it is longer than the limit."""
        return b"".join(self._parts)

    def finish(self) -> Line:
        """Take the incomplete last line as it is: it ends where its bytes end.

        A line end that comes later ends an empty line.
        """
        line = self._complete(b"")
        self.offset = line.end - 1
        return Line(start=line.start, end=self.offset, data=line.data)

    def push(self, chunk: bytes) -> list[Line]:
        """Return the lines that the next bytes of the file complete."""
        at = chunk.find(b"\n")
        if at < 0:
            self._keep(chunk)
            return []
        lines = [self._complete(chunk[:at])]
        begins, start, limit = at + 1, self.offset, self._limit
        # Searching for each line end is quicker than `split`, which looks at every byte by itself.
        while (at := chunk.find(b"\n", begins)) >= 0:
            end = start + at - begins + 1
            lines.append(Line(start=start, end=end, data=chunk[begins:at] if at - begins <= limit else None))
            start, begins = end, at + 1
        self.offset = start
        if begins < len(chunk):
            self._keep(chunk[begins:])
        return lines

    def _keep(self, chunk: bytes) -> None:
        self._pending += len(chunk)
        if self._skipping:
            return
        if self._pending > self._limit:
            # Only the length counts from here on. A line that will be skipped must not fill the memory.
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
