"""`dashboard`: create a starter dashboard in PostHog, or bring it up to date."""

from __future__ import annotations

import sys

import click

from daemon.cli.message import document, say
from daemon.cli.private import asking, personal_key
from daemon.cli.startup import CONFIGURATION, fail, load_settings
from daemon.config.table import APP_NAME
from daemon.system.figures import count

__all__ = ["dashboard"]


@click.command("dashboard")
@click.option("--print", "shown", is_flag=True, help="Print the dashboard as JSON. Asks PostHog nothing.")
@click.option("--yes", is_flag=True, help="Write it without asking.")
def dashboard(*, shown: bool, yes: bool) -> None:
    """Create a dashboard of your sessions in PostHog, or bring the one that is there up to date.

    It shows the cost by day and model, and by repository, branch and pull request, the cache hit rate, tool failures,
    the slowest sessions, and errors by type.

    Needs a personal API key with the scopes project:read, dashboard:write and insight:write; `login
    --personal-key-stdin` stores one. You may rename the dashboard and move its tiles; running this again changes only
    the queries of its tiles, and adds those that are missing.
    """
    from daemon.verifying.dashboard import NAME, Dashboard, definition

    if shown:
        click.echo(document(definition(), indent=2))
        return
    settings = load_settings({})
    from daemon.verifying.app import app_of

    host = app_of(settings.host, settings.app_host)
    key = personal_key(settings, host, "project:read, dashboard:write and insight:write")
    if settings.api_key is None:
        raise fail(f"there is no POSTHOG_API_KEY that says which project; run `{APP_NAME} login`", CONFIGURATION)
    if not yes and not sys.stdin.isatty():
        raise fail("cannot ask without a terminal: add --yes to write it, or --print to see it", 2)
    with asking(host, key) as app:
        project = app.project(settings.api_key)
        if not project.is_certain:
            raise fail(
                f"the personal key may not read projects, so nobody knows whether its project is the one with the key "
                f"{settings.api_key.masked()}; give it the scope project:read"
            )
        board = Dashboard(app, project)
        existing = board.find()
        where = f"{host}, project {project.name or project.id}"
        if existing is None:
            question = f"Create the dashboard {NAME} in {where}?"
        else:
            question = f"Bring the dashboard {existing.get('name') or NAME} in {where} up to date?"
        if not yes:
            say(question, err=True)
            if not click.confirm("Write it?", default=True, err=True):
                say("nothing was written", err=True)
                raise click.exceptions.Exit(1)
        outcome = board.write(existing)
    parts = [
        f"{count(number, 'tile')} {what}"
        for number, what in (
            (outcome.created, "created"),
            (outcome.updated, "changed"),
            (outcome.unchanged, "up to date"),
        )
        if number
    ]
    say(", ".join(parts))
    say(outcome.url)
