"""Sources: archives, and folders with logs, found at a URL.

An archive is one source. Loose logs are one source for each project folder, because the sessions of a folder belong
together. A source has a version, made of what the storage says of its files, so that a later run leaves out what
has not changed.

Plain paths and `file://` need nothing but the standard library. Everything else is opened by fsspec.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from daemon.archiving.naming import is_archive, project_of
from daemon.system.messages import one_line, system_reason

__all__ = [
    "Found",
    "MissingExtraError",
    "Source",
    "SourceError",
    "SourceFile",
    "find_sources",
    "local_path",
    "open_url",
    "reason_of",
    "save_url",
    "shown",
]


class SourceError(Exception):
    """A source cannot be read. The message says why, in one line without content or keys."""


class MissingExtraError(Exception):
    """A package is not installed that some URLs or formats need. The message says what to install."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: install the extra `fleet`, as in pip install 'posthog-llma-daemon[fleet]'")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a source, as the storage lists it.

    Attributes:
        url: opens it.
        name: its path below the URL that was given.
        size: its size in bytes.
        modified: when it was last written, in seconds since the epoch; None if the storage does not say.
        version: changes when its bytes change.
    """

    url: str
    name: str
    size: int
    modified: float | None
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An archive, or the loose logs of one project folder.

    Attributes:
        url: names it, in messages and in the manifest; without a password.
        kind: what it is.
        files: its files: the archive, or the logs.
    """

    url: str
    kind: Literal["archive", "logs"]
    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """The size of its files, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def version(self) -> str:
        """Changes when something in it changes."""
        if len(self.files) == 1:
            return self.files[0].version
        listing = "\n".join(sorted(f"{file.name} {file.version}" for file in self.files))
        return hashlib.blake2b(listing.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def shown(url: str) -> str:
    """Return *url* as one printable line, without the user, password and query that it may have."""
    if "://" not in url:
        return one_line(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    return one_line(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The sources that were found at a URL.

    Attributes:
        sources: the sources, in the order of their names.
        others: how many files are none.
        errors: folders that cannot be listed, by URL, with the reasons.
    """

    sources: Sequence[Source]
    others: int
    errors: Mapping[str, str]


def find_sources(url: str) -> Found:
    """Return what is at *url*.

    Raises:
        SourceError: nothing is there, or it cannot be listed.
        MissingExtraError: a package for such URLs is not installed.
    """
    loose: dict[str, list[SourceFile]] = {}
    archives, others = [], 0
    errors: dict[str, str] = {}
    path = local_path(url)
    base = shown(url if path is None else str(path)).rstrip("/")
    files, is_file = _listed(url, errors)
    for each in files:
        file = replace(each, name=each.name or base.rpartition("/")[2])
        whole = base if is_file else f"{base}/{one_line(file.name)}"
        if is_archive(file.name):
            archives.append(Source(url=whole, kind="archive", files=(file,)))
        elif (project := project_of(file.name)) is not None:
            loose.setdefault(f"{base}/{one_line(project)}".rstrip("/") if not is_file else base, []).append(file)
        else:
            others += 1
    found = [*archives, *(Source(url=name, kind="logs", files=tuple(each)) for name, each in loose.items())]
    return Found(sources=sorted(found, key=lambda source: source.url), others=others, errors=errors)


def open_url(url: str) -> BinaryIO:
    """Open a file of a source for reading.

    Raises:
        OSError: it cannot be opened.
        Exception: whatever the library of the storage raises; see `reason_of`.
    """
    if (path := local_path(url)) is not None:
        return path.open("rb")
    system, inner = _file_system(url)
    return cast("BinaryIO", system.open(inner, "rb"))


def save_url(url: str, data: bytes) -> None:
    """Write *data* to a URL of another machine, in place of what is there.

    Raises:
        Exception: whatever the library of the storage raises; see `reason_of`.
    """
    system, inner = _file_system(url)
    system.pipe_file(inner, data)


