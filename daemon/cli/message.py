"""Messages to the user: one line each, which a terminal gets wrapped between words."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import click

from daemon.system.messages import escaped, escaped_json

__all__ = ["cause", "colored", "columns", "document", "fitted", "say", "unwritable", "wants_color", "wrapped"]

_QUOTED = re.compile(r"`[^`]*`")
_GLUE = "\0"
"""Replaces the spaces of a command while lines are wrapped, so that the command stays whole and can be copied."""
_USUAL = 80
_NARROW = 40
"""A terminal with fewer columns than this has to wrap lines itself."""


def say(line: str, *, err: bool = False) -> None:
    """Print one line, to stderr if *err*. It is wrapped only on a terminal, which gets nothing to act on."""
    click.echo(fitted(escaped(line), sys.stderr if err else sys.stdout), err=err)


def document(values: object, *, indent: int | None = None) -> str:
    """Return JSON of *values* for people and programs: other alphabets as they are, but nothing a terminal acts on."""
    return escaped_json(json.dumps(values, indent=indent, ensure_ascii=False))


def fitted(line: str, stream: TextIO, *, then: str = "  ") -> str:
    """Return *line* wrapped to the width of the terminal *stream*; unchanged if *stream* is no terminal.

    Args:
        line: the line.
        stream: where it will be printed.
        then: the indent of all lines after the first.
    """
    width = _width(stream)
    if width is None or len(line) < width:
        return line
    return "\n".join(wrapped(line, width - 1, then=then))


def wrapped(line: str, width: int, *, first: str = "", then: str = "") -> list[str]:
    """Wrap *line* between words. Paths, and commands in backticks, stay whole so that they can be copied.

    Args:
        line: the line.
        width: columns, including the indent.
        first: the indent of the first line.
        then: the indent of the other lines.

    Returns:
        The lines.
    """
    glued = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", _GLUE), line)
    lines = textwrap.wrap(
        glued, width, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )
    return [each.replace(_GLUE, " ") for each in lines]


def cause(error: OSError) -> str:
    """Return why the system refused something, in lower case: `permission denied`."""
    return (error.strerror or str(error)).lower()


def unwritable(path: Path, error: OSError) -> str:
    """Return the message for a file that cannot be written."""
    return f"{path} cannot be written ({cause(error)}); fix that and try again"


def columns(stream: TextIO, *, longest: int) -> int:
    """Return how many columns a line of a report may have: those of the terminal *stream*, or 80 without a terminal.

    Args:
        stream: where it will be printed.
        longest: do not use more columns than this, however wide the terminal is.
    """
    width = _width(stream)
    return _USUAL if width is None else min(width - 1, longest)


def colored(words: str, color: str, stream: TextIO) -> str:
    """Return *words* in a color if *stream* takes colors, else unchanged."""
    return click.style(words, fg=color) if wants_color(stream) else words


def wants_color(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether output to *stream* may be colored: it is a terminal, and the user has not set NO_COLOR."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _width(stream: TextIO) -> int | None:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        # It is no terminal, or has no file descriptor at all.
        return None
    return columns if columns >= _NARROW else None
