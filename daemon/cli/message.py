"""Messages to people: one line each, broken between words where a terminal would break it anywhere."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import TextIO

import click

__all__ = ["fitted", "say", "wants_colour"]

_QUOTED = re.compile(r"`[^`]*`")
_GLUE = "\0"
"""Stands for a blank within a command while lines are broken: a command stays in one piece, to be copied."""
_NARROW = 40
"""Columns below which a terminal is left to break lines itself."""


def say(line: str, *, err: bool = False) -> None:
    """Print one line, on stderr if *err*. Into a pipe or a file it goes as one line."""
    click.echo(fitted(line, sys.stderr if err else sys.stdout), err=err)


def fitted(line: str, stream: TextIO, *, then: str = "  ") -> str:
    """Return *line* broken between words to the width of the terminal that *stream* is; elsewhere as it is.

    Args:
        line: the line.
        stream: where it is to go.
        then: what stands before all lines of it but the first.
    """
    width = _width(stream)
    if width is None or len(line) < width:
        return line
    glued = _QUOTED.sub(lambda quoted: quoted[0].replace(" ", _GLUE), line)
    lines = textwrap.wrap(glued, width - 1, subsequent_indent=then, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_GLUE, " ")


def wants_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what goes to *stream* may be coloured: it is a terminal, and the user has not said NO_COLOR."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _width(stream: TextIO) -> int | None:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        # No terminal, or nothing that the system knows at all.
        return None
    return columns if columns >= _NARROW else None
