"""Sets up logging: structlog and the standard library, through the same processors, to one stream.

Levels: DEBUG is detail, INFO is the life cycle, WARNING is unexpected but loses no data, ERROR means that data is lost
or that somebody has to act. A line carries names, sizes and counts; never content, never a key.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.config.settings import Secret
from daemon.system.messages import escaped

__all__ = ["configure", "format_exception", "render_for_people"]

# Our own loggers. All others log from WARNING on only: httpx logs the address of each request at INFO.
_OWN = "daemon"

# Packages whose exception messages name files, addresses and internals only. Other messages may quote their input, as
# those of KeyError and ValueError do, so only the type of such an exception is logged.
_SAFE_MESSAGES = frozenset({"daemon", "llma_core", "httpx", "httpcore", "sqlite3"})

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(
    format: Literal["console", "json"] | None = None,  # noqa: A002 - named as the option is
    level: str | int = logging.INFO,
    stream: TextIO | None = None,
    *,
    secrets: Iterable[Secret] = (),
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send all logging to *stream*. A second call replaces the setup of the first.

    Args:
        format: "console" for people, or "json" for one object per line; None: console on a terminal, otherwise json.
        level: lowest level of this program's own lines; libraries log from WARNING on, whatever it is.
        stream: where lines go; standard error if None.
        secrets: strings that are masked wherever they appear in a line.
        environ: tells whether *stream* is systemd's journal, which adds its own timestamps, and has NO_COLOR.

    Raises:
        ValueError: *level* is not the name of a level.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    for_people = format == "console" or (format is None and on_terminal)
    threshold = level if isinstance(level, int) else logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise ValueError(f"unknown log level {level!r}")

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
    ]
    if for_people and on_terminal:
        # People at a terminal know the date, and may have only eighty columns.
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False))
    else:
        shared.insert(1, structlog.stdlib.add_logger_name)
    if not (for_people and on_terminal) and not _is_journal(stream, environ.get("JOURNAL_STREAM", "")):
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    shared.append(structlog.processors.ExceptionRenderer(format_exception))

    renderers: list[Processor]
    if for_people:
        colors = on_terminal and not environ.get("NO_COLOR")
        renderers = [_escape, _reason_first, _console(0 if on_terminal else 30, colors=colors)]
    else:
        renderers = [structlog.processors.JSONRenderer()]

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers, _mask(secrets)],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(threshold)

    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Loggers are made on import. Without a cache, they follow a later configure().
        cache_logger_on_first_use=False,
    )


def render_for_people(fields: Mapping[str, object], *, color: bool) -> str:
    """Return the fields of a log line as a terminal shows them.

    Args:
        fields: the event, its level, its time as text, and more.
        color: whether to color them.
    """
    line: EventDict = dict(fields)
    return str(_console(0, colors=color)(None, "", _reason_first(None, "", _escape(None, "", line))))


def _console(width: int, *, colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        # The width for events, passed by position: its name differs between versions of structlog.
        width,
        colors=colors,
        exception_formatter=structlog.dev.plain_traceback,
        sort_keys=False,
    )


def format_exception(exc_info: _ExceptionInfo) -> str:
    """Return the traceback of *exc_info*: code locations and types, and messages only where they hold no content.

    It never contains values of variables or notes. Causes come first, as Python prints them.
    """
    return "\n".join(_describe(exc_info[1], indent="", seen=set()))


def _describe(error: BaseException, *, indent: str, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _describe(before, indent=indent, seen=seen)
        yield f"{indent}which led to:"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'{indent}  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        if frame.line:
            yield f"{indent}    {frame.line}"
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    free = isinstance(error, OSError) or kind.__module__.partition(".")[0] in _SAFE_MESSAGES
    words = " ".join(str(error).split()) if free else ""
    yield f"{indent}{name}: {words}" if words else f"{indent}{name}"
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions, start=1):
            yield f"{indent}  {number} of {len(error.exceptions)}:"
            if id(member) not in seen:
                yield from _describe(member, indent=f"{indent}    ", seen=seen)


def _mask(secrets: Iterable[Secret]) -> Callable[[WrappedLogger, str, EventDict | str], str]:
    """Return the last processor, which sees whole lines and masks secrets wherever they appear."""
    hidden = [(secret.reveal(), str(secret)) for secret in secrets if secret.reveal()]

    def mask(_logger: WrappedLogger, _method: str, line: EventDict | str) -> str:
        text = str(line)
        for value, stars in hidden:
            text = text.replace(value, stars)
        return text

    return mask


def _escape(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Keep names and paths from acting on a terminal. JSON has them escaped already."""
    return {key: escaped(value) if isinstance(value, str) else value for key, value in line.items()}


_FIRST = ("reason", "problems", "error")
_LAST = ("action", "hint", "see")


def _reason_first(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Put why something failed first, and what happens next last."""
    between = sorted(name for name in line if name not in (*_FIRST, *_LAST))
    return {name: line[name] for name in (*_FIRST, *between, *_LAST) if name in line}


def _is_journal(stream: TextIO, journal: str) -> bool:
    """Whether systemd connected *stream* to its journal.

    The variable alone does not tell: programs started by a service inherit it, but may have other streams.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, io.UnsupportedOperation):
        return False
    return journal == f"{status.st_dev}:{status.st_ino}"
