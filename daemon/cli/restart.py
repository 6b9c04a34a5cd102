"""`restart`: restart the service, for example after an upgrade or a change of settings."""

from __future__ import annotations

import click

from daemon.cli.managed import give_up, manager_of, state_dir, tell
from daemon.installing.service_manager import ManagerError

__all__ = ["restart"]


@click.command("restart")
def restart() -> None:
    """Restart the service and wait until it is ready.

    Do this after an upgrade or a change of settings.
    """
    try:
        manager = manager_of(state_dir())
        manager.check()
        manager.restart(tell)
    except ManagerError as error:
        raise give_up(error) from None
