"""`traces`: show sessions as trees of calls."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from daemon.cli import complete
from daemon.cli.catching_up import Progress, catch_up
from daemon.cli.message import document, say
from daemon.cli.moment import Moment
from daemon.cli.project import chosen as chosen_project
from daemon.cli.render import spent, stdout, tree
from daemon.cli.sessions import logged_sessions
from daemon.cli.startup import fail, load_settings, state_dir_option
from daemon.config.table import APP_NAME
from daemon.delivering.local.events import LocalEvents, LocalTrace, UnreadableEventsError
from daemon.delivering.local.text_index import TextIndex
from daemon.state.layout import events_path
from daemon.system.messages import escaped
from daemon.usage.prices import event_dollars
from llma_core.trace_tree import Node, TraceTree
from llma_core.view import EventView

if TYPE_CHECKING:
    from daemon.config.settings import Settings

__all__ = ["traces"]


@click.command("traces")
@click.argument("trace_id", metavar="[ID]", required=False, shell_complete=complete.trace_ids)
@click.option("--since", type=Moment(), help="Only traces that went on since then: 2026-11-20, 7d, 12h.")
@click.option(
    "--project",
    metavar="PROJECT",
    shell_complete=complete.folders,
    help="Only sessions begun in this folder or below it, or a project of this name.",
)
@click.option("--errors", is_flag=True, help="Only traces in which an attempt or a call failed.")
@click.option("--search", metavar="TEXT", help="Only traces with all these words in a name, a prompt or an answer.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="NUMBER",
    help="How many traces to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, one for each trace.")
@click.option("--url", is_flag=True, help="Print the address in PostHog of each session that was sent, newest first.")
@state_dir_option
def traces(
    *,
    trace_id: str | None,
    since: float | None,
    project: str | None,
    errors: bool,
    search: str | None,
    limit: int,
    as_json: bool,
    url: bool,
    state_dir: Path | None,
) -> None:
    """Show sessions as trees of calls, newest first: what each did, with its seconds, tokens and dollars.

    With ID, show only that session or trace. The beginning of the id is enough, if no other begins the same.

    Reads what the logs have grown since the last time, and needs no account. Dollars are estimates at API list prices.

    With --url, print where PostHog shows the sessions that the daemon has sent. ID is then the id of a session or a
    trace.
    """
    if url and (as_json or errors or since is not None or project is not None or search is not None):
        raise click.UsageError("--url does not go with --json, --since, --project, --errors or --search")
    if url:
        _print_urls(trace_id, limit, state_dir)
        return
    settings = load_settings({"state_dir": state_dir}, log_level="error")
    path = _current(settings, trace_id, since, limit, narrowed=errors or project is not None or search is not None)
    if search is not None:
        _index_words(path)
    try:
        local = LocalEvents(path)
        belongs = chosen_project(project, settings, path) if project is not None else None
        chosen = local.traces(
            limit if trace_id is None else None,
            prefix=trace_id or "",
            since=since,
            sessions=belongs.sessions if belongs is not None else None,
            projects=belongs.names if belongs is not None else None,
            failed=errors,
            among=local.search(search) if search is not None else None,
        )
        if trace_id is not None:
            chosen = _only(chosen, trace_id)
        found = [local.tree(each.trace_id) for each in chosen]
    except UnreadableEventsError as error:
        raise fail(f"cannot read {path}: {error.reason}; move it away to start over") from error
    if not found and (errors or since is not None or project is not None or search is not None):
        say(f"no trace is like that; `{APP_NAME} traces` without options shows the latest", err=True)
        return
    if not found:
        folders = ", ".join(map(str, settings.claude_config_dirs))
        why = f"no session logs in {folders}; set CLAUDE_CONFIG_DIR if they are elsewhere"
        if outboxes := [str(folder) for folder in settings.outboxes if folder.is_dir()]:
            # The daemon removes recorded files there once their events are sent.
            why += f". No recorded calls wait in {', '.join(outboxes)} either; from now on, this keeps them"
        raise fail(why)
    if as_json:
        for trace in found:
            click.echo(document(_document(trace)))
        return
    _draw(found)


def _current(settings: Settings, wanted: str | None, since: float | None, limit: int, *, narrowed: bool) -> Path:
    """Bring the local file up to date with the logs that matter for the question, and return its path."""
    logged = logged_sessions(settings.claude_config_dirs, prefix=wanted or "")
    if wanted is not None and len({each.session for each in logged}) == 1:
        return catch_up(settings, verb="traces", session=logged[0].session).path
    if since is None and wanted is None and not narrowed and len(logged) > limit:
        # The latest traces are those of the latest sessions. The time is that of the main log; subagents write before.
        since = logged[limit - 1].modified
    return catch_up(settings, verb="traces", since=since).path


def _index_words(path: Path) -> None:
    """Index the words of all events, and say on a terminal how many are left.

    Raises:
        click.exceptions.Exit: with 1: the file cannot be written.
    """
    try:
        with Progress() as progress:
            TextIndex(path).complete(progress.index)
    except sqlite3.Error as error:
        raise fail(f"cannot index the words in {path}: {error}; fix that and try again") from None


def _draw(found: Sequence[TraceTree]) -> None:
    """Print trees; by a pager if they are longer than the terminal."""
    console = stdout()
    with console.capture() as captured:
        for position, trace in enumerate(found):
            if position:
                console.print()
            console.print(tree(trace))
    drawn = captured.get()
    if console.is_terminal and drawn.count("\n") >= console.height:
        click.echo_via_pager(drawn, color=True)
    else:
        # It has the colors that the terminal takes; click would write characters that the output lacks.
        sys.stdout.write(drawn)


def _print_urls(wanted: str | None, limit: int, state_dir: Path | None) -> None:
    """Print the addresses of the sessions that were sent, or of the traces that are known here otherwise.

    Raises:
        click.exceptions.Exit: there is none, or *wanted* fits several.
    """
    from daemon.delivering.posthog.web_app import trace_url

    settings = load_settings({}, log_level="error")
    folder = state_dir or settings.state_dir
    sent = _sent(settings, folder, wanted or "")
    found = sent or _local(settings, folder, wanted or "")
    if wanted is not None and wanted not in found and len(found) > 1:
        raise fail(f"{len(found)} sessions begin with {wanted!r}; give more of the id")
    if wanted is not None:
        # Any other id is taken as it is: its session may have been sent from another machine.
        shown = [found[wanted]] if wanted in found else [*found.values()] or [trace_url(settings.host, wanted)]
    elif not found:
        raise fail(settings.why_disabled() or f"no session was sent yet; `{APP_NAME} status` shows what waits")
    else:
        shown = [*found.values()][:limit]
    for address in shown:
        click.echo(escaped(address))
    if not sent and (reason := settings.why_disabled()) is not None:
        say(f"note: nothing is sent from here ({reason}); `{APP_NAME} view` shows sessions on this machine", err=True)
    elif found and not sent:
        say("note: these traces are only in the local file; their addresses work once the sessions are sent", err=True)
    else:
        say("note: the address opens in your current PostHog project, and works once the session was sent", err=True)


def _sent(settings: Settings, folder: Path, prefix: str) -> dict[str, str]:
    """Return the addresses of the sessions that the daemon has sent, or is sending, by their ids."""
    from daemon.delivering.posthog.web_app import session_url, trace_url
    from daemon.state.layout import STORE
    from daemon.state.store import StoreError, read_store

    addresses: dict[str, str] = {}
    try:
        with read_store(folder) as store:
            if store is None:
                return addresses
            with closing(store.reader()) as reader:
                for each in logged_sessions(settings.claude_config_dirs, prefix=prefix):
                    if (route := reader.route(each.unit)) is not None:
                        # If each prompt is a trace, the session's page lists them.
                        address = session_url if route.grouping == "message" else trace_url
                        addresses[each.session] = address(route.host or settings.host, each.session)
    except StoreError as error:
        raise fail(str(error)) from None
    except sqlite3.Error as error:
        raise fail(f"cannot read {folder / STORE}: {error}; `{APP_NAME} status` says more") from None
    return addresses


def _local(settings: Settings, folder: Path, prefix: str) -> dict[str, str]:
    """Return the addresses that the traces in the local file will have once they are sent."""
    from daemon.delivering.posthog.web_app import trace_url

    path = events_path(folder)
    if not path.exists():
        return {}
    try:
        known = LocalEvents(path).traces(prefix=prefix)
    except UnreadableEventsError as error:
        raise fail(f"cannot read {path}: {error.reason}; move it away to start over") from None
    return {
        trace.trace_id: trace_url(settings.host, trace.trace_id) for trace in known if trace.trace_id.startswith(prefix)
    }


def _only(chosen: list[LocalTrace], prefix: str) -> list[LocalTrace]:
    """Return the trace with the id *prefix*, or those of that session, or of the only one to begin with it."""
    if not chosen:
        raise fail(f"no trace or session begins with {prefix!r}; `{APP_NAME} traces` shows the latest")
    for whole in ([each for each in chosen if each.trace_id == prefix], [e for e in chosen if e.session_id == prefix]):
        if whole:
            return whole
    if len(chosen) > 1 and (len({each.session_id for each in chosen}) > 1 or not _begins(chosen[0], prefix)):
        raise fail(f"{len(chosen)} traces begin with {prefix!r}; give more of the id")
    return chosen


def _begins(trace: LocalTrace, prefix: str) -> bool:
    return trace.session_id is not None and trace.session_id.startswith(prefix)


def _document(trace: TraceTree) -> dict[str, Any]:
    """Turn *trace* into plain values. Unknown values are left out, as in the events."""
    cost = spent(trace)
    events = [_known({**structs.asdict(node.event), "cost_usd": _cost(node.event)}) for node in _walk(trace.roots)]
    head = {
        "trace_id": trace.trace_id,
        "name": trace.name,
        "project": trace.project,
        "ended": trace.event is not None,
        "started": trace.started.isoformat(timespec="milliseconds").replace("+00:00", "Z") if trace.started else None,
        "seconds": round(trace.seconds, 3),
        "cost_usd": round(cost.known, 6),
        "unpriced_tokens": cost.unpriced or None,
    }
    events += [_known(structs.asdict(event)) for event in (trace.opening, trace.event) if event is not None]
    return {**_known(head), **_known(asdict(trace.totals)), "events": events}


def _cost(event: EventView) -> float | None:
    """Return the dollars of a generation; None if it has no price, or is none."""
    cost = event_dollars(event)
    return (
        round(cost.known, 6)
        if event.kind in ("generation", "embedding") and not event.is_error and not cost.unpriced
        else None
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _walk(nodes: tuple[Node, ...]) -> list[Node]:
    """List *nodes*, each followed by the operations it started."""
    return [found for node in nodes for found in [node, *_walk(node.children)]]
