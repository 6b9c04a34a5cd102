"""Asks the disk without waiting forever: a folder on a dead network file system answers no call at all.

A system call that hangs cannot be ended, so each is made in a thread that can be left behind:

    status = disk.call(folder, partial(os.lstat, path))

`call` waits as long as the work gets on. When one step of it takes too long, its folder counts as hanging: `call`
raises `Unanswered`, and every further call there raises it at once, until the thread comes back. So a hanging folder
costs one wait and one thread. The threads are daemon threads: none of them keeps the process alive.

Work that takes several steps says before each where it goes on, with `at`. It must change nothing but what it returns:
after `Unanswered` nobody waits for it, but it may go on at any time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

import structlog

__all__ = ["LOOP_PATIENCE", "PATIENCE", "Unanswered", "at", "call", "hanging", "is_folder", "rely_on_others"]

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

PATIENCE = 5.0
"""How long one step may take, in seconds."""
LOOP_PATIENCE = 2.0
"""The same in the thread of an event loop, where everything else waits meanwhile."""


class Unanswered(OSError):  # noqa: N818 - an OSError like PermissionError: the name says what happened
    """A folder does not answer. Nothing is known about what is in it. `filename` is the folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(errno.ETIMEDOUT, "the folder does not answer", folder)


class _Job:
    """Work in a thread.

    Attributes:
        place: where it is now: a folder, or a name that is no path.
        since: when its present step began, in seconds of the steady clock.
        is_done: whether it has returned, or raised.
        done: locked until then. A bare lock, because a read waits for several: waking up an `Event` costs more.
        left: whether nobody waits for it any more.
    """

    __slots__ = ("done", "error", "is_done", "left", "place", "result", "since", "work")

    def __init__(self, place: str, work: Callable[[], object]) -> None:
        self.place = place
        self.work = work
        self.since = time.monotonic()
        self.is_done = False
        self.done = threading.Lock()
        self.done.acquire()
        self.left = False
        self.result: object = None
        self.error: BaseException | None = None


class _Present(threading.local):
    """The job that the present thread does; None in a thread that does none."""

    job: _Job | None = None


_present = _Present()
_lock = threading.Lock()
_hanging: dict[str, _Job] = {}
_idle: list[queue.SimpleQueue[_Job]] = []


def call(folder: str, work: Callable[[], _T], *, patience: float | None = None) -> _T:
    """Do *work* and return what it returns.

    Args:
        folder: where it begins: a folder, or a name that is no path, which hangs for itself.
        work: changes nothing but what it returns.
        patience: how long one step may take, in seconds; None for as long as is right in this thread.

    Raises:
        Unanswered: the folder, or another that *work* came to, does not answer.
        Exception: what *work* raises.
    """
    if _present.job is not None:
        # Work that is done already in a thread that can be left behind.
        at(folder)
        return work()
    _refuse(folder)
    job = _Job(folder, work)
    with _lock:
        jobs = _idle.pop() if _idle else None
    if jobs is None:
        jobs = queue.SimpleQueue()
        threading.Thread(target=_work, args=(jobs,), name="disk", daemon=True).start()
    jobs.put(job)
    if patience is None:
        patience = LOOP_PATIENCE if _in_event_loop() else PATIENCE
    while not job.done.acquire(timeout=max(0.01, job.since + patience - time.monotonic())):
        with _lock:
            if job.is_done or time.monotonic() < job.since + patience:
                continue
            job.left = True
            place = job.place
            _hanging[place] = job
        _log.warning("folder_hangs", path=place, action="leaving it out until it answers; nothing is lost")
        raise Unanswered(place)
    with _lock:
        _idle.append(jobs)
    if job.error is not None:
        raise job.error
    return cast("_T", job.result)


def at(folder: str) -> None:
    """Note that the present work goes on in *folder*.

    Raises:
        Unanswered: it does not answer, as is known already; or nobody waits for the work any more.
    """
    job = _present.job
    if job is not None:
        with _lock:
            if job.left:
                raise Unanswered(job.place)
            job.place, job.since = folder, time.monotonic()
    _refuse(folder)


def rely_on_others() -> None:
    """Let the present thread do all its work itself from now on: somebody else leaves it behind if that hangs."""
    _present.job = _Job("", lambda: None)


def is_folder(path: str) -> bool:
    """Whether there is a folder at *path*, or a link to one, that answers."""
    try:
        return call(path, partial(os.path.isdir, path))
    except Unanswered:
        return False


def hanging() -> list[str]:
    """Return the folders that do not answer at the moment."""
    with _lock:
        return sorted(place for place in _hanging if place.startswith("/"))


def _refuse(folder: str) -> None:
    if not _hanging:
        return
    with _lock:
        for place in _hanging:
            if folder == place or folder.startswith(f"{place}/"):
                raise Unanswered(place)


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    # Signals belong to the threads that wait for them; one that came here would end the process, or be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        job = jobs.get()
        _present.job = job
        try:
            job.result = job.work()
        except BaseException as error:  # noqa: BLE001 - raised again where the work is waited for
            job.error = error
        _present.job = None
        with _lock:
            job.is_done = True
            job.done.release()
            left, place = job.left, job.place
            if left:
                _hanging.pop(place, None)
        if left:
            _log.info("folder_answers_again", path=place)
            return
        # What it returned belongs to who waited for it.
        del job


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _forget_threads() -> None:
    """Begin anew in a forked process, which has none of the threads."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _hanging.clear()
    _idle.clear()


os.register_at_fork(after_in_child=_forget_threads)
