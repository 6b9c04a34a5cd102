"""`stop`: stop the service."""

from __future__ import annotations

import click

from daemon.cli.managed import give_up, manager_of, state_dir, tell
from daemon.installing.service_manager import ManagerError

__all__ = ["stop"]


@click.command("stop")
def stop() -> None:
    """Stop the service until `start` or your next login. It first delivers what it has read."""
    try:
        manager = manager_of(state_dir())
        manager.check()
        manager.stop(tell)
    except ManagerError as error:
        raise give_up(error) from None
