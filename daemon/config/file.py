"""Changes to the user's config.toml that keep everything else in it: comments, order, tables."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME, Setting
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["Value", "open_key", "read", "tried", "update"]

Value = str | bool | int | float | list[str] | dict[str, str | float]
"""What TOML can hold of a setting."""

_READABLE_BY_OTHERS = 0o044


def open_key(path: Path) -> str | None:
    """Return, in one line, that others can read a key that config.toml holds, and what to run; None where all is well.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    if "api_key" not in _flat(read(path)):
        return None
    if path.stat().st_mode & _READABLE_BY_OTHERS:
        return f"{path}: holds a key and can be read by other users; run `chmod 600 {shlex.quote(str(path))}`"
    return None


def read(path: Path) -> Mapping[str, object]:
    """Return what config.toml holds; nothing without a file.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        raise ConfigError([f"{path}: is not valid TOML; `{APP_NAME} config` says where"]) from None


def _text(path: Path) -> str:
    try:
        # utf-8-sig: editors of other systems put a byte order mark in front.
        return (read_regular(path) or b"").decode("utf-8-sig")
    except UnreadableFileError as error:
        raise ConfigError([f"{path}: {error.reason}; correct or remove the file"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8"]) from None


def _flat(document: Mapping[str, object]) -> set[str]:
    """Return the keys of the document and of its project tables."""
    tables = document.get("project")
    inner = [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    return {key for table in (document, *inner) for key in table}


def tried(path: Path, values: Mapping[Setting, Value]) -> Settings:
    """Return the settings that config.toml alone would give with *values* in it; nothing is changed.

    Raises:
        ConfigError: the file there cannot be used, holds a key that others can read, or a value is not one of its
            setting.
        OSError: the system refuses to let the trial be written beside it.
    """
    return _read_as_daemon(path, values)[0]


def update(path: Path, values: Mapping[Setting, Value]) -> None:
    """Set *values* in the config.toml at *path*, which only the user can read afterwards.

    What is written is read as the daemon reads it before it takes the file's place.

    Raises:
        ConfigError: as by `tried`; then nothing is written.
        OSError: the system refuses; then nothing is written.
    """
    write_private(path, _read_as_daemon(path, values)[1])


def _with(path: Path, values: Mapping[Setting, Value]) -> bytes:
    if (problem := open_key(path)) is not None:
        raise ConfigError([problem])
    try:
        document = tomlkit.parse(_text(path))
    except TOMLKitError:
        raise ConfigError([f"{path}: is not valid TOML; `{APP_NAME} config` says where"]) from None
    for setting, value in values.items():
        names = (setting.key, *setting.aliases)
        # A short name is what people read; one that stands there already is kept.
        key = next((name for name in names if name in document), names[-1])
        if isinstance(document.get(key), Table):
            del document[key]
        # A table of its own would take in every line that is written below it.
        document[key] = _on_one_line(value) if isinstance(value, dict) else value
    return tomlkit.dumps(document).encode()


def _on_one_line(table: Mapping[str, str | float]) -> InlineTable:
    inline = tomlkit.inline_table()
    inline.update(table)
    return inline


def _read_as_daemon(path: Path, values: Mapping[Setting, Value]) -> tuple[Settings, bytes]:
    """Return what the daemon would make of *values* at *path*, and the file with them; or raise what it would say."""
    data = _with(path, values)
    trial = path.with_name(f".{path.name}.{os.getpid()}")
    write_private(trial, data)
    try:
        # Without an environment and with a home that has nothing in it: what other places say is not its fault.
        return loading.load({}, {}, config_file=trial, home=trial), data
    except ConfigError as error:
        problems = [problem.replace(str(trial), str(path)) for problem in error.problems]
        # What is to be written stands nowhere yet.
        for setting in values:
            there = f"{setting.variable} ({path}): "
            problems = [problem.replace(there, f"{setting.variable}: ") for problem in problems]
        raise ConfigError(problems) from None
    finally:
        trial.unlink()
