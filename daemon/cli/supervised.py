"""Options of `run` for service managers that lack what systemd has."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from daemon.cli.startup import CONFIGURATION, fail
from daemon.running.log_file import LogFile

__all__ = ["supervised"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def supervised(command: _Command) -> _Command:
    """Add the options for a manager that starts again whatever fails, and for one that keeps no logs."""

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
    wrapper = click.option("--log-file", type=log_path, help="Write log and errors to this file, which is kept small.")(
        wrapper
    )
    return click.option(
        "--exit-zero-on-config",
        is_flag=True,
        help="End with 0 in place of 78, for a service manager that starts again whatever fails.",
    )(wrapper)  # type: ignore[return-value] # the same command with two options more


@contextlib.contextmanager
def _errors_to(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        stream = LogFile(path)
    except OSError as error:
        raise fail(f"{path} cannot be written ({(error.strerror or str(error)).lower()})") from None
    with stream, contextlib.redirect_stderr(stream):
        yield
