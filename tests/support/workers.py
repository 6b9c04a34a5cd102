"""Workers that are threads of the tests' own process, so that they start at once."""

from __future__ import annotations

import socket
import threading

from daemon.parallel.worker import serve

__all__ = ["in_a_thread", "thread_for"]


def in_a_thread(connection: socket.socket) -> None:
    """Launch a worker."""
    thread_for(connection).start()


def thread_for(connection: socket.socket) -> threading.Thread:
    """Return a thread that serves the other end of *connection*, not started yet."""
    return threading.Thread(target=serve, args=(connection.dup(),), kwargs={"log": lambda _hear: None}, daemon=True)
