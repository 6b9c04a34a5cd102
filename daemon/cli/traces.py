"""`traces`: show the traces in the local file, as trees."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.cli import complete
from daemon.cli.message import document, say
from daemon.cli.render import stdout, tree
from daemon.cli.startup import CONFIGURATION, fail, state_dir_option
from daemon.config.table import APP_NAME
from daemon.delivering.local.events import LocalEvents, UnreadableEventsError
from daemon.state.layout import events_path
from daemon.system.messages import escaped
from llma_core.trace_tree import Node, TraceTree, build

if TYPE_CHECKING:
    from daemon.config.settings import Settings

__all__ = ["traces"]

_NONE_YET = (
    "no local events yet; `posthog-llma-daemon run --local` collects them, and --from-start includes existing sessions"
)


@click.command("traces")
@click.argument("trace_id", metavar="[TRACE_ID]", required=False, shell_complete=complete.trace_ids)
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
def traces(trace_id: str | None, limit: int, as_json: bool, url: bool, state_dir: Path | None) -> None:
    """Show the traces that `run --local` has collected, newest first.

    With TRACE_ID, show only that trace. The beginning of the id is enough, if no other trace begins the same.

    With --url, print where PostHog shows the sessions that the daemon has sent. TRACE_ID is then the id of a session or
    a trace.
    """
    if url and as_json:
        raise click.UsageError("--url does not go with --json")
    if url:
        _print_urls(trace_id, limit, state_dir)
        return
    path = events_path(state_dir or _configured().state_dir)
    if not path.exists():
        raise fail(_NONE_YET)
    local = LocalEvents(path)
    try:
        shown = [trace.trace_id for trace in local.traces(limit)] if trace_id is None else [_find(local, trace_id)]
        found = [build(identity, local.events(identity)) for identity in shown]
    except UnreadableEventsError as error:
        raise fail(f"cannot read {path}: {error.reason}; move it away to start over") from error
    if not found:
        raise fail(_NONE_YET)
    if as_json:
        for trace in found:
            click.echo(document(_document(trace)))
        return
    console = stdout()
    for position, trace in enumerate(found):
        if position:
            console.print()
        console.print(tree(trace))


def _print_urls(wanted: str | None, limit: int, state_dir: Path | None) -> None:
    """Print the addresses of the sessions that were sent, or of the traces that are known here otherwise.

    Raises:
        click.exceptions.Exit: there is none, or *wanted* fits several.
    """
    from daemon.delivering.posthog.web_app import trace_url

    settings = _configured("")
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
    if found and not sent:
        say("note: these traces are only in the local file; their addresses work once the sessions are sent", err=True)
    else:
        say("note: the address opens in your current PostHog project, and works once the session was sent", err=True)


def _sent(settings: Settings, folder: Path, prefix: str) -> dict[str, str]:
    """Return the addresses of the sessions that the daemon has sent, or is sending, by their ids."""
    from daemon.cli.sessions import logged_sessions
    from daemon.delivering.posthog.web_app import session_url, trace_url
    from daemon.state.layout import STORE
    from daemon.state.reader import StoreReader

    if not (folder / STORE).exists():
        return {}
    addresses = {}
    with closing(StoreReader(folder / STORE)) as store:
        for each in logged_sessions(settings.claude_config_dirs, prefix=prefix):
            try:
                route = store.route(each.unit)
            except sqlite3.Error as error:
                raise fail(f"cannot read {folder / STORE}: {error}; `{APP_NAME} status` says more") from None
            if route is not None:
                # If each prompt is a trace, the session's page lists them.
                address = session_url if route.grouping == "message" else trace_url
                addresses[each.session] = address(route.host or settings.host, each.session)
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
    return {trace.trace_id: trace_url(settings.host, trace.trace_id) for trace in known}


def _configured(otherwise: str = "; or pass --state-dir") -> Settings:
    """Return the settings.

    Args:
        otherwise: what works without them, to add to an error.

    Raises:
        click.exceptions.Exit: with 78: they cannot be used.
    """
    from daemon.config import loading, settings

    try:
        return loading.load({}, os.environ)
    except settings.ConfigError as error:
        raise fail(f"{error.problems[0]}{otherwise}", CONFIGURATION) from None


def _find(local: LocalEvents, prefix: str) -> str:
    """Return the id of the trace whose id is *prefix*, or the only one to begin with it."""
    found = [trace.trace_id for trace in local.traces(prefix=prefix)]
    if not found:
        raise fail(f"no local trace begins with {prefix!r}; `posthog-llma-daemon traces` lists them")
    if len(found) > 1 and prefix not in found:
        raise fail(f"{len(found)} local traces begin with {prefix!r}; give more of the id")
    return prefix if prefix in found else found[0]


def _document(trace: TraceTree) -> dict[str, Any]:
    """Turn *trace* into plain values. Unknown values are left out, as in the events."""
    events = [_known(asdict(node.event)) for node in _walk(trace.roots)]
    head = {
        "trace_id": trace.trace_id,
        "name": trace.name,
        "project": trace.project,
        "ended": trace.event is not None,
        "started": trace.started.isoformat(timespec="milliseconds").replace("+00:00", "Z") if trace.started else None,
        "seconds": round(trace.seconds, 3),
    }
    events += [_known(asdict(event)) for event in (trace.opening, trace.event) if event is not None]
    return {**_known(head), **_known(asdict(trace.totals)), "events": events}


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _walk(nodes: tuple[Node, ...]) -> list[Node]:
    """List *nodes*, each followed by the operations it started."""
    return [found for node in nodes for found in [node, *_walk(node.children)]]
