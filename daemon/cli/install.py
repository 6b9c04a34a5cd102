"""`install`: run the daemon as a service of the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from daemon.cli.managed import configured, give_up, home, manager_of, plan_of, seen_by_service, shared_names, tell
from daemon.cli.message import say, unwritable
from daemon.cli.startup import fail, prepare_outboxes, refuse
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.installing.program import ProgramError, find_program
from daemon.installing.service_environment import (
    FOLDERS,
    OTHERS,
    EnvironmentFileError,
    Missing,
    environment_file,
    find_missing,
    read_environment,
    write_environment,
)
from daemon.installing.service_manager import ManagerError, ServiceManager
from daemon.installing.templates import TemplateError
from daemon.running.plugin_status import STATUS_FILE, PluginStatusError, create
from daemon.state import lock

__all__ = ["install"]


@click.command("install")
@click.option(
    "--print", "print_only", is_flag=True, help="Print the service file that would be written, but change nothing."
)
@click.option(
    "--yes", is_flag=True, help="Bring the files the service reads up to date with this shell, without asking."
)
@click.option("--linger", is_flag=True, help="Keep running while you are logged out (systemd only).")
@click.option(
    "--program",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, executable=True),
    help="The executable for the service to run.  [default: this one]",
)
def install(*, print_only: bool, yes: bool, linger: bool, program: Path | None) -> None:
    """Run the daemon in the background, as your own service: systemd on Linux, launchd on macOS.

    Run it again to update the service, or to mend it. The API key stays in config.toml; `login` writes it.
    """
    current = configured()
    variables = environment_file(current.config_file)
    manager = manager_of(current.state_dir)
    try:
        executable = program.absolute() if program is not None else find_program()
        if print_only:
            click.echo(manager.render(plan_of(executable, current)), nl=False)
            return
        _refuse_to_follow_root()
        _warn_of_other_owners()
        manager.check()
        if manager.path.exists():
            # Before anything is written for a service that goes on.
            manager.require_sight(plan_of(executable, current))
        service = _carry_over(current, manager, variables, yes=yes)
        _refuse_to_run_twice(service.state_dir, manager)
        lock.prepare_state_dir(service.state_dir)
        prepare_outboxes(service)
        if linger:
            manager.linger(tell)
        _create_status_files(service)
        manager.install(plan_of(executable, service), tell)
    except ManagerError as error:
        raise give_up(error) from None
    except ConfigError as error:
        raise refuse(error) from None
    except (ProgramError, TemplateError, EnvironmentFileError, lock.StateDirError, ValueError) as error:
        raise fail(str(error)) from None
    if not linger and manager.state().lingers is False:
        tell(f"the service runs while you are logged in; `{APP_NAME} install --linger` keeps it running")
    tell(f"next: `{APP_NAME} status`, `{APP_NAME} logs` or `{APP_NAME} doctor`")


def _create_status_files(service: Settings) -> None:
    """Create the status files of PostHog's plugin, because the service may write to them but not create them."""
    for folder in service.claude_config_dirs if service.plugin_status_file else ():
        path = folder / STATUS_FILE
        try:
            if create(path):
                tell(f"written: {path}, for the status command of PostHog's plugin")
        except PluginStatusError as error:
            say(f"warning: {path} will not be updated: {error}", err=True)


def _refuse_to_follow_root() -> None:
    if os.environ.get("SUDO_USER") and os.getuid() == 0:
        raise ManagerError(
            f"with sudo, the service would follow root's sessions: run it as {os.environ['SUDO_USER']}, without sudo"
        )


def _warn_of_other_owners() -> None:
    for problem, fix in shared_names():
        say(f"warning: {problem}; {fix}", err=True)


def _refuse_to_run_twice(state_dir: Path, manager: ServiceManager) -> None:
    other = lock.look(state_dir)
    if other is not None and not manager.state().running:
        what = "already runs" if other.is_daemon else "runs"
        raise ManagerError(f"{other} {what} on {state_dir}, outside the service: stop it first, or wait for it")


def _carry_over(current: Settings, manager: ServiceManager, variables: Path, *, yes: bool) -> Settings:
    """Bring the files that the service reads up to date with this shell, if the user agrees.

    Returns:
        The settings as the service will read them.

    Raises:
        ConfigError: the service cannot start with these settings, or a copied setting cannot be used.
    """
    # The service must find config.toml and the state where this shell does.
    there = manager.environment()
    folders = [(name, value) for name in FOLDERS if (value := os.environ.get(name)) and there.get(name) != value]
    stale = {*FOLDERS} - {name for name, _ in folders}
    if changed := write_environment(variables, folders, without=stale):
        tell(f"written: {variables} ({', '.join(changed)}), so that the service finds config.toml and its state")
    missing = find_missing(
        os.environ, seen_by_service(manager, variables), config_file=current.config_file, home=home()
    )
    if missing and _wants_them_written(missing, current.config_file, variables, yes=yes):
        _write(missing, current.config_file, variables)
    former = [name for name in read_environment(variables) if name in OTHERS and not os.environ.get(name)]
    if former and _wants_them_removed(former, variables, yes=yes):
        tell(f"removed from {variables}: {', '.join(write_environment(variables, (), without=former))}")
    service = loading.load({}, seen_by_service(manager, variables), config_file=current.config_file, home=home())
    if (reason := service.why_disabled()) is not None:
        raise ConfigError([f"the service would send nothing: {reason}"])
    return service


def _wants_them_written(missing: Sequence[Missing], config_file: Path, variables: Path, *, yes: bool) -> bool:
    places: dict[Path, list[str]] = {}
    for each in missing:
        places.setdefault(config_file if each.setting is not None else variables, []).append(each.variable)
    for place, names in places.items():
        say(
            f"the service does not see these variables of your shell: {', '.join(names)}; they can be written to "
            f"{place}",
            err=True,
        )
    if yes:
        return True
    if not sys.stdin.isatty():
        say("note: add --yes to write them there, readable by you alone", err=True)
        return False
    return click.confirm("Write them there, readable by you alone?", default=True, err=True)


def _wants_them_removed(names: Sequence[str], variables: Path, *, yes: bool) -> bool:
    say(
        f"your shell no longer sets these variables of the service: {', '.join(names)}; they are in {variables}",
        err=True,
    )
    if yes:
        return True
    if not sys.stdin.isatty():
        say("note: add --yes to remove them there", err=True)
        return False
    return click.confirm("Remove them there?", default=False, err=True)


def _write(missing: Sequence[Missing], config_file: Path, variables: Path) -> None:
    from daemon.config import file as config_files

    values = {each.setting: each.value for each in missing if each.setting is not None}
    others = [(each.variable, each.value) for each in missing if each.setting is None]
    if values:
        try:
            config_files.update(config_file, values)
        except OSError as error:
            raise ConfigError([unwritable(config_file, error)]) from None
        tell(f"written: {config_file} ({', '.join(setting.variable for setting in values)})")
    if others:
        tell(f"written: {variables} ({', '.join(write_environment(variables, others))})")
