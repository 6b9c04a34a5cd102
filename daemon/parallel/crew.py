"""The crew: the workers, which sessions each of them reads, and what has come back.

    begin(tasks)       what there is to read, in the order in which it counts
    take(number)       the next slices of one session, and of those behind it as far as they are there
    give_back(...)     what was taken and does not count yet
    drop(number)       a session that is read here after all

What counts first is read first: a worker has a few sessions at a time, in their order, and stops when it is too far
ahead. So memory is bounded, whatever there is to read. Sessions that may have lines in common go to the same worker.

Workers are killed when they are not needed any more. They write nothing, so that costs nothing. One that hangs is given
up before that, and its sessions are read here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import structlog

from daemon.parallel.wire import LENGTH, Setup, Slice, Task, decode_slices, encode_setup, encode_task
from daemon.system.command import same_python

__all__ = ["PATIENCE", "WORTHWHILE", "Crew", "Launch", "cores", "launch"]

_log = structlog.get_logger(__name__)

WORTHWHILE = 32 * 1024 * 1024
"""Bytes of logs for which a worker is worth its start: up to a third of a second of a processor."""
_MOST = 4
"""More workers than this make no more than one process can deliver."""
_AHEAD = 8 * 1024 * 1024
"""How many bytes of logs a worker may be told to read before any of it is taken. One session may be larger."""
_BUFFERED = 4 * 1024 * 1024
"""How many bytes of what came from a worker may wait to be taken, before it has to wait."""
_SHARED = 1.3
"""How much more there has to be to read than what one worker alone has to read."""
PATIENCE = 60.0
"""How long a worker that has something to read may say nothing, in seconds. Only one that hangs takes longer."""
_LOOKS = 4
"""How often to look for such a worker in that time."""
_ENDING_SECONDS = 0.5


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


Launch = Callable[[Sequence[socket.socket]], Sequence[subprocess.Popen[bytes]]]
"""Starts workers, one that listens to each of the given sockets. Returns processes, which end them all on SIGTERM.

It raises OSError if the system refuses it.
"""


def launch(connections: Sequence[socket.socket]) -> list[subprocess.Popen[bytes]]:
    """Start a worker for each of *connections*; see `Launch`.

    On Linux they are forked from one process, which has imported what they need. On other systems a process may not
    fork once it has used some of the system's libraries.
    """
    if sys.platform == "linux":
        return [_started(connections)]
    started: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for connection in connections:
            process = _started([connection])
            stack.callback(process.kill)
            started.append(process)
        stack.pop_all()
    return started


def _started(connections: Sequence[socket.socket]) -> subprocess.Popen[bytes]:
    descriptors = [connection.fileno() for connection in connections]
    return subprocess.Popen(  # noqa: S603 - the interpreter that runs this, and code from here
        same_python(f"from daemon.parallel.worker import main; main({descriptors})"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        # A signal from the terminal is for this process, which ends the workers.
        start_new_session=True,
    )


class _Session:
    """A task, and what has come of it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.worker: _Worker | None = None
        self.slices: deque[Slice] = deque()
        self.is_over = False
        self.has_failed = False


