"""Helpers that the verbs for the service share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import platformdirs

from daemon.cli.log_lines import rendered
from daemon.cli.message import say, wants_color
from daemon.cli.startup import CONFIGURATION, fail, refuse
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.installing.plan import Plan
from daemon.installing.program import other_owners
from daemon.installing.service_environment import CERTIFICATES, EnvironmentFileError, environment_file, read_environment
from daemon.installing.service_manager import LogEntry, ManagerError, ServiceManager
from daemon.running.plugin_status import status_files
from daemon.state import lock

__all__ = [
    "configured",
    "give_up",
    "home",
    "log_file",
    "manager_of",
    "plan_of",
    "seen_by_service",
    "shared_names",
    "start_service",
    "state_dir",
    "tell",
]


def tell(line: str) -> None:
    """Print one line about what was done."""
    say(line)


def give_up(error: ManagerError) -> click.exceptions.Exit:
    """Print why the service manager failed, and return the exception to raise."""
    for line in error.details:
        click.echo(f"  {rendered(LogEntry(text=line), color=wants_color(sys.stderr))}", err=True)
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
    environment = read_environment(variables)
    certificates = (Path(environment[name]) for name in CERTIFICATES if environment.get(name))
    return Plan(
        program=program,
        state_dir=current.state_dir,
        environment_file=variables,
        environment=environment,
        log_file=log_file(),
        status_files=(*status_files(current), *([] if current.outbox is None else [current.outbox])),
        needs=(current.config_file, *current.claude_config_dirs, *certificates),
    )


def seen_by_service(manager: ServiceManager, variables: Path) -> Mapping[str, str]:
    """Return the environment that the service starts with, given its file of variables.

    Raises:
        EnvironmentFileError: the file cannot be read.
        ManagerError: the manager does not answer.
    """
    return {**manager.environment(), **read_environment(variables)}


def start_service(begin: Callable[[ServiceManager], None]) -> None:
    """Start the installed service with *begin*, after a check of what would keep it from running.

    Makes the state directory again if it was removed: the service's sandbox needs it.

    Raises:
        click.exceptions.Exit: with 78 if something must be configured first. Then a running service goes on.
    """
    try:
        manager = manager_of(state_dir())
        manager.check()
        if manager.path.exists():
            current = _settings_of_service(manager)
            lock.prepare_state_dir(manager.state_dir() or current.state_dir)
        begin(manager)
    except ManagerError as error:
        raise give_up(error) from None
    except ConfigError as error:
        ended = refuse(error)
        say(f"the service was left as it is: correct this first (`{APP_NAME} config` shows what is set)", err=True)
        raise ended from None
    except (EnvironmentFileError, lock.StateDirError) as error:
        raise fail(str(error)) from None


def _settings_of_service(manager: ServiceManager) -> Settings:
    """Return the settings as the installed service will read them.

    Raises:
        ConfigError: the service could not run with them.
    """
    variables = manager.environment_file() or environment_file(loading.default_config_file())
    config_file = variables.with_name("config.toml")
    current = loading.load({}, seen_by_service(manager, variables), config_file=config_file, home=home())
    if (reason := current.why_disabled()) is not None:
        raise ConfigError([reason])
    return current


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
