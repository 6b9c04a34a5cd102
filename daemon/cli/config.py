"""`config`: every setting, its value, and where it came from; `config allow`: let a project say where it sends to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from daemon import settings
from daemon.cli.startup import CONFIGURATION, fail, load_settings
from daemon.settings import ProjectTable

__all__ = ["allow", "config"]

# For output that no terminal bounds, so that values stay on their line.
_WIDE = 200


@click.group("config", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def config(context: click.Context, *, as_json: bool) -> None:
    """Show every setting, its value and where it came from.

    Exits with 78 when something in the configuration cannot be used.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"--json is not for {context.invoked_subcommand}")
        return
    try:
        current = settings.load({}, os.environ)
    except settings.ConfigError as error:
        if as_json:
            click.echo(json.dumps({"settings": {}, "warnings": [], "problems": error.problems}, indent=2))
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        context.exit(os.EX_CONFIG)
    if as_json:
        click.echo(json.dumps(_document(current), indent=2))
    else:
        _print_table(current)
    for warning in current.warnings:
        click.echo(f"warning: {warning}", err=True)
    if (reason := current.why_disabled()) is not None:
        click.echo(f"note: {reason}", err=True)


@config.command("allow")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
def allow(path: Path) -> None:
    """Let sessions of the project PATH go where its settings.local.json says, with its key.

    This holds for the host and key that stand there now, and is kept beside config.toml. A running daemon sends the
    sessions that wait for it within seconds.
    """
    current = load_settings({})
    if (reason := current.why_disabled()) is not None:
        raise fail(reason, CONFIGURATION)
    from daemon.repository import Repositories
    from daemon.routing import Held, Routing, allowances_file

    folder = os.path.abspath(path)  # noqa: PTH100 - as it is logged: links stay, `..` goes
    try:
        route = Routing(current, Repositories()).allow(folder)
    except Held as held:
        raise fail(held.reason) from None
    except OSError as error:
        where = error.filename or allowances_file(current)
        raise fail(f"{where}: {error.strerror}; make it writable and try again") from None
    click.echo(f"sessions of {folder} may go to {route.host} with the key {route.key.masked()}")


def _document(current: settings.Settings) -> dict[str, Any]:
    return {
        "settings": {
            entry.setting.key: {
                "variable": entry.setting.variable,
                "value": _plain(entry.value),
                "source": entry.source,
            }
            for entry in current.entries()
        },
        "projects": [
            {"path": [*table.path], "settings": {key: _plain(value) for key, value in _given(table)}}
            for table in current.projects
        ],
        "warnings": current.warnings,
        "problems": [],
    }


def _print_table(current: settings.Settings) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("variable", "value", "source"):
        table.add_column(heading, overflow="fold")
    for entry in current.entries():
        # Text, because square brackets in a value are not markup.
        table.add_row(entry.setting.variable, Text(_words(entry.value)), Text(entry.source))
    for project in current.projects:
        for key, value in _given(project):
            table.add_row(key, Text(_words(value)), Text(f"{project.label}: {', '.join(project.path)}"))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _given(table: ProjectTable) -> list[tuple[str, object]]:
    """Return what a `[[project]]` table gives, by the keys it has there."""
    return [(setting.key, table.values[setting.name]) for setting in settings.SETTINGS if setting.name in table.values]


def _plain(value: object) -> Any:
    """Turn *value* into what JSON can hold, a secret masked."""
    match value:
        case settings.Secret():
            return value.masked()
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return dict(value)
        case os.PathLike():
            return os.fspath(value)
    return value


def _words(value: object) -> str:
    """Turn *value* into what people read."""
    plain = _plain(value)
    if plain is None or plain == []:
        return "unset"
    if isinstance(plain, list):
        return ", ".join(plain)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
