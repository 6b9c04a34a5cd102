"""`archive`: send the logs that a fleet has stored, from folders, archives and object storage."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.message import document, say
from daemon.cli.moment import Moment
from daemon.cli.startup import cadence, config_errors, fail, load_settings, log_options, state_dir_option
from daemon.system.figures import count

if TYPE_CHECKING:
    from daemon.archiving.archiving import Progress

__all__ = ["archive"]

_SHOW_SECONDS = 5.0
_MEGABYTE = 1_000_000
_LITTLE = 8 * _MEGABYTE
"""Bytes of sources, as they are stored, that this process sends alone: workers would take longer to start."""


@click.command("archive")
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--scheduler", metavar="ADDRESS", help="Use the workers of a Dask cluster, such as tcp://scheduler:8786.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of workers on this machine.  [default: its cores; 1 for little]",
)
@click.option(
    "--since",
    type=Moment(),
    help="Only sessions that ended at or after this time: 2026-11-20, 2026-11-20T14:00, or 7d for seven days ago.",
)
@click.option(
    "--identities",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A TOML file that says whose archives they are: pattern of URLs = distinct id.",
)
@click.option("--manifest", metavar="URL", help="Folder that says what is done.  [default: in the state directory]")
@click.option("--dry-run", is_flag=True, help="Look through the archives, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@state_dir_option
@log_options
def archive(
    *,
    urls: tuple[str, ...],
    scheduler: str | None,
    jobs: int | None,
    since: float | None,
    identities: Path | None,
    manifest: str | None,
    dry_run: bool,
    as_json: bool,
    state_dir: Path | None,
    log_format: str | None,
    log_level: str,
) -> None:
    """Send the sessions in archives: folders, tar and zip files, and packed logs, here or in object storage.

    URL is a path, or a URL that fsspec can open, such as s3://bucket/folder. A second run sends only what is new.

    Exits with 0 if everything is settled, and with 1 if a source could not be read or sent.
    """
    from daemon.archiving.forkserver import start_method

    if scheduler is None and jobs is not None and jobs > 1:
        # It imports what workers need while this process does the same. Whoever names no number may need none.
        start_method()
    settings = load_settings({"state_dir": state_dir}, log_format=log_format, log_level=log_level)
    from daemon.archiving.archiving import Archiving
    from daemon.archiving.crew import CrewLostError, assemble, usable_cores
    from daemon.archiving.identities import Identities, IdentitiesError
    from daemon.archiving.manifest import ManifestError, open_manifest
    from daemon.archiving.source import MissingExtraError
    from daemon.cli import CADENCE
    from daemon.state.layout import archive_folder
    from daemon.state.lock import AlreadyRunning, StateDirError, prepare_state_dir

    if not dry_run:
        with config_errors():
            settings.require_enabled()
    shown = _Shown(hidden=as_json)
    try:
        persons = Identities.read(identities) if identities is not None else None
        if manifest is None:
            prepare_state_dir(settings.state_dir)
        with open_manifest(archive_folder(settings.state_dir), manifest) as kept:
            run = Archiving(
                settings,
                kept.manifest,
                save=kept.save,
                identities=persons,
                since=since,
                tell=shown.tell,
                cadence=cadence() if click.get_current_context().meta.get(CADENCE) else None,
            )
            left = run.find(urls)
            if left:
                is_little = sum(source.size for source in left) < _LITTLE
                usual = 1 if is_little else usable_cores()
                workers = min(usual if jobs is None else jobs, len(left))
                with assemble(workers, scheduler) as crew:
                    found = run.survey(left, crew)
                    if dry_run:
                        run.plan(found)
                    else:
                        run.send(found, crew)
    except (IdentitiesError, MissingExtraError, ManifestError, CrewLostError) as error:
        raise fail(str(error)) from None
    except StateDirError as error:
        other = (
            "give --manifest another folder" if manifest is not None else "set POSTHOG_LLMA_STATE_DIR to another folder"
        )
        raise fail(f"{error.path} {error.reason}; fix that or {other}") from None
    except AlreadyRunning as error:
        raise fail(f"another `archive` uses the manifest in {error.path.parent}; wait for it, or stop it") from None
    shown.report(run.progress, dry_run=dry_run, as_json=as_json)
    if run.progress.errors:
        raise click.exceptions.Exit(1)


class _Shown:
    """Shows the progress of a run.

    Args:
        hidden: whether to show only the result.
    """

    def __init__(self, *, hidden: bool) -> None:
        self._begun = time.monotonic()
        self._next = self._begun + _SHOW_SECONDS
        self._hidden = hidden or not sys.stderr.isatty()

    def tell(self, progress: Progress) -> None:
        """Print how far it is, from time to time."""
        now = time.monotonic()
        if not self._hidden and now >= self._next:
            self._next = now + _SHOW_SECONDS
            new = progress.sources - progress.unchanged
            if not progress.total:
                say(f"looked through {progress.looked:,} of {count(new, 'source')}", err=True)
            else:
                say(f"{progress.done:,} of {count(new, 'source')} done; {self._amounts(progress)}", err=True)

    def report(self, progress: Progress, *, dry_run: bool, as_json: bool) -> None:
        """Print the result."""
        if as_json:
            seconds = round(time.monotonic() - self._begun, 3)
            click.echo(document({**asdict(progress), "dry_run": dry_run, "seconds": seconds}, indent=2))
            return
        new = progress.sources - progress.unchanged
        say(f"{count(progress.sources, 'source')}: {new:,} new or changed, {progress.unchanged:,} done before")
        if dry_run:
            say(f"would send {count(progress.sessions, 'session')}, {progress.size / _MEGABYTE:,.1f} MB of logs")
        elif new:
            say(f"{progress.done:,} done; {self._amounts(progress)}")
        if progress.refused:
            say(f"left out: {count(progress.refused, 'log')} that is a link or no regular file")
        if progress.rejected:
            say(f"PostHog refuses {count(progress.rejected, 'event')} of these")
        for url, reason in sorted(progress.errors.items()):
            say(f"error: {url}: {reason}", err=True)

    def _amounts(self, progress: Progress) -> str:
        speed = progress.size / _MEGABYTE / max(0.001, time.monotonic() - self._begun)
        return (
            f"{count(progress.sessions, 'session')}, {count(progress.events, 'event')}, {speed:,.1f} MB/s, "
            f"{count(len(progress.errors), 'error')}"
        )
