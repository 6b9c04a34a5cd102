"""What the verbs that speak with a service manager share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import platformdirs

from daemon.cli.message import say
from daemon.cli.startup import CONFIGURATION, fail, refuse
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.installing.service_manager import ManagerError, ServiceManager

__all__ = ["configured", "give_up", "log_file", "manager_of", "state_dir", "tell"]


def tell(line: str) -> None:
    """Print one line of what was done."""
    say(line)


def give_up(error: ManagerError) -> click.exceptions.Exit:
    """Print what a service manager did not do, and return what to raise."""
    for line in error.details:
        click.echo(f"  {line}", err=True)
    return fail(str(error), CONFIGURATION if error.configuration else 1)


def log_file() -> Path:
    """Return where the daemon logs when its manager does not keep logs."""
    return platformdirs.user_log_path(APP_NAME) / "daemon.log"


def manager_of(folder: Path) -> ServiceManager:
    """Return this machine's service manager for the daemon with the state directory *folder*.

    Raises:
        click.exceptions.Exit: there is none.
    """
    if sys.platform == "darwin":
        from daemon.installing.launchd import Launchd

        return Launchd(state_dir=folder, log_file=log_file())
    if sys.platform == "linux":
        from daemon.installing.systemd import Systemd

        return Systemd()
    raise fail(f"there is no service for {sys.platform}: run `{APP_NAME} run` under a supervisor of yours")


def configured() -> Settings:
    """Return the settings in force in this shell.

    Raises:
        click.exceptions.Exit: with 78 and one line for each problem.
    """
    try:
        return loading.load({}, os.environ)
    except ConfigError as error:
        raise refuse(error) from None


def state_dir() -> Path:
    """Return the state directory, also where some other setting cannot be used."""
    try:
        return loading.load({}, os.environ).state_dir
    except ConfigError:
        # What restarts, shows or removes a service must work when its configuration does not.
        return platformdirs.user_state_path(APP_NAME)
