"""A worker: reads the sessions it is told to, and tells what came of them, until nobody listens any more.

It writes no file and has no store. It is nice, so that whatever else runs on the machine comes first.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import structlog
from structlog.types import Processor

from daemon.config.restraint import Restraint
from daemon.following.log_roots import agent_named
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Identity
from daemon.parallel.assumed import AssumedClaims, Unknowable
from daemon.parallel.wire import LENGTH, Said, Setup, Slice, Task, decode_setup, decode_task, encode_slices
from daemon.reading.pipeline import Pipeline
from daemon.state.rows import FileMark, Owed
from daemon.system import disk
from daemon.system.forking import get_ready
from llma_core import __version__

__all__ = ["Sessions", "main", "serve"]

_NICE = 5
_FRAME_BYTES = 512 * 1024
"""A frame is sent when its events have this many bytes, or nothing more is to be read at the moment."""
_GROUPS = 100
"""Of how many groups of sessions with lines in common the worker remembers what it has read."""


class Sessions:
    """Reads sessions, each as a task.

    Args:
        setup: what to go by.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._routing = setup.routing()
        self._groups: dict[str, tuple[AssumedClaims, dict[str, Restraint]]] = {}
        self._said: list[Said] = []

    def hear(self, _logger: object, level: str, line: MutableMapping[str, Any]) -> NoReturn:
        """Keep a log line for the process that has the log; a processor of structlog.

        Raises:
            structlog.DropEvent: always.
        """
        event = str(line.pop("event", ""))
        plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in line.items()}
        self._said.append(Said(level, event, plain))
        raise structlog.DropEvent

    def read(self, task: Task) -> Iterator[Slice]:
        """Read a session and yield what each slice of it came to. The last one has nothing more, or has failed."""
        claims, restraints = self._group(task)
        try:
            yield from self._slices(task, claims, restraints)
        except Exception:  # noqa: BLE001 - whatever it is, the other process finds out when it reads the session itself
            claims.facts()
            self._said.clear()
            yield Slice(number=task.number, failed=True)

    def _group(self, task: Task) -> tuple[AssumedClaims, dict[str, Restraint]]:
        if task.alone:
            return AssumedClaims(), {}
        group = self._groups.pop(task.group, None) or (AssumedClaims(), {})
        if len(self._groups) >= _GROUPS:
            del self._groups[next(iter(self._groups))]
        self._groups[task.group] = group
        return group

    def _slices(self, task: Task, claims: AssumedClaims, restraints: dict[str, Restraint]) -> Iterator[Slice]:
        marks = {(mark.device, mark.inode): mark for mark in task.marks}
        neighbors: list[str] = []
        relied_on: list[str] = []
        owed: dict[Owed, None] = {}

        def mark(identity: Identity) -> FileMark | None:
            if task.again and identity not in marks:
                raise Unknowable(task.name)
            return marks.get(identity)

        def has_main(session: str) -> bool:
            neighbors.append(session)
            return False

        def restraint_of(unit: str) -> Restraint:
            if unit not in restraints:
                raise Unknowable(unit)
            relied_on.append(unit)
            return restraints[unit]

        files = SessionFiles(
            name=task.name,
            folder=task.folder,
            agent=agent_named(task.agent),
            mains=task.mains,
            agents=task.agents,
            metas=task.metas,
            continued=task.continued,
        )
        pipeline = Pipeline(
            files,
            claims=claims,
            routing=self._routing,
            marks=mark,
            # As if all that was found so far were settled.
            owed=lambda: tuple(owed),
            restraint_of=restraint_of,
            again=task.again,
            has_main=has_main,
            is_visited=lambda: task.is_visited,
            line_bytes=self._setup.line_bytes,
        )
        more, index = True, -1
        while more:
            index += 1
            progress = pipeline.advance(0.0, self._setup.slice_bytes, last=True)
            more = progress.more
            for emission in progress.emissions:
                owed.update(dict.fromkeys(emission.owes))
                if emission.pays is not None:
                    owed.pop(emission.pays, None)
            route = pipeline.route
            restraints[task.name] = pipeline.restraint
            said, self._said = self._said, []
            yield Slice(
                number=task.number,
                index=index,
                progress=progress,
                facts=claims.facts(),
                tails={file: tail.state() for file, tail in pipeline.tails.items()},
                files=pipeline.opened,
                needed=pipeline.needed_from(),
                originals=sorted(pipeline.originals),
                neighbors=neighbors,
                relied_on=relied_on,
                has_repeats=pipeline.has_repeats,
                frozen=pipeline.frozen,
                route=(route.host, route.key.reveal()) if route is not None else None,
                restraint=pipeline.restraint,
                warnings=pipeline.warnings,
                first_cwd=pipeline.first_cwd,
                idle=pipeline.idle,
                said=said,
            )