class _Worker(asyncio.BufferedProtocol):
    """One worker, and its end of the connection here.

    Attributes:
        sessions: what it was told to read and is not taken whole, by number and in this order.
        ahead: bytes of their logs.
        buffered: bytes of what it has sent and was not taken.
        groups: the groups of sessions that it has got one of.
        heard_at: since when it says nothing, by the steady clock, in seconds.
    """

    def __init__(self, crew: Crew) -> None:
        self.sessions: dict[int, _Session] = {}
        self.ahead = 0
        self.buffered = 0
        self.groups: set[str] = set()
        self.heard_at = time.monotonic()
        self._crew = crew
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._head = bytearray(LENGTH.size)
        self._body: bytearray | None = None
        self._view = memoryview(self._head)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._crew.lose(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = time.monotonic()
        self._view = self._view[nbytes:]
        if len(self._view):
            return
        if self._body is None:
            [size] = LENGTH.unpack(self._head)
            self._body = bytearray(size)
            self._view = memoryview(self._body)
            return
        body, self._body = self._body, None
        self._view = memoryview(self._head)
        self._crew.receive(self, decode_slices(body), len(body))

    def send(self, body: bytes) -> None:
        """Send a frame."""
        if self._transport is not None:
            self._transport.write(LENGTH.pack(len(body)) + body)

    def pace(self) -> None:
        """Let the worker wait while too much of it waits here."""
        if self._transport is None or self._transport.is_closing():
            return
        if self.buffered > _BUFFERED and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        elif self.buffered <= _BUFFERED and self._is_paused:
            self._is_paused = False
            self.heard_at = time.monotonic()
            self._transport.resume_reading()

    @property
    def owes(self) -> bool:
        """Whether it has something to read, and may tell what comes of it."""
        return not self._is_paused and any(not session.is_over for session in self.sessions.values())

    def end(self) -> None:
        """Let the worker end when it next has something to tell or to ask. One that hangs is killed with the others."""
        if self._transport is not None:
            self._transport.abort()


class Crew:
    """The workers of one run. Belongs to one event loop.

    Args:
        setup: what the workers go by.
        jobs: the most workers to have.
        launch: starts the workers.
        shared: how much more there has to be to read than what one worker alone has to read.
        patience: how long a worker that has something to read may say nothing, in seconds.

    Attributes:
        on_news: called when something has come from a worker.
    """

    def __init__(
        self,
        setup: Setup,
        jobs: int,
        *,
        launch: Launch = launch,
        shared: float = _SHARED,
        patience: float = PATIENCE,
    ) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self._setup = setup
        self._jobs = jobs
        self._launch = launch
        self._shared = shared
        self._patience = patience
        self._workers: list[_Worker] = []
        self._processes: Sequence[subprocess.Popen[bytes]] = ()
        self._left: deque[Task] = deque()
        self._numbers: set[int] = set()
        self._sessions: dict[int, _Session] = {}
        self._wake = asyncio.Event()
        self._next_look: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._has_begun = False

    @classmethod
    def wanted(cls, size: int, jobs: int | None) -> int:
        """Return how many workers to have for *size* bytes of logs; 0: it is read here.

        Args:
            size: bytes of logs.
            jobs: how many the user wants; None: as many as are worth it.
        """
        if jobs is None:
            jobs = min(cores(), _MOST, size // WORTHWHILE + 1 if size >= WORTHWHILE else 0)
        return jobs if jobs > 1 else 0

    def is_worth(self, tasks: Sequence[Task]) -> bool:
        """Whether workers are quicker with *tasks* than one process: not if one of them had to read most of it."""
        sizes = Counter[str]()
        for task in tasks:
            sizes[task.group] += task.size
        return sizes.total() >= self._shared * max(sizes.values(), default=1)

    async def begin(self, tasks: Sequence[Task]) -> None:
        """Give the workers what to read, in this order, after what they have. The first tasks start them."""
        self._left.extend(tasks)
        self._numbers.update(task.number for task in tasks)
        if tasks and not self._has_begun:
            self._has_begun = True
            await self._start(min(self._jobs, len({task.group for task in tasks})))
        if not self._workers:
            self._forget_left()
        self._feed()

    async def _start(self, number: int) -> None:
        setup = encode_setup(self._setup)
        pairs: list[tuple[socket.socket, socket.socket]] = []
        try:
            # If the system refuses one of them, those before it have to be closed.
            pairs.extend(socket.socketpair() for _ in range(number))
            self._processes = self._launch([there for _, there in pairs])
        except OSError as error:
            for here, _ in pairs:
                here.close()
            _log.warning("workers_not_started", reason=str(error), action="reading without them")
            return
        finally:
            for _, there in pairs:
                there.close()
        loop = asyncio.get_running_loop()
        for here, _ in pairs:
            _, worker = await loop.create_connection(lambda: _Worker(self), sock=here)
            worker.send(setup)
            self._workers.append(worker)
        self._look_later()

    def _look_later(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(self._patience / _LOOKS, self._look_for_silent)

    def _look_for_silent(self) -> None:
        """Give up the workers that owe something and have said nothing for too long: nobody may be waiting for them."""
        silent_since = time.monotonic() - self._patience
        for worker in [each for each in self._workers if each.owes and each.heard_at < silent_since]:
            self.lose(worker)
        if self._workers:
            self._look_later()

    def __contains__(self, number: int) -> bool:
        """Whether a worker reads a task, or will."""
        return number in self._numbers

    def _feed(self) -> None:
        while self._left and self._workers:
            task = self._left[0]
            if task.number not in self._numbers:
                self._left.popleft()
                continue
            worker = next((each for each in self._workers if not task.alone and task.group in each.groups), None)
            worker = worker or min(self._workers, key=lambda each: each.ahead)
            if worker.ahead and worker.ahead + task.size > _AHEAD:
                return
            self._left.popleft()
            if not worker.owes:
                worker.heard_at = time.monotonic()
            session = self._sessions[task.number] = _Session(task)
            session.worker = worker
            worker.sessions[task.number] = session
            worker.ahead += task.size
            if not task.alone:
                worker.groups.add(task.group)
            worker.send(encode_task(task))

    def receive(self, worker: _Worker, slices: Sequence[Slice], size: int) -> None:
        """Take what came from a worker in a frame of *size* bytes."""
        share = size // max(1, len(slices))
        for part in slices:
            session = worker.sessions.get(part.number)
            if session is None or session.is_over:
                # It was dropped, or has failed already.
                continue
            part.size = share
            worker.buffered += share
            session.slices.append(part)
            session.has_failed = session.has_failed or part.failed
            session.is_over = part.failed or not part.progress.more
        worker.pace()
        self._tell()

    def _tell(self) -> None:
        self._wake.set()
        self.on_news()

    def lose(self, worker: _Worker) -> None:
        """Note that a worker is gone or hangs: what it has not finished is read here."""
        if self._is_closing or worker not in self._workers:
            return
        _log.warning("worker_lost", action="its sessions are read without it; nothing is lost")
        self._workers.remove(worker)
        worker.end()
        for session in worker.sessions.values():
            if not session.is_over:
                session.has_failed = session.is_over = True
                session.slices.append(Slice(number=session.task.number, failed=True))
        if not self._workers:
            self._forget_left()
        self._feed()
        self._tell()

    def _forget_left(self) -> None:
        self._numbers.difference_update(task.number for task in self._left)
        self._left.clear()

    def is_ready(self, number: int) -> bool:
        """Whether `take` returns at once."""
        session = self._sessions.get(number)
        if session is None or session.slices:
            return True
        return session.worker is None or next(iter(session.worker.sessions)) != number

    async def take(self, number: int, most: int) -> list[Slice]:
        """Wait for slices of a task, and return them, with those of the tasks behind it as far as they are there.

        Args:
            number: the number of the task.
            most: about how many bytes to return.

        Returns:
            Slices in their order. Empty: this one is not read by a worker.
        """
        while True:
            session = self._sessions.get(number)
            if session is None:
                # What is before it is not wanted now, so that no worker was told to read it.
                self.drop(number)
                return []
            if session.slices:
                break
            worker = session.worker
            assert worker is not None
            if next(iter(worker.sessions)) != number:
                # What the worker reads first is not wanted now, so that it may never come to this one.
                self.drop(number)
                return []
            self._wake.clear()
            await self._wake.wait()
        found: list[Slice] = []
        size = 0
        while session is not None and session.slices and size < most:
            while session.slices and size < most:
                part = session.slices.popleft()
                size += part.size
                found.append(part)
                if session.worker is not None:
                    session.worker.buffered -= part.size
            if not session.is_over or session.slices:
                break
            session = self._sessions.get(session.task.number + 1)
        self._pace()
        return found

    def give_back(self, slices: Sequence[Slice]) -> None:
        """Put slices back that were taken and not used."""
        for part in reversed(slices):
            session = self._sessions.get(part.number)
            if session is not None:
                session.slices.appendleft(part)
                if session.worker is not None:
                    session.worker.buffered += part.size

    def task(self, number: int) -> Task:
        """Return a task that is being read."""
        return self._sessions[number].task

    def drop(self, number: int) -> None:
        """Forget a task: it is read to its end, or it is read here after all."""
        self._numbers.discard(number)
        session = self._sessions.pop(number, None)
        if session is not None and session.worker is not None:
            worker = session.worker
            worker.sessions.pop(number, None)
            worker.ahead -= session.task.size
            worker.buffered -= sum(part.size for part in session.slices)
        self._feed()
        self._pace()

    def _pace(self) -> None:
        for worker in self._workers:
            worker.pace()

    def close(self) -> None:
        """End the workers. Nothing more is read by them."""
        self._is_closing = True
        if self._next_look is not None:
            self._next_look.cancel()
        for worker in self._workers:
            worker.end()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            # A worker that hangs in a system call ends when that returns.
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING_SECONDS)
        self._workers.clear()
        self._sessions.clear()
        self._numbers.clear()
        self._left.clear()
