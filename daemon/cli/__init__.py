"""The command line: one file a verb; the only place that prints.

A verb's module is imported when the verb runs, so that `--help` stays quick.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from daemon.running.slim import import_slim
from llma_core import __version__

if TYPE_CHECKING:
    from daemon.following.cadence import Cadence

__all__ = ["CADENCE", "main", "run_main"]

CADENCE = "daemon.cadence"
"""Under this key the context of every command has the cadence that `run_main` was given."""

_VERBS = {
    "backfill": "Send sessions that are history: files, folders, or everything.",
    "completion": "Print what lets a shell complete this command line.",
    "config": "Show, check and change the settings.",
    "demo": "Watch a sample session become a trace; nothing leaves this machine.",
    "doctor": "Check everything the daemon needs, with a hint for what is wrong.",
    "exec": "Run a command and deliver the sessions it begins, as in CI.",
    "install": "Run the daemon as a service of this user.",
    "login": "Write the project's key and host to config.toml, after checking them.",
    "logs": "Show the log of the service.",
    "preview": "Print the events that logs would give.",
    "restart": "Start the service anew.",
    "run": "Follow the logs and deliver their events.",
    "status": "Say what is delivered, what waits, and what went wrong.",
    "tail": "Watch what happens in the sessions of this machine, as it happens.",
    "traces": "Show the traces the local sink holds, as a tree.",
    "uninstall": "Stop the service and remove it.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        if cmd_name == "run":
            # Before anything imports them: this process stays.
            import_slim()
        command = getattr(importlib.import_module(f"daemon.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from daemon.config.parsers import nearest, shown

            guess = nearest(args[0], _VERBS)
            ctx.fail(f"there is no command {shown(args[0])}" + (f"; did you mean {guess}?" if guess else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(
                "New here? `demo` shows what it does, `login` sets it up, `install` lets it run by itself, and "
                "`doctor` finds out what is wrong."
            )


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="posthog-llma-daemon")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Follow Claude Code sessions and deliver them to PostHog LLM Analytics."""
    ctx.meta[CADENCE] = ctx.obj
    # Whatever this process writes holds prompts and code. What it runs for the user has the user's umask.
    ctx.obj = os.umask(0o077)


def run_main(cadence: Cadence | None = None) -> None:
    """Run the command line, and end it without a traceback whatever comes.

    Quietly, when whoever reads its output stops reading; with one line, when the system refuses something; by a fault
    of its own with the places in the code, and never with the values there, which may be content.

    Args:
        cadence: times and sizes of a service that is run; None: the usual ones.
    """
    for stream in (sys.stdout, sys.stderr):
        # What a terminal of another encoding cannot show costs a question mark.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            main(obj=cadence)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _end()
    except OSError as error:
        _end(f"error: {_words(error)}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        from daemon.running.logs import format_exception

        places = format_exception((type(error), error, error.__traceback__))
        _end(f"error: this is a fault of the program; report it with these lines:\n{places}")


def _words(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    if error.errno == errno.ENOENT:
        return "the folder this was started in is not there any more; change to one that is"
    return f"{reason}, while the output was written"


def _end(words: str | None = None) -> NoReturn:
    """Say *words* and end with 1. The interpreter must not complain about the same output once more at its exit."""
    with contextlib.suppress(OSError):
        if words is not None:
            click.echo(words, err=True)
    with contextlib.suppress(OSError, AttributeError):  # there may be no output at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
