"""What `run` tells people on a terminal: one line that counts, below the log."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from typing import TYPE_CHECKING, TextIO

import msgspec

from daemon.system.figures import count, printable
from llma_core.view import read

if TYPE_CHECKING:
    from daemon.delivering.delivery import EventOutcome

__all__ = ["Ticker", "ticking"]

_CLEAR = "\r\x1b[K"
_COLUMNS = 80
_LONGEST_TITLE = 200


class Ticker(io.TextIOBase):
    """A terminal, with a last line that counts the events sent and shows the newest session's title.

    What is written goes above that line. A terminal that hangs up costs nothing but the words.

    Args:
        terminal: the terminal.
        counts: whether it can draw the line anew.
    """

    encoding = "utf-8"

    def __init__(self, terminal: TextIO, *, counts: bool) -> None:
        self._terminal = terminal
        self._counts = counts
        self._begun = False
        self._sent = 0
        self._refused = 0
        self._title = ""
        self._shown = False
        self._in_line = False

    def isatty(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the terminal's descriptor."""
        return self._terminal.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write *text* above the last line."""
        self._put((_CLEAR if self._shown else "") + text)
        self._shown = False
        self._in_line = not text.endswith("\n") if text else self._in_line
        self._draw()
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with suppress(OSError, ValueError):
            self._terminal.flush()

    def watch(self, outcomes: Sequence[EventOutcome]) -> None:
        """Count *outcomes*, and take the title from the last event that has one."""
        delivered = [outcome for outcome in outcomes if outcome.outcome == "delivered"]
        self._sent += len(delivered)
        self._refused += len(outcomes) - len(delivered)
        for outcome in reversed(delivered):
            with suppress(msgspec.MsgspecError):
                view = read(outcome.event.body)
                if title := view.trace_name or view.session_id:
                    self._title = printable(title, _LONGEST_TITLE)
                    break
        self._draw()

    def begin(self) -> None:
        """Show the last line from now on."""
        self._begun = True
        self._draw()

    def finish(self) -> None:
        """Replace the last line with one that stays."""
        if not self._begun:
            return
        if self._shown:
            self._put(_CLEAR)
            self._shown = False
        self._begun = False
        self.write(f"{self._line()}\n")

    def _line(self) -> str:
        refused = f", {self._refused:,} refused (`status --rejected` lists them)" if self._refused else ""
        title = f" | {self._title}" if self._title else ""
        return f"sent {count(self._sent, 'event')}{refused}{title}"

    def _draw(self) -> None:
        if not (self._counts and self._begun) or self._in_line:
            return
        try:
            columns = os.get_terminal_size(self.fileno()).columns or _COLUMNS
        except OSError:
            columns = _COLUMNS
        self._put(_CLEAR + printable(self._line(), columns - 1))
        self._shown = True

    def _put(self, text: str) -> None:
        # A terminal that has hung up takes nothing; the daemon is about to end then.
        with suppress(OSError, ValueError):
            self._terminal.write(text)
            self._terminal.flush()


@contextmanager
def ticking(log_format: str | None) -> Iterator[Ticker | None]:
    """Make standard error a ticker if people read it: on a terminal, unless the log is asked for as JSON."""
    if not sys.stderr.isatty() or log_format == "json":
        yield None
        return
    ticker = Ticker(sys.stderr, counts=os.environ.get("TERM", "dumb") != "dumb")
    with redirect_stderr(ticker):
        try:
            yield ticker
        finally:
            ticker.finish()
