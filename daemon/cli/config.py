"""`config`: show, check, and change the settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from daemon.cli import complete
from daemon.cli.key import read_key
from daemon.cli.message import cause, say, unwritable
from daemon.cli.render import stdout
from daemon.cli.startup import CONFIGURATION, fail, load_settings, refuse
from daemon.cli.verbs import example
from daemon.config import loading, parsers, settings
from daemon.config.parsers import folders, looks_like_key, nearest, shown
from daemon.config.schema import value_type
from daemon.config.settings import ProjectTable
from daemon.config.table import APP_NAME, SETTINGS, Setting, setting_named
from daemon.system.messages import escaped

__all__ = ["allow", "check", "config", "schema", "set_"]


_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@click.group("config", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
@click.pass_context
def config(context: click.Context, *, as_json: bool) -> None:
    """Show every setting, its value, and where the value came from.

    Exits with 78 if something in the configuration cannot be used.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"--json does not go with {context.invoked_subcommand}")
        return
    try:
        current = loading.load({}, os.environ)
    except settings.ConfigError as error:
        if as_json:
            click.echo(json.dumps({"settings": {}, "warnings": [], "problems": error.problems}, indent=2))
        raise refuse(error) from None
    if as_json:
        click.echo(json.dumps(_document(current), indent=2))
    else:
        _print_table(current)
    for warning in current.warnings:
        say(f"warning: {warning}", err=True)
    if (reason := current.why_disabled()) is not None:
        say(f"note: {reason}", err=True)


