"""Which span the running code is in.

Each thread and each task has a context of its own (`contextvars`), so what runs beside it is never taken for what is
around it. Generators have none: one that yields inside a span would leave its span to whoever iterates. So a span that
was entered in a generator counts only while that generator runs, unless the generator is the body of a context manager,
which yields in order to lend its span.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from types import FrameType

__all__ = ["Scope", "enclosing", "enter"]

_GENERATOR = 0x20 | 0x200
"""The flags of the code of generators and of asynchronous generators (inspect.CO_GENERATOR, CO_ASYNC_GENERATOR)."""


class Scope:
    """A span that is open, as the code within it sees it.

    Args:
        trace: the id of the trace that it belongs to.
        span_id: its id.
        frame: the generator that it was entered in; None if it was not entered in one.
    """

    __slots__ = ("_frame", "_home", "_outer", "is_ended", "span_id", "trace")

    def __init__(self, trace: str, span_id: str, frame: FrameType | None = None) -> None:
        self.trace = trace
        self.span_id = span_id
        self.is_ended = False
        self._frame = frame
        self._home = _home() if frame is not None else None
        self._outer = _nearest(_current.get())

    def is_around(self) -> bool:
        """Whether the running code is inside."""
        frame = self._frame
        # A suspended generator has no caller. What was started from inside it has its own copy of the context.
        return not self.is_ended and (frame is None or frame.f_back is not None or _home() != self._home)

    def outer(self) -> Scope | None:
        """Return the nearest open scope around it."""
        self._outer = _nearest(self._outer)
        return self._outer

    def end(self) -> None:
        """Leave the scope, wherever that happens."""
        self.is_ended = True
        self._frame = self._home = None
        outer = self.outer()
        # Another context has its own idea of what is current, and so has a generator that ends late.
        if _current.get() is self:
            _current.set(outer)


_current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("llma_recorder_scope", default=None)


def enter(trace: str, span_id: str, frame: FrameType | None) -> Scope:
    """Enter a scope and return it.

    Args:
        trace: the id of the trace that it belongs to.
        span_id: its id.
        frame: the frame whose `with` statement enters it.
    """
    scope = Scope(trace, span_id, frame if frame is not None and _yields_to_strangers(frame) else None)
    _current.set(scope)
    return scope


def enclosing(trace: str) -> str | None:
    """Return the id of the innermost span of *trace* around the running code; None if there is none."""
    scope = _current.get()
    while scope is not None:
        if scope.trace == trace and scope.is_around():
            return scope.span_id
        scope = scope.outer()
    return None


def _nearest(scope: Scope | None) -> Scope | None:
    while scope is not None and scope.is_ended:
        scope = scope._outer  # noqa: SLF001 -- of the same class; ended ones are skipped here and nowhere else
    return scope


def _yields_to_strangers(frame: FrameType) -> bool:
    if not frame.f_code.co_flags & _GENERATOR:
        return False
    caller = frame.f_back
    return caller is None or caller.f_code.co_filename != contextlib.__file__


def _home() -> tuple[int, object]:
    """Return the running thread and, if there is one, its running task."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None:
        with contextlib.suppress(RuntimeError):  # no event loop runs in this thread
            task = asyncio.current_task()
    return threading.get_ident(), task
