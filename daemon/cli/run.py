"""`run`: follow sessions and deliver them, in the foreground."""

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

from daemon.cli.message import say
from daemon.cli.startup import (
    build_service,
    cadence,
    capture_sinks,
    config_errors,
    jobs_option,
    load_settings,
    log_options,
    open_local,
    open_state,
    prepare_outboxes,
    set_up_logs,
    state_dir_option,
)
from daemon.cli.supervised import supervised
from daemon.cli.ticker import Ticker, ticking
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
from daemon.state.lock import Stage, StateLock
from daemon.state.store import Store
from daemon.system import collector
from daemon.system.figures import count
from daemon.system.terminal import Terminal

__all__ = ["run"]

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0


@click.command("run")
@click.option("--once", is_flag=True, help="Deliver everything there is to read, then exit.")
@click.option("--from-start", is_flag=True, help="Include existing sessions.")
@click.option("--local", is_flag=True, help="Deliver into a local file, without an account. `traces` shows it.")
@jobs_option
@state_dir_option
@log_options
@supervised
def run(
    once: bool,
    from_start: bool,
    local: bool,
    jobs: int | None,
    state_dir: Path | None,
    log_format: str | None,
    log_level: str,
) -> None:
    """Follow Claude Code sessions and deliver them to PostHog, in the foreground.

    Sessions that exist at the first start are not sent, except with --once or --from-start. `backfill` sends them
    later.

    Exits with 78 if you have to configure something first.
    """
    with ticking(log_format) as ticker:
        _run(
            once=once,
            from_start=from_start,
            local=local,
            jobs=jobs,
            state_dir=state_dir,
            log_format=log_format,
            log_level=log_level,
            ticker=ticker,
        )


