"""`backfill`: send sessions that are history."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from daemon.catalog import Unit
from daemon.cli.startup import build_service, capture_sinks, config_errors, fail, load_settings, log_options, open_state
from daemon.delivery import Settled as Outcome
from daemon.lock import holder, is_held
from daemon.preview import NoLogError, find_logs

__all__ = ["backfill"]


@click.command("backfill")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@log_options
def backfill(paths: tuple[Path, ...], log_format: str | None, log_level: str) -> None:
    """Send sessions that are history: those of PATH (files or folders), or all.

    What was delivered before is not sent again; running it twice does nothing twice. It cannot run beside the daemon on
    the same state directory.
    """
    settings = load_settings({}, log_format=log_format, log_level=log_level)
    if is_held(settings.state_dir):
        pid = holder(settings.state_dir)
        running = f"the daemon (pid {pid})" if pid else "the daemon"
        raise fail(f"{running} is running on {settings.state_dir}; stop it, backfill, and start it again")
    with config_errors():
        make_sink = capture_sinks(settings)
    try:
        wanted = {str(log) for log in find_logs(paths)}
    except NoLogError as error:
        raise fail(str(error)) from None
    sent = 0

    def count(outcomes: object) -> None:
        nonlocal sent
        assert isinstance(outcomes, list | tuple)
        sent += sum(isinstance(outcome, Outcome) and outcome.outcome == "delivered" for outcome in outcomes)

    def is_wanted(unit: Unit) -> bool:
        return not paths or not wanted.isdisjoint(unit.paths)

    with open_state(settings.state_dir) as store:

        async def send() -> bool:
            service = build_service(settings, store, make_sink, again=True, watch=count)
            service.prepare("skip", time.time())
            return await service.run_once(is_wanted)

        settled = asyncio.run(send())
    click.echo(f"{sent} events sent")
    if not settled:
        raise fail("not everything could be sent; run it again to go on where it stopped")
