"""The fork server: a process that has imported what workers need, and forks each of them.

So a worker costs a few hundredths of a second, in place of a whole one.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

__all__ = ["deaf", "start_method"]

_NEEDED = (
    "__main__",
    "distributed",
    "distributed.worker",
    "daemon.archiving.survey",
    "daemon.archiving.sending",
    "daemon.archiving.stem",
)
"""The modules that the server imports, in this order, before it forks a worker. What is not installed is left out."""
_SOCKET_NAME = 32
"""How many bytes the name of the server's socket is longer than that of the temporary folder."""
_LONGEST = 107
"""How many bytes the name of a socket may have."""
_SAFE_PATH = "PYTHONSAFEPATH"


def start_method() -> Literal["forkserver", "spawn"]:
    """Return how `multiprocessing` should start workers, and start the fork server if it takes one and has not begun.

    On other systems than Linux a process may not fork once it has used some of the system's libraries.
    """
    if sys.platform != "linux" or len(os.fsencode(tempfile.gettempdir())) + _SOCKET_NAME > _LONGEST:
        return "spawn"
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(_NEEDED))
    before = os.environ.get(_SAFE_PATH)
    # No module from the folder that this process happens to work in.
    os.environ[_SAFE_PATH] = "1"
    try:
        with deaf():
            multiprocessing.forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before
    return "forkserver"


@contextmanager
def deaf() -> Iterator[None]:
    """Let no thread or process that is started here get Ctrl-C: it is for the command, which ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
