"""The file marks that a store would return."""

from __future__ import annotations

from daemon.following.tailer import Marks
from daemon.state.rows import FileMark

__all__ = ["known"]


def known(*marks: FileMark) -> Marks:
    """Return what tells each of *marks* of the file it was made of."""
    return {(mark.device, mark.inode): mark for mark in marks}.get
