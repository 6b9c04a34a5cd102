"""`status`: show what was delivered, what waits, and problems."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.message import colored, columns, document, say, wrapped
from daemon.cli.startup import fail, refuse, set_up_logs, state_dir_option
from daemon.config.table import APP_NAME
from daemon.system.figures import count, rough_duration
from daemon.system.messages import escaped

if TYPE_CHECKING:
    from daemon.config.settings import ConfigError, Settings
    from daemon.running.condition import Condition
    from daemon.running.health import RouteReport
    from daemon.running.problem import Problem
    from daemon.state.rows import RejectedEvent
    from daemon.state.verification import Verification

__all__ = ["status"]

_LONGEST = 100
_LABEL = 18
_COLORS = {"warning": "yellow", "fail": "red"}


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.option("--rejected", is_flag=True, help="List the events that PostHog refused and that were set aside.")
@click.option("--local", is_flag=True, help="Show the status of `run --local`.")
@state_dir_option
def status(as_json: bool, rejected: bool, local: bool, state_dir: Path | None) -> None:
    """Show whether the daemon runs, what it has delivered, what waits, and what is wrong.

    Exits with 0 if there are no problems or only warnings, with 1 if the daemon does not run or events do not arrive or
    will be lost, and with 78 if the configuration cannot be used.
    """
    from daemon.cli.condition import UnreadableStateError, read_condition
    from daemon.config import loading
    from daemon.config.settings import ConfigError
    from daemon.state import layout

    try:
        settings = loading.load({"state_dir": state_dir}, os.environ)
    except ConfigError as error:
        if as_json:
            _print_json(None, _unusable(error))
        raise refuse(error) from None
    set_up_logs(settings, log_format=None, log_level="info")
    for warning in settings.warnings:
        say(f"warning: {warning}", err=True)
    folder = layout.local_folder(settings.state_dir) if local else settings.state_dir
    now = time.time()
    try:
        outboxes = () if local else settings.outboxes
        condition = read_condition(folder, () if local else settings.claude_config_dirs, now, outboxes=outboxes)
    except UnreadableStateError as error:
        if as_json:
            _print_json(None, [error.problem])
        raise fail(f"{error.problem.message}; {error.problem.hint}") from None
    # `run --local` is not expected to run all the time.
    problems = list(condition.problems(now, expected=not local))
    if as_json:
        _print_json(condition, problems)
    elif rejected:
        for row in condition.set_aside:
            _print_rejected(row)
        if not condition.set_aside:
            say("no events were set aside", err=True)
        return
    elif not condition.started and not condition.running:
        raise fail(_nothing(problems[0], settings, local=local))
    else:
        for line in _lines(condition, problems, now):
            click.echo(line)
    if any(problem.level == "fail" for problem in problems):
        raise click.exceptions.Exit(1)


def _unusable(error: ConfigError) -> list[Problem]:
    from daemon.running.problem import Problem

    parts = [problem.rpartition("; ") for problem in error.problems]
    advice = f"`{APP_NAME} config check` lists what is wrong"
    return [Problem(level="fail", message=what or hint, hint=hint if what else advice) for what, _, hint in parts]


def _nothing(problem: Problem, settings: Settings, *, local: bool) -> str:
    from daemon.state import layout

    advice = problem.hint
    if not local and (layout.local_folder(settings.state_dir) / layout.STORE).exists():
        advice += f"; `{APP_NAME} status --local` shows the local file"
    elif not local and settings.why_disabled() is not None:
        advice = f"`{APP_NAME} login` sets up sending, and `{APP_NAME} run --local` needs no account"
    return f"{problem.message}; {advice}"


def _print_json(condition: Condition | None, problems: list[Problem]) -> None:
    from dataclasses import asdict, fields

    from daemon.running.condition import Condition, rebuilding

    if condition is None:
        said: dict[str, object] = dict.fromkeys(field.name for field in fields(Condition))
    else:
        said = asdict(condition)
        said["set_aside"] = [{**asdict(row), "command": rebuilding(row)} for row in condition.set_aside]
    answer = {
        "healthy": not any(problem.level == "fail" for problem in problems),
        "problems": [asdict(problem) for problem in problems],
        **said,
        "sessions_held": None if condition is None else len(condition.held),
    }
    click.echo(document(answer, indent=2))


def _print_rejected(row: RejectedEvent) -> None:
    from daemon.running.condition import rebuilding

    click.echo(escaped(f"{row.at} {row.name} {row.uuid} {row.bytes} bytes: {row.reason}"))
    if row.path:
        click.echo(escaped(f"  {row.path} bytes {row.start} to {row.end}"))
        click.echo(escaped(f"  {rebuilding(row)}"))


def _lines(condition: Condition, problems: list[Problem], now: float) -> Iterator[str]:
    yield from _line("running", _running(condition, now), color="green" if condition.running else "red")
    yield from _line("state directory", condition.state_dir)
    if condition.sessions is not None:
        yield from _line("sessions", f"{condition.sessions:,} on disk, {condition.followed:,} followed")
    yield from _line("logs known", f"{condition.files:,}")
    what = "unread" if condition.running else "unsent"
    yield from _line(what, _behind(condition))
    yield from _line("sent", _sent(condition))
    yield from _line("set aside", _set_aside(condition))
    if condition.cut:
        yield from _line("cut to fit", count(condition.cut, "event"))
    if condition.bad_lines:
        yield from _line("bad lines", f"{condition.bad_lines:,}")
    if condition.verified is not None:
        yield from _line("verified", _verified(condition.verified, now))
    if condition.recordings.files:
        held = f"{count(condition.recordings.files, 'file')}, {condition.recordings.bytes:,} bytes"
        yield from _line("recorded calls", f"{held} in the outbox")
    if condition.recordings.kept_local:
        kept = count(condition.recordings.kept_local, "event")
        yield from _line("kept here", f"{kept} that may not leave this machine")
    yield from _line("traces pending", f"{condition.traces_owed:,}")
    if condition.held:
        yield from _line("sessions waiting", f"{len(condition.held):,}")
    for route in condition.routes:
        yield ""
        yield from _route_lines(route, now, running=condition.running)
    width = columns(sys.stdout, longest=_LONGEST)
    for problem in problems:
        yield ""
        mark = "!!" if problem.level == "fail" else "! "
        for line in wrapped(escaped(problem.message), width, first=f"{mark} ", then="   "):
            yield colored(line, _COLORS[problem.level], sys.stdout)
        yield from wrapped(escaped(problem.hint), width, first="   -> ", then="      ")
    if not problems:
        yield ""
        yield colored("No problems found.", "green", sys.stdout)


def _sent(condition: Condition) -> str:
    """Say how many events were delivered, with those of this run apart."""
    now = sum(route.sent for route in condition.routes)
    words = count(condition.sent, "event")
    known = condition.sent and condition.running and condition.reported
    return f"{words}, {now:,} of them since the daemon started" if known else words


def _route_lines(route: RouteReport, now: float, *, running: bool) -> Iterator[str]:
    yield from _line("route", f"{route.host}, key {route.key}")
    yield from _line("  state", _state(route, now) if running else f"{_state(route, now)} (before the daemon stopped)")
    waiting = "nothing"
    if route.waiting:
        waiting = f"{count(route.waiting, 'event')}, the oldest for {_ago(route.oldest_waiting_at, now)}"
    yield from _line("  waiting", waiting)
    accepted = f"{_ago(route.last_success_at, now)} ago" if route.last_success_at else "nothing yet"
    yield from _line("  last accepted", accepted)
    for label, number in (("set aside", route.rejected), ("over quota", route.quota_limited)):
        if number:
            yield from _line(f"  {label}", count(number, "event"))
    if route.resent:
        yield from _line("  sent again", count(route.resent, "request"))
    if route.last_error and route.last_error != route.reason:
        yield from _line("  last error", route.last_error)


def _state(route: RouteReport, now: float) -> str:
    match route.state:
        case "backing_off":
            return f"failed {route.attempt:,} times in a row, will retry: {route.reason}"
        case "stopped":
            again = route.asks_again_at
            left = max(0.0, datetime.fromisoformat(again).timestamp() - now) if again is not None else None
            return f"stopped: {route.reason}" + (f"; asked again in {rough_duration(left)}" if left is not None else "")
        case _:
            return route.state if route.reason is None else f"{route.state}: {route.reason}"


def _running(condition: Condition, now: float) -> str:
    if not condition.running:
        return "no"
    if condition.suspended:
        return f"suspended, pid {condition.pid}"
    since = f", for {_ago(condition.since, now)}" if condition.since else ""
    version = f", version {condition.version}" if condition.version else ""
    return f"yes{since}, pid {condition.pid}{version}"


def _behind(condition: Condition) -> str:
    if not condition.unread_bytes or condition.unread_seconds is None:
        return "nothing"
    logs = count(condition.unread_logs, "log")
    return f"{condition.unread_bytes:,} bytes in {logs}, for {rough_duration(condition.unread_seconds)}"


def _verified(found: Verification, now: float) -> str:
    """Say how the last verification went."""
    lost = f"{count(found.missing, 'event')} missing" if found.missing else "nothing missing"
    nowhere = f"; {count(found.nowhere, 'session')} went to no project that can be seen" if found.nowhere else ""
    return f"{_ago(found.at, now)} ago, {count(found.sessions, 'session')}: {lost}{nowhere}" + (
        f"; `{APP_NAME} verify` shows which" if found.missing or found.nowhere else ""
    )


def _set_aside(condition: Condition) -> str:
    hint = f"; --rejected lists them, `{APP_NAME} backfill --rejected` sends them again" if condition.set_aside else ""
    return count(condition.rejected, "event") + hint


def _line(label: str, value: str, *, color: str | None = None) -> Iterator[str]:
    head = f"{label + ':':<{_LABEL}}"
    width = columns(sys.stdout, longest=_LONGEST)
    for line in wrapped(escaped(value), width, first=head, then=" " * _LABEL):
        yield line if color is None else line[:_LABEL] + colored(line[_LABEL:], color, sys.stdout)


def _ago(at: str | None, now: float) -> str:
    return "?" if at is None else rough_duration(max(0.0, now - datetime.fromisoformat(at).timestamp()))
