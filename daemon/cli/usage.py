"""`usage`: what sessions cost, by day, session, project, branch, model, agent or tool."""

from __future__ import annotations

import csv
import math
import os
import re
import select
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from daemon.cli import complete
from daemon.cli.catching_up import catch_up
from daemon.cli.message import document, say
from daemon.cli.moment import Moment
from daemon.cli.project import chosen
from daemon.cli.render import figure_table, name_cell, stdout
from daemon.cli.sessions import logged_sessions
from daemon.cli.startup import cadence, fail, load_settings, state_dir_option
from daemon.delivering.local.events import LocalEvents, UnreadableEventsError
from daemon.state.layout import prices_path
from daemon.system.figures import count, dollars, printable, share, short_duration, short_tokens
from daemon.usage.forks import Inherited, inherited
from daemon.usage.prices import load_list, memory
from daemon.usage.report import CENT, By, Group, Index, Range, ToolGroup, midnight, summed
from llma_core.trace_tree import short_id

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from daemon.config.settings import Settings
    from llma_core.agent import Agent

__all__ = ["usage"]

_DAYS = 7
_TOP = 5
_BUDGET = re.compile(r"\$?(\d+(?:\.\d+)?)(?:/(day|week|month))?", re.ASCII)
_PERIODS = {"day": 1, "week": 7, "month": 30}
_NOTE = "Dollars are estimates at API list prices; a subscription does not pay them."
_STATUS_BYTES = 1024 * 1024
_STATUS_SECONDS = 0.2
"""How long to wait for what Claude Code writes on standard input. A person's script may leave it open and silent."""


class _Budget(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """Reads `50/day`, `200/week` or `500/month`: dollars, and the days that they are for."""

    name = "budget"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, int]:
        found = _BUDGET.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{str(value)[:40]!r} is no budget; write 50/day, 200/week or 500/month", param, ctx)
        return float(found[1]), _PERIODS[found[2] or "day"]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return "DOLLARS/PERIOD"


@click.command("usage")
@click.option("--since", type=Moment(), help="Only calls since then: 2026-11-20, 7d, 12h.  [default: the last 7 days]")
@click.option("--until", type=Moment(end_of_day=True), help="Only calls before this time. A date includes that day.")
@click.option(
    "--by",
    type=click.Choice(["day", "session", "project", "branch", "model", "tool", "agent"]),
    help="Show one table, grouped by this.",
)
@click.option(
    "--project",
    metavar="PROJECT",
    shell_complete=complete.folders,
    help="Only sessions begun in this folder or below it, or a project of this name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, with a header.")
@click.option("--budget", type=_Budget(), help="Exit with 1 if more was spent: 50/day, 200/week or 500/month.")
@click.option("--statusline", is_flag=True, help="Print one short line, for Claude Code's status line.")
@state_dir_option
def usage(
    *,
    since: float | None,
    until: float | None,
    by: str | None,
    project: str | None,
    as_json: bool,
    as_csv: bool,
    budget: tuple[float, int] | None,
    statusline: bool,
    state_dir: Path | None,
) -> None:
    """Show what sessions used and what it cost: today, the last days, the top sessions, and the models.

    Reads what the logs have grown since the last time, and needs no account. Dollars are estimates at API list prices.
    """
    if sum((as_json, as_csv, budget is not None, statusline)) > 1:
        raise click.UsageError("choose one of --json, --csv, --budget and --statusline")
    settings = load_settings({"state_dir": state_dir}, log_level="error")
    begin = midnight(_DAYS - 1) if since is None else since
    if budget is not None:
        begin = midnight(budget[1] - 1)
    elif statusline:
        begin = midnight(0)
    known_prices = prices_path(settings.state_dir)
    caught_up = catch_up(
        settings,
        verb="usage",
        since=begin,
        patience=cadence().status_line if statusline else math.inf,
        meanwhile=None if known_prices.exists() else _load_prices,
    )
    path = caught_up.path
    try:
        belongs = chosen(project, settings, path) if project is not None else None
        wanted = Range(
            since=begin,
            until=until,
            sessions=belongs.sessions if belongs is not None else None,
            projects=belongs.names if belongs is not None else None,
        )
        with memory.kept_in(known_prices), Index(path) as index:
            if budget is not None:
                _check(index.total(wanted), *budget)
            elif statusline:
                click.echo(_statusline(index, wanted, _session_of_stdin(), is_whole=caught_up.is_whole))
            elif by == "tool":
                _show_tools(index.tools(wanted), since, as_json=as_json, as_csv=as_csv)
            elif as_json or as_csv or by is not None:
                key = cast("By", by or "day")
                _show(
                    index,
                    key,
                    wanted,
                    LocalEvents(path),
                    settings,
                    project=project,
                    since=since,
                    as_json=as_json,
                    as_csv=as_csv,
                )
            else:
                _overview(index, wanted, LocalEvents(path), settings, since)
    except UnreadableEventsError as error:
        raise fail(f"cannot read {path}: {error.reason}; move it away to start over") from error


