"""`install`: let the daemon run as a service of the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from daemon.cli.managed import configured, give_up, log_file, manager_of, tell
from daemon.cli.message import say
from daemon.cli.startup import fail, refuse
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.installing.plan import Plan
from daemon.installing.program import ProgramError, find_program, other_owners
from daemon.installing.service_environment import (
    FOLDERS,
    EnvironmentFileError,
    Missing,
    environment_file,
    find_missing,
    read_environment,
    write_environment,
)
from daemon.installing.service_manager import ManagerError, ServiceManager
from daemon.installing.templates import TemplateError
from daemon.running.plugin_status import STATUS_FILE, PluginStatusError, create, status_files
from daemon.state import lock

__all__ = ["install"]


@click.command("install")
@click.option("--print", "print_only", is_flag=True, help="Print the file that would be written, and change nothing.")
@click.option("--yes", is_flag=True, help="Write what the service would not see of this shell, without asking.")
@click.option("--linger", is_flag=True, help="Run also while you are not logged in (systemd).")
@click.option(
    "--program",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, executable=True),
    help="Executable that the service runs.  [default: this one]",
)
def install(*, print_only: bool, yes: bool, linger: bool, program: Path | None) -> None:
    """Run the daemon as a service of this user: systemd on Linux, launchd on macOS.

    Done again it brings the service up to date. Keys stay in config.toml; see `login`.
    """
    current = configured()
    variables = environment_file(current.config_file)
    manager = manager_of(current.state_dir)
    try:
        executable = program.absolute() if program is not None else find_program()
        if print_only:
            click.echo(manager.render(_plan(executable, current, variables)), nl=False)
            return
        _refuse_to_follow_root()
        _warn_of_other_owners()
        manager.check()
        service = _carry_over(current, manager, variables, yes=yes)
        _refuse_to_run_twice(service.state_dir, manager)
        lock.prepare_state_dir(service.state_dir)
        if linger:
            manager.linger(tell)
        _create_status_files(service)
        manager.install(_plan(executable, service, variables), tell)
    except ManagerError as error:
        raise give_up(error) from None
    except ConfigError as error:
        raise refuse(error) from None
    except (ProgramError, TemplateError, EnvironmentFileError, lock.StateDirError, ValueError) as error:
        raise fail(str(error)) from None
    if not linger and manager.state().lingers is False:
        tell("it runs while you are logged in; `posthog-llma-daemon install --linger` lets it run always")
    tell(f"look at it with `{APP_NAME} status`, `{APP_NAME} logs` and `{APP_NAME} doctor`")


def _plan(program: Path, current: Settings, variables: Path) -> Plan:
    return Plan(
        program=program,
        state_dir=current.state_dir,
        environment_file=variables,
        environment=read_environment(variables),
        log_file=log_file(),
        status_files=status_files(current),
    )


def _create_status_files(service: Settings) -> None:
    """Make the files of PostHog's plugin: a service that may write nothing beside them cannot."""
    for folder in service.claude_config_dirs if service.plugin_status_file else ():
        path = folder / STATUS_FILE
        try:
            if create(path):
                tell(f"written: {path}, for the status command of PostHog's plugin")
        except PluginStatusError as error:
            say(f"warning: {path} will not be kept: {error}", err=True)


def _refuse_to_follow_root() -> None:
    if os.environ.get("SUDO_USER") and os.getuid() == 0:
        raise ManagerError(f"this would follow root's sessions: run it as {os.environ['SUDO_USER']}, without sudo")


def _warn_of_other_owners() -> None:
    for owner in other_owners():
        say(
            f"warning: the package {owner} in this environment also owns the import name 'daemon'; install {APP_NAME} "
            f"by itself, with `pipx install {APP_NAME}`",
            err=True,
        )


def _refuse_to_run_twice(state_dir: Path, manager: ServiceManager) -> None:
    pid = lock.holder(state_dir)
    if pid is not None and not manager.state().running:
        raise ManagerError(f"a daemon (pid {pid}) runs already on {state_dir}, outside of the service: stop it first")


def _carry_over(current: Settings, manager: ServiceManager, variables: Path, *, yes: bool) -> Settings:
    """Bring what holds in this shell to where the service sees it, as far as the user wants it.

    Returns:
        The settings as the service will read them.

    Raises:
        ConfigError: the service could not be started with them, or what is written cannot be used.
    """
    folders = [(name, os.environ[name]) for name in FOLDERS if os.environ.get(name)]
    folders = [(name, value) for name, value in folders if manager.environment().get(name) != value]
    if changed := write_environment(variables, folders):
        tell(f"written: {variables} ({', '.join(changed)}), so that the service finds config.toml and its state")
    missing = find_missing(
        os.environ, _seen_by_service(manager, variables), config_file=current.config_file, home=_home()
    )
    if missing and _wants_them_written(missing, current.config_file, variables, yes=yes):
        _write(missing, current.config_file, variables)
    service = loading.load({}, _seen_by_service(manager, variables), config_file=current.config_file, home=_home())
    if (reason := service.why_disabled()) is not None:
        raise ConfigError([f"the service would not send anything: {reason}"])
    return service


def _home() -> Path:
    return Path(os.environ.get("HOME") or Path.home())


def _seen_by_service(manager: ServiceManager, variables: Path) -> Mapping[str, str]:
    return {**manager.environment(), **read_environment(variables)}


def _wants_them_written(missing: Sequence[Missing], config_file: Path, variables: Path, *, yes: bool) -> bool:
    places: dict[Path, list[str]] = {}
    for each in missing:
        places.setdefault(config_file if each.setting is not None else variables, []).append(each.variable)
    for place, names in places.items():
        say(
            f"the service does not see what only this shell sets: {', '.join(names)}; it can stand in {place}", err=True
        )
    if yes:
        return True
    if not sys.stdin.isatty():
        say("note: --yes writes them there, to files that only you can read", err=True)
        return False
    return click.confirm("Write them there, to files that only you can read?", default=True, err=True)


def _write(missing: Sequence[Missing], config_file: Path, variables: Path) -> None:
    from daemon.config import file as config_files

    values = {each.setting: each.value for each in missing if each.setting is not None}
    others = [(each.variable, each.value) for each in missing if each.setting is None]
    if values:
        try:
            config_files.update(config_file, values)
        except OSError as error:
            raise ConfigError(
                [f"{config_file}: cannot be written ({(error.strerror or str(error)).lower()}); put that right"]
            ) from None
        tell(f"written: {config_file} ({', '.join(setting.variable for setting in values)})")
    if others:
        tell(f"written: {variables} ({', '.join(write_environment(variables, others))})")
