"""`tail`: watch sessions live in the terminal."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import click

from daemon.cli import complete
from daemon.cli.live import Board, Dates, line, moment
from daemon.cli.message import say
from daemon.cli.moment import Moment
from daemon.cli.project import begun_in
from daemon.cli.render import stdout
from daemon.cli.startup import cadence, load_settings
from daemon.system.figures import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from daemon.config.settings import Settings
    from daemon.following.opening import Opening
    from daemon.reading.follower import Follower, Seen

__all__ = ["tail"]

_NO_TIME = datetime.max.replace(tzinfo=UTC)


@click.command("tail")
@click.option(
    "--session", metavar="ID", shell_complete=complete.session_ids, help="Only the session whose id starts with ID."
)
@click.option(
    "--project",
    metavar="PROJECT",
    shell_complete=complete.folders,
    help="Only sessions begun in this folder or below it, or in a project of this name.",
)
@click.option(
    "--since",
    type=Moment(),
    help="Also show what happened since then: 10m, 2h, 1d (ago), or 2026-11-20T14:00.",
)
@click.option("--plain", is_flag=True, help="Print only one line per event, as without a terminal.")
def tail(session: str | None, project: str | None, since: float | None, plain: bool) -> None:
    """Watch this machine's sessions live: prompts, answers, tool calls, errors, and tokens. Ctrl-C stops.

    Only reads session logs: it needs no account and no running daemon, and it writes and sends nothing. It shows what
    your content level allows to be sent, with secrets scrubbed.
    """
    settings = load_settings({}, log_level="warning")
    from daemon.reading.follower import Follower
    from daemon.routing.repository import Repositories
    from daemon.routing.routing import Routing

    def tell_held(held: str, reason: str) -> None:
        say(f"warning: session {held} is not shown: {reason}", err=True)

    # A closed terminal or a plain kill ends it as Ctrl-C does, so that the terminal is restored.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = stdout()
    follower = Follower(
        settings.claude_config_dirs,
        Routing(settings, Repositories(), purpose="local"),
        since=time.time() if since is None else since,
        session_timeout=settings.session_timeout,
        outboxes=settings.outboxes,
        wanted=_wanted(session, project, settings),
        on_held=tell_held,
        cadence=cadence(),
    )
    folders = ", ".join(map(str, settings.claude_config_dirs))
    try:
        with follower:
            told = f"watching {count(follower.sessions, 'session')} in {folders}; Ctrl-C stops"
            if plain or not console.is_terminal or console.is_dumb_terminal:
                _plainly(follower, console, told)
            else:
                _lively(follower, console, told)
    except KeyboardInterrupt:
        # This is how to stop it; there is nothing to clean up.
        return


def _wanted(session: str | None, project: str | None, settings: Settings) -> Callable[[Opening], bool]:
    belongs = begun_in(project, settings) if project is not None else None

    def wanted(began: Opening) -> bool:
        return began.session.startswith(session or "") and (belongs is None or belongs(began.cwd))

    return wanted


def _plainly(follower: Follower, console: Console, told: str) -> None:
    say(told, err=True)
    dates = _dates()

    def show(found: Iterable[Seen]) -> None:
        for seen in found:
            if (date := dates.before(seen)) is not None:
                _print(console, date)
            _print(console, line(seen, session=True))
        sys.stdout.flush()

    _show_all(follower, show)


def _lively(follower: Follower, console: Console, told: str) -> None:
    from rich.live import Live

    board, dates = Board(told), _dates()
    with ExitStack() as stack:
        # Redrawn only when something has changed.
        live = stack.enter_context(Live(board, console=console, auto_refresh=False))
        live.refresh()

        def show(found: Iterable[Seen]) -> None:
            for seen in found:
                board.add(seen)
                if (date := dates.before(seen)) is not None:
                    _print(console, date)
                _print(console, line(seen, project_width=board.project_width, session=board.shares_project))
                live.refresh()

        _show_all(follower, show)


def _dates() -> Dates:
    return Dates(datetime.now().astimezone().date())


def _show_all(follower: Follower, show: Callable[[Iterable[Seen]], None]) -> NoReturn:
    """Show what has happened already, and then everything that happens."""
    show(_in_order(follower.advance()))
    while True:
        follower.wait()
        show(follower.advance())


def _print(console: Console, words: Text) -> None:
    # A console ignores the wrapping that a Text asks for.
    console.print(words, no_wrap=True, overflow="ellipsis")


def _in_order(found: Iterable[Seen]) -> list[Seen]:
    """Sort by time: what happened before the start is found session by session."""
    return sorted(found, key=lambda seen: moment(seen) or _NO_TIME)