def _load_prices() -> None:
    from daemon.running.memory import give_back

    # The list takes the place of what was read.
    give_back()
    load_list()


# ---------------------------------------------------------------------- one line


def _check(spent: Group, limit: float, days: int) -> None:
    """Exit with 1 if more than *limit* was spent."""
    period = "today" if days == 1 else f"in the last {days} days"
    told = f"{dollars(spent.dollars.known)} of {dollars(limit)} {period}"
    _warn_unpriced(spent)
    if spent.dollars.known > limit:
        raise fail(f"over budget: {told}")
    say(told)


def _statusline(index: Index, wanted: Range, session: str | None, *, is_whole: bool) -> str:
    today = index.total(wanted)
    parts = []
    if session is not None:
        own = index.total(Range(sessions=frozenset({session})))
        parts.append(f"{dollars(own.dollars.known)} session")
    parts.append(f"{dollars(today.dollars.known)} today")
    if (cached := _cached(today)) is not None:
        parts.append(f"{cached} cached")
    if not is_whole:
        parts.append("not all read yet")
    return " · ".join(parts)


def _session_of_stdin() -> str | None:
    """Return the session that Claude Code names on standard input, as it does for a status line; None without one."""
    import msgspec

    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    try:
        descriptor = sys.stdin.fileno()
        if not select.select([descriptor], [], [], _STATUS_SECONDS)[0]:
            return None
        given = os.read(descriptor, _STATUS_BYTES)
    except OSError:
        return None
    try:
        named = msgspec.json.decode(given, type=dict[str, Any]).get("session_id")
    except msgspec.MsgspecError:
        return None
    return named if isinstance(named, str) else None


# ---------------------------------------------------------------------- tables


def _overview(index: Index, wanted: Range, events: LocalEvents, settings: Settings, since: float | None) -> None:
    console = stdout()
    days = _called(index.usage("day", wanted))
    if not days:
        _say_nothing("calls", since)
        return
    sessions = _called(index.usage("session", wanted))
    console.print(_table("day", days, total=True))
    console.print(_table("session", sessions[:_TOP], names=_names(events, sessions[:_TOP])))
    if len(sessions) > _TOP:
        say(f"{count(len(sessions) - _TOP, 'more session')}: `--by session` shows all")
    console.print(_table("model", _called(index.usage("model", wanted))))
    _tell_differences(sessions, _differences(index, sessions, settings))
    for line in _unpriced(days):
        say(line)
    say(_NOTE)


