"""Hints that a session log may have changed: watchdog, watched over.

A hint only makes things fast. Truth is the service's own look at the files (a stat sweep), so everything that can go
wrong here may cost time and never a line:

- A root that is a symlink is watched by its real path, and so is a project folder (a direct child) that
  is one. Hints then name the real path, which is how the sweep names these files too.
- The kernel's queue overflows: watchdog says so in its log and nowhere else, so its log is listened to (watchdog 6
  says nothing at all; there the sweep alone finds what was lost).
- Watches run out (ENOSPC), or instances (EMFILE): watchdog raises for a root and stays silent for a folder below it,
  so the watches in place are compared with the folders there are. What is left is `polling`: the caller looks more
  often until a later attempt succeeds.
- A root is deleted, moved away or replaced, or one of watchdog's threads dies: `ensure` notices and mends it.
- A move out of the tree holds watchdog's queue for half a second, waiting for the move's other half: that wait is
  switched off. Both halves then come as a deletion and a creation, which a reader that knows files by their identity
  takes as well.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from daemon.following.log_roots import LogRoot

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

__all__ = ["Watcher"]

log = structlog.get_logger(__name__)

# Without a filter watchdog also subscribes to opening and closing, and every read of ours would be an event.
_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
# Where watchdog keeps the wait for a move's other half: version 7, version 6. Not its public interface.
_MOVE_GROUPERS = (
    ("watchdog.observers.inotify_move_event_grouper", "InotifyMoveEventGrouper"),
    ("watchdog.observers.inotify_buffer", "InotifyBuffer"),
)
# Calls of ensure (one each sweep tick) between two attempts to get out of polling: a failed one walks the whole tree.
_TICKS_BETWEEN_ATTEMPTS = 60
_STOP_TIMEOUT = 5.0

_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheduled:
    """A folder under watch, and which folder it was: another one may have taken its place under the same path."""

    watch: ObservedWatch
    identity: _Identity


class Watcher:
    """Watches the folders that session logs are in.

    `start`, `ensure`, `healthy` and `stop` belong to one thread at a time; each may block for as long as placing the
    watches takes (tens of milliseconds for thousands of folders).

    Args:
        roots: the folders. One that does not exist (yet) is taken up by `ensure` when it appears.
        hint: called with the path of a session log, a meta file or a folder that may have been created, changed,
            moved or deleted. Called in watchdog's thread: it must be thread-safe, quick, and not raise.
        overflow: called when events were lost and everything has to be looked at. Called in watchdog's thread; it
            may come several times for one loss.
    """

    def __init__(self, roots: Sequence[LogRoot], hint: Callable[[str], None], overflow: Callable[[], None]) -> None:
        self._roots = tuple(root.path for root in roots)
        suffixes = {suffix for root in roots for suffix in root.agent.suffixes}
        self._handler = _Handler(hint, self._folder_appeared, tuple(suffixes))
        self._ear = _Ear(overflow, self._watches_lost)
        self._observer: BaseObserver | None = None
        self._scheduled: dict[Path, _Scheduled] = {}
        self._foreign_instances: frozenset[str] = frozenset()
        self._started = False
        self._polling = False
        self._ticks_polling = 0
        # Set in watchdog's threads, read in the caller's.
        self._grew = threading.Event()
        self._broken = threading.Event()
        self._expected: frozenset[Path] | None = None

    @property
    def polling(self) -> bool:
        """Whether some folder that exists cannot be watched: nothing but the caller's own looking will tell."""
        return self._polling

    def start(self) -> None:
        """Begin to watch every root that exists. Does not raise when nothing can be watched: see `polling`."""
        # A folder made while its parent is being walked makes watchdog warn with its whole table of watches, a line
        # of tens of kilobytes full of paths.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        _report_moves_at_once()
        self._ear.attach()
        self._started = True
        self._open()

    def stop(self) -> None:
        """Stop watching and end watchdog's threads. No hint comes after it returned. Idempotent."""
        self._started = False
        self._close()
        self._ear.detach()

    def healthy(self) -> bool:
        """Whether watchdog's threads live and every folder that should be watched is watched."""
        return (
            self._threads_live()
            and not self._polling
            and not self._broken.is_set()
            and all(self._watched(path, identity) for path, identity in self._targets().items())
        )

    def ensure(self) -> bool:
        """Mend what broke since the last call, take up what appeared. To be called on each sweep tick.

        Returns:
            Whether something was mended: hints were lost until now, so the caller looks at everything once.
        """
        if not self._started:
            return False
        if self._broken.is_set() or (self._observer is not None and not self._threads_live()):
            log.warning("watcher_restarted")
            self._open()
            return True
        if self._polling:
            return self._leave_polling()
        mended = self._reschedule()
        self._check_coverage()
        return mended

    def _open(self) -> None:
        """Start a fresh observer on every target, in place of the one before."""
        self._close()
        self._foreign_instances = _inotify_instances()
        before = self._polling
        self._polling = False
        self._ticks_polling = 0
        try:
            self._observer = Observer()
            self._observer.start()
        except OSError as error:
            self._poll(error.errno, said=before)
            return
        expected = self._folders()
        self._reschedule(said=before)
        if not self._polling and not self._covers(expected):
            self._poll(errno.ENOSPC, said=before)
        if before and not self._polling:
            log.info("watching_again")

    def _close(self) -> None:
        self._broken.clear()
        self._grew.clear()
        self._expected = None
        self._scheduled.clear()
        observer, self._observer = self._observer, None
        if observer is None:
            return
        # Also for one that never started: watchdog 7 opens its descriptor and its first thread when it is built.
        observer.stop()
        if observer.is_alive():
            observer.join(_STOP_TIMEOUT)

    def _leave_polling(self) -> bool:
        self._ticks_polling += 1
        if self._ticks_polling % _TICKS_BETWEEN_ATTEMPTS:
            return False
        self._open()
        return not self._polling

    def _reschedule(self, *, said: bool = False) -> bool:
        """Bring the watches in line with the targets; say whether one had to be placed."""
        assert self._observer is not None
        targets = self._targets()
        for path in [path for path in self._scheduled if not self._watched(path, targets.get(path))]:
            self._observer.unschedule(self._scheduled.pop(path).watch)
        placed = False
        for path, identity in targets.items():
            if path in self._scheduled:
                continue
            try:
                watch = self._observer.schedule(self._handler, str(path), recursive=True, event_filter=_EVENTS)
            except FileNotFoundError:
                continue  # gone since it was listed; the next call takes it up if it comes back
            except OSError as error:
                self._poll(error.errno, said=said)
                continue
            self._scheduled[path] = _Scheduled(watch=watch, identity=identity)
            placed = True
        return placed

    def _targets(self) -> dict[Path, _Identity]:
        """Find the folders to watch, by real path; none lies inside another."""
        roots = sorted(Path(os.path.realpath(root)) for root in self._roots)
        links = sorted(Path(os.path.realpath(link)) for root in roots for link in _linked_folders(root))
        # A link to a folder that holds a root would put half of the disk under watch.
        links = [link for link in links if not any(root.is_relative_to(link) for root in roots)]
        targets: dict[Path, _Identity] = {}
        for path in [*roots, *links]:
            if not any(path.is_relative_to(known) for known in targets):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if stat.S_ISDIR(status.st_mode):
                        targets[path] = (status.st_dev, status.st_ino)
        return targets

    def _watched(self, path: Path, identity: _Identity | None) -> bool:
        """Whether *path* is under a living watch, and still the folder the watch was placed on."""
        scheduled = self._scheduled.get(path)
        if scheduled is None or self._observer is None or scheduled.identity != identity:
            return False
        emitters = self._observer.emitters.copy()
        return any(emitter.is_alive() for emitter in emitters if emitter.watch == scheduled.watch)

    def _threads_live(self) -> bool:
        if self._observer is None or not self._observer.is_alive():
            return False
        # The thread that reads inotify hangs on the observer in watchdog 7, on each emitter in 6; when it dies all
        # others live on and nothing is ever heard again.
        owners = (self._observer, *self._observer.emitters.copy())
        readers = (getattr(owner, name, None) for owner in owners for name in ("_inotify_fd", "_inotify"))
        return all(reader.is_alive() for reader in readers if isinstance(reader, threading.Thread))

    def _check_coverage(self) -> None:
        """Look for folders without a watch, after folders appeared.

        The folders are listed in one call and looked for in the next, a tick later: by then watchdog has had the time
        to place their watches.
        """
        expected, self._expected = self._expected, None
        if expected is not None and not self._covers(expected):
            self._poll(errno.ENOSPC)
        elif self._grew.is_set():
            self._grew.clear()
            self._expected = self._folders()

    def _folders(self) -> frozenset[Path]:
        return frozenset(folder for path in self._targets() for folder in _folders_below(path))

    def _covers(self, expected: frozenset[Path]) -> bool:
        """Whether there are at least as many watches as *expected* folders that still exist. True where unknowable."""
        own = _inotify_instances() - self._foreign_instances
        if not own:
            return True
        placed = sum(_count_watches(descriptor) for descriptor in own)
        return placed >= sum(folder.is_dir() for folder in expected)

    def _poll(self, code: int | None, *, said: bool = False) -> None:
        if not self._polling and not said:
            log.warning("watching_impossible", reason=errno.errorcode.get(code or 0, "unknown"), hint=_remedy(code))
        self._polling = True

    def _folder_appeared(self) -> None:
        self._grew.set()

    def _watches_lost(self) -> None:
        self._broken.set()


