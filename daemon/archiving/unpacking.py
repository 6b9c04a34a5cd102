"""Unpacking: brings the logs of a source into a private folder that is shaped like a configuration folder.

Archives come from anywhere. Only regular files whose names are those of logs are written, to a path that is made here,
as new files that only their owner can read. Links, devices and everything else are counted and left out. What unpacks
to far more than it should is refused before the disk is full.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from daemon.archiving.naming import Packing, packing_of, place_of
from daemon.archiving.source import MissingExtraError, Source, SourceError, SourceFile, open_url, reason_of

__all__ = ["Log", "Unpacked", "beside", "unpack"]

_CHUNK = 256 * 1024
_RATIO = 200
"""How many times its size a source may unpack to. Logs come to 5 to 30 times, and rarely to 100."""
_FREE = 64 * 1024 * 1024
_MOST_MEMBERS = 2_000_000
_DIGESTED = 64 * 1024
_LATEST = 2.0**33


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log, or a meta file, of a source.

    Attributes:
        place: its path in the configuration folder.
        digest: a hash of its first line; two logs with the same place are one log if it is equal.
        size: its size in bytes, unpacked.
    """

    place: str
    digest: bytes
    size: int


@dataclass(slots=True, kw_only=True)
class Unpacked:
    """The logs that were found in a source while it was read.

    Attributes:
        logs: its logs, by place and digest.
        others: how many members are no logs.
        refused: how many members have the name of a log and are a link, a device or the like.
    """

    logs: dict[tuple[str, bytes], Log] = field(default_factory=dict)
    others: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class _Member:
    """A member: its name, when it was written, and what reads it; None for what is no regular file."""

    name: str
    modified: float | None
    stream: BinaryIO | None


def unpack(
    source: Source,
    folder: Path,
    *,
    wanted: Mapping[tuple[str, bytes], str] | None = None,
    head: int | None = None,
    free: int = _FREE,
) -> Unpacked:
    """Write the logs of *source* below *folder*, which becomes a configuration folder.

    Args:
        source: what to read. All of it is read, also what is not written, so that damage is found.
        folder: an empty folder.
        wanted: the logs to write, by place and digest, with the places to write them to. None: all.
        head: how many bytes of each log to write; None for all.
        free: bytes that any source may unpack to, however small it is.

    Raises:
        SourceError: it cannot be read to its end, or unpacks to far too much.
        MissingExtraError: a package to unpack it with is not installed.
    """
    writer = _Writer(folder, wanted, head)
    found = writer.found
    try:
        for file in source.files:
            for member in _members(source, file, _Budget(_RATIO * source.size + free)):
                place = place_of(member.name)
                if place is None:
                    found.others += 1
                elif member.stream is None:
                    found.refused += 1
                else:
                    writer.write(place, member.stream, member.modified)
    except (SourceError, MissingExtraError):
        raise
    except Exception as error:  # noqa: BLE001 - archives are damaged in every way, and each library has its own errors
        if isinstance(error, tarfile.TarError | zipfile.BadZipFile | zlib.error | lzma.LZMAError | gzip.BadGzipFile):
            raise SourceError("it is damaged, or no archive of this kind") from None
        raise SourceError(reason_of(error)) from None
    return found


class _Writer:
    """Writes logs below a folder.

    Args:
        folder: see `unpack`.
        wanted: see `unpack`.
        head: see `unpack`.

    Attributes:
        found: what was written, and what was only read.
    """

    def __init__(self, folder: Path, wanted: Mapping[tuple[str, bytes], str] | None, head: int | None) -> None:
        self.found = Unpacked()
        self._folder = folder
        self._wanted = wanted
        self._head = head
        self._taken: dict[str, bytes] = {}

    def write(self, place: str, stream: BinaryIO, modified: float | None) -> None:
        """Write a log, unless it is not wanted, or a longer one was written that begins like it."""
        first = stream.read(_CHUNK)
        digest = hashlib.blake2b(first[:_DIGESTED].partition(b"\n")[0], digest_size=12).digest()
        key = place, digest
        target = self._target(key)
        known = self.found.logs.get(key)
        with ExitStack() as stack:
            output = stack.enter_context(self._create()) if target is not None else None
            size = 0
            while first or (first := stream.read(_CHUNK)):
                if output is not None:
                    output.write(first if self._head is None else first[: max(0, self._head - size)])
                size += len(first)
                first = b""
        if known is not None and known.size >= size:
            self._partial.unlink(missing_ok=True)
            return
        self.found.logs[key] = Log(place=place, digest=digest, size=size)
        if target is not None:
            path = self._folder / target
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._partial.replace(path)
            # An archive may say any time.
            if modified is not None and 0 <= modified < _LATEST:
                os.utime(path, (modified, modified))

    @property
    def _partial(self) -> Path:
        return self._folder / "partial"

    def _create(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self._partial, flags, 0o600), "wb")

    def _target(self, key: tuple[str, bytes]) -> str | None:
        if self._wanted is not None:
            return self._wanted.get(key)
        place, digest = key
        # Another log may have the same name, as those of subagents on two machines: it goes beside the first one.
        return place if self._taken.setdefault(place, digest) == digest else beside(place, digest)


