"""`uninstall`: take away what `install` made."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from daemon.cli.managed import give_up, log_file, manager_of, state_dir, tell
from daemon.cli.message import say
from daemon.cli.startup import fail
from daemon.config import loading
from daemon.config.settings import ConfigError
from daemon.config.table import APP_NAME
from daemon.installing.service_environment import environment_file
from daemon.installing.service_manager import ManagerError
from daemon.running.plugin_status import status_files
from daemon.state import lock
from daemon.state.layout import remove_state

__all__ = ["uninstall"]


@click.command("uninstall")
@click.option("--purge", is_flag=True, help="Remove config.toml with its key, and the state, too.")
@click.option("--yes", is_flag=True, help="Do not ask before --purge.")
def uninstall(*, purge: bool, yes: bool) -> None:
    """Stop the service and remove it.

    What stays is config.toml, and the state: what was delivered already, so that a later start sends nothing twice.
    --purge removes them, too.
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
        tell(f"`{APP_NAME} uninstall --purge` removes what is left, too")


def _ask(folder: Path, config_file: Path) -> None:
    if not sys.stdin.isatty():
        raise fail("there is no terminal to ask on: add --yes to remove config.toml and the state, too", 2)
    say(f"This removes the service, {config_file} with its key, and the state in {folder}.", err=True)
    if not click.confirm("Remove all that?", err=True):
        say("nothing is removed", err=True)
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
        tell("there is no service to remove")


def _purge(folder: Path, config_file: Path, plugin_files: Sequence[Path]) -> None:
    if (pid := lock.holder(folder)) is not None:
        raise fail(f"a daemon (pid {pid}) runs on {folder}: stop it, and do this again")
    # What `config allow` remembers stands beside it.
    for path in (config_file, config_file.with_name("allowed.json"), *plugin_files):
        _remove(path)
    _remove_if_empty(config_file.parent)
    was_there = folder.exists()
    try:
        foreign = remove_state(folder)
    except OSError as error:
        raise fail(f"{error.filename or folder} cannot be removed ({(error.strerror or str(error)).lower()})") from None
    if was_there:
        tell(f"removed: the state in {folder}")
    for path in foreign:
        tell(f"left as it is, because it is not the daemon's: {path}")


def _plugin_files() -> Sequence[Path]:
    """Return the files that were kept for PostHog's plugin, as far as the settings still say so."""
    try:
        return status_files(loading.load({}, os.environ))
    except ConfigError:
        # What cannot be read must not keep the rest from going.
        return ()


def _remove(path: Path) -> bool:
    """Remove a file; return whether there was one."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise fail(f"{path} cannot be removed ({(error.strerror or str(error)).lower()})") from None
    tell(f"removed: {path}")
    return True


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not os.listdir(folder):  # noqa: PTH208 - only whether there is anything counts
        folder.rmdir()
