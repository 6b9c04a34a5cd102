"""`backfill`: send existing sessions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from daemon.cli.message import document, fitted, say
from daemon.cli.meter import Meter
from daemon.cli.moment import Moment
from daemon.cli.render import money, stdout
from daemon.cli.startup import (
    build_service,
    cadence,
    capture_sinks,
    config_errors,
    fail,
    jobs_option,
    load_settings,
    log_options,
    open_state,
    session_options,
)
from daemon.config.settings import Settings
from daemon.config.table import APP_NAME
from daemon.delivering.route import Route
from daemon.delivering.sink import Sink
from daemon.following.session_files import SessionFiles
from daemon.history.backfill_job import EXPIRING_DAYS, BackfillError, BackfillJob, BackfillResult
from daemon.history.backfill_request import BackfillReport
from daemon.history.backlog import Backlog, Headway
from daemon.history.estimate import CONTENT_DAYS, Estimate
from daemon.history.history import Selection
from daemon.state.lock import StateLock
from daemon.system.figures import count, size
from daemon.system.messages import escaped

__all__ = ["MakeSink", "backfill", "backfill_errors", "send"]

MakeSink = Callable[[Route], Sink]


@click.command("backfill")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--path",
    "more",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Same as the argument PATH. You can repeat it.",
)
@click.option(
    "--since",
    type=Moment(),
    help="Only sessions that ended at or after this time: 2026-11-20, 2026-11-20T14:00, or 7d for seven days ago.",
)
@click.option(
    "--until",
    type=Moment(end_of_day=True),
    help="Only sessions that began before this time. A date includes that day.",
)
@session_options
@click.option(
    "--expiring",
    is_flag=True,
    help=f"Only sessions that Claude Code removes within {EXPIRING_DAYS} days. Lists them; sends them with --yes.",
)
@click.option(
    "--rejected",
    is_flag=True,
    help="Only the events that PostHog refused and that were set aside. Sends them again, and nothing else.",
)
@click.option("--dry-run", is_flag=True, help="Show how much there is to send, but send nothing.")
@click.option("--yes", is_flag=True, help="Send without a summary and without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@jobs_option
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
    rejected: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    jobs: int | None,
    log_format: str | None,
    log_level: str,
) -> None:
    """Send existing sessions: those in PATH (log files or folders), or all.

    Shows a summary first, then asks. Only unsent events are sent, so you can run this again at any time, for example
    to continue after Ctrl-C. With --rejected, those that PostHog refused are sent again, under the same ids.

    If a daemon is running, it sends the sessions while it is idle, and this command shows the progress.
    """
    if expiring and rejected:
        raise click.UsageError("--expiring and --rejected cannot be used together")
    settings = load_settings({}, log_format=log_format, log_level=log_level)
    sends = not dry_run and (yes or not expiring)
    with config_errors():
        make_sink = capture_sinks(settings) if sends else None
    selection = Selection(since=since, until=until, projects=projects, sessions=sessions)
    with backfill_errors():
        job = BackfillJob.choose(settings, selection, (*paths, *more), expiring=expiring, rejected=rejected, jobs=jobs)
        if job.rejections is not None:
            _warn_lost(job.rejections.lost)
        if dry_run and rejected:
            _print_rejected(job, as_json=as_json)
        elif dry_run:
            _print_estimate(job, _count(job, as_json=as_json), as_json=as_json)
        elif make_sink is None:
            _list_expiring(job, as_json=as_json)
        elif not job.sessions:
            _print_nothing(job, as_json=as_json)
        elif yes or _is_confirmed(job, as_json=as_json):
            send(job, settings, make_sink, as_json=as_json)


@contextmanager
def backfill_errors() -> Iterator[None]:
    """Turn a BackfillError into one line, and exit with 1."""
    try:
        yield
    except BackfillError as error:
        raise fail(str(error)) from None


# ---------------------------------------------------------------------- what there is to send


def _count(job: BackfillJob, *, as_json: bool) -> Estimate:
    with Meter("counting", job.size, shown=not as_json) as meter:
        return job.count(meter.show)


def _is_confirmed(job: BackfillJob, *, as_json: bool) -> bool:
    """Show the summary and ask whether to send; False if there is nothing to send.

    Raises:
        click.exceptions.Exit: the answer is no, or there is no terminal to ask on.
    """
    if as_json or not sys.stdin.isatty():
        raise fail("cannot ask without a terminal: add --yes to send, or --dry-run to see what would be sent", 2)
    if job.rejections is not None:
        _print_rejected(job, as_json=False)
    else:
        found = _count(job, as_json=False)
        _print_estimate(job, found, as_json=False)
        if not found.events:
            return False
    if not click.confirm("Send them to PostHog?", err=True):
        say("nothing was sent", err=True)
        raise click.exceptions.Exit(1)
    return True


def _print_estimate(job: BackfillJob, found: Estimate, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_document(job, found), indent=2))
        return
    for reason, number in found.waiting.items():
        say(f"warning: {count(number, 'session')} would wait: {reason}", err=True)
    if found.unreadable:
        say(f"warning: {count(found.unreadable, 'session')} could not be read", err=True)
    if not found.events:
        if found.waiting or found.unreadable:
            say("nothing to send until that is fixed")
        else:
            _print_nothing(job, as_json=False)
        return
    parts = (
        f"{found.input_tokens:,} input",
        f"{found.output_tokens:,} output",
        f"{found.cache_read_tokens:,} cache read",
        f"{found.cache_write_tokens:,} cache write",
    )
    click.echo(f"sessions: {found.sessions:,}, {_period(job, found)}")
    click.echo(f"events:   {found.events:,}")
    click.echo(fitted(f"tokens:   {found.tokens:,} ({', '.join(parts)})", sys.stdout, then=" " * 10))
    if cost := money(found.dollars):
        click.echo(f"cost:     {cost} (an estimate at API list prices)")
    click.echo(f"bytes:    {size(found.size)} before compression, from {size(job.size)} of logs")
    if found.metrics_only:
        say(
            f"note: {count(found.metrics_only, 'event')} older than {CONTENT_DAYS} days: PostHog keeps only metrics "
            "for such events, not their content",
            err=True,
        )
    if found.running:
        say(
            f"note: {count(found.running, 'session')} still running: their open turns are left to the daemon",
            err=True,
        )


def _period(job: BackfillJob, found: Estimate) -> str:
    first, last = (_local(at).date() for at in job.period(found))
    return f"{first} to {last}" if first != last else f"{first}"


def _document(job: BackfillJob, found: Estimate) -> dict[str, Any]:
    return {
        "sessions": found.sessions,
        "events": found.events,
        "tokens": {
            "input": found.input_tokens,
            "output": found.output_tokens,
            "cache_read": found.cache_read_tokens,
            "cache_write": found.cache_write_tokens,
        },
        "cost_usd": round(found.dollars.known, 6),
        "unpriced_tokens": found.dollars.unpriced,
        "bytes": found.size,
        "log_bytes": job.size,
        "metrics_only_events": found.metrics_only,
        "running_sessions": found.running,
        "unreadable_sessions": found.unreadable,
        "waiting": [{"reason": reason, "sessions": number} for reason, number in found.waiting.items()],
    }


def _print_rejected(job: BackfillJob, *, as_json: bool) -> None:
    lost = job.rejections.lost if job.rejections is not None else 0
    if as_json:
        found = {"sessions": len(job.sessions), "events": job.chosen_resends, "lost_events": lost}
        click.echo(json.dumps(found, indent=2))
    else:
        events, sessions = count(job.chosen_resends, "rejected event"), count(len(job.sessions), "session")
        say(f"{events} to send again, of {sessions}")


def _warn_lost(lost: int) -> None:
    """Say how many rejected events cannot be built again because no log of their session is known."""
    if lost:
        say(
            f"warning: {count(lost, 'rejected event')} cannot be sent again: no log of the session is left; "
            f"`{APP_NAME} status --rejected` lists all of them",
            err=True,
        )


def _print_nothing(job: BackfillJob, *, as_json: bool) -> None:
    if as_json:
        _print_result(BackfillResult(headway=Headway(), settled=True), as_json=True)
        return
    if job.rejections is not None:
        why = "no event that was set aside belongs to these sessions"
    elif not job.history.paths:
        roots = ", ".join(str(root.path) for root in job.history.roots)
        why = f"no session logs in {roots}; set CLAUDE_CONFIG_DIR if they are elsewhere"
    elif not job.sessions:
        why = "no session on disk matches these options"
    else:
        why = "these sessions have been sent already, or they hold no events"
    say(f"nothing to send: {why}")


# ---------------------------------------------------------------------- what expires


def _list_expiring(job: BackfillJob, *, as_json: bool) -> None:
    """List the sessions, the next to be removed first, each with its unsent events."""
    found = _count(job, as_json=as_json)
    rows = [
        {
            "session": each.session.files.session,
            "project": each.session.cwd,
            "written": _local(each.session.written).isoformat(timespec="seconds"),
            "days_left": each.days_left,
            "bytes": each.session.size,
            "unsent_events": each.unsent_events,
        }
        for each in job.expiring(found)
    ]
    if as_json:
        click.echo(document(rows, indent=2))
        return
    if not rows:
        say(f"Claude Code removes no session within {EXPIRING_DAYS} days")
        return
    _print_table(rows)
    if found.events:
        unsent = count(found.events, "unsent event")
        say(f"{unsent} in these sessions; `{APP_NAME} backfill --expiring --yes` sends them")
    else:
        say("all their events have been sent already")


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
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
        table.add_row(*(Text(escaped(word)) for word in words))
    stdout().print(table)


# ---------------------------------------------------------------------- sending


def send(
    job: BackfillJob, settings: Settings, make_sink: MakeSink, *, as_json: bool = False, beside: bool = False
) -> None:
    """Send the sessions by the daemon if one runs, else from this process.

    Args:
        job: the sessions.
        settings: the settings in force.
        make_sink: builds the sink of a route.
        as_json: whether to print the result as JSON.
        beside: whether the result goes to stderr, because something else is on stdout.

    Raises:
        click.exceptions.Exit: with 1: not everything was sent.
    """
    if job.old_sessions:
        say(
            f"note: {count(job.old_sessions, 'session')} began more than {CONTENT_DAYS} days ago: PostHog keeps only "
            "metrics for events that old, not their content",
            err=True,
        )
    if job.has_daemon:
        result = _send_by_daemon(job, as_json=as_json)
    else:
        result = _send_here(job, settings, make_sink, as_json=as_json)
    _print_result(result, as_json=as_json, beside=beside)
    if job.resends and result.settled:
        what = "rejected event" if job.rejections is not None else "missing event"
        _warn_changed(job.chosen_resends - result.headway.sent - result.headway.refused, what)
    if result.interrupted:
        raise fail("interrupted; run it again to continue")
    if result.settled:
        return
    if result.headway.held:
        held = count(result.headway.held, "session")
        raise fail(f"{held} waiting for your permission: `{APP_NAME} status` says what to do")
    raise fail("not everything could be sent; run it again to continue")


def _warn_changed(missing: int, what: str) -> None:
    """Say how many events were to be sent again and were not accepted, although their sessions were read."""
    if missing > 0:
        say(
            f"warning: {count(missing, what)} not accepted: refused again, or the logs or settings have "
            f"changed, or the session still runs; `{APP_NAME} status --rejected` lists what is left",
            err=True,
        )


def _send_here(job: BackfillJob, settings: Settings, make_sink: MakeSink, *, as_json: bool) -> BackfillResult:
    def warn() -> None:
        wait = f"what was read is delivered first, within {cadence().drain:.0f} s"
        say(f"stopping: {wait}; press Ctrl-C again to exit now", err=True)

    lock = StateLock(settings.state_dir, stage="ends", verb="backfill")
    with open_state(lock) as store, Meter("sending", job.size, shown=not as_json) as meter:

        async def deliver(backlog: Backlog, wanted: Callable[[SessionFiles], bool]) -> bool:
            service = build_service(settings, store, make_sink, again=not job.resends, backlog=backlog)
            service.prepare("skip", time.time())
            return await service.run_once(wanted)

        return job.send_here(deliver, show=lambda headway: _show(meter, headway), stopping=warn)


def _send_by_daemon(job: BackfillJob, *, as_json: bool) -> BackfillResult:
    meter = Meter("sending", job.size, shown=not as_json)
    told: str | None = None
    with ExitStack() as stack:

        def accepted(daemon: str) -> None:
            if not as_json:
                say(f"{daemon} sends them while it is idle; Ctrl-C cancels", err=True)
            stack.enter_context(meter)

        def show(report: BackfillReport) -> None:
            nonlocal told
            _show(meter, report.headway, report.waiting)
            if report.waiting not in (None, told) and not sys.stderr.isatty():
                say(f"note: waiting for PostHog: {report.waiting}", err=True)
            told = report.waiting

        result = job.send_by_daemon(accepted=accepted, show=show)
    if not result.settled and result.waiting is not None:
        say(f"warning: {result.waiting}", err=True)
    return result


def _show(meter: Meter, headway: Headway, waiting: str | None = None) -> None:
    meter.show(headway.bytes_done, "waiting for PostHog" if waiting else f"{headway.sent:,} events")


def _print_result(result: BackfillResult, *, as_json: bool, beside: bool = False) -> None:
    headway = result.headway
    if as_json:
        click.echo(json.dumps({**asdict(headway), "settled": result.settled}, indent=2))
    else:
        refused = f", {headway.refused:,} set aside" if headway.refused else ""
        say(f"{count(headway.sent, 'event')} sent{refused}", err=beside)


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone()
