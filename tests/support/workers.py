"""Workers that are threads of the tests' own process, so that they start at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

from daemon.parallel.worker import serve

__all__ = ["in_threads", "thread_for"]


def in_threads(connections: Sequence[socket.socket]) -> tuple[()]:
    """Launch workers."""
    for connection in connections:
        thread_for(connection).start()
    return ()


def thread_for(connection: socket.socket) -> threading.Thread:
    """Return a thread that serves the other end of *connection*, not started yet."""
    return threading.Thread(target=serve, args=(connection.dup(),), kwargs={"log": lambda _hear: None}, daemon=True)
