"""`backfill`: send sessions that are history."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from daemon.cli.figures import count, size
from daemon.cli.message import fitted, say
from daemon.cli.meter import Meter
from daemon.cli.moment import Moment
from daemon.cli.startup import (
    build_service,
    cadence,
    capture_sinks,
    config_errors,
    fail,
    load_settings,
    log_options,
    open_state,
)
from daemon.config.claude_settings import CLEANUP_DAYS, cleanup_days
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import Route
from daemon.delivering.sink import Sink
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import log_roots
from daemon.following.session_files import SessionFiles
from daemon.history.backfill_request import BackfillDesk, BackfillReport, BackfillRequest, RequestExistsError
from daemon.history.backlog import Backlog, Headway
from daemon.history.estimate import CONTENT_DAYS, Estimate, estimate
from daemon.history.history import History, LoggedSession, Selection
from daemon.reading.claims import Claims
from daemon.reading.preview import NoLogError, find_logs
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.state import layout
from daemon.state.lock import holder, is_locked
from daemon.state.store import Store, StoreError

__all__ = ["backfill"]

_DAY = 86_400
_SOON_DAYS = 7
"""A session that the client removes within so many days is listed as expiring."""
_POLL_SECONDS = 0.2
_TAKEN_UP_SECONDS = 30.0
"""How long a running daemon may take to notice what it is asked for."""
# For output that no terminal bounds, so that a row stays a line.
_WIDE = 200


@click.command("backfill")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--path", "more", multiple=True, type=click.Path(path_type=Path, exists=True), help="The same as PATH; repeatable."
)
@click.option("--since", type=Moment(), help="Sessions that ended then or later: 2026-11-20, 2026-11-20T14:00, 7d.")
@click.option("--until", type=Moment(end_of_day=True), help="Sessions that began before; a date includes its day.")
@click.option("--project", "projects", multiple=True, metavar="FOLDER", help="Sessions begun in or below; a pattern.")
@click.option("--session", "sessions", multiple=True, metavar="ID", help="The session, or all that begin with ID.")
@click.option("--expiring", is_flag=True, help="Sessions Claude Code removes soon; lists them, sends with --yes.")
@click.option("--dry-run", is_flag=True, help="Count what there is to send, and send nothing.")
@click.option("--yes", is_flag=True, help="Send without counting and asking first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@log_options
def backfill(
    *,
    paths: tuple[Path, ...],
    more: tuple[Path, ...],
    since: float | None,
    until: float | None,
    projects: tuple[str, ...],
    sessions: tuple[str, ...],
    expiring: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    log_format: str | None,
    log_level: str,
) -> None:
    """Send sessions that are history: those of PATH (files or folders), or all.

    Shows what there is to send and asks first. What was delivered before is not sent again: running it twice does
    nothing twice, and after Ctrl-C it goes on where it stopped. Sessions are taken whole. A running daemon does the
    work itself when it has nothing else to do, and the command shows how far it is.
    """
    settings = load_settings({}, log_format=log_format, log_level=log_level)
    sends = not dry_run and (yes or not expiring)
    with config_errors():
        make_sink = capture_sinks(settings) if sends else None
    history = History(settings.claude_config_dirs)
    selection = Selection(
        since=since, until=until, projects=projects, sessions=sessions, logs=_logs((*paths, *more), history)
    )
    chosen = list(selection.among(history.sessions()))
    if expiring:
        chosen = sorted(
            (each for each in chosen if _left(each, settings) <= _SOON_DAYS * _DAY),
            key=lambda each: each.written,
        )
    nothing = None
    if not history.paths:
        nothing = f"no session log in {_places(history)}; set CLAUDE_CONFIG_DIR if they are elsewhere"
    elif not chosen:
        nothing = "no session on disk is meant by these options"
    job = _Job(settings=settings, history=history, chosen=chosen, make_sink=make_sink, as_json=as_json, nothing=nothing)
    if not sends and expiring and not dry_run:
        job.list_expiring()
    elif dry_run:
        job.say(job.count())
    elif not chosen:
        job.say_nothing()
    else:
        if not yes:
            if as_json or not sys.stdin.isatty():
                raise fail("there is no terminal to ask on: add --yes to send, or --dry-run to see what there is", 2)
            found = job.count()
            job.say(found)
            if not found.events:
                return
            if not click.confirm("Send them to PostHog?", err=True):
                say("nothing is sent", err=True)
                raise click.exceptions.Exit(1)
        job.send()


def _logs(paths: Sequence[Path], history: History) -> frozenset[str] | None:
    """Return the logs that *paths* name; None without any.

    Raises:
        click.exceptions.Exit: with 1: there is none, or none the daemon follows.
    """
    if not paths:
        return None
    try:
        found = frozenset(find_logs(paths))
    except NoLogError as error:
        raise fail(str(error)) from None
    if not found & history.paths:
        places = _places(history)
        raise fail(f"{paths[0]}: its logs are not below {places}; set CLAUDE_CONFIG_DIR to the folder that holds them")
    return found


def _places(history: History) -> str:
    return ", ".join(str(root.path) for root in history.roots)


def _left(session: LoggedSession, settings: Settings) -> float:
    """Return for how many seconds the client will keep a session's log; less than none: it goes at its next start."""
    days = []
    for folder in settings.claude_config_dirs:
        if any(root.is_above(f"{session.unit.folder}/") for root in log_roots([folder])):
            days = [cleanup_days(folder)]
            break
        days.append(cleanup_days(folder))
    return session.written + min(days, default=CLEANUP_DAYS) * _DAY - time.time()


