"""Lists what the shell can complete an argument to: settings, their values, sessions, traces and events.

Completion prints no errors. If something cannot be read, it offers nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import wraps

import click
from click.shell_completion import CompletionItem

from daemon.config.parsers import Choice
from daemon.config.schema import value_type
from daemon.config.table import SETTINGS, Setting, setting_named
from daemon.system.figures import printable, rough_duration

__all__ = ["folders", "hosts", "rejected_events", "session_ids", "setting_names", "setting_values", "trace_ids"]

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# A shell shows a list of this length on a screen or two.
_MOST = 50
_LONGEST_HELP = 60
_HOSTS = {"us.i.posthog.com": "PostHog Cloud US", "eu.i.posthog.com": "PostHog Cloud EU"}


def _quiet(complete: _Complete) -> _Complete:
    """Offer nothing if something cannot be read: the shell would print the error into the command line.

    Names from logs may hold anything, so what a shell or a terminal would act on is left out.
    """

    @wraps(complete)
    def offer(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            offered = complete(context, parameter, incomplete)
        except Exception:  # noqa: BLE001 - see above
            return []
        return [
            CompletionItem(each.value, type=each.type, help=printable(each.help, _LONGEST_HELP) if each.help else None)
            for each in offered
            if each.value.isprintable()
        ]

    return offer


@_quiet
def setting_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the settings, except secret ones, by their keys in config.toml, or by their variables."""
    del context, parameter
    name: Callable[[Setting], str] = (lambda each: each.variable) if incomplete[:1].isupper() else lambda each: each.key
    begun = incomplete if incomplete[:1].isupper() else incomplete.replace("-", "_")
    return [
        CompletionItem(name(each), help=each.help)
        for each in SETTINGS
        if not each.secret and name(each).startswith(begun)
    ]


@_quiet
def setting_values(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the values of the setting that was named before."""
    setting = setting_named(str(context.params.get("name")))
    if setting is None or setting.secret:
        return []
    if setting.name == "host":
        return hosts(context, parameter, incomplete)
    words: tuple[str, ...] = ()
    if isinstance(setting.parse, Choice):
        words = setting.parse.words
    elif setting.name == "enabled":
        words = ("true", "false", "projects")
    elif value_type(setting) == "boolean":
        words = ("true", "false")
    elif setting.name in ("state_dir", "claude_config_dirs", "include", "exclude"):
        return [CompletionItem(incomplete, type="dir")]
    return [CompletionItem(word) for word in words if word.startswith(incomplete.lower())]


@_quiet
def hosts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer PostHog's own hosts. They have no `https://` in front, because bash splits words at colons."""
    del context, parameter
    return [CompletionItem(host, help=what) for host, what in _HOSTS.items() if host.startswith(incomplete.lower())]


@_quiet
def folders(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer folders."""
    del context, parameter
    return [CompletionItem(incomplete, type="dir")]


@_quiet
def session_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the sessions with logs, the most recently active first."""
    del context, parameter
    from daemon.cli.sessions import logged_sessions
    from daemon.config import loading
    from daemon.following.log_roots import recognize
    from daemon.following.opening import first_cwd

    now = time.time()
    offered = []
    for each in logged_sessions(loading.load({}, os.environ).claude_config_dirs, prefix=incomplete)[:_MOST]:
        recognized = recognize(each.path)
        cwd = first_cwd(recognized[0], each.path) if recognized is not None else None
        ago = f"{rough_duration(max(0.0, now - each.modified))} ago"
        offered.append(CompletionItem(each.session, help=f"{cwd}, {ago}" if cwd else ago))
    return offered


@_quiet
def trace_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the traces in the local file, the newest first; for `--url`, the sessions with logs."""
    from daemon.config import loading
    from daemon.delivering.local.events import LocalEvents
    from daemon.state.layout import events_path

    if context.params.get("url"):
        return session_ids(context, parameter, incomplete)
    local = LocalEvents(events_path(context.params.get("state_dir") or loading.load({}, os.environ).state_dir))
    return [
        CompletionItem(trace.trace_id, help=local.tree(trace.trace_id).name)
        for trace in local.traces(_MOST, prefix=incomplete)
        if trace.trace_id.startswith(incomplete)
    ]


@_quiet
def rejected_events(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the events that PostHog refused, the newest first."""
    del context, parameter
    from daemon.config import loading
    from daemon.state.store import read_store

    with read_store(loading.load({}, os.environ).state_dir) as store:
        return [
            CompletionItem(row.uuid, help=row.name)
            for row in (store.rejected() if store is not None else [])[:_MOST]
            if row.uuid.startswith(incomplete.lower())
        ]
