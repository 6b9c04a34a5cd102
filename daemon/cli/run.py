"""`run`: follow the logs and deliver their events, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click
import structlog

from daemon.cli.startup import build_service, capture_sinks, load_settings, log_options, open_state
from daemon.notify import Notifier
from daemon.routing import Purpose, Route
from daemon.service import Service
from daemon.sinks import Sink

__all__ = ["run"]

_log = structlog.get_logger(__name__)


@click.command("run")
@click.option("--once", is_flag=True, help="Read everything there is, deliver it, and end.")
@click.option("--from-start", is_flag=True, help="Send what is history, too.")
@click.option("--local", is_flag=True, help="Deliver into a local file; needs no account. See `traces`.")
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="State directory.")
@log_options
def run(
    once: bool,
    from_start: bool,
    local: bool,
    state_dir: Path | None,
    log_format: str | None,
    log_level: str,
) -> None:
    """Follow Claude Code's session logs and deliver their events to PostHog.

    Sessions that are there at the first start are history and not sent, except with --once or --from-start.

    Exits with 78 when something has to be configured first.
    """
    settings = load_settings({"state_dir": state_dir}, log_format=log_format, log_level=log_level)
    folder = settings.state_dir
    purpose: Purpose = "send"
    make_sink: Callable[[Route], Sink]
    if local:
        from daemon.sinks.local import LocalSink, events_path

        path = events_path(folder)
        purpose, folder = "local", path.parent

        def make_sink(_route: Route) -> Sink:
            return LocalSink(path)

    else:
        make_sink = capture_sinks(settings)
    with open_state(folder) as store:
        service_history = "send" if from_start or (once and store.first_start is None) else "skip"

        async def follow() -> bool:
            service = build_service(settings, store, make_sink, purpose=purpose, notifier=Notifier(os.environ))
            service.prepare(service_history, time.time())
            if once:
                return await service.run_once()
            _stop_on_signals(service)
            await service.run()
            return True

        settled = asyncio.run(follow())
    if not settled:
        _log.error("not_everything_settled", hint="what is left is sent by the next run; see `status`")
        raise click.exceptions.Exit(1)


def _stop_on_signals(service: Service) -> None:
    loop = asyncio.get_running_loop()
    asked = False

    def stop(name: str) -> None:
        nonlocal asked
        if asked:
            # What is not settled is read again at the next start; nothing is lost by leaving at once.
            os._exit(1)
        asked = True
        _log.info("stopping", signal=name)
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: _log.info("ignored", signal="SIGHUP", hint="restart to read settings")
    )
