"""The tailer: reads the new lines of one file, and notices when it is no longer the same file.

A file is identified by its device and inode, and by its content: a hash of its head, which grows with the file, and a
hash of the bytes just before the committed offset. The path is only a label. If any of these disagrees, or the file is
shorter than what was read of it, it is read again from its beginning. The table of settled identities keeps that from
sending anything twice.

The tailer keeps no descriptor between reads. If a file that is not read to its end is kept open elsewhere, reading
continues even when its path is gone or leads to another file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, Literal, Protocol

import msgspec

from daemon.state.rows import FileMark
from daemon.system import disk
from llma_core.lines import MAX_LINE_BYTES, Line, LineSplitter
from llma_core.recovery import is_whole

__all__ = [
    "Chunk",
    "Fate",
    "Glance",
    "Identity",
    "KeepsNothing",
    "KeepsOpen",
    "Marks",
    "Tail",
    "TailState",
    "digest",
    "glance",
    "mark_at_end",
    "open_log",
    "unknown",
]

Identity = tuple[int, int]
"""A file's device and inode."""
Fate = Literal["lives on", "open", "over"]
"""What became of a log: what is at its path now was made of it (it was cut short, or has one of its first lines in it),
or does not tell so far, or is another log or nothing."""

HEAD_BYTES = 1024
TAIL_BYTES = 64
_READ_BYTES = 1024 * 1024
_BEGINNING_BYTES = 64 * 1024


def open_log(path: str, *, buffered: bool = False) -> BinaryIO:
    """Open a log for reading, if it is a regular file and no link.

    Something else may have taken its place since it was listed: a pipe would never end, and a link may lead anywhere.

    Args:
        path: where it is.
        buffered: whether reads go through a buffer, for reading line by line.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "rb", buffering=-1 if buffered else 0)


def _identity_at(path: str) -> Identity | None:
    """Return what is at *path* now; None if nothing is, or if it cannot be looked at."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def digest(data: bytes) -> bytes:
    """Return a hash of *data* in 12 bytes; b"" for no data."""
    return hashlib.blake2b(data, digest_size=12).digest() if data else b""