class _Job:
    """Some sessions, and what is to be done with them."""

    def __init__(
        self,
        *,
        settings: Settings,
        history: History,
        chosen: Sequence[LoggedSession],
        make_sink: Callable[[Route], Sink] | None,
        as_json: bool,
        nothing: str | None = None,
    ) -> None:
        self._nothing = nothing or "what these sessions hold was sent before, or they hold no events"
        self._settings = settings
        self._history = history
        self._chosen = chosen
        self._make_sink = make_sink
        self._as_json = as_json
        self._size = sum(session.size for session in chosen)

    # ------------------------------------------------------------------ counting

    def count(self) -> Estimate:
        """Read the sessions and count what is not sent yet."""
        settings, done = self._settings, 0
        with self._claims() as claims, Meter("counting", self._size, shown=not self._as_json) as meter:

            def told(read: int) -> None:
                nonlocal done
                done += read
                meter.show(done)

            return estimate(
                self._chosen,
                routing=Routing(settings, Repositories(), purpose="preview"),
                claims=claims,
                logs=self._history.logs,
                running=LiveSessions(settings.claude_config_dirs).running(),
                now=time.time(),
                told=told,
            )

    @contextmanager
    def _claims(self) -> Iterator[Claims]:
        """Yield what is settled, also while a daemon runs."""
        folder = self._settings.state_dir
        if not (folder / layout.STORE).is_file():
            yield Claims()
            return
        try:
            with closing(Store(folder, read_only=True)) as store, closing(store.reader()) as reader:
                yield Claims(reader)
        except StoreError as error:
            raise fail(str(error)) from None
        except sqlite3.Error as error:
            raise fail(f"{folder / layout.STORE} cannot be read ({error}); see `{APP_NAME} doctor`") from None

    def say(self, found: Estimate) -> None:
        """Tell what there is to send."""
        if self._as_json:
            click.echo(json.dumps(self._document(found), indent=2))
            return
        for reason, number in found.waiting.items():
            say(f"warning: {count(number, 'session')} would wait: {reason}", err=True)
        if found.unreadable:
            say(f"warning: {count(found.unreadable, 'session')} could not be read", err=True)
        if not found.events:
            if found.waiting or found.unreadable:
                say("nothing to send until that is put right")
            else:
                self.say_nothing()
            return
        tokens = {
            "input": found.input_tokens,
            "output": found.output_tokens,
            "cache read": found.cache_read_tokens,
            "cache write": found.cache_write_tokens,
        }
        click.echo(f"sessions: {found.sessions:,}{self._period(found)}")
        click.echo(f"events:   {found.events:,}")
        parts = ", ".join(f"{value:,} {name}" for name, value in tokens.items())
        click.echo(fitted(f"tokens:   {found.tokens:,} ({parts})", sys.stdout, then=" " * 10))
        click.echo(f"bytes:    {size(found.size)} before compression, from {size(self._size)} of logs")
        if found.metrics_only:
            say(
                f"note: {count(found.metrics_only, 'event')} older than {CONTENT_DAYS} days: PostHog takes the "
                "metrics, and keeps nothing of what was said",
                err=True,
            )
        if found.running:
            say(
                f"note: {count(found.running, 'session')} running now: what is open there is left to the daemon",
                err=True,
            )

    def _period(self, found: Estimate) -> str:
        counted = [session for session in self._chosen if found.by_unit[session.unit.name]]
        first = _local(min(session.began for session in counted)).date()
        last = _local(max(session.ended for session in counted)).date()
        return f", {first} to {last}" if first != last else f", {first}"

    def _document(self, found: Estimate) -> dict[str, Any]:
        return {
            "sessions": found.sessions,
            "events": found.events,
            "tokens": {
                "input": found.input_tokens,
                "output": found.output_tokens,
                "cache_read": found.cache_read_tokens,
                "cache_write": found.cache_write_tokens,
            },
            "bytes": found.size,
            "log_bytes": self._size,
            "metrics_only_events": found.metrics_only,
            "running_sessions": found.running,
            "unreadable_sessions": found.unreadable,
            "waiting": [{"reason": reason, "sessions": number} for reason, number in found.waiting.items()],
        }

    def say_nothing(self) -> None:
        """Tell that there is nothing to send."""
        if self._as_json:
            click.echo(json.dumps(_result(Headway(), settled=True), indent=2))
        else:
            say(f"nothing to send: {self._nothing}")

    # ------------------------------------------------------------------ what expires

    def list_expiring(self) -> None:
        """List the sessions, those that go first at the top, with what of them is not sent."""
        found = self.count()
        rows = [
            {
                "session": session.unit.session,
                "project": session.cwd,
                "written": _local(session.written).isoformat(timespec="seconds"),
                "days_left": round(max(0.0, _left(session, self._settings)) / _DAY, 1),
                "bytes": session.size,
                "unsent_events": found.by_unit[session.unit.name],
            }
            for session in self._chosen
        ]
        if self._as_json:
            click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
            return
        if not rows:
            say(f"no session is removed by Claude Code within {_SOON_DAYS} days")
            return
        _print_table(rows)
        if found.events:
            fix = f"`{APP_NAME} backfill --expiring --yes` sends them"
            say(f"{count(found.events, 'event')} of them not sent yet; {fix}")
        else:
            say("everything in them was sent before")

    # ------------------------------------------------------------------ sending

    def send(self) -> None:
        """Send the sessions: by the daemon if one runs, else here."""
        old = time.time() - CONTENT_DAYS * _DAY
        aged = sum(session.began < old for session in self._chosen)
        if aged:
            say(
                f"note: {count(aged, 'session')} began more than {CONTENT_DAYS} days ago: of events older than that "
                "PostHog takes the metrics, and keeps nothing of what was said",
                err=True,
            )
        sizes = {session.unit.name: session.size for session in self._chosen}
        if is_locked(self._settings.state_dir):
            self._ask_daemon(sizes)
        else:
            self._send_here(sizes)

    def _send_here(self, sizes: dict[str, int]) -> None:
        backlog, make_sink = Backlog(sizes), self._make_sink
        assert make_sink is not None

        def is_wanted(unit: SessionFiles) -> bool:
            return unit.name in backlog

        with open_state(self._settings.state_dir) as store, self._meter() as meter:

            async def show() -> None:
                while True:
                    _show(meter, backlog.headway())
                    await asyncio.sleep(_POLL_SECONDS)

            async def send() -> bool:
                service = build_service(self._settings, store, make_sink, again=True, backlog=backlog)
                service.prepare("skip", time.time())
                showing = asyncio.create_task(show())
                work = asyncio.create_task(service.run_once(is_wanted))
                try:
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    wait = f"what was read is delivered first, within {cadence().drain:.0f} s"
                    say(f"stopping: {wait}; Ctrl-C again ends at once", err=True)
                    work.cancel()
                    await asyncio.wait({work})
                    raise
                finally:
                    showing.cancel()

            try:
                settled = asyncio.run(send())
            except KeyboardInterrupt:
                settled = None
        self._end(backlog.headway(), settled=settled)

    def _ask_daemon(self, sizes: dict[str, int]) -> None:
        folder = self._settings.state_dir
        desk = BackfillDesk(folder)
        request = BackfillRequest(id=uuid.uuid4().hex, units=sizes)
        pid = holder(folder)
        daemon = f"the daemon (pid {pid})" if pid else "the daemon"
        try:
            desk.ask(request)
        except RequestExistsError as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(f"{desk.request_path} cannot be written ({(error.strerror or str(error)).lower()})") from None
        if not self._as_json:
            say(f"{daemon} does it while nothing else waits; Ctrl-C gives it up", err=True)
        report: BackfillReport | None = None
        try:
            with self._meter() as meter:
                for report in self._reports(desk, request, daemon):
                    _show(meter, report.headway, report.waiting)
        except KeyboardInterrupt:
            report = desk.report(request) or report
            self._end(report.headway if report is not None else Headway(), settled=None)
        finally:
            desk.withdraw(request)
        assert report is not None
        if not report.headway.is_whole and report.waiting is not None:
            say(f"warning: {report.waiting}", err=True)
        self._end(report.headway, settled=report.headway.is_whole)

    def _reports(self, desk: BackfillDesk, request: BackfillRequest, daemon: str) -> Iterator[BackfillReport]:
        """Yield what the daemon says, until it is done.

        Raises:
            click.exceptions.Exit: with 1: it says nothing more.
        """
        folder = self._settings.state_dir
        began = time.monotonic()
        report, told = None, None
        while report is None or not report.done:
            # In this order: what it said last, it said before it ended.
            lives, asked = is_locked(folder), desk.is_asked(request)
            report = desk.report(request)
            if report is not None:
                yield report
                if report.waiting != told and not sys.stderr.isatty() and report.waiting is not None:
                    say(f"note: waiting for PostHog: {report.waiting}", err=True)
                told = report.waiting
                if report.done:
                    return
            if not lives:
                far = _far(report.headway) if report is not None else "nothing was sent"
                raise fail(
                    f"{daemon} has ended before it was done ({far}); see `{APP_NAME} logs`, start it and run this again"
                )
            if not asked:
                raise fail(f"{daemon} has dropped the request {desk.request_path}; its log says why")
            if report is None and time.monotonic() > began + _TAKEN_UP_SECONDS:
                raise fail(
                    f"{daemon} on {folder} takes no request; it is another backfill, `run --once` or an older "
                    "version: wait for its end, or restart it"
                )
            time.sleep(_POLL_SECONDS)

    def _meter(self) -> Meter:
        return Meter("sending", self._size, shown=not self._as_json)

    def _end(self, headway: Headway, *, settled: bool | None) -> None:
        """Tell how it ended; None: it was interrupted."""
        if self._as_json:
            click.echo(json.dumps(_result(headway, settled=settled), indent=2))
        else:
            refused = f", {headway.refused:,} set aside" if headway.refused else ""
            say(f"{count(headway.sent, 'event')} sent{refused}")
        if settled:
            return
        if settled is None:
            raise fail("interrupted; run it again to go on where it stopped")
        if headway.held:
            raise fail(
                f"{count(headway.held, 'session')} waiting for a word of yours: `{APP_NAME} status` says what to do"
            )
        raise fail("not everything could be sent; run it again to go on where it stopped")


def _result(headway: Headway, *, settled: bool | None) -> dict[str, Any]:
    return {**asdict(headway), "settled": bool(settled)}


def _show(meter: Meter, headway: Headway, waiting: str | None = None) -> None:
    meter.show(headway.bytes_done, "waiting for PostHog" if waiting else f"{headway.sent:,} events")


def _far(headway: Headway) -> str:
    sent = f"{count(headway.sent, 'event')} sent"
    return f"{headway.sessions_done:,} of {count(headway.sessions, 'session')} read, {sent}"


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone()


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("days left", "session", "project", "size", "unsent events"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("session", "project") else "right")
    for row in rows:
        words = (
            f"{row['days_left']:.1f}",
            row["session"],
            row["project"] or "unknown",
            size(row["bytes"]),
            f"{row['unsent_events']:,}",
        )
        table.add_row(*(Text(word) for word in words))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