def _run(
    *,
    once: bool,
    from_start: bool,
    local: bool,
    jobs: int | None,
    state_dir: Path | None,
    log_format: str | None,
    log_level: str,
    ticker: Ticker | None,
) -> None:
    flags = {"state_dir": state_dir}
    settings = load_settings(flags, log_format=log_format, log_level=log_level)
    with config_errors():
        plan = _plan(settings, local=local, jobs=jobs)
    stage: Stage = "ends" if once else "starts" if local else "follows"
    name = " ".join(["run", *(["--local"] if local else []), *(["--once"] if once else [])])
    lock = StateLock(plan.folder, stage=stage, verb=name if local or once else None)
    with open_local(lock, waits=True) if local else open_state(lock) as store:
        prepare_outboxes(settings)
        if ticker is not None:
            _say_where(plan)
            ticker.begin()
        history: HistoryPolicy = "send" if from_start or (once and store.first_start is None) else "skip"
        if once:
            before = store.counters()
            settled = asyncio.run(_once(plan, store, history, ticker))
            sent, rejected = (store.counters().get(name, 0) - before.get(name, 0) for name in ("sent", "rejected"))
            if settled:
                see = {"see": f"{APP_NAME} traces"} if local else {}
                _log.info("everything_settled", sent=sent, set_aside=rejected, **see)
        else:
            settled = True

            def reread() -> _Plan:
                fresh = _plan(loading.load(flags, os.environ), local=local, jobs=jobs)
                if fresh.folder != plan.folder:
                    raise ConfigError([f"POSTHOG_LLMA_STATE_DIR is now {fresh.folder}; restart the daemon to use it"])
                prepare_outboxes(fresh.settings)
                set_up_logs(fresh.settings, log_format=log_format, log_level=log_level)
                return fresh

            asyncio.run(_follow(plan, store, history, reread, ticker, lock.note_current if local else None))
    if not settled:
        _log.error("once_incomplete", hint="the next run sends the rest; see `status`")
        raise click.exceptions.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The settings and parts that a service runs with.

    Attributes:
        settings: the settings in force.
        folder: the folder of its state.
        purpose: what the events are for.
        make_sink: builds the sink of a route.
        jobs: how many processes may read old sessions at a time; None: as many as are worth it.
    """

    settings: Settings
    folder: Path
    purpose: Purpose
    make_sink: Callable[[Route], Sink]
    jobs: int | None


def _plan(settings: Settings, *, local: bool, jobs: int | None) -> _Plan:
    """Make the plan for *settings*.

    Raises:
        ConfigError: nothing can be sent with them.
    """
    if not local:
        sinks = capture_sinks(settings)
        return _Plan(settings=settings, folder=settings.state_dir, purpose="send", make_sink=sinks, jobs=jobs)
    from daemon.delivering.local.sink import LocalSink
    from daemon.state.layout import events_path

    path = events_path(settings.state_dir)
    return _Plan(
        settings=settings, folder=path.parent, purpose="local", make_sink=lambda _route: LocalSink(path), jobs=jobs
    )


def _say_where(plan: _Plan) -> None:
    """Tell people what is followed, and where to look at it."""
    from daemon.delivering.posthog.web_app import traces_url

    say(f"following {', '.join(map(str, plan.settings.claude_config_dirs))}; Ctrl-C stops", err=True)
    if plan.purpose == "local":
        say(f"nothing leaves this machine: `{APP_NAME} traces` shows what was delivered", err=True)
    else:
        say(f"sending to {plan.settings.host}; see it at {traces_url(plan.settings.host)}", err=True)


def _say_history(store: Store) -> None:
    """Tell people at the first start which sessions are not sent."""
    sessions = {mark.unit for mark in store.files() if mark.history}
    if sessions:
        verbs = "was" if len(sessions) == 1 else "were"
        say(
            f"history: {count(len(sessions), 'session')} {verbs} there before this first start and will not be sent; "
            f"`{APP_NAME} backfill` shows a summary, asks, and sends them",
            err=True,
        )
    else:
        say("history: no sessions existed before this first start", err=True)


def _service(
    plan: _Plan,
    store: Store,
    notifier: Notifier,
    ticker: Ticker | None,
    on_current: Callable[[], None] | None = None,
) -> Service:
    return build_service(
        plan.settings,
        store,
        plan.make_sink,
        purpose=plan.purpose,
        notifier=notifier,
        health=Health(plan.folder),
        desk=BackfillDesk(plan.folder),
        jobs=plan.jobs,
        watch=ticker.watch if ticker is not None else None,
        on_current=on_current,
    )


async def _once(plan: _Plan, store: Store, history: HistoryPolicy, ticker: Ticker | None) -> bool:
    service = _service(plan, store, Notifier(os.environ), ticker)
    service.prepare(history, time.time())
    collector.pass_over()
    return await service.run_once()


async def _follow(
    plan: _Plan,
    store: Store,
    history: HistoryPolicy,
    reread: Callable[[], _Plan],
    ticker: Ticker | None,
    on_current: Callable[[], None] | None,
) -> None:
    """Follow until SIGTERM, SIGINT, or the end of the terminal.

    Without a terminal, SIGHUP replaces the service with a new one that has new settings.
    """
    terminal = Terminal()
    succession = _Succession(terminal)
    notifier = Notifier(os.environ)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, succession.stop, number.name)
    ignores_hang_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as under nohup
    watching: asyncio.Task[None] | None = None
    if not terminal.exists:
        loop.add_signal_handler(signal.SIGHUP, succession.reload, reread)
    elif not ignores_hang_up:
        loop.add_signal_handler(signal.SIGHUP, succession.hang_up)
        watching = loop.create_task(_watch(terminal, succession))
    tells_history = ticker is not None and store.first_start is None and history == "skip"
    try:
        async with heartbeat(notifier, os.environ, succession.overdue):
            while True:
                service = _service(plan, store, notifier, ticker, on_current)
                service.prepare(history, time.time())
                if tells_history:
                    tells_history = False
                    _say_history(store)
                succession.service = service
                await service.run()
                if succession.ending or succession.next is None:
                    return
                # The first service has settled history; `send` would rewind it again.
                plan, succession.next, history = succession.next, None, "skip"
    finally:
        if watching is not None:
            watching.cancel()


async def _watch(terminal: Terminal, succession: _Succession) -> None:
    """End when the terminal hangs up: its signal reaches only the processes that it controls."""
    while not terminal.has_hung_up():  # noqa: ASYNC110 - no event tells of a terminal that hangs up
        await asyncio.sleep(_LOOK_SECONDS)
    succession.hang_up()


class _Succession:
    """The running service, and what signals say comes after it.

    Args:
        terminal: this process's terminal.

    Attributes:
        service: the running service; None before the first.
        next: the plan of the service that replaces it; None without one.
        ending: whether the process ends after it.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.service: Service | None = None
        self.next: _Plan | None = None
        self.ending = False

    def overdue(self) -> str | None:
        """Return the name of an operation that is long overdue; None without one."""
        return self.service.overdue() if self.service is not None else None

    def stop(self, name: str) -> None:
        if self.ending:
            # What is not settled is read again at the next start, so exiting now loses nothing.
            os._exit(1)
        self.ending = True
        action = f"delivering what was read, for at most {cadence().drain:.0f} s; a second signal exits now"
        _log.info("stopping", signal=name, action=action)
        if self.service is not None:
            self.service.stop()

    def hang_up(self) -> None:
        """Stop because the terminal is gone. A second hang-up is none of a person's signals, and changes nothing."""
        self._terminal.let_go()
        if not self.ending:
            self.stop(signal.SIGHUP.name)

    def reload(self, reread: Callable[[], _Plan]) -> None:
        if self.ending:
            return
        try:
            self.next = reread()
        except ConfigError as error:
            _log.error("settings_refused", problems=error.problems, action="keeping the old settings")
            return
        _log.info("settings_read", action="continuing with the new settings")
        if self.service is not None:
            self.service.stop(replaced=True)
