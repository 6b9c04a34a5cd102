"""`config`: every setting, its value, and where it came from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from daemon import settings

__all__ = ["config"]

# For output that no terminal bounds, so that values stay on their line.
_WIDE = 200


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def config(context: click.Context, *, as_json: bool) -> None:
    """Show every setting, its value and where it came from.

    Exits with 78 when something in the configuration cannot be used.
    """
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
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


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
