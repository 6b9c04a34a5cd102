"""The file to which a command writes properties for its sessions' traces: a verdict, a score, a link.

The command may run an agent that somebody has turned against the user. So the file is opened relative to a folder that
was opened before the command started, no link is followed, and only a small JSON object is accepted.
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
from daemon.system.messages import system_reason
from llma_core.properties import refused_properties, users_properties

__all__ = ["LIMIT_BYTES", "VARIABLE", "PropertiesFile", "PropertiesFileError"]

VARIABLE = "POSTHOG_LLMA_PROPERTIES_FILE"
"""The environment variable that tells a command where its file is."""
LIMIT_BYTES = 64 * 1024
"""Largest accepted size of the file, in bytes."""

_NAME = "properties.json"


class PropertiesFileError(Exception):
    """The file is not accepted; the message says why in a few words and never quotes it."""


class PropertiesFile:
    """A private folder for the file, removed when the context ends. The command creates the file itself.

    Raises:
        OSError: on entering: the folder cannot be made.
    """

    def __init__(self) -> None:
        self._folder: str | None = None
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        # mkdtemp makes a folder that only its owner can use, whatever the umask.
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
        # The command may have locked or removed the folder. A leftover temporary folder does no harm.
        shutil.rmtree(self.path.parent, ignore_errors=True)

    @property
    def path(self) -> Path:
        """The path the command writes to."""
        assert self._folder is not None
        return Path(self._folder) / _NAME

    def read(self) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return the accepted properties, and the names refused because only the daemon or the user may set them.

        Both are empty if there is no file.

        Raises:
            PropertiesFileError: the file is not a JSON object, too large, a link, not a regular file, or unreadable.
        """
        data = self._bytes()
        if not data.strip():
            # Created, but empty.
            return {}, frozenset()
        try:
            properties = parsers.properties(data.decode("utf-8-sig"), LIMIT_BYTES)
        except UnicodeDecodeError as error:
            raise PropertiesFileError(f"is not UTF-8 (byte {error.start})") from None
        except ValueError as error:
            raise PropertiesFileError(str(error)) from None
        refused = refused_properties(properties) | users_properties(properties)
        return {name: value for name, value in properties.items() if name not in refused}, refused

    def _bytes(self) -> bytes:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(_NAME, flags, dir_fd=self._descriptor)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise PropertiesFileError(f"cannot be read ({system_reason(error)})") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PropertiesFileError("is not a regular file")
        with os.fdopen(descriptor, "rb") as file:
            try:
                data = file.read(LIMIT_BYTES + 1)
            except OSError as error:
                raise PropertiesFileError(f"cannot be read ({system_reason(error)})") from None
        if len(data) > LIMIT_BYTES:
            raise PropertiesFileError(f"is larger than {LIMIT_BYTES} bytes")
        return data