def reason_of(error: BaseException) -> str:
    """Return why a source cannot be read. Libraries put URLs with signatures into their messages, so few are quoted."""
    if isinstance(error, SourceError | MissingExtraError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return system_reason(error)
    if isinstance(error, EOFError):
        return "it ends too early"
    return f"it cannot be read ({type(error).__name__})"


# ---------------------------------------------------------------------- listing


def local_path(url: str) -> Path | None:
    """Return the path that *url* names on this machine; None if it is elsewhere."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    # Absolute, so that the same file has the same name from wherever the command is run. Links stay.
    return None if "://" in url else Path(os.path.abspath(Path(url).expanduser()))  # noqa: PTH100 - resolves links


def _listed(url: str, errors: dict[str, str]) -> tuple[Sequence[SourceFile], bool]:
    """Return the files at *url*, and whether it is a file itself. Note the folders that cannot be listed."""
    path = local_path(url)
    try:
        files = _local_files(path, errors) if path is not None else _remote_files(url)
        found = list(files)
    except (SourceError, MissingExtraError):
        raise
    except Exception as error:  # noqa: BLE001 - every library of a storage has its own errors
        raise SourceError(reason_of(error)) from None
    if not found and not errors:
        raise SourceError("there is nothing; check the URL")
    return found, path.is_file() if path is not None else [file.name for file in found] == [""]


def _local_files(root: Path, errors: dict[str, str]) -> Iterator[SourceFile]:
    if root.is_file():
        yield _local_file(root, "")
        return
    # Raises, if it is missing or may not be read.
    os.listdir(root)  # noqa: PTH208 - names are enough

    # Python 3.11's `os.walk` calls itself for each folder in a folder, and so it fails where these are very deep.
    left = [root]
    while left:
        folder = left.pop()
        below: list[Path] = []
        try:
            for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names are enough
                path = folder / name
                # A file may be removed meanwhile.
                with suppress(FileNotFoundError):
                    mode = path.lstat().st_mode
                    if stat.S_ISDIR(mode):
                        below.append(path)
                    # A link may lead anywhere, and reading a pipe or a device may never end.
                    elif stat.S_ISREG(mode):
                        yield _local_file(path, path.relative_to(root).as_posix())
        except OSError as error:
            errors[one_line(str(error.filename))] = reason_of(error)
        left += reversed(below)


def _local_file(path: Path, name: str) -> SourceFile:
    found = path.stat()
    return SourceFile(
        url=str(path.absolute()),
        name=name,
        size=found.st_size,
        modified=found.st_mtime,
        version=f"{found.st_size} {found.st_mtime_ns}",
    )


def _file_system(url: str) -> tuple[Any, str]:
    try:
        core: Any = importlib.import_module("fsspec.core")
    except ImportError:
        raise MissingExtraError(f"{shown(url)} needs fsspec") from None
    try:
        system, inner = core.url_to_fs(url)
    except ImportError:
        raise MissingExtraError(f"{shown(url)} needs another package of fsspec") from None
    except ValueError:
        raise SourceError("there is no such kind of URL; see fsspec's documentation") from None
    return system, str(inner)


def _remote_files(url: str) -> Iterator[SourceFile]:
    system, inner = _file_system(url)
    system.invalidate_cache()
    found: Mapping[str, Mapping[str, Any]] = system.find(inner, detail=True)
    for path, info in sorted(found.items()):
        if info.get("type", "file") != "file":
            continue
        at = next(
            (info[key] for key in ("LastModified", "mtime", "updated", "last_modified", "created") if info.get(key)),
            None,
        )
        tag = next((info[key] for key in ("ETag", "etag", "md5Hash", "content_md5") if info.get(key)), "")
        name = path[len(inner) :].strip("/") if path.startswith(inner) else path
        yield SourceFile(
            url=str(system.unstrip_protocol(path)),
            name=name,
            size=int(info.get("size") or 0),
            modified=_seconds(at),
            version=f"{tag} {info.get('size')} {at}",
        )


def _seconds(at: Any) -> float | None:
    if isinstance(at, int | float):
        return float(at)
    return at.timestamp() if hasattr(at, "timestamp") else None
