"""Helpers that the verbs for the service share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import platformdirs

from daemon.cli.message import say
from daemon.cli.startup import CONFIGURATION, fail, refuse
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.installing.plan import Plan
from daemon.installing.program import other_owners
from daemon.installing.service_environment import environment_file, read_environment
from daemon.installing.service_manager import ManagerError, ServiceManager
from daemon.running.plugin_status import status_files
from daemon.system.messages import escaped

__all__ = [
    "configured",
    "give_up",
    "home",
    "log_file",
    "manager_of",
    "plan_of",
    "shared_names",
    "state_dir",
    "tell",
]


def tell(line: str) -> None:
    """Print one line about what was done."""
    say(line)


def give_up(error: ManagerError) -> click.exceptions.Exit:
    """Print why the service manager failed, and return the exception to raise."""
    for line in error.details:
        click.echo(escaped(f"  {line}"), err=True)
    return fail(str(error), CONFIGURATION if error.configuration else 1)


def log_file() -> Path:
    """Return the file the daemon logs to if its service manager keeps no logs."""
    return platformdirs.user_log_path(APP_NAME) / "daemon.log"


def manager_of(folder: Path) -> ServiceManager:
    """Return this machine's service manager, for the daemon with the state directory *folder*.

    Raises:
        click.exceptions.Exit: this system is not supported.
    """
    if sys.platform == "darwin":
        from daemon.installing.launchd import Launchd

        return Launchd(state_dir=folder, log_file=log_file())
    if sys.platform == "linux":
        from daemon.installing.systemd import Systemd

        return Systemd()
    raise fail(f"services are not supported on {sys.platform}: run `{APP_NAME} run` under your own supervisor")


def plan_of(program: Path, current: Settings) -> Plan:
    """Return what to install.

    Args:
        program: the executable that the service runs.
        current: the settings in force.

    Raises:
        EnvironmentFileError: the service's file of variables cannot be read.
        ValueError: a path cannot be written into the service's definition.
    """
    variables = environment_file(current.config_file)
    return Plan(
        program=program,
        state_dir=current.state_dir,
        environment_file=variables,
        environment=read_environment(variables),
        log_file=log_file(),
        status_files=status_files(current),
    )


def shared_names() -> Iterator[tuple[str, str]]:
    """Yield a problem and its fix for each other package here that has a top-level module named like ours."""
    for owner in other_owners():
        yield (
            f"the package {owner} in this environment also provides the import name 'daemon'",
            f"install {APP_NAME} in its own environment, with `pipx install {APP_NAME}`",
        )


def home() -> Path:
    """Return the user's home folder."""
    return Path(os.environ.get("HOME") or Path.home())


def configured() -> Settings:
    """Return the settings as this shell sees them.

    Raises:
        click.exceptions.Exit: with 78 and one line for each problem.
    """
    try:
        return loading.load({}, os.environ)
    except ConfigError as error:
        raise refuse(error) from None


def state_dir() -> Path:
    """Return the state directory, even if another setting cannot be used."""
    try:
        return loading.load({}, os.environ).state_dir
    except ConfigError:
        # Restarting, showing, or removing a service must work even if its configuration is broken.
        return platformdirs.user_state_path(APP_NAME)