def _show(
    index: Index,
    by: By,
    wanted: Range,
    events: LocalEvents,
    settings: Settings,
    *,
    project: str | None,
    since: float | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    groups = index.usage(by, wanted)
    names = _names(events, groups) if by == "session" else {}
    differences = _differences(index, groups, settings) if by == "session" else {}
    if as_json:
        total = index.total(wanted)
        click.echo(
            document(
                {
                    "by": by,
                    "since": _iso(wanted.since),
                    "until": _iso(wanted.until),
                    "project": project,
                    "groups": [_document(by, group, names, differences) for group in groups],
                    "total": _document("total", total, {}, {}),
                },
                indent=2,
            )
        )
    elif as_csv:
        _write_csv([_flat(by, group, names, differences) for group in groups])
    else:
        groups = _called(groups)
        if not groups:
            _say_nothing("calls", since)
            return
        stdout().print(_table(by, groups, names=names, total=True))
        if by == "session":
            _tell_differences(groups, differences)
        for line in _unpriced(groups):
            say(line)
        say(_NOTE)


def _called(groups: Sequence[Group]) -> list[Group]:
    """Return the groups for a table, which has no column for attempts that failed: those with a call."""
    return [group for group in groups if group.tokens.calls]


def _say_nothing(what: str, since: float | None) -> None:
    hint = "; `--since 30d` looks further back" if since is None else ""
    say(f"no {what} in this time{hint}")


def _names(events: LocalEvents, groups: Sequence[Group]) -> dict[str, str]:
    """Return the names of sessions, as far as their bodies are kept."""
    return events.names([group.key for group in groups if group.key is not None])


def _table(by: str, groups: Sequence[Group], *, names: dict[str, str] | None = None, total: bool = False) -> Table:
    from rich.text import Text

    table = figure_table(by, ("calls", "input", "output", "cached", "cost"))

    def row(name: Text, group: Group) -> tuple[Text, ...]:
        cost = dollars(group.dollars.known) if group.dollars.known or not group.dollars.unpriced else "no price"
        return (
            name,
            Text(f"{group.tokens.calls:,}"),
            Text(short_tokens(_sent(group))),
            Text(short_tokens(group.tokens.output)),
            Text(_cached(group) or "-"),
            Text(cost),
        )

    for group in groups:
        table.add_row(*row(_label(by, group, names or {}), group))
    if total and len(groups) > 1:
        table.add_section()
        table.add_row(*row(name_cell("total"), summed(groups)), style="bold")
    return table


def _label(by: str, group: Group, names: dict[str, str]) -> Text:
    if by != "session":
        return name_cell(printable(group.key or "unknown", 40))
    words = name_cell(printable(short_id(group.key or "unknown")), "dim")
    if named := names.get(group.key or ""):
        words.append(f" {printable(named, 32)}", style="not dim")
    elif group.project:
        words.append(f" {printable(group.project, 32)}", style="not dim")
    return words


def _sent(group: Group) -> int:
    """Count all tokens that were sent to the model, cached or not."""
    return group.tokens.total - group.tokens.output


def _cached(group: Group) -> str | None:
    """Return the share of what was sent that came from the cache, in percent; None if nothing was sent."""
    sent = _sent(group)
    return share(group.tokens.cache_read, sent) if sent else None


@dataclass(frozen=True, slots=True)
class _Difference:
    """A session that costs another sum by the client's own count.

    Attributes:
        own: what all its calls in the logs come to, in US dollars, also those outside of the time that is asked for.
        fork: what it has inherited; None if it is no fork.
    """

    own: float
    fork: Inherited | None

    def explains(self, counted: float) -> bool:
        """Whether what was inherited is the whole difference to what the client has counted."""
        inherited_dollars = self.fork.dollars if self.fork is not None else None
        return abs(counted - self.own - (inherited_dollars or 0.0)) < CENT


def _differences(index: Index, groups: Sequence[Group], settings: Settings) -> dict[str, _Difference]:
    """Return the sessions that cost another sum by the client's own count, by their ids."""
    found: dict[str, _Difference] = {}
    logs: dict[str, tuple[Agent, str]] | None = None
    for group in groups:
        counted = group.disputed
        if counted is None or group.key is None:
            continue
        own = index.total(Range(sessions=frozenset({group.key}))).dollars.known
        if abs(counted - own) < CENT:
            continue
        if logs is None:
            logs = {each.session: (each.agent, each.path) for each in logged_sessions(settings.claude_config_dirs)}
        found[group.key] = _Difference(own, inherited(index, group.key, logs.get))
    return found


def _tell_differences(groups: Sequence[Group], differences: Mapping[str, _Difference]) -> None:
    """Say which sessions cost another sum by the client's own count, unless a fork's original explains it."""
    for group in groups:
        found = differences.get(group.key or "")
        if found is None or group.client_dollars is None or found.explains(group.client_dollars):
            continue
        why, fork = "", found.fork
        original = "" if fork is None else f"session {printable(short_id(fork.original))}"
        if fork is not None and fork.dollars is not None:
            why = f", {dollars(fork.dollars)} of it in {original}, of which it is a fork"
        elif fork is not None:
            why = f", with what {original} had cost, of which it is a fork"
        say(
            f"note: session {printable(short_id(group.key or ''))}: Claude Code itself counted "
            f"{dollars(group.client_dollars)}{why}; its calls in the logs come to {dollars(found.own)}"
        )


def _inherited_dollars(group: Group, differences: Mapping[str, _Difference]) -> float | None:
    """Return how much of the client's count a fork has inherited; None if it is none, or that is not known."""
    found = differences.get(group.key or "")
    fork = found.fork if found is not None else None
    return round(fork.dollars, 6) if fork is not None and fork.dollars is not None else None


def _unpriced(groups: Sequence[Group]) -> list[str]:
    models = summed(groups).dollars.unpriced
    return [
        f"note: {printable(model) or 'an unnamed model'} has no list price; its {short_tokens(number)} tokens are in "
        "no sum of dollars"
        for model, number in sorted(models.items())
    ]


def _warn_unpriced(group: Group) -> None:
    for line in _unpriced([group]):
        say(line, err=True)


# ---------------------------------------------------------------------- tools


def _show_tools(groups: Sequence[ToolGroup], since: float | None, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        click.echo(document([_tool_document(group) for group in groups], indent=2))
        return
    if as_csv:
        _write_csv([_tool_document(group) for group in groups])
        return
    if not groups:
        _say_nothing("tool calls", since)
        return
    from rich.text import Text

    table = figure_table("tool", ("calls", "failed", "denied", "interrupted", "p50", "p95", "total"))
    for group in groups:
        numbers = (group.calls, group.failed, group.denied, group.interrupted)
        table.add_row(
            name_cell(printable(group.name, 30)),
            *(Text(f"{number:,}" if number else "-") for number in numbers),
            *(
                Text(short_duration(seconds) or "-")
                for seconds in (group.seconds_p50, group.seconds_p95, group.seconds_total)
            ),
        )
    stdout().print(table)


def _tool_document(group: ToolGroup) -> dict[str, Any]:
    return {
        "tool": group.name,
        "calls": group.calls,
        "failed": group.failed,
        "denied": group.denied,
        "interrupted": group.interrupted,
        "seconds_p50": group.seconds_p50,
        "seconds_p95": group.seconds_p95,
        "seconds_total": round(group.seconds_total, 3),
    }


# ---------------------------------------------------------------------- documents


def _document(by: str, group: Group, names: dict[str, str], differences: Mapping[str, _Difference]) -> dict[str, Any]:
    tokens = group.tokens
    found: dict[str, Any] = {
        by: group.key,
        **({"name": names.get(group.key or ""), "project": group.project} if by == "session" else {}),
        "calls": tokens.calls,
        "failed_attempts": group.attempts,
        "tokens": {
            "input": tokens.input,
            "output": tokens.output,
            "cache_read": tokens.cache_read,
            "cache_write_5m": tokens.cache_write_5m,
            "cache_write_1h": tokens.cache_write_1h,
            "total": tokens.total,
        },
        "web_searches": tokens.web_searches,
        "cost_usd": round(group.dollars.known, 6),
        "client_cost_usd": None if group.client_dollars is None else round(group.client_dollars, 6),
        "inherited_cost_usd": _inherited_dollars(group, differences),
        "unpriced_tokens": group.dollars.unpriced or None,
        "models": group.models,
        "first": _iso(group.first / 1000) if group.first else None,
        "last": _iso(group.last / 1000) if group.last else None,
    }
    if by == "total":
        del found["total"]
    return {key: value for key, value in found.items() if value is not None or key == by}


def _flat(by: str, group: Group, names: dict[str, str], differences: Mapping[str, _Difference]) -> dict[str, Any]:
    tokens = group.tokens
    return {
        by: group.key or "",
        **({"name": names.get(group.key or "", ""), "project": group.project or ""} if by == "session" else {}),
        "calls": tokens.calls,
        "failed_attempts": group.attempts,
        "input": tokens.input,
        "output": tokens.output,
        "cache_read": tokens.cache_read,
        "cache_write_5m": tokens.cache_write_5m,
        "cache_write_1h": tokens.cache_write_1h,
        "cost_usd": f"{group.dollars.known:.6f}",
        "client_cost_usd": "" if group.client_dollars is None else f"{group.client_dollars:.6f}",
        "inherited_cost_usd": _inherited_dollars(group, differences) or "",
        "unpriced_tokens": sum(group.dollars.unpriced.values()),
        "models": " ".join(group.models),
    }


def _write_csv(rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        # A cell that begins like a formula would be run by a spreadsheet.
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = printable(value)
        return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
    return value


def _iso(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else None
