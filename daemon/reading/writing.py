"""Whether more will come in a log whose name tells its writer."""

from __future__ import annotations

import os
from functools import partial

from daemon.following.session_files import SessionFiles
from daemon.system import disk
from daemon.system.process import has_ended

__all__ = ["is_finished"]


def is_finished(files: SessionFiles) -> bool | None:
    """Return whether the writer of a session's log is done with it; None if nothing tells who that is.

    It is when its process has ended, or has begun another file: a process that runs for weeks, such as a proxy, fills
    many, and only goes on with its last one.
    """
    agent, main = files.agent, files.main
    writer = agent.writer(files.session)
    if writer is None:
        return None
    if has_ended(writer.pid, writer.started / 1000):
        return True
    if main is None:
        return False
    folder = main.rpartition("/")[0]
    try:
        names = disk.call(folder, partial(os.listdir, folder))
    except OSError:
        return False
    found = (agent.classify(f"{folder}/{name}") for name in names)
    others = (agent.writer(log.session) for log in found if log is not None and log.session is not None)
    return any(
        (other.pid, other.started) == (writer.pid, writer.started) and other.number > writer.number
        for other in others
        if other is not None
    )
