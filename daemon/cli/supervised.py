"""Options of `run` for service managers that can do less than systemd."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from daemon.cli.message import unwritable
from daemon.cli.startup import CONFIGURATION, fail
from daemon.running.log_file import LogFile

__all__ = ["supervised"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def supervised(command: _Command) -> _Command:
    """Add options for service managers that restart a daemon after any failure, and for those that keep no logs."""

    @functools.wraps(command)
    def wrapper(*, exit_zero_on_config: bool, log_file: Path | None, **options: object) -> None:
        with _errors_to(log_file):
            try:
                command(**options)
            except click.exceptions.Exit as ended:
                if exit_zero_on_config and ended.exit_code == CONFIGURATION:
                    raise click.exceptions.Exit(0) from None
                raise

    log_path = click.Path(path_type=Path, dir_okay=False)
    wrapper = click.option("--log-file", type=log_path, help="Write logs and errors to this file, kept small.")(wrapper)
    return click.option(
        "--exit-zero-on-config",
        is_flag=True,
        help="Exit with 0 instead of 78, for service managers that restart after any failure.",
    )(wrapper)  # type: ignore[return-value] # the same command with two more options


@contextlib.contextmanager
def _errors_to(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        stream = LogFile(path)
    except OSError as error:
        raise fail(unwritable(path, error)) from None
    with stream, contextlib.redirect_stderr(stream):
        yield
