"""`logs`: show the service's log."""

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
@click.option("--follow", "-f", is_flag=True, help="Keep showing new lines.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    metavar="NUMBER",
    help="How many lines to show.",
)
def logs(*, follow: bool, lines: int) -> None:
    """Show the service's log. It holds names, sizes, and counts, never content."""
    manager = manager_of(state_dir())
    if not manager.path.exists():
        advice = f"`{APP_NAME} install` installs it, and `{APP_NAME} run` logs to its own terminal"
        say(f"note: no service is installed, so any lines below are old; {advice}", err=True)
    command = list(manager.logs(lines, follow=follow))
    program = shutil.which(command[0])
    if program is None:
        raise fail(f"{command[0]} shows the service's log, but is not on the PATH: install it or add it to the PATH")
    # Replace this process, so that the program has the terminal, its pager, and Ctrl-C to itself.
    os.execv(program, command)  # noqa: S606 - a fixed program
