"""A process that has the list of prices, for programs that run for long: it takes 15 MB, and is rarely asked.

The process is started by the first question, and ends when it was not asked for a while. A question is a line, and so
is its answer.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

import msgspec

from daemon.system.command import same_python

__all__ = ["ListProcess", "serve"]

_IDLE_SECONDS = 5.0
"""A page asks many questions at once, or none for hours."""
_ANSWER_SECONDS = 10.0
"""How long an answer may take. The first one loads the list, which takes a fifth of a second."""


class ListProcess:
    """Asks the list in a process of its own. For any thread; a context manager that ends the process.

    Args:
        idle: seconds without a question after which the process ends.
        limit: seconds that an answer may take.
    """

    def __init__(self, *, idle: float = _IDLE_SECONDS, limit: float = _ANSWER_SECONDS) -> None:
        self._idle = idle
        self._limit = limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    def ask(self, question: str) -> bytes | None:
        """Return the answer to a question, both as JSON; None if the process cannot be used.

        Args:
            question: see `daemon.usage.prices.answer`.
        """
        with self._lock:
            if self._ending is not None:
                self._ending.cancel()
            waited = self._process is not None
            answer = self._exchange(question)
            if answer is None and waited:
                # Something may have ended the process while it waited: a system that is short of memory, for example.
                answer = self._exchange(question)
            if answer is not None:
                self._ending = threading.Timer(self._idle, self._end)
                self._ending.daemon = True
                self._ending.start()
        return answer

    def _exchange(self, question: str) -> bytes | None:
        """Ask the process, which is started if there is none, and ended if it does not answer."""
        limit = None
        try:
            if self._process is None:
                self._process = _start()
            limit = threading.Timer(self._limit, self._process.kill)
            limit.daemon = True
            limit.start()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(question.encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        finally:
            if limit is not None:
                limit.cancel()
        if answer.endswith(b"\n"):
            return answer
        self._stop()
        return None

    def _end(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # It writes nothing.
            process.kill()
            process.communicate()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the interpreter that runs this, and code from here
        same_python("from daemon.usage.list_process import serve; serve()"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A signal from the terminal is for the process that asks.
        start_new_session=True,
    )


def serve() -> None:
    """Answer the questions on standard input until it ends."""
    from daemon.usage.prices import answer  # noqa: PLC0415 - who asks this process needs nothing of it

    for question in sys.stdin.buffer:
        found = answer(msgspec.json.decode(question))
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
