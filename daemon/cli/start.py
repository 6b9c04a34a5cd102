"""`start`: start the service."""

from __future__ import annotations

import click

from daemon.cli.managed import start_service, tell

__all__ = ["start"]


@click.command("start")
def start() -> None:
    """Start the service, unless it runs, and wait until it is ready."""
    start_service(lambda manager: manager.start(tell))
