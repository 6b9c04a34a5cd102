"""The state directory: the name of every file in it, and how to remove them.

    daemon.lock              the lock of the running daemon, or of another command, and who holds it
    state.db                 the store: offsets, settled identities, owed traces, routes
    state.db.corrupt-TIME    a damaged store that was set aside, with the time in seconds since the epoch
    store-exists             tells a lost store from a first start
    status.json              what the running daemon reports to `status`
    backfill-request.json    what `backfill` asks the running daemon to do
    backfill-report.json     the daemon's progress with that
    verification.json        what the last `verify` found
    executions/              a file (.json) and a lock (.lock) for each command that `exec` runs
    outbox/                  what programs record for the daemon: a file for each process, removed when it is delivered;
                             and a folder with such files for each command that `exec` runs
    receipts/                which events that programs recorded were sent: a file for each day, for `verify`
    archive/                 what `archive` has settled, in manifest.db, and a lock of its own
    local/                   a separate state directory for the local sink, with its events in events.db, and
                             what the list of prices has answered in prices.json

Next to a database, SQLite keeps files with the suffixes -wal and -shm. A .json file is written to a temporary file
first (.NAME.json.*), which stays behind if the machine goes down. Existing state directories use these names, so a new
name needs a migration.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from daemon.system.private_file import temporary_prefix

__all__ = [
    "ARCHIVE",
    "BACKFILL_REPORT",
    "BACKFILL_REQUEST",
    "EVENTS",
    "EXECUTIONS",
    "HEALTH",
    "LOCAL",
    "LOCK",
    "MANIFEST",
    "OUTBOX",
    "PRICES",
    "RECEIPT_SUFFIX",
    "SQLITE_SUFFIXES",
    "STORE",
    "STORE_MARKER",
    "VERIFICATION",
    "archive_folder",
    "corrupt_store",
    "events_path",
    "forget_store",
    "local_folder",
    "make_outbox",
    "outbox_folder",
    "prices_path",
    "receipts_folder",
    "remove_state",
]

LOCK = "daemon.lock"
STORE = "state.db"
STORE_MARKER = "store-exists"
HEALTH = "status.json"
BACKFILL_REQUEST = "backfill-request.json"
BACKFILL_REPORT = "backfill-report.json"
VERIFICATION = "verification.json"
EXECUTIONS = "executions"
ARCHIVE = "archive"
MANIFEST = "manifest.db"
LOCAL = "local"
OUTBOX = "outbox"
EVENTS = "events.db"
PRICES = "prices.json"
RECEIPTS = "receipts"
RECEIPT_SUFFIX = ".jsonl"

SQLITE_SUFFIXES = ("-wal", "-shm")
"""The suffixes of the files that SQLite keeps next to a database in WAL mode."""


def _temporary(name: str) -> str:
    """Return the pattern of the temporary files for writing the file, or the files, *name*."""
    return f"{temporary_prefix(name)}*"


# Files are removed by name, because the user may have chosen a folder with other contents as the state directory.
_FILES = (
    LOCK,
    STORE_MARKER,
    f"{STORE}*",
    f"{EVENTS}*",
    f"{MANIFEST}*",
    *(
        pattern
        for name in (HEALTH, BACKFILL_REQUEST, BACKFILL_REPORT, VERIFICATION, PRICES)
        for pattern in (name, _temporary(name))
    ),
    # `backfill` writes its request under a name of its own before it puts it in place.
    _temporary(_temporary(BACKFILL_REQUEST)),
)
_EXECUTION_FILES = ("*.json", _temporary("*.json"), "*.lock")
_RECORDED = ("*.jsonl", "*.dropped.json", _temporary("*.dropped.json"))


def corrupt_store(at: int) -> str:
    """Return the name of a damaged store that is set aside *at* a time in seconds since the epoch."""
    return f"{STORE}.corrupt-{at}"


def archive_folder(state_dir: Path) -> Path:
    """Return the folder of what `archive` has settled."""
    return state_dir / ARCHIVE


def local_folder(state_dir: Path) -> Path:
    """Return the state directory of the local sink."""
    return state_dir / LOCAL


def outbox_folder(state_dir: Path) -> Path:
    """Return the folder in which programs record for the daemon."""
    return state_dir / OUTBOX


def make_outbox(folder: Path) -> None:
    """Make a folder for what programs record: only while it is there do they record anything.

    Raises:
        OSError: the system refuses.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def receipts_folder(state_dir: Path) -> Path:
    """Return the folder of the receipts of what programs recorded."""
    return state_dir / RECEIPTS


def events_path(state_dir: Path) -> Path:
    """Return the path of the local sink's events."""
    return local_folder(state_dir) / EVENTS


def prices_path(state_dir: Path) -> Path:
    """Return the file of what the list of prices has answered."""
    return local_folder(state_dir) / PRICES


def forget_store(folder: Path) -> None:
    """Remove the store in a state directory, so that the next one starts over. Its lock must be held.

    Raises:
        OSError: the system refuses.
    """
    for name in (STORE_MARKER, STORE, *(f"{STORE}{suffix}" for suffix in SQLITE_SUFFIXES)):
        (folder / name).unlink(missing_ok=True)


def remove_state(state_dir: Path) -> list[Path]:
    """Remove the daemon's files from *state_dir*, and the folder itself if it is empty then.

    No daemon may be running on it.

    Returns:
        The paths of everything that is left in the folder.

    Raises:
        OSError: the system refuses.
    """
    for folder, names in (
        (archive_folder(state_dir), _FILES),
        (local_folder(state_dir), _FILES),
        (state_dir / EXECUTIONS, _EXECUTION_FILES),
        (receipts_folder(state_dir), (f"*{RECEIPT_SUFFIX}",)),
        *((folder, _RECORDED) for folder in _outboxes(state_dir)),
        (state_dir, _FILES),
    ):
        for path in list(_matching(folder, names)):
            path.unlink()
        with contextlib.suppress(OSError):  # the folder does not exist, or contains other files
            folder.rmdir()
    return sorted(state_dir.iterdir()) if state_dir.is_dir() else []


def _outboxes(state_dir: Path) -> list[Path]:
    """Return the folders of commands in the outbox, and then the outbox."""
    outbox = outbox_folder(state_dir)
    if outbox.is_symlink() or not outbox.is_dir():
        return []
    return [*(path for path in outbox.iterdir() if path.is_dir() and not path.is_symlink()), outbox]


def _matching(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if any(fnmatch.fnmatch(path.name, name) for name in names) and not path.is_dir():
            yield path
