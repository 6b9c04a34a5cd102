"""The state directory: the name of everything in it, and how to remove it.

    daemon.lock              held by the running daemon
    state.db                 offsets, settled identities, owed traces, routes; with SQLite's files beside it
    store-exists             tells a lost store from a first start
    status.json              what the running daemon tells `status`
    backfill-request.json    what `backfill` asks of the running daemon
    backfill-report.json     how far the daemon is with it
    executions/              a file and a lock for each command that `exec` runs
    local/                   a state directory of its own for the local sink, with its events in events.db

Existing state directories use these names: a changed one needs a migration.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = [
    "BACKFILL_REPORT",
    "BACKFILL_REQUEST",
    "EVENTS",
    "EXECUTIONS",
    "HEALTH",
    "LOCAL",
    "LOCK",
    "STORE",
    "STORE_MARKER",
    "events_path",
    "local_folder",
    "remove_state",
]

LOCK = "daemon.lock"
STORE = "state.db"
STORE_MARKER = "store-exists"
HEALTH = "status.json"
BACKFILL_REQUEST = "backfill-request.json"
BACKFILL_REPORT = "backfill-report.json"
EXECUTIONS = "executions"
LOCAL = "local"
EVENTS = "events.db"

# Files are removed by name: a user may have chosen a folder that holds other things as the state directory. Names that
# begin with a dot are those of files that were being written when the machine went down.
_FILES = (
    LOCK,
    STORE_MARKER,
    HEALTH,
    f".{HEALTH}.*",
    f"{STORE}*",
    f"{EVENTS}*",
    *(pattern for name in (BACKFILL_REQUEST, BACKFILL_REPORT) for pattern in (name, f".{name}.*")),
)
_EXECUTION_FILES = ("*.json", ".*.json.*", "*.lock")


def local_folder(state_dir: Path) -> Path:
    """Return the state directory of the local sink."""
    return state_dir / LOCAL


def events_path(state_dir: Path) -> Path:
    """Return where the local sink keeps its events."""
    return local_folder(state_dir) / EVENTS


def remove_state(state_dir: Path) -> list[Path]:
    """Remove the daemon's files from *state_dir*, and the folder itself once it is empty.

    No daemon may be running on it.

    Returns:
        Everything else that is in the folder.

    Raises:
        OSError: the system refuses.
    """
    for folder, names in (
        (local_folder(state_dir), _FILES),
        (state_dir / EXECUTIONS, _EXECUTION_FILES),
        (state_dir, _FILES),
    ):
        for path in list(_matching(folder, names)):
            path.unlink()
        with contextlib.suppress(OSError):  # the folder does not exist, or holds files that are not the daemon's
            folder.rmdir()
    return sorted(state_dir.iterdir()) if state_dir.is_dir() else []


def _matching(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if any(fnmatch.fnmatch(path.name, name) for name in names) and not path.is_dir():
            yield path
