"""`restart`: restart the service, for example after an upgrade or a change of settings."""

from __future__ import annotations

import click

from daemon.cli.managed import start_service, tell

__all__ = ["restart"]


@click.command("restart")
def restart() -> None:
    """Restart the service and wait until it is ready.

    Do this after an upgrade or a change of settings. If a setting cannot be used, it says so at once, and a running
    service goes on.
    """
    start_service(lambda manager: manager.restart(tell))