def _read_at(file: BinaryIO, start: int, length: int) -> bytes:
    """Return *length* bytes, fewer only at the end of the file: some file systems return less than requested."""
    found = b""
    while len(found) < length and (data := os.pread(file.fileno(), length - len(found), start + len(found))):
        found += data
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The result of one read of a file.

    Attributes:
        lines: complete lines, in order.
        more: whether there is more to read right away.
    """

    lines: list[Line]
    more: bool


class KeepsOpen(Protocol):
    """Keeps files open that are not read to their end."""

    def borrow(self, path: str, identity: Identity | None = None) -> BinaryIO | None:
        """Return the file with this *identity* at *path*, without *identity* the oldest; None if it is not kept."""

    def drop(self, path: str, identity: Identity) -> None:
        """Close a file that was kept open."""


Marks = Callable[[Identity], FileMark | None]
"""Returns the last mark of a file, whatever its path was then; None for a file not seen before."""


def unknown(_identity: Identity) -> None:
    """Return no mark for any file."""


class KeepsNothing:
    """Keeps no file open."""

    def borrow(self, path: str, identity: Identity | None = None) -> None:
        """Return None."""
        del path, identity

    def drop(self, path: str, identity: Identity) -> None:
        """Do nothing."""
        del path, identity


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A part of a file that was read at once.

    Attributes:
        data: its bytes.
        size: the bytes of the whole file when it was opened.
        rest: the file, if there may be more to read; None at its end, or at the limit. Then it is closed.
    """

    data: bytes
    size: int
    rest: BinaryIO | None

    @classmethod
    def whole(cls, file: BinaryIO, size: int) -> _Block | None:
        """Read a small file to its end, and leave it open; None if it is not small, or cannot be read."""
        if size >= _READ_BYTES:
            return None
        try:
            data = _read_at(file, 0, size + 1)
        except OSError:
            return None
        # It may have grown meanwhile, or been cut.
        return cls(data=data, size=size, rest=None) if len(data) == size else None

    @classmethod
    def of(cls, file: BinaryIO, limit: int, size: int) -> _Block:
        """Read the next part, of at most *limit* bytes. The file is closed unless it is the `rest`.

        Raises:
            OSError: it cannot be read.
        """
        wanted = min(_READ_BYTES, limit)
        with ExitStack() as closing:
            closing.enter_context(file)
            found = file.read(wanted)
            # Some file systems return less than requested.
            while 0 < len(found) < wanted and (data := file.read(wanted - len(found))):
                found += data
            if len(found) < wanted or wanted == limit:
                return cls(data=found, size=size, rest=None)
            closing.pop_all()
            return cls(data=found, size=size, rest=file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What is found at a path when a log there is opened.

    Attributes:
        identity: the device and inode of the file.
        size: its bytes.
        at_path: what is at the path now, if that is another file: the opened one was kept open.
        block: all of it, if it is small and was to be read; otherwise None.
    """

    identity: Identity
    size: int
    at_path: Identity | None
    block: _Block | None


def glance(path: str, kept: BinaryIO | None, *, begins: bool) -> Glance:
    """Look at the log at *path*.

    Args:
        path: where it is.
        kept: the oldest log that is kept open there, which is closed; None to open what is there now.
        begins: whether to read it if it is small.

    Raises:
        OSError: it cannot be read.
    """
    with kept or open_log(path) as file:
        status, at_path = os.fstat(file.fileno()), _identity_at(path)
        return Glance(
            identity=(status.st_dev, status.st_ino),
            size=status.st_size,
            at_path=at_path,
            block=_Block.whole(file, status.st_size) if begins else None,
        )


class TailState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a `Tail` has got, as another process may know it; the attributes are those of the tail.

    Attributes:
        head: the first HEAD_BYTES of what was read.
    """

    path: str
    device: int
    inode: int
    size: int
    committed: int
    history: bool
    offset: int
    position: int
    head: bytes
    known: FileMark | None

    @property
    def identity(self) -> Identity:
        """The device and inode it was opened with."""
        return self.device, self.inode

    def mark(self, unit: str, offset: int, tail: bytes) -> FileMark:
        """Return the mark by which to recognize this file, settled up to *offset*.

        Args:
            unit: the name of its session.
            offset: the settled offset, in bytes.
            tail: the last TAIL_BYTES before *offset*, fewer at the beginning of the file; b"" if they are not known.
        """
        length = min(HEAD_BYTES, offset)
        return FileMark(
            device=self.device,
            inode=self.inode,
            path=self.path,
            unit=unit,
            offset=offset,
            head=digest(self.head[:length]),
            head_length=length,
            tail=digest(tail),
            history=self.history,
        )


class Tail:
    """A file that is being followed.

    Args:
        path: where it is.
        marks: returns the last marks of files.
        kept: keeps the file open while it is not read to its end.
        again: whether its settled lines are read once more: its mark is known, but does not count.
        line_bytes: a line longer than this is skipped and counted.
        breaks_off: whether `last_line` returns also a line that is not whole.

    Attributes:
        size: bytes of the file when it was last opened or read.
        committed: the settled offset, in bytes.
        history: whether the lines before that offset are history.
        known: its last mark, whether or not it still holds; None for a file not seen before.
    """

    def __init__(
        self,
        path: str,
        marks: Marks = unknown,
        kept: KeepsOpen | None = None,
        *,
        again: bool = False,
        line_bytes: int = MAX_LINE_BYTES,
        breaks_off: bool = False,
    ) -> None:
        self.path = path
        self._breaks_off = breaks_off
        self._kept: KeepsOpen = KeepsNothing() if kept is None else kept
        self.device = 0
        self.inode = 0
        self.size = 0
        self.committed = 0
        self.history = False
        self.known: FileMark | None = None
        self._marks = marks
        self._again = again
        self._head = b""
        self._before = b""
        self._line_bytes = line_bytes
        self._splitter = LineSplitter(limit=line_bytes)
        self._is_found = False
        self._begun: _Block | None = None

    @property
    def offset(self) -> int:
        """The end of the last complete line that was read."""
        return self._splitter.offset

    @property
    def position(self) -> int:
        """The end of the bytes that were read, including an incomplete last line."""
        return self._splitter.offset + self._splitter.pending

    @property
    def identity(self) -> Identity:
        """The device and inode it was opened with."""
        return self.device, self.inode

    @property
    def _folder(self) -> str:
        return self.path.rpartition("/")[0]

    def open(self, seen: Glance | None = None, *, begins: bool = False) -> bool:
        """Find out which file this is and what of it is settled; begin at its first byte.

        If several successive files at this path are still kept open, this is the oldest.

        Args:
            seen: what was found there a moment ago; None to look now.
            begins: whether to read it right away if it is small, so that `read` need not ask the disk once more. Then
                call `read` at once, or `forget_beginning`.

        Returns:
            Whether it has a mark that still holds. Without one, nothing of the file is settled.

        Raises:
            OSError: it cannot be read.
        """
        self._splitter = LineSplitter(limit=self._line_bytes)
        self._head = self._before = b""
        self.committed, self.history = 0, False
        if seen is None:
            kept = self._kept.borrow(self.path)
            seen = disk.call(self._folder, partial(glance, self.path, kept, begins=begins))
        (self.device, self.inode), self.size, self._begun = seen.identity, seen.size, seen.block
        self._is_found = seen.at_path == self.identity
        mark = self.known = self._marks(self.identity)
        if mark is None or self._first_agreeing([mark]) is None:
            return False
        if not self._again:
            self.committed, self.history = mark.offset, mark.history
        return True

    def forget_beginning(self) -> None:
        """Forget what `open` has read, so that the next `read` asks the disk."""
        self._begun = None

    def adopt(self, marks: Iterable[FileMark]) -> None:
        """Take over what is settled of the file that this one is a copy of, if it is one: the longest beginning.

        Args:
            marks: of files of the same session.

        Raises:
            OSError: it cannot be read.
        """
        found = sorted((mark for mark in marks if mark.tail), key=lambda mark: mark.offset, reverse=True)
        if not found or self._again:
            return
        mark = self._first_agreeing(found)
        if mark is not None:
            self.committed, self.history = mark.offset, mark.history

    def _first_agreeing(self, marks: Sequence[FileMark]) -> FileMark | None:
        """Return the first of *marks* that the content of this file agrees with.

        Raises:
            OSError: it cannot be read.
        """
        kept = self._kept.borrow(self.path, self.identity)

        def look() -> FileMark | None:
            with kept or open_log(self.path) as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self.identity:
                    return None
                return next((mark for mark in marks if self._agrees(file, mark)), None)

        return disk.call(self._folder, look)

    def is_there(self) -> bool:
        """Whether the path still leads to this file. That it cannot be looked at says nothing."""
        if self._is_found:
            # It was opened there, and nothing of it has been read since.
            return True
        try:
            status = disk.call(self._folder, partial(os.lstat, self.path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return (status.st_dev, status.st_ino) == self.identity

    def _agrees(self, file: BinaryIO, mark: FileMark) -> bool:
        if mark.offset > self.size or digest(_read_at(file, 0, mark.head_length)) != mark.head:
            return False
        length = min(TAIL_BYTES, mark.offset)
        return not mark.tail or digest(_read_at(file, mark.offset - length, length)) == mark.tail

    def read(self, limit: int) -> Chunk | None:
        """Read up to *limit* more bytes and return the whole lines; none of a deleted file, unless it is kept open.

        Returns:
            The lines, or None if this is no longer the same file: `open` must be called again, and everything that was
            built from the file thrown away.

        Raises:
            OSError: it cannot be read. None of its bytes was skipped.
        """
        is_found, self._is_found = self._is_found, False
        begun, self._begun = self._begun, None
        if begun is not None and is_found and begun.size < limit:
            # `open` has read it to its end, and no other file had taken its place.
            return self._chunk(begun, limit)
        # If this file is no longer kept open, but another one at its path is, that one came later and this one is over.
        kept = self._kept.borrow(self.path, self.identity) or self._kept.borrow(self.path)
        position, before = self.position, self._before

        def first() -> tuple[_Block, Identity | None] | None:
            with ExitStack() as closing:
                file = closing.enter_context(kept or open_log(self.path))
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self.identity or status.st_size < position:
                    return None
                if _read_at(file, position - len(before), len(before)) != before:
                    return None
                file.seek(position)
                closing.pop_all()
                return _Block.of(file, limit, status.st_size), _identity_at(self.path)

        # As few calls as possible: each hands the work over to another thread.
        try:
            found = disk.call(self._folder, first)
        except (FileNotFoundError, NotADirectoryError):
            return Chunk(lines=[], more=False)
        if found is None:
            return None
        chunk = self._chunk(found[0], limit)
        if kept is not None and not chunk.more and self._is_followed_by_another(found[1]):
            return replace(chunk, more=True)
        return chunk

    def _chunk(self, block: _Block, limit: int) -> Chunk:
        """Return the lines found in *block* and after it, up to *limit* bytes."""
        self.size = block.size
        lines, left = self._lines(block, limit)
        if left > 0 and self.committed == self.position:
            # It was taken before, as it is settled.
            lines += self.last_line()
        return Chunk(lines=lines, more=left <= 0 and self.position < self.size)

    def _lines(self, block: _Block, limit: int) -> tuple[list[Line], int]:
        """Return the lines found in *block* and after it, and how much of *limit* is left."""
        lines: list[Line] = []
        left = limit
        while True:
            data = block.data
            left -= len(data)
            if len(self._head) < HEAD_BYTES:
                self._head = (self._head + data)[:HEAD_BYTES]
            self._before = (self._before + data)[-TAIL_BYTES:] if len(data) < TAIL_BYTES else data[-TAIL_BYTES:]
            lines += self._splitter.push(data)
            if block.rest is None:
                return lines, left
            try:
                block = disk.call(self._folder, partial(_Block.of, block.rest, left, block.size))
            except OSError:
                # Keep what was read before the error; the next read raises it.
                return lines, 0

    def last_line(self) -> list[Line]:
        """Return the last line, if it lacks only its line end. Call it when nobody writes to the file any more."""
        rest = self._splitter.rest
        return [self._splitter.finish()] if is_whole(rest) or (self._breaks_off and self._splitter.pending) else []

    def _is_followed_by_another(self, at_path: Identity | None) -> bool:
        """Whether this file, which is kept open, is read to its end and another has taken its place.

        Args:
            at_path: what was at its path when the read began.
        """
        if self.position < self.size:
            return False
        if at_path == self.identity:
            return False
        self._kept.drop(self.path, self.identity)
        if at_path is not None:
            return True
        if (after := self._kept.borrow(self.path)) is None:
            return False
        after.close()
        return True

    def fate(self, tells: Callable[[bytes], bool], path: str | None = None) -> Fate:
        """Return what became of this file, by what is at *path* now.

        Args:
            tells: returns whether a line, without its end, is one that tells apart two logs.
            path: where to look; None: at its own path.
        """
        path = self.path if path is None else path
        kept = self._kept.borrow(path)

        def read() -> bytes:
            with kept or open_log(path) as file:
                return _read_at(file, 0, _BEGINNING_BYTES)

        try:
            begins = disk.call(path.rpartition("/")[0], read)
        except (FileNotFoundError, NotADirectoryError):
            return "over"
        except OSError:
            # It may live on; the caller tries again.
            return "lives on"
        if begins in self._head or any(line in begins for line in self._head.splitlines(keepends=True)):
            return "lives on"
        # Whoever writes it anew may have got no further yet than within the first line that it had before.
        whole, ended, _ = begins.rpartition(b"\n")
        is_open = len(begins) < _BEGINNING_BYTES and not (ended and any(map(tells, whole.split(b"\n"))))
        return "open" if is_open else "over"

    def state(self) -> TailState:
        """Return how far this has got."""
        return TailState(
            path=self.path,
            device=self.device,
            inode=self.inode,
            size=self.size,
            committed=self.committed,
            history=self.history,
            offset=self.offset,
            position=self.position,
            head=self._head,
            known=self.known,
        )

    def mark(self, unit: str, offset: int, tail: bytes) -> FileMark:
        """Return the mark by which to recognize this file, settled up to *offset*; see `TailState.mark`."""
        return self.state().mark(unit, offset, tail)


def mark_at_end(path: str, unit: str) -> FileMark | None:
    """Return the mark of a file whose complete lines are history; None if it cannot be read.

    A last line that lacks only its line end is complete.

    Args:
        path: where it is.
        unit: the name of its session.
    """
    try:
        return disk.call(path.rpartition("/")[0], partial(_mark_at_end, path, unit))
    except OSError:
        return None


def _mark_at_end(path: str, unit: str) -> FileMark:
    with open_log(path) as file:
        status = os.fstat(file.fileno())
        offset = _last_line_end(file, status.st_size)
        if status.st_size - offset <= MAX_LINE_BYTES and is_whole(_read_at(file, offset, status.st_size - offset)):
            offset = status.st_size
        length = min(HEAD_BYTES, offset)
        tail = min(TAIL_BYTES, offset)
        return FileMark(
            device=status.st_dev,
            inode=status.st_ino,
            path=path,
            unit=unit,
            offset=offset,
            head=digest(_read_at(file, 0, length)),
            head_length=length,
            tail=digest(_read_at(file, offset - tail, tail)),
            history=True,
        )


def _last_line_end(file: BinaryIO, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - 65536)
        found = _read_at(file, start, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
