"""Claude Code's own settings files: the `env` block a user or a project may already have there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "MAX_FILE_BYTES",
    "UnreadableFileError",
    "cleanup_days",
    "env_block",
    "read_env",
    "read_regular",
    "read_with_status",
]

# A settings file is a few kilobytes; whatever is larger is not one, and is not worth the memory.
MAX_FILE_BYTES = 1024 * 1024


class UnreadableFileError(Exception):
    """A file is there but cannot be used.

    Attributes:
        path: the file.
        reason: what is wrong in a few words, with a position where there is one; never a part of the file.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def read_regular(path: Path, limit: int = MAX_FILE_BYTES) -> bytes | None:
    """Return the bytes of the regular file *path*, links followed, or None where there is no such file.

    Never blocks on a pipe or device that stands in the file's place.

    Raises:
        UnreadableFileError: it is no regular file, has more than *limit* bytes, or the system refuses to read it.
    """
    found = read_with_status(path, limit)
    return None if found is None else found[0]


def read_with_status(path: Path, limit: int = MAX_FILE_BYTES) -> tuple[bytes, os.stat_result] | None:
    """Return what `read_regular` does, and the status of the very file that was read.

    Raises:
        UnreadableFileError: as `read_regular` raises it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnreadableFileError(path, _words(error)) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnreadableFileError(path, "is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise UnreadableFileError(path, _words(error)) from error
    if len(data) > limit:
        raise UnreadableFileError(path, f"is larger than {limit} bytes")
    return data, status


def read_env(config_dir: Path) -> Mapping[str, str]:
    """Return the `env` block of `settings.json` in *config_dir*; an empty mapping where there is none.

    Raises:
        UnreadableFileError: the file cannot be read, is no JSON object, or its `env` is no object.
    """
    path = config_dir / "settings.json"
    data = read_regular(path)
    return {} if data is None else env_block(path, data)


def cleanup_days(config_dir: Path) -> int | None:
    """Return after how many days `settings.json` in *config_dir* lets the client remove logs; None: it says nothing.

    Raises:
        UnreadableFileError: the file cannot be read or is no JSON object.
    """
    path = config_dir / "settings.json"
    data = read_regular(path)
    days = None if data is None else _document(path, data).get("cleanupPeriodDays")
    return days if isinstance(days, int) and not isinstance(days, bool) else None


def env_block(path: Path, data: bytes) -> Mapping[str, str]:
    """Return the `env` block of the settings file *path* that holds *data*, as the strings an environment would hold.

    Numbers and booleans become their JSON text, and so do lists and objects, which lets an object be written as one;
    null counts as absent. A file without the block gives an empty mapping.

    Raises:
        UnreadableFileError: it is no JSON object, or its `env` is no object.
    """
    block = _document(path, data).get("env", {})
    if not isinstance(block, dict):
        raise UnreadableFileError(path, "has an 'env' that is not an object")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in block.items()
        if value is not None
    }


def _document(path: Path, data: bytes) -> Mapping[str, Any]:
    try:
        # utf-8-sig: editors of other systems put a byte order mark in front.
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UnreadableFileError(path, f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise UnreadableFileError(path, f"is not valid JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError):
        # Digits without end or nesting without end: JSON by the letter, no settings by any measure.
        raise UnreadableFileError(path, "is not valid JSON") from None
    if not isinstance(document, dict):
        raise UnreadableFileError(path, "is not a JSON object")
    return document


def _words(error: Exception) -> str:
    """Say in the system's words what is wrong with a file, without repeating its path."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read ({(reason or 'not a valid path').lower()})"
