"""What a service does not see of the shell it is installed from.

A service manager starts the daemon with an environment of its own: what a user exports in a shell's profile is not in
it. Settings belong into config.toml. What config.toml has no word for, such as a proxy, stands in `service.env` beside
it, which only the user can read: a proxy's address may hold a password.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.config import loading, settings
from daemon.config.settings import ConfigError
from daemon.config.table import SETTINGS, Setting
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = [
    "FOLDERS",
    "OTHERS",
    "EnvironmentFileError",
    "Missing",
    "environment_file",
    "find_missing",
    "read_environment",
    "write_environment",
]

OTHERS = (
    *(name for word in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY") for name in (word, word.lower())),
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""Variables that change where and how the daemon connects."""

FOLDERS = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")
"""Variables that say where config.toml and the state are: a service must find the same ones."""


class EnvironmentFileError(Exception):
    """The file of variables cannot be used; the message says where and why, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A variable that holds in this shell and will not hold in the service.

    Attributes:
        variable: its name.
        value: what it is set to; may be secret.
        setting: the setting it gives, or None where config.toml has no word for it.
    """

    variable: str
    value: str
    setting: Setting | None


def environment_file(config_file: Path) -> Path:
    """Return the path of the file of variables that belongs to *config_file*."""
    return config_file.with_name("service.env")


def find_missing(
    shell: Mapping[str, str], service: Mapping[str, str], *, config_file: Path, home: Path
) -> tuple[Missing, ...]:
    """Return what is set in *shell* and will not hold in the service, in the order of the settings.

    Args:
        shell: the environment of this process.
        service: the environment that the service gets.
        config_file: the config.toml that both read.
        home: the user's home folder.
    """
    differing = [
        Missing(variable=setting.variable, value=shell[setting.variable], setting=setting)
        for setting in SETTINGS
        if _differs(setting.variable, shell, service)
    ]
    here = _load(shell, config_file, home)
    there = _load(service, config_file, home)
    if here is not None and there is not None:
        # A file may say the same as the shell does.
        differing = [
            missing
            for missing in differing
            if missing.setting is not None
            and getattr(here, missing.setting.name) != getattr(there, missing.setting.name)
        ]
    others = [
        Missing(variable=name, value=shell[name], setting=None) for name in OTHERS if _differs(name, shell, service)
    ]
    return (*differing, *others)


def _differs(name: str, shell: Mapping[str, str], service: Mapping[str, str]) -> bool:
    return bool(shell.get(name, "").strip()) and shell[name] != service.get(name)


def _load(environ: Mapping[str, str], config_file: Path, home: Path) -> settings.Settings | None:
    try:
        return loading.load({}, environ, config_file=config_file, home=home)
    except ConfigError:
        # What is wrong is told by whoever wants to use the settings; here it is only compared.
        return None


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables in the file *path*: lines `NAME=value`, quoted as in a shell. None without a file.

    Raises:
        EnvironmentFileError: the file cannot be read, or a line is no assignment.
    """
    try:
        data = read_regular(path)
        lines = [] if data is None else data.decode().splitlines()
    except UnreadableFileError as error:
        raise EnvironmentFileError(f"{path}: {error.reason}; correct or remove the file") from None
    except UnicodeDecodeError:
        raise EnvironmentFileError(f"{path}: is not UTF-8; correct or remove the file") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        name, equals, rest = line.strip().partition("=")
        words = _words(rest)
        if not equals or not name.isidentifier() or words is None:
            raise EnvironmentFileError(f"{path}: line {number} is no NAME='value'; correct or remove it")
        found[name] = words
    return found


def _words(text: str) -> str | None:
    try:
        return " ".join(shlex.split(text))
    except ValueError:
        return None


def write_environment(path: Path, variables: Iterable[tuple[str, str]]) -> Sequence[str]:
    """Add *variables* to the file *path*, which only the user can read; return the names of those that changed.

    Raises:
        EnvironmentFileError: the file there cannot be used, a value cannot be written, or the system refuses.
    """
    before = read_environment(path)
    after = before | dict(variables)
    changed = [name for name, value in after.items() if before.get(name) != value]
    for name in changed:
        # Within single quotes systemd and shells take everything as it stands, but not these.
        if "'" in after[name] or not after[name].isprintable():
            raise EnvironmentFileError(f"{path}: the value of {name} holds a quote or a line end; write it by hand")
    if changed:
        text = "".join(f"{name}='{value}'\n" for name, value in after.items())
        try:
            write_private(path, f"# What config.toml has no word for; read by the service.\n{text}".encode())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise EnvironmentFileError(f"{path}: cannot be written ({reason}); correct that and try again") from None
    return changed
