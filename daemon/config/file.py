"""Changes settings in the user's config.toml and keeps everything else in it: comments, order, tables."""

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
from daemon.config.table import APP_NAME, SETTINGS, Setting
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["Value", "open_key", "read", "tried", "update"]

Value = str | bool | int | float | list[str] | dict[str, str | float]
"""The value of a setting as TOML has it."""

_READABLE_BY_OTHERS = 0o044


def open_key(path: Path) -> str | None:
    """Return a one-line problem, with the command that fixes it, if config.toml has a key that other users can read.

    None if there is no problem.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    if not _all_keys(read(path)) & {setting.key for setting in SETTINGS if setting.secret}:
        return None
    if path.stat().st_mode & _READABLE_BY_OTHERS:
        return f"{path}: contains a key and can be read by other users; run `chmod 600 {shlex.quote(str(path))}`"
    return None


def read(path: Path) -> Mapping[str, object]:
    """Return the contents of config.toml; an empty mapping without a file.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        raise ConfigError([f"{path}: is not valid TOML; `{APP_NAME} config` says where"]) from None


def _text(path: Path) -> str:
    try:
        # utf-8-sig: some editors on other systems start a file with a byte order mark.
        return (read_regular(path) or b"").decode("utf-8-sig")
    except UnreadableFileError as error:
        raise ConfigError([f"{path}: {error.reason}; correct or remove the file"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8"]) from None


def _all_keys(document: Mapping[str, object]) -> set[str]:
    """Return the keys of the document and of its project tables."""
    tables = document.get("project")
    inner = [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    return {key for table in (document, *inner) for key in table}


def tried(path: Path, values: Mapping[Setting, Value]) -> Settings:
    """Return the settings that config.toml alone would give with *values* in it. Does not change the file.

    Raises:
        ConfigError: the file cannot be used or has a key that other users can read, or a value is not valid.
        OSError: the system refuses to write the trial file next to it.
    """
    return _read_as_daemon(path, values)[0]


def update(path: Path, values: Mapping[Setting, Value]) -> None:
    """Set *values* in the config.toml at *path*. Afterwards only the user can read the file.

    The new contents are first read the way the daemon reads them. Only then do they replace the file.

    Raises:
        ConfigError: as in `tried`. The file is unchanged.
        OSError: the system refuses. The file is unchanged.
    """
    write_private(path, _read_as_daemon(path, values)[1])


def _contents_with(path: Path, values: Mapping[Setting, Value]) -> bytes:
    """Return the contents of config.toml with *values* in it."""
    if (problem := open_key(path)) is not None:
        raise ConfigError([problem])
    try:
        document = tomlkit.parse(_text(path))
    except TOMLKitError:
        raise ConfigError([f"{path}: is not valid TOML; `{APP_NAME} config` says where"]) from None
    for setting, value in values.items():
        names = (setting.key, *setting.aliases)
        # A name that is already in the file is kept. Otherwise the short name is used: people read this file.
        key = next((name for name in names if name in document), names[-1])
        if isinstance(document.get(key), Table):
            del document[key]
        # A separate table would absorb every line that is added below it.
        document[key] = _on_one_line(value) if isinstance(value, dict) else value
    return tomlkit.dumps(document).encode()


def _on_one_line(table: Mapping[str, str | float]) -> InlineTable:
    inline = tomlkit.inline_table()
    inline.update(table)
    return inline


def _read_as_daemon(path: Path, values: Mapping[Setting, Value]) -> tuple[Settings, bytes]:
    """Return the settings the daemon would read with *values* at *path*, and the contents of the file with them.

    Raises:
        ConfigError: the problems the daemon would report.
        OSError: the system refuses to write the trial file.
    """
    data = _contents_with(path, values)
    trial = path.with_name(f".{path.name}.{os.getpid()}")
    write_private(trial, data)
    try:
        # Without an environment, and with a home that contains nothing: only problems of this file count.
        return loading.load({}, {}, config_file=trial, home=trial), data
    except ConfigError as error:
        problems = [problem.replace(str(trial), str(path)) for problem in error.problems]
        # The new values are not in the file yet, so the problems must not name it as their source.
        for setting in values:
            source = f"{setting.variable} ({path}): "
            problems = [problem.replace(source, f"{setting.variable}: ") for problem in problems]
        raise ConfigError(problems) from None
    finally:
        trial.unlink()
