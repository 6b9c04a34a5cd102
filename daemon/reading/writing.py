"""Whether more will come in a log whose name tells its writer."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial

from daemon.following.session_files import SessionFiles
from daemon.system import disk
from daemon.system.process import has_ended
from llma_core.agent import Writer

__all__ = ["finished", "is_finished"]


def is_finished(files: SessionFiles) -> bool | None:
    """Return whether the writer of a session's log is done with it; None if nothing tells who that is.

    It is when its process has ended, or has begun another file: a process that runs for weeks, such as a proxy, fills
    many, and only goes on with its last one.
    """
    writer = files.agent.writer(files.session)
    if writer is None:
        return None
    if has_ended(writer.pid, writer.started / 1000):
        return True
    if files.main is None:
        return False
    folder = _folder(files)
    try:
        names = disk.call(folder, partial(os.listdir, folder))
    except OSError:
        return False
    found = (files.agent.classify(f"{folder}/{name}") for name in names)
    others = (files.agent.writer(log.session) for log in found if log is not None and log.session is not None)
    return any(_process(other) == _process(writer) and other.number > writer.number for other in others if other)


def finished(sessions: Collection[SessionFiles]) -> list[SessionFiles]:
    """Return those of all such sessions whose writer is known, and done with them."""
    writers = [(files, writer) for files in sessions if (writer := files.agent.writer(files.session)) is not None]
    last: dict[tuple[str, int, int], int] = {}
    for files, writer in writers:
        of = (_folder(files), *_process(writer))
        last[of] = max(writer.number, last.get(of, 0))
    return [
        files
        for files, writer in writers
        if last[_folder(files), *_process(writer)] > writer.number or has_ended(writer.pid, writer.started / 1000)
    ]


def _process(writer: Writer) -> tuple[int, int]:
    """Return which process it is, as the names of its files tell."""
    return writer.pid, writer.started


def _folder(files: SessionFiles) -> str:
    return (files.main or "").rpartition("/")[0]