def beside(place: str, digest: bytes) -> str:
    """Return another place for a log, in a project folder of its own: a log of its name stands in the first one."""
    root, _, rest = place.partition("/")
    project, _, name = rest.partition("/")
    return f"{root}/{project}~{digest.hex()[:8]}/{name}"


# ---------------------------------------------------------------------- members


class _Budget:
    """How much may still be unpacked."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise SourceError(f"it unpacks to more than {_RATIO} times its size, so it is left alone")


class _Bounded(io.RawIOBase):
    """A stream that takes what is read of it out of a budget."""

    def __init__(self, stream: BinaryIO, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(_CHUNK if size < 0 else size)
        self._budget.take(len(data))
        return data

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # what callers pass is one
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _members(source: Source, file: SourceFile, budget: _Budget) -> Iterator[_Member]:
    with ExitStack() as stack:
        opened = stack.enter_context(open_url(file.url))
        if source.kind == "archive" and file.name.lower().endswith(".zip"):
            yield from _zipped(opened, budget)
            return
        stream = stack.enter_context(_unpacked(opened, packing_of(file.name), budget))
        if source.kind == "archive":
            yield from _taped(stream, budget)
        else:
            yield _Member(file.name, file.modified, stream)


@contextmanager
def _unpacked(stream: BinaryIO, packing: Packing, budget: _Budget) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        plain: BinaryIO = stream
        match packing:
            case "gz":
                plain = cast("BinaryIO", stack.enter_context(gzip.open(stream)))
            case "xz":
                plain = cast("BinaryIO", stack.enter_context(lzma.open(stream)))
            case "zst":
                plain = stack.enter_context(_zstandard(stream))
        yield cast("BinaryIO", _Bounded(plain, budget))


def _zstandard(stream: BinaryIO) -> BinaryIO:
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ImportError:
        raise MissingExtraError("files that end with .zst need zstandard") from None
    # Without the limit a header may ask for gigabytes at once.
    reader = zstandard.ZstdDecompressor(max_window_size=2**27)
    return cast("BinaryIO", reader.stream_reader(stream, read_across_frames=True, closefd=False))


def _taped(stream: BinaryIO, budget: _Budget) -> Iterator[_Member]:
    members = 0
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as tape:
        for entry in tape:
            members += 1
            if members > _MOST_MEMBERS:
                raise SourceError(f"it has more than {_MOST_MEMBERS:,} members, so it is left alone")
            data = tape.extractfile(entry) if entry.isreg() else None
            if data is None:
                if not entry.isdir():
                    yield _Member(entry.name, None, None)
                continue
            content = cast("BinaryIO", data)
            if entry.issparse():
                # The holes of a sparse file take no bytes of the stream.
                content = cast("BinaryIO", _Bounded(content, budget))
            yield from _packed_member(entry.name, float(entry.mtime), content, budget)
            # tarfile keeps every entry it has seen, and an archive may have millions.
            cast("Any", tape).members = []
        # tarfile takes a header that it cannot read for the end. After the real end there are only zeros.
        assert tape.fileobj is not None
        while rest := tape.fileobj.read(_CHUNK):
            if rest.strip(b"\0"):
                raise SourceError("it is damaged: there is something after its end")


def _packed_member(name: str, modified: float, data: BinaryIO, budget: _Budget) -> Iterator[_Member]:
    packing = packing_of(name)
    if not packing or place_of(name) is None:
        yield _Member(name, modified, data)
        return
    with _unpacked(data, packing, budget) as plain:
        yield _Member(name, modified, plain)


def _zipped(file: BinaryIO, budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_MEMBERS:
            raise SourceError(f"it has more than {_MOST_MEMBERS:,} members, so it is left alone")
        for entry in entries:
            if entry.is_dir():
                continue
            mode = entry.external_attr >> 16
            if place_of(entry.filename) is None or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
                yield _Member(entry.filename, None, None)
                continue
            if entry.flag_bits & 1:
                raise SourceError("it is encrypted")
            with archive.open(entry) as data:
                bounded = cast("BinaryIO", _Bounded(cast("BinaryIO", data), budget))
                yield from _packed_member(entry.filename, _zip_time(entry), bounded, budget)


def _zip_time(entry: zipfile.ZipInfo) -> float:
    try:
        return datetime(*entry.date_time, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
