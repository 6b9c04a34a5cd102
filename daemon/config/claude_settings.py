"""Claude Code's own settings files: the `env` block, how long logs are kept, and which plugins are enabled."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = ["CLEANUP_DAYS", "ClientSettings", "cleanup_days", "client_settings", "env_block", "read_env"]

CLEANUP_DAYS = 30
"""Days after which the client removes a log that is no longer written to, unless its settings say otherwise."""

# A hundred years. Python's integers have no end, and times are computed from this one.
_MAX_DAYS = 36_500


def read_env(config_dir: Path) -> Mapping[str, str]:
    """Return the `env` block of `settings.json` in *config_dir*; an empty mapping if there is none.

    Raises:
        UnreadableFileError: the file cannot be read or is not a JSON object, or its `env` is not an object.
    """
    path = config_dir / "settings.json"
    data = read_regular(path)
    return {} if data is None else env_block(path, data)


def cleanup_days(config_dir: Path) -> int:
    """Return for how many days after its last change the client keeps a log: `cleanupPeriodDays` in `settings.json`.

    The client removes older logs when it starts. With 0, 2.0.76 writes no logs and removes all existing ones, whereas
    2.1.329 rejects the value and removes nothing until it is corrected. Nobody knows which version starts next, so 0
    stands for what loses logs: any log may be removed at the client's next start.

    An absent value counts as CLEANUP_DAYS, and so does one that is not a whole number or is negative. A file that
    cannot be read counts as absent; loading the settings reports it.
    """
    days = _read(config_dir / "settings.json").get("cleanupPeriodDays")
    if isinstance(days, float) and days.is_integer():
        # JSON does not tell 7.0 from 7.
        days = int(days)
    if not isinstance(days, int) or isinstance(days, bool) or days < 0:
        return CLEANUP_DAYS
    return min(days, _MAX_DAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What several settings files say together.

    Attributes:
        plugins: the enabled plugins, as `plugin@marketplace`.
        env: the `env` blocks.
    """

    plugins: tuple[str, ...]
    env: Mapping[str, str]


def client_settings(files: Sequence[Path], installed: Path | None = None) -> ClientSettings:
    """Return what the settings *files* say together. A later file overrides the earlier ones.

    A file that cannot be read says nothing; loading the settings reports it.

    Args:
        files: the settings files, the least important first.
        installed: the file in which the client lists the plugins it has installed. These count as enabled unless a
            settings file says otherwise.
    """
    plugins: dict[str, object] = {}
    listed = _read(installed).get("plugins") if installed is not None else None
    if isinstance(listed, dict):
        plugins = dict.fromkeys(listed, True)
    env: dict[str, str] = {}
    for path in files:
        enabled = _read(path).get("enabledPlugins")
        if isinstance(enabled, dict):
            plugins |= enabled
        with contextlib.suppress(UnreadableFileError):
            env |= env_block(path, read_regular(path) or b"{}")
    return ClientSettings(plugins=tuple(name for name, enabled in plugins.items() if enabled), env=env)


def env_block(path: Path, data: bytes) -> Mapping[str, str]:
    """Return the `env` block of the settings file *path* with the contents *data*, as strings like in an environment.

    Numbers, booleans, lists and objects become their JSON text. So a setting that is a JSON object may be written as
    one. A null counts as absent. A file without the block gives an empty mapping.

    Raises:
        UnreadableFileError: the file is not a JSON object, or its `env` is not an object.
    """
    block = _document(path, data).get("env", {})
    if not isinstance(block, dict):
        raise UnreadableFileError(path, "has an 'env' that is not an object")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in block.items()
        if value is not None
    }


def _read(path: Path) -> Mapping[str, Any]:
    """Return what a settings file holds; nothing if it cannot be read."""
    try:
        data = read_regular(path)
        return {} if data is None else _document(path, data)
    except UnreadableFileError:
        return {}


def _document(path: Path, data: bytes) -> Mapping[str, Any]:
    try:
        # utf-8-sig: some editors on other systems start a file with a byte order mark.
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UnreadableFileError(path, f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise UnreadableFileError(path, f"is not valid JSON (line {error.lineno}, column {error.colno})") from None
    except (ValueError, RecursionError):
        # Thousands of digits or levels are valid JSON, which Python's parser refuses.
        raise UnreadableFileError(path, "is not valid JSON") from None
    if not isinstance(document, dict):
        raise UnreadableFileError(path, "is not a JSON object")
    return document