class _Line:
    """The connection to the process that started this one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self) -> bytes:
        """Return the next frame's body.

        Raises:
            EOFError: nothing more will come.
        """
        [size] = LENGTH.unpack(self._exactly(LENGTH.size))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        found = bytearray(size)
        view, left = memoryview(found), size
        while left:
            number = self._connection.recv_into(view[size - left :])
            if not number:
                raise EOFError
            left -= number
        return bytes(found)

    @property
    def has_some(self) -> bool:
        """Whether something has come that was not received yet."""
        return bool(select.select([self._connection], [], [], 0)[0])

    def send(self, slices: list[Slice]) -> None:
        """Send a frame. What cannot be put into one has failed."""
        if not slices:
            return
        try:
            body = encode_slices(slices)
        except Exception:  # noqa: BLE001 - texts that are no Unicode, and whatever else the format does not know
            failed = dict.fromkeys(part.number for part in slices)
            body = encode_slices([Slice(number=number, failed=True) for number in failed])
        self._connection.sendall(LENGTH.pack(len(body)))
        self._connection.sendall(body)


def main(descriptors: Sequence[int]) -> None:
    """Read, as a process of its own, for whoever holds the other end of a socket, until that is closed.

    For several sockets, fork a worker for each of them, and end when they have ended. SIGTERM ends them at once.

    Args:
        descriptors: those of the ends of the sockets that are used here.
    """
    os.nice(_NICE)
    get_ready()
    if len(descriptors) == 1:
        _work(descriptors[0])
        return
    workers: set[int] = set()

    def end(_number: int, _frame: object) -> None:
        for worker in workers:
            # The signal may come when one has just been waited for.
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for descriptor in descriptors:
        worker = os.fork()
        if not worker:
            # Were the ends of the others open in here, too, these would not see that theirs are closed.
            for other in descriptors:
                if other != descriptor:
                    os.close(other)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            try:
                _work(descriptor)
            finally:
                os._exit(0)
        workers.add(worker)
    for descriptor in descriptors:
        os.close(descriptor)
    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    while workers:
        worker, _ = os.wait()
        workers.discard(worker)


def _work(descriptor: int) -> None:
    serve(
        socket.socket(fileno=descriptor),
        log=lambda hear: structlog.configure(processors=[hear], cache_logger_on_first_use=False),
    )


def serve(connection: socket.socket, *, log: Callable[[Processor], None]) -> None:
    """Read what is asked for on *connection*, until its other end is closed. For another version, do nothing.

    Args:
        connection: the connection, which is closed in the end.
        log: called with the processor that has to get all log lines.
    """
    # The other process does not wait forever for what this one reads.
    disk.rely_on_others()
    with connection, suppress(EOFError, OSError):
        line = _Line(connection)
        setup = decode_setup(line.receive())
        if setup.version != __version__:
            return
        sessions = Sessions(setup)
        log(sessions.hear)
        waiting: list[Slice] = []
        size = 0
        while True:
            if not line.has_some:
                line.send(waiting)
                waiting, size = [], 0
            for part in sessions.read(decode_task(line.receive())):
                waiting.append(part)
                size += sum([len(each.event.body) for each in part.progress.emissions if each.event is not None])
                if size >= _FRAME_BYTES:
                    line.send(waiting)
                    waiting, size = [], 0
