"""Claude Code's own settings files: the `env` block a user or a project may already have there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["cleanup_days", "env_block", "read_env"]


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
