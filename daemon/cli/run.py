"""`run`: follow the logs and deliver their events, in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import structlog

from daemon.cli.startup import (
    build_service,
    cadence,
    capture_sinks,
    config_errors,
    load_settings,
    log_options,
    open_state,
    set_up_logs,
)
from daemon.cli.supervised import supervised
from daemon.config import loading
from daemon.config.settings import ConfigError, Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import Route
from daemon.delivering.sink import Sink
from daemon.history.backfill_request import BackfillDesk
from daemon.history.first_start import HistoryPolicy
from daemon.routing.routing import Purpose
from daemon.running.health import Health
from daemon.running.heartbeat import heartbeat
from daemon.running.notify import Notifier
from daemon.service import Service
from daemon.state.store import Store

__all__ = ["run"]

_log = structlog.get_logger(__name__)


@click.command("run")
@click.option("--once", is_flag=True, help="Read everything there is, deliver it, and end.")
@click.option("--from-start", is_flag=True, help="Send what is history, too.")
@click.option("--local", is_flag=True, help="Deliver into a local file; needs no account. See `traces`.")
@click.option("--state-dir", type=click.Path(path_type=Path, file_okay=False), help="State directory.")
@log_options
@supervised
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
    flags = {"state_dir": state_dir}
    settings = load_settings(flags, log_format=log_format, log_level=log_level)
    with config_errors():
        plan = _plan(settings, local=local)
    with open_state(plan.folder) as store:
        history: HistoryPolicy = "send" if from_start or (once and store.first_start is None) else "skip"
        if once:
            before = store.counters()
            settled = asyncio.run(_once(plan, store, history))
            sent, rejected = (store.counters().get(name, 0) - before.get(name, 0) for name in ("sent", "rejected"))
            if settled:
                see = {"see": f"{APP_NAME} traces"} if local else {}
                _log.info("everything_settled", sent=sent, set_aside=rejected, **see)
        else:
            settled = True

            def reread() -> _Plan:
                fresh = _plan(loading.load(flags, os.environ), local=local)
                if fresh.folder != plan.folder:
                    raise ConfigError(
                        [f"POSTHOG_LLMA_STATE_DIR is {fresh.folder} now; restart the daemon to move there"]
                    )
                set_up_logs(fresh.settings, log_format=log_format, log_level=log_level)
                return fresh

            asyncio.run(_follow(plan, store, history, reread))
    if not settled:
        _log.error("not_everything_settled", hint="what is left is sent by the next run; see `status`")
        raise click.exceptions.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What to run with: the settings, where its state is, and where events go."""

    settings: Settings
    folder: Path
    purpose: Purpose
    make_sink: Callable[[Route], Sink]


def _plan(settings: Settings, *, local: bool) -> _Plan:
    """Work out what to run with.

    Raises:
        ConfigError: nothing can be sent so.
    """
    if not local:
        return _Plan(settings=settings, folder=settings.state_dir, purpose="send", make_sink=capture_sinks(settings))
    from daemon.delivering.local.sink import LocalSink
    from daemon.state.layout import events_path

    path = events_path(settings.state_dir)
    return _Plan(settings=settings, folder=path.parent, purpose="local", make_sink=lambda _route: LocalSink(path))


def _service(plan: _Plan, store: Store, notifier: Notifier) -> Service:
    return build_service(
        plan.settings,
        store,
        plan.make_sink,
        purpose=plan.purpose,
        notifier=notifier,
        health=Health(plan.folder),
        desk=BackfillDesk(plan.folder),
    )


async def _once(plan: _Plan, store: Store, history: HistoryPolicy) -> bool:
    service = _service(plan, store, Notifier(os.environ))
    service.prepare(history, time.time())
    return await service.run_once()


async def _follow(plan: _Plan, store: Store, history: HistoryPolicy, reread: Callable[[], _Plan]) -> None:
    """Follow until a signal says to end. SIGHUP puts a new service in place of the old one, with new settings."""
    following = _Following()
    notifier = Notifier(os.environ)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, following.stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, following.reload, reread)
    async with heartbeat(notifier, os.environ, following.overdue):
        while True:
            service = _service(plan, store, notifier)
            service.prepare(history, time.time())
            following.service = service
            await service.run()
            if following.ending or following.next is None:
                return
            # What was read before is history no more than what comes now.
            plan, following.next, history = following.next, None, "skip"


class _Following:
    """What signals do.

    Attributes:
        service: the one that runs.
        next: what to run with after it.
        ending: whether there is nothing after it.
    """

    def __init__(self) -> None:
        self.service: Service | None = None
        self.next: _Plan | None = None
        self.ending = False

    def overdue(self) -> str | None:
        """Name what should have got on long ago; None if nothing should."""
        return self.service.overdue() if self.service is not None else None

    def stop(self, name: str) -> None:
        if self.ending:
            # What is not settled is read again at the next start; nothing is lost by leaving at once.
            os._exit(1)
        self.ending = True
        action = f"delivering what was read, for {cadence().drain:.0f} s at most; a second signal ends at once"
        _log.info("stopping", signal=name, action=action)
        if self.service is not None:
            self.service.stop()

    def reload(self, reread: Callable[[], _Plan]) -> None:
        if self.ending:
            return
        try:
            self.next = reread()
        except ConfigError as error:
            _log.error("settings_refused", problems=error.problems, action="the old ones stay in force")
            return
        _log.info("settings_read", action="going on with these")
        if self.service is not None:
            self.service.stop(replaced=True)
