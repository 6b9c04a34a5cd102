"""The command line: one module for each verb. Only this package prints.

A verb's module is imported when the verb runs, so that `--help` stays quick.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from daemon.cli.verbs import VERBS, example
from daemon.running.slim import import_slim
from daemon.system.messages import escaped
from llma_core import __version__

if TYPE_CHECKING:
    from daemon.following.cadence import Cadence

__all__ = ["CADENCE", "main", "run_main"]

CADENCE = "daemon.cadence"
"""Under this key the context of every command has the cadence that `run_main` was given."""

_LONG = ("run", "view")
"""The verbs whose processes run for a long time."""

_ALL = {name: verb for verbs in VERBS.values() for name, verb in verbs.items()}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_ALL)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _ALL:
            return None
        # Before anything else imports them: the memory of a long-running process matters, and a short one should not
        # wait for what it does not use.
        import_slim(*(() if cmd_name in _LONG else ("structlog",)))
        command = getattr(importlib.import_module(f"daemon.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        command.epilog = example(_ALL[cmd_name].example)
        command.short_help = _ALL[cmd_name].summary
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _ALL and not args[0].startswith("-") and not ctx.resilient_parsing:
            from daemon.config.parsers import nearest, shown

            guess = nearest(args[0], _ALL)
            ctx.fail(f"there is no command {shown(args[0])}" + (f"; did you mean {guess}?" if guess else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        width = max(map(len, _ALL))
        for group, verbs in VERBS.items():
            with formatter.section(group):
                formatter.write_dl([(f"{name:<{width}}", verb.summary) for name, verb in verbs.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(
                "New here? `demo` shows what it does, `login` connects it to PostHog, `install` runs it in the "
                "background, and `doctor` finds out what is wrong. `COMMAND --help` shows options and an example."
            )


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="posthog-llma-daemon")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Follow Claude Code sessions and deliver them to PostHog LLM Analytics."""
    ctx.meta[CADENCE] = ctx.obj
    # The files this process writes hold prompts and code. A command that it runs for the user gets the user's umask.
    ctx.obj = os.umask(0o077)


def _shown(error: UnicodeError) -> tuple[str, int]:
    """Escape what is not UTF-8 in names. Another character that the encoding lacks becomes a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(f"\\u{ord(each):04x}" if "\ud800" <= each <= "\udfff" else "?" for each in lacking), error.end


def run_main(cadence: Cadence | None = None) -> None:
    """Run the command line, and exit without a traceback whatever happens.

    If the reader of its output goes away, it exits silently. If the system refuses something, it prints one line. After
    a bug it prints the places in the code, but never values, because they may be content.

    Args:
        cadence: times and sizes of a service that is run; None: the usual ones.
    """
    codecs.register_error("shown", _shown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="shown")
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
    except Exception as error:  # noqa: BLE001 - every failure is reported
        from daemon.running.logs import format_exception

        places = format_exception((type(error), error, error.__traceback__))
        _end(f"error: this is a bug; please report it with these lines:\n{places}")


def _words(error: OSError) -> str:
    from daemon.cli.message import cause

    if error.filename is not None:
        return f"{error.filename}: {cause(error)}"
    if error.errno == errno.ENOENT:
        return "the current folder no longer exists; change to one that does"
    return f"cannot write the output: {cause(error)}"


def _end(words: str | None = None) -> NoReturn:
    """Print *words* and exit with 1. Keep the interpreter from reporting the same broken output again as it exits."""
    with contextlib.suppress(OSError):
        if words is not None:
            click.echo(escaped(words), err=True)
    with contextlib.suppress(OSError, AttributeError):  # there may be no stdout at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