@config.command(
    "allow",
    short_help="Let a project, or what programs record, choose where it is sent.",
    epilog=example("config allow ~/work/orchard"),
)
@click.argument("path", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--host", metavar="URL", help="Allow this host for calls that programs record, with the key on stdin.")
@click.option("--key-stdin", is_flag=True, help="Read the project API key for --host from stdin.")
def allow(path: Path | None, *, host: str | None, key_stdin: bool) -> None:
    """Allow the project at PATH to send its sessions to the host and key in its settings.local.json.

    This applies to the host and key in that file now; if they change, run it again. A running daemon sends the waiting
    sessions within seconds.

    With --host and --key-stdin instead of PATH: allow programs that record their own calls to name that host and key.
    """
    current = load_settings({})
    if (reason := current.why_disabled()) is not None:
        raise fail(reason, CONFIGURATION)
    if path is None:
        _allow_pair(current, host, key_stdin=key_stdin)
        return
    if host is not None or key_stdin:
        raise fail("give either a project's folder, or --host with --key-stdin", 2)
    from daemon.routing.repository import Repositories
    from daemon.routing.routing import Held, Routing, allowances_file

    folder = os.path.abspath(path)  # noqa: PTH100 - logs keep links and resolve only `..`
    try:
        route = Routing(current, Repositories()).allow(folder)
    except Held as held:
        raise fail(held.reason) from None
    except OSError as error:
        where = error.filename or allowances_file(current)
        raise fail(f"{where}: {cause(error)}; make it writable and try again") from None
    say(f"allowed: sessions of {folder} are sent to {route.host} with the key {route.key.masked()}")


def _allow_pair(current: settings.Settings, host: str | None, *, key_stdin: bool) -> None:
    from daemon.delivering.route import Route
    from daemon.routing.repository import Repositories
    from daemon.routing.routing import Held, Routing, allowances_file

    if host is None or not key_stdin:
        raise fail("give a project's folder, or --host with --key-stdin", 2)
    context = parsers.Context(home=Path.home(), allow_custom_host=current.allow_custom_host)
    try:
        route = Route(host=parsers.host(host, context), key=parsers.api_key(read_key(), context))
    except ValueError as error:
        raise fail(f"the host or the key {error}", 2) from None
    try:
        Routing(current, Repositories()).allow_pair(route)
    except Held as held:
        raise fail(held.reason) from None
    except OSError as error:
        where = error.filename or allowances_file(current)
        raise fail(f"{where}: {cause(error)}; make it writable and try again") from None
    say(f"allowed: calls that programs record are sent to {route.host} with the key {route.key.masked()}")


@config.command("check", short_help="List all problems.", epilog=example("config check"))
def check() -> None:
    """List everything that is wrong with the configuration.

    Exits with 78 if something cannot be used, or if sending is not set up.
    """
    try:
        current = loading.load({}, os.environ)
    except settings.ConfigError as error:
        raise refuse(error) from None
    for warning in current.warnings:
        say(f"warning: {warning}", err=True)
    if (reason := current.why_disabled()) is not None:
        raise fail(reason, CONFIGURATION)
    say(f"no problems found; config.toml is {current.config_file}")


@config.command(
    "set",
    short_help="Set one setting in config.toml.",
    epilog=example("config set content metadata"),
    context_settings={"ignore_unknown_options": True},
)
@click.argument("name", shell_complete=complete.setting_names)
@click.argument("value", shell_complete=complete.setting_values)
def set_(name: str, value: str) -> None:
    """Set NAME to VALUE in config.toml. The rest of the file stays as it is.

    NAME is a key in config.toml or an environment variable, such as content or POSTHOG_LLMA_CONTENT. Separate the items
    of a list with commas. Write custom_properties as a JSON object.

    To set the API key use `login`, because every user of the machine can see the arguments of a command.
    """
    from daemon.config import file as config_files

    setting = _find(name)
    path = loading.default_config_file()
    if setting.secret or looks_like_key(value):
        why = "do not pass a key as an argument, because every user of the machine can see it"
        raise fail(f"{why}; `{APP_NAME} login` asks for it", 2)
    try:
        config_files.update(path, {setting: _plain_value(setting, value)})
    except settings.ConfigError as error:
        raise refuse(error) from None
    except OSError as error:
        raise fail(unwritable(path, error)) from None
    say(f"written: {path} ({setting.variable})")
    _say_what_overrules(setting, path)
    say(f"next: `{APP_NAME} restart` if the service is installed; else send SIGHUP to the running daemon")


@config.command(
    "schema", short_help="Print the JSON schema of config.toml.", epilog=example("config schema > schema.json")
)
def schema() -> None:
    """Print the JSON schema of config.toml, so that editors can complete and check it."""
    from daemon.config.schema import config_schema

    click.echo(json.dumps(config_schema(), indent=2, ensure_ascii=False))


def _find(name: str) -> Setting:
    """Find a setting by its key or variable, or exit with 2."""
    if (setting := setting_named(name)) is not None:
        return setting
    guess = nearest(name.lower(), [each for setting in SETTINGS for each in setting.names])
    advice = f"did you mean {guess}?" if guess else f"`{APP_NAME} config` lists the settings"
    raise fail(f"there is no setting {shown(name)}; {advice}", 2)


def _plain_value(setting: Setting, value: str) -> Any:
    """Turn an argument into a TOML value. One that cannot be read stays text; checking the whole file reports it."""
    match value_type(setting):
        case "boolean" if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        case "number" | "integer" if _NUMBER.fullmatch(value.strip()):
            return float(value) if "." in value else int(value)
        case "array":
            separator = os.pathsep if setting.parse is folders else ","
            return [each.strip() for each in value.split(separator) if each.strip()]
        case "object":
            try:
                document = json.loads(value)
            except (ValueError, RecursionError):
                return value
            # TOML has no null and limits nesting, so an object that is no plain table stays text.
            plain = isinstance(document, dict) and all(
                isinstance(each, str | int | float) for each in document.values()
            )
            return document if plain else value
    return value


def _say_what_overrules(setting: Setting, path: Path) -> None:
    try:
        current = loading.load({}, os.environ)
    except settings.ConfigError as error:
        for problem in error.problems:
            say(f"warning: {problem}", err=True)
        return
    if (source := current.source(setting.name)) not in (str(path), "default"):
        what = f"{setting.variable} ({source})" if source == "environment" else source
        say(f"warning: {what} overrides config.toml", err=True)


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
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("variable", no_wrap=True)
    for heading in ("value", "source"):
        table.add_column(heading, overflow="fold")
    for entry in current.entries():
        # As Text, so that square brackets in a value are not read as markup.
        table.add_row(entry.setting.variable, Text(escaped(_words(entry.value))), Text(escaped(entry.source)))
    for project in current.projects:
        for key, value in _given(project):
            source = escaped(f"{project.label}: {', '.join(project.path)}")
            table.add_row(key, Text(escaped(_words(value))), Text(source))
    stdout().print(table)


def _given(table: ProjectTable) -> list[tuple[str, object]]:
    """Return the settings in a `[[project]]` table, by their keys."""
    return [(setting.key, table.values[setting.name]) for setting in SETTINGS if setting.name in table.values]


def _plain(value: object) -> Any:
    """Turn *value* into what JSON can hold. Secrets are masked."""
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
    """Turn *value* into readable text."""
    plain = _plain(value)
    if plain is None or plain == []:
        return "unset"
    if isinstance(plain, list):
        return ", ".join(plain)
    if isinstance(plain, float) and plain.is_integer():
        return str(int(plain))
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
