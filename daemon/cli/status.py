"""`status`: show what was delivered, what waits, and problems."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.figures import count, rough_duration
from daemon.cli.message import document, wrapped
from daemon.cli.startup import fail, load_settings, state_dir_option
from daemon.config.table import APP_NAME
from daemon.system.messages import escaped

if TYPE_CHECKING:
    from daemon.running.condition import Condition, Problem
    from daemon.running.health import RouteReport
    from daemon.state.rows import RejectedEvent

__all__ = ["status"]

_WIDTH = 80
_LABEL = 18


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
@click.option("--rejected", is_flag=True, help="List the events that PostHog refused and that were set aside.")
@click.option("--local", is_flag=True, help="Show the status of `run --local`.")
@state_dir_option
def status(as_json: bool, rejected: bool, local: bool, state_dir: Path | None) -> None:
    """Show whether the daemon runs, what it has delivered, what waits, and what is wrong.

    Exits with 1 if events do not arrive or will be lost.
    """
    settings = load_settings({"state_dir": state_dir})
    from daemon.state import layout

    folder = layout.local_folder(settings.state_dir) if local else settings.state_dir
    now = time.time()
    if not (folder / layout.STORE).exists():
        raise fail(_nothing(folder, settings.state_dir, local=local))
    condition = _look(folder, () if local else settings.claude_config_dirs, now)
    # `run --local` is not expected to run all the time.
    problems = list(condition.problems(now, expected=not local))
    if as_json:
        click.echo(document(_document(condition, problems), indent=2))
    elif rejected:
        for row in condition.set_aside:
            _print_rejected(row)
    else:
        for line in _lines(condition, problems, now):
            click.echo(escaped(line))
    if not rejected and any(problem.level == "fail" for problem in problems):
        raise click.exceptions.Exit(1)


def _nothing(folder: Path, state_dir: Path, *, local: bool) -> str:
    from daemon.state import layout

    run = "run --local" if local else "run"
    words = f"{folder}: nothing was delivered from here yet; `posthog-llma-daemon {run}` starts the daemon"
    if not local and (layout.local_folder(state_dir) / layout.STORE).exists():
        words += ", and `posthog-llma-daemon status --local` shows the local file"
    return words


def _look(folder: Path, config_dirs: tuple[Path, ...], now: float) -> Condition:
    from daemon.running.condition import condition_of
    from daemon.state.store import Store, StoreError

    try:
        store = Store(folder, read_only=True)
    except StoreError as error:
        raise fail(str(error)) from None
    try:
        return condition_of(store, folder, config_dirs, now)
    except sqlite3.Error as error:
        raise fail(f"cannot read the state store in {folder}: {error}; check the disk and the folder") from None
    finally:
        store.close()


def _document(condition: Condition, problems: list[Problem]) -> dict[str, object]:
    from dataclasses import asdict

    from daemon.running.condition import rebuilding

    said_of_all = asdict(condition)
    for row, said in zip(condition.set_aside, said_of_all["set_aside"], strict=True):
        said["command"] = rebuilding(row)
    healthy = not any(problem.level == "fail" for problem in problems)
    return {
        "healthy": healthy,
        "problems": [asdict(problem) for problem in problems],
        **said_of_all,
        "sessions_held": len(condition.held),
    }


def _print_rejected(row: RejectedEvent) -> None:
    from daemon.running.condition import rebuilding

    click.echo(escaped(f"{row.at} {row.name} {row.uuid} {row.bytes} bytes: {row.reason}"))
    if row.path:
        click.echo(escaped(f"  {row.path} bytes {row.start} to {row.end}"))
        click.echo(escaped(f"  {rebuilding(row)}"))


def _lines(condition: Condition, problems: list[Problem], now: float) -> Iterator[str]:
    yield from _line("running", _running(condition, now))
    yield from _line("state directory", condition.state_dir)
    if condition.sessions is not None:
        yield from _line("sessions", f"{condition.sessions:,} on disk, {condition.followed:,} followed")
    yield from _line("logs known", f"{condition.files:,}")
    what = "unread" if condition.running else "unsent"
    yield from _line(what, _behind(condition))
    yield from _line("sent", count(condition.sent, "event"))
    yield from _line("set aside", _set_aside(condition))
    if condition.cut:
        yield from _line("cut to fit", count(condition.cut, "event"))
    if condition.bad_lines:
        yield from _line("bad lines", f"{condition.bad_lines:,}")
    yield from _line("traces pending", f"{condition.traces_owed:,}")
    if condition.held:
        yield from _line("sessions waiting", f"{len(condition.held):,}")
    for route in condition.routes:
        yield ""
        yield from _route_lines(route, now, running=condition.running)
    for problem in problems:
        yield ""
        mark = "!!" if problem.level == "fail" else "! "
        yield from wrapped(problem.message, _WIDTH, first=f"{mark} ", then="   ")
        yield from wrapped(problem.hint, _WIDTH, first="   -> ", then="      ")
    if not problems:
        yield ""
        yield "No problems found."


def _route_lines(route: RouteReport, now: float, *, running: bool) -> Iterator[str]:
    yield from _line("route", f"{route.host}, key {route.key}")
    yield from _line("  state", _state(route, now) if running else f"{_state(route, now)} (before the daemon stopped)")
    waiting = "nothing"
    if route.waiting:
        waiting = f"{count(route.waiting, 'event')}, the oldest for {_ago(route.oldest_waiting_at, now)}"
    yield from _line("  waiting", waiting)
    yield from _line("  sent", f"{count(route.sent, 'event')} since the daemon started")
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
    since = f", for {_ago(condition.since, now)}" if condition.since else ""
    version = f", version {condition.version}" if condition.version else ""
    return f"yes{since}, pid {condition.pid}{version}"


def _behind(condition: Condition) -> str:
    if not condition.unread_bytes or condition.unread_seconds is None:
        return "nothing"
    logs = count(condition.unread_logs, "log")
    return f"{condition.unread_bytes:,} bytes in {logs}, for {rough_duration(condition.unread_seconds)}"


def _set_aside(condition: Condition) -> str:
    hint = f"; --rejected lists them, `{APP_NAME} backfill --rejected` sends them again" if condition.set_aside else ""
    return count(condition.rejected, "event") + hint


def _line(label: str, value: str) -> Iterator[str]:
    yield from wrapped(value, _WIDTH, first=f"{label + ':':<{_LABEL}}", then=" " * _LABEL)


def _ago(at: str | None, now: float) -> str:
    return "?" if at is None else rough_duration(max(0.0, now - datetime.fromisoformat(at).timestamp()))
