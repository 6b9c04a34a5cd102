"""`preview`: the events that logs would give, one a line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from daemon.cli.startup import fail, load_settings, log_options

__all__ = ["preview"]


@click.command("preview")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@log_options
def preview(paths: tuple[Path, ...], log_format: str | None, log_level: str) -> None:
    """Print the events that session logs would give, one JSON object a line.

    PATH is a session's .jsonl file, a project folder, a `projects` folder or a config folder. All paths of one call are
    judged together: what several of them hold comes once. Needs no key, uses no network and keeps no state.
    """
    settings = load_settings({}, log_format=log_format, log_level=log_level)
    from daemon.preview import NoLogError, find_logs
    from daemon.preview import preview as events_of
    from daemon.repository import Repositories
    from daemon.routing import Routing

    def tell_held(session: str, reason: str) -> None:
        click.echo(f"warning: session {session} would wait: {reason}", err=True)

    routing = Routing(settings, Repositories(), purpose="preview")
    try:
        for event in events_of(list(find_logs(paths)), routing, tell_held):
            sys.stdout.buffer.write(event.body + b"\n")
    except NoLogError as error:
        raise fail(str(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}; give a log that can be read") from None
    sys.stdout.buffer.flush()
