"""The files of the state directory, for whoever wants them gone."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from daemon.executions import FOLDER
from daemon.health import HEALTH_FILE
from daemon.lock import LOCK_NAME

__all__ = ["remove_state"]

# By name and not by place: a user may have made a folder of other things the state directory.
_OURS = (LOCK_NAME, HEALTH_FILE, f".{HEALTH_FILE}.*", "store-exists", "state.db*", "events.db*", "backfill-*.json")
_LOCAL = "local"
# With those that somebody was writing when the machine went down.
_WORDS = ("*.json", ".*.json.*", "*.lock")


def remove_state(state_dir: Path) -> list[Path]:
    """Remove the daemon's files from *state_dir*, and the folder when nothing else is in it; return what is left there.

    No daemon may run on it.

    Raises:
        OSError: the system refuses.
    """
    for folder, names in ((state_dir / _LOCAL, _OURS), (state_dir / FOLDER, _WORDS), (state_dir, _OURS)):
        for path in list(_matching(folder, names)):
            path.unlink()
        with contextlib.suppress(OSError):  # there is no such folder, or something of somebody's is in it
            folder.rmdir()
    return sorted(state_dir.iterdir()) if state_dir.is_dir() else []


def _matching(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if any(fnmatch.fnmatch(path.name, name) for name in names) and not path.is_dir():
            yield path
