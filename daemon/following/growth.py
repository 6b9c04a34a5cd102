"""Whether any log has grown: one quick look at all of them, which remembers nothing.

It costs a fraction of what following logs does: no session is sorted, and no file is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daemon.following.log_roots import LogRoot
from daemon.following.log_tree import project_files, project_folders
from daemon.following.tailer import Identity
from daemon.system import disk

__all__ = ["has_grown"]


def has_grown(roots: Sequence[LogRoot], is_settled: Callable[[Identity, int], bool], *, since: int = 0) -> bool:
    """Whether a log may hold something that is not settled; also if a folder cannot be listed, or does not answer.

    Args:
        roots: the folders with the logs.
        is_settled: returns whether a file is settled to its end, by its device and inode and its size in bytes.
        since: look only at logs that were written to since then, in nanoseconds since the epoch. What programs have
            recorded counts whenever it was written, as it may say something of any session.
    """
    try:
        # In one step: a change of the thread for each folder would take longer than the look.
        return disk.call("a look for growth", lambda: _has_grown(roots, is_settled, since))
    except disk.Unanswered:
        return True


def _has_grown(roots: Sequence[LogRoot], is_settled: Callable[[Identity, int], bool], since: int) -> bool:
    unlisted: list[str] = []

    def note(folder: str, _error: OSError) -> None:
        unlisted.append(folder)

    for root in roots:
        agent = root.agent
        begin = 0 if agent.is_spool else since
        for project in project_folders(root, note):
            for path, status in project_files(agent, project, on_unlisted=note):
                if (
                    status.st_mtime_ns >= begin
                    and path.endswith(agent.log_suffix)
                    and not is_settled((status.st_dev, status.st_ino), status.st_size)
                ):
                    return True
    return bool(unlisted)
