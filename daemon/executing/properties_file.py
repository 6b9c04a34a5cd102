"""A file in which a command leaves properties for the trace of its sessions: a verdict, a score, a link.

What runs below may be an agent that was told to harm: the file is looked up in a folder that was opened before the
command began, no link is followed, and nothing but a small JSON object counts.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daemon.config import parsers
from llma_core import events

__all__ = ["LIMIT_BYTES", "VARIABLE", "PropertiesFile", "PropertiesFileError"]

VARIABLE = "POSTHOG_LLMA_PROPERTIES_FILE"
"""The variable that tells a command where its file is."""
LIMIT_BYTES = 64 * 1024
"""Size of the file at most."""

_NAME = "properties.json"


class PropertiesFileError(Exception):
    """The file does not count; the message says in a few words why, and never what stands in it."""


class PropertiesFile:
    """A private folder for the file, which goes with the context. The file itself is the command's to make.

    Raises:
        OSError: on entering: there is no room for temporary files.
    """

    def __init__(self) -> None:
        self._folder: str | None = None
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        # mkdtemp's folders are their owner's alone, whatever the umask.
        self._folder = tempfile.mkdtemp(prefix="posthog-llma-")
        try:
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._descriptor is not None
        os.close(self._descriptor)
        # The command may have locked or removed it: what is left in the folder of temporary files harms nobody.
        shutil.rmtree(self.path.parent, ignore_errors=True)

    @property
    def path(self) -> Path:
        """Where the command is to write."""
        assert self._folder is not None
        return Path(self._folder) / _NAME

    def read(self) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return the properties that count, and the names of those that are the daemon's to set; none without a file.

        Raises:
            PropertiesFileError: it is no JSON object, too large, a link, not a file, or cannot be read.
        """
        data = self._bytes()
        if not data.strip():
            # Made, and nothing to say.
            return {}, frozenset()
        try:
            properties = parsers.properties(data.decode("utf-8-sig"), LIMIT_BYTES)
        except UnicodeDecodeError as error:
            raise PropertiesFileError(f"is not UTF-8 (byte {error.start})") from None
        except ValueError as error:
            raise PropertiesFileError(str(error)) from None
        refused = events.refused_properties(properties)
        return {name: value for name, value in properties.items() if name not in refused}, refused

    def _bytes(self) -> bytes:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(_NAME, flags, dir_fd=self._descriptor)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise PropertiesFileError(f"cannot be read ({(error.strerror or str(error)).lower()})") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PropertiesFileError("is not a regular file")
        with os.fdopen(descriptor, "rb") as file:
            try:
                data = file.read(LIMIT_BYTES + 1)
            except OSError as error:
                raise PropertiesFileError(f"cannot be read ({(error.strerror or str(error)).lower()})") from None
        if len(data) > LIMIT_BYTES:
            raise PropertiesFileError(f"is larger than {LIMIT_BYTES} bytes")
        return data