class _Handler(FileSystemEventHandler):
    """Turns watchdog's events into hints."""

    def __init__(
        self, hint: Callable[[str], None], folder_appeared: Callable[[], None], suffixes: tuple[str, ...]
    ) -> None:
        # watchdog 7 matches patterns otherwise than 6, so names are filtered here.
        self._suffixes = suffixes
        self._hint = hint
        self._folder_appeared = folder_appeared

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, (DirCreatedEvent, DirMovedEvent)):
            self._folder_appeared()
        for raw in (event.src_path, event.dest_path):
            path = os.fsdecode(raw)
            if path and (event.is_directory or path.endswith(self._suffixes)):
                self._hint(path)


class _Ear(logging.Handler):
    """Hears watchdog's log, and keeps it from everyone else's: its messages are full of paths."""

    def __init__(self, overflow: Callable[[], None], watches_lost: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._overflow = overflow
        self._watches_lost = watches_lost
        self._logger = logging.getLogger("watchdog")

    def attach(self) -> None:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.WARNING)
        self._logger.propagate = False

    def detach(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        # The bare text, without its arguments: those are the paths.
        text = str(record.msg)
        if "overflow" in text:
            log.warning("watch_events_lost")
            self._overflow()
        elif "rebuild" in text:
            self._watches_lost()
        elif "inactive" not in text:  # that one is how an emitter says that it was stopped
            log.warning("watchdog_said", text=text)


def _report_moves_at_once() -> None:
    if sys.platform != "linux":
        return
    for module, name in _MOVE_GROUPERS:
        try:
            grouper = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
        grouper.delay = 0.0


def _remedy(code: int | None) -> str:
    knob = {errno.ENOSPC: "fs.inotify.max_user_watches", errno.EMFILE: "fs.inotify.max_user_instances"}.get(code or 0)
    if knob is None or sys.platform != "linux":
        return "files are looked at every few seconds instead"
    try:
        now = Path("/proc/sys", *knob.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        now = "unknown"
    return f"raise it with: sudo sysctl {knob}=N (now {now}); until then files are looked at every few seconds"


def _linked_folders(root: Path) -> list[str]:
    """List the direct children of *root* that are symlinks to folders."""
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        return [entry.path for entry in entries if entry.is_symlink() and entry.is_dir()]
    return []


def _folders_below(path: Path) -> Iterator[Path]:
    """Walk over *path* and every readable folder below it, links aside: what a recursive watch has to cover."""
    yield path
    for parent, names, _ in os.walk(path):
        for folder in (Path(parent, name) for name in names):
            if not folder.is_symlink() and os.access(folder, os.R_OK):
                yield folder


def _inotify_instances() -> frozenset[str]:
    """Find the descriptors of this process that are inotify instances; none where there is no /proc."""
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile, such as the one of this listing
                if str(descriptor.readlink()) == "anon_inode:inotify":
                    found.add(descriptor.name)
    return frozenset(found)


def _count_watches(descriptor: str) -> int:
    with contextlib.suppress(OSError), Path("/proc/self/fdinfo", descriptor).open("rb") as info:
        return sum(line.startswith(b"inotify ") for line in info)
    return 0
