"""`logs`: show the service's log."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from daemon.cli.log_lines import rendered
from daemon.cli.managed import manager_of, state_dir
from daemon.cli.message import say, wants_color
from daemon.cli.startup import fail
from daemon.config.table import APP_NAME
from daemon.system.messages import escaped

if TYPE_CHECKING:
    from daemon.installing.service_manager import ServiceManager

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
@click.option("--json", "as_json", is_flag=True, help="Print the lines as the daemon wrote them, one object each.")
def logs(*, follow: bool, lines: int, as_json: bool) -> None:
    """Show the service's log: time, level, event, and fields. It holds names, sizes, and counts, never content."""
    manager = manager_of(state_dir())
    if not manager.path.exists():
        advice = f"`{APP_NAME} install` installs it, and `{APP_NAME} run` logs to its own terminal"
        say(f"note: no service is installed, so any lines below are old; {advice}", err=True)
    command = list(manager.logs(lines, follow=follow))
    program = shutil.which(command[0])
    if program is None:
        raise fail(f"{command[0]} shows the service's log, but is not on the PATH: install it or add it to the PATH")
    if (reason := manager.why_no_logs()) is not None:
        raise fail(reason)
    with suppress(KeyboardInterrupt):
        status = _show([program, *command[1:]], manager, as_json=as_json)
        if status != 0:
            raise click.exceptions.Exit(1)


def _show(command: list[str], manager: ServiceManager, *, as_json: bool) -> int:
    """Print what *command* prints, and return its exit status."""
    color = wants_color(sys.stdout)
    # Ctrl-C reaches both processes, and each ends by itself.
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as shown:  # noqa: S603 - a fixed program
        assert shown.stdout is not None
        try:
            for line in shown.stdout:
                entry = manager.entry(line.rstrip("\n"))
                click.echo(escaped(entry.text) if as_json else rendered(entry, color=color))
        except BaseException:
            shown.terminate()
            raise
    return shown.returncode
