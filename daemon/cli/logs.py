"""`logs`: what the service has logged."""

from __future__ import annotations

import os
import shutil

import click

from daemon.cli.managed import manager_of, state_dir
from daemon.cli.message import say
from daemon.cli.startup import fail
from daemon.config.table import APP_NAME

__all__ = ["logs"]


@click.command("logs")
@click.option("--follow", "-f", is_flag=True, help="Go on showing what comes.")
@click.option(
    "--lines", "-n", type=click.IntRange(min=0), default=100, show_default=True, help="How many lines to show."
)
def logs(*, follow: bool, lines: int) -> None:
    """Show the log of the service: names, sizes and counts, never content."""
    manager = manager_of(state_dir())
    if not manager.path.exists():
        advice = f"`{APP_NAME} install` makes one, and `{APP_NAME} run` logs to its own terminal"
        say(f"note: there is no service now, so what follows, if anything, is old; {advice}", err=True)
    command = list(manager.logs(lines, follow=follow))
    program = shutil.which(command[0])
    if program is None:
        raise fail(f"{command[0]} is not on the PATH, and it keeps the service's log")
    # In this process's place, so that it has the terminal, its pager and Ctrl-C to itself.
    os.execv(program, command)  # noqa: S606 - a fixed program
