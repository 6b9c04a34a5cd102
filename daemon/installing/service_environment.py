"""Finds the variables of a shell that a service does not see, and writes them to a file for it.

A service manager starts the daemon with its own environment, which lacks what the user exports in a shell's profile.
Settings belong in config.toml. Variables that config.toml has no setting for, such as a proxy, go to `service.env` next
to it. Only the user can read that file, because a proxy's address may hold a password.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.config import loading, settings
from daemon.config.settings import ConfigError
from daemon.config.table import SETTINGS, Setting
from daemon.system.messages import system_reason
from daemon.system.private_file import write_private
from daemon.system.small_file import UnreadableFileError, read_regular

__all__ = [
    "CERTIFICATES",
    "FOLDERS",
    "OTHERS",
    "EnvironmentFileError",
    "Missing",
    "environment_file",
    "find_missing",
    "read_environment",
    "write_environment",
]

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that locate certificates."""

OTHERS = (
    *(name for word in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY") for name in (word, word.lower())),
    *CERTIFICATES,
)
"""Variables that are not settings, but change how the daemon connects."""

FOLDERS = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")
"""Variables that locate config.toml and the state; the service must find the same ones."""


class EnvironmentFileError(Exception):
    """The file of variables cannot be used; the message says where, why and what to do, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A variable that is in effect in this shell, but not in the service.

    Attributes:
        variable: its name.
        value: its value, which may be secret.
        setting: the setting it belongs to; None if config.toml has no setting for it.
    """

    variable: str
    value: str
    setting: Setting | None


def environment_file(config_file: Path) -> Path:
    """Return the path of the file of variables next to *config_file*."""
    return config_file.with_name("service.env")


def find_missing(
    shell: Mapping[str, str], service: Mapping[str, str], *, config_file: Path, home: Path
) -> tuple[Missing, ...]:
    """Return the variables in effect in *shell* but not in the service, in the order of the settings.

    Args:
        shell: the environment of this process.
        service: the environment of the service.
        config_file: the config.toml that both read.
        home: the user's home folder.
    """
    differing = [
        Missing(variable=setting.variable, value=shell[setting.variable], setting=setting)
        for setting in SETTINGS
        if setting.for_daemon and _differs(setting.variable, shell, service)
    ]
    here = _load(shell, config_file, home)
    there = _load(service, config_file, home)
    if here is not None and there is not None:
        # A file may give the same value as the shell.
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
        # Whoever uses the settings reports this; here they are only compared.
        return None


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables in the file *path*: lines `NAME=value`, quoted as in a shell; empty if there is no file.

    Raises:
        EnvironmentFileError: the file cannot be read, or a line is not an assignment.
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
            raise EnvironmentFileError(f"{path}: line {number} is not NAME='value'; correct or remove it")
        found[name] = words
    return found


def _words(text: str) -> str | None:
    try:
        return " ".join(shlex.split(text))
    except ValueError:
        return None


def write_environment(
    path: Path, variables: Iterable[tuple[str, str]], *, without: Iterable[str] = ()
) -> Sequence[str]:
    """Bring the file *path*, which only the user can read, up to date; remove it if nothing is left in it.

    Args:
        path: the file.
        variables: names and values to set.
        without: names to remove.

    Returns:
        The names of those that changed.

    Raises:
        EnvironmentFileError: the existing file cannot be used, a value cannot be quoted, or writing fails.
    """
    before = read_environment(path)
    removed = set(without)
    after = {name: value for name, value in (before | dict(variables)).items() if name not in removed}
    written = [name for name, value in after.items() if before.get(name) != value]
    changed = [*written, *(name for name in before if name in removed)]
    for name in written:
        # In single quotes, systemd and shells take everything literally except these.
        if "'" in after[name] or not after[name].isprintable():
            raise EnvironmentFileError(f"{path}: the value of {name} has a quote or a line end; write it by hand")
    if changed:
        text = "# Variables that config.toml has no setting for. The service reads them.\n"
        text += "".join(f"{name}='{value}'\n" for name, value in after.items())
        try:
            if after:
                write_private(path, text.encode())
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            why = system_reason(error)
            raise EnvironmentFileError(f"{path}: cannot be written ({why}); fix that and try again") from None
    return changed
