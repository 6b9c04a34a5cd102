"""`preview`: print the events that would be sent for logs, or what is left out of each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli import complete
from daemon.cli.message import cause, document, say
from daemon.cli.startup import cadence, fail, jobs_option, load_settings, log_options
from daemon.reading.explanation import summed_up
from daemon.system.figures import printable
from daemon.system.messages import escaped_json
from llma_core import view
from llma_core.events import CaptureEvent

if TYPE_CHECKING:
    from daemon.following.logs import Logs

__all__ = ["preview"]


@click.command("preview")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--explain", is_flag=True, help="Instead of each event, print what was left out, scrubbed, or cut, and why."
)
@click.option("--json", "as_json", is_flag=True, help="With --explain: print one JSON object per line.")
@click.option(
    "--event",
    "uuid",
    metavar="UUID",
    shell_complete=complete.rejected_events,
    help="Print only the event with this UUID.",
)
@jobs_option
@log_options
def preview(
    paths: tuple[Path, ...],
    explain: bool,
    as_json: bool,
    uuid: str | None,
    jobs: int | None,
    log_format: str | None,
    log_level: str,
) -> None:
    """Print the events that would be sent for session logs, as one JSON object per line.

    PATH is a session's .jsonl file, a project folder, a `projects` folder, or Claude Code's config folder. A message
    that several logs hold is printed once.

    Needs no key, uses no network, and keeps no state.
    """
    if as_json and not explain:
        raise click.UsageError("--json needs --explain; without it the output is JSON already")
    settings = load_settings({}, log_format=log_format, log_level=log_level)
    from daemon.parallel.preview import preview as events_of
    from daemon.parallel.wire import Setup
    from daemon.reading.preview import NoLogError, find_logs

    def tell_held(session: str, reason: str) -> None:
        say(f"warning: session {session} would wait: {reason}", err=True)

    words = (_as_json if as_json else _as_words) if explain else _as_it_is
    setup = Setup(settings=settings, purpose="preview", line_bytes=cadence().line_bytes, explain=explain)
    found = False
    try:
        logs = list(find_logs(paths))
        around = _around(logs, settings.claude_config_dirs)
        with closing(events_of(logs, setup, tell_held, jobs=jobs, around=around)) as events:
            for event in events:
                if uuid is None or event.uuid == uuid.lower():
                    found = True
                    sys.stdout.buffer.write(words(event) + b"\n")
                    if uuid is not None:
                        break
    except NoLogError as error:
        raise fail(str(error)) from None
    except OSError as error:
        if error.filename is None:
            # The output failed, not a log.
            raise
        raise fail(f"{error.filename}: {cause(error)}; give a log that you can read") from None
    sys.stdout.buffer.flush()
    if uuid is not None and not found:
        where = ", ".join(str(path) for path in paths)
        raise fail(f"{where}: no log here yields event {uuid}; give the log that `status --rejected` names")


def _around(logs: Sequence[str], config_dirs: Sequence[Path]) -> Logs | None:
    """Return all logs that are followed, if some of *logs* are among them."""
    from daemon.following.log_roots import log_roots
    from daemon.following.logs import Logs

    roots = log_roots(config_dirs)
    if not any(root.is_above(log) for root in roots for log in logs):
        return None
    around = Logs(roots)
    around.include(around.sweep("full").changed)
    return around


def _as_it_is(event: CaptureEvent) -> bytes:
    body = event.body
    return body if body.isascii() and b"\x7f" not in body else escaped_json(body.decode()).encode()


def _as_json(event: CaptureEvent) -> bytes:
    said = view.read(event.body)
    line = document(
        {
            "event": event.name,
            "uuid": event.uuid,
            "timestamp": said.timestamp or None,
            "label": said.label or None,
            "bytes": len(event.body),
            "cut_to_fit": event.cut,
            "changes": [
                {key: value for key, value in asdict(change).items() if value is not None} for change in event.changes
            ],
        },
    )
    return line.encode()


def _as_words(event: CaptureEvent) -> bytes:
    said = view.read(event.body)
    name = printable(f"{said.timestamp or '-'} {event.name} {said.label}".rstrip())
    done = summed_up(event.changes)
    if event.cut:
        done.append("longest strings cut to stay under PostHog's size limit")
    return f"{name}: {'; '.join(done) or 'nothing left out'}".encode()
