"""`uninstall`: stop and remove the service."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from daemon.cli.managed import give_up, log_file, manager_of, state_dir, tell
from daemon.cli.message import cause, say
from daemon.cli.startup import fail
from daemon.config import loading
from daemon.config.settings import ConfigError
from daemon.config.table import APP_NAME
from daemon.installing.service_environment import environment_file
from daemon.installing.service_manager import ManagerError
from daemon.running.plugin_status import status_files
from daemon.state import lock
from daemon.state.layout import archive_folder, local_folder, remove_state

__all__ = ["uninstall"]


@click.command("uninstall")
@click.option("--purge", is_flag=True, help="Also remove config.toml with its key, and the state.")
@click.option("--yes", is_flag=True, help="With --purge: do not ask first.")
def uninstall(*, purge: bool, yes: bool) -> None:
    """Stop and remove the service.

    Keeps config.toml, and the state, which records what was delivered so that nothing is sent again later. --purge
    removes them too.
    """
    folder, config_file = state_dir(), loading.default_config_file()
    plugin_files = [path for path in _plugin_files() if path.exists()]
    if purge and not yes:
        _ask(folder, config_file)
    _remove_service(folder, config_file)
    if purge:
        _purge(folder, config_file, plugin_files)
    elif left := [path for path in (folder, config_file, *plugin_files) if path.exists()]:
        for path in left:
            tell(f"left: {path}")
        tell(f"`{APP_NAME} uninstall --purge` removes these files too")


def _ask(folder: Path, config_file: Path) -> None:
    if not sys.stdin.isatty():
        raise fail("cannot ask without a terminal: add --yes to remove config.toml and the state too", 2)
    say(f"This removes the service, {config_file} with its key, and the state in {folder}.", err=True)
    if not click.confirm("Remove all of that?", err=True):
        say("nothing was removed", err=True)
        raise click.exceptions.Exit(1)


def _remove_service(folder: Path, config_file: Path) -> None:
    told: list[str] = []

    def note(line: str) -> None:
        told.append(line)
        tell(line)

    try:
        manager_of(folder).uninstall(note)
    except ManagerError as error:
        raise give_up(error) from None
    logs = log_file()
    own = (environment_file(config_file), logs, logs.with_name(f"{logs.name}.1"), logs.with_suffix(".stderr"))
    removed = [path for path in own if _remove(path)]
    _remove_if_empty(logs.parent)
    if not told and not removed:
        tell("no service is installed")


def _purge(folder: Path, config_file: Path, plugin_files: Sequence[Path]) -> None:
    for each in (folder, local_folder(folder), archive_folder(folder)):
        if (other := lock.look(each)) is not None:
            raise fail(f"{other} is running on {each}: stop it and try again")
    # `config allow` keeps its file beside config.toml.
    for path in (config_file, config_file.with_name("allowed.json"), *plugin_files):
        _remove(path)
    _remove_if_empty(config_file.parent)
    was_there = folder.exists()
    try:
        foreign = remove_state(folder)
    except OSError as error:
        raise fail(_undeletable(error.filename or folder, error)) from None
    if was_there:
        tell(f"removed: the state in {folder}")
    for path in foreign:
        tell(f"left: {path}, because it is not the daemon's")


def _plugin_files() -> Sequence[Path]:
    """Return the status files of PostHog's plugin, if the settings still name them."""
    try:
        return status_files(loading.load({}, os.environ))
    except ConfigError:
        # A broken configuration must not keep the rest from being removed.
        return ()


def _remove(path: Path) -> bool:
    """Remove a file, and return whether it existed."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise fail(_undeletable(path, error)) from None
    tell(f"removed: {path}")
    return True


def _undeletable(path: Path | str, error: OSError) -> str:
    return f"{path} cannot be removed ({cause(error)}); fix that and try again"


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not os.listdir(folder):  # noqa: PTH208 - only whether it is empty matters
        folder.rmdir()
