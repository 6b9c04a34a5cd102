"""The watcher: hints that a session log may have changed, from watchdog.

A hint only makes things fast. The stat sweep is the truth, so any failure here may cost time but never a line:

- A root that is a symlink is watched by its real path, and so is a project folder (a direct child) that is one. Hints
  then name the real path, as the sweep does.
- The kernel's queue overflows. watchdog reports that in its log and nowhere else, so the watcher listens to that log.
  (watchdog 6 reports nothing at all; with it, only the sweep finds what was lost.)
- Watches run out (ENOSPC), or instances (EMFILE). watchdog raises for a root but stays silent about a folder below it,
  so the watcher compares the watches in place with the existing folders. If some are missing, it is `polling`: the
  caller looks at the files more often until a later attempt succeeds.
- A root is deleted, moved away or replaced, or one of watchdog's threads dies. `ensure` notices and repairs that.
- A move out of the tree blocks watchdog's queue for half a second, waiting for the other half of the move. The watcher
  switches that wait off. Both halves then come as a deletion and a creation, which is as good for a reader that
  identifies files by device and inode.
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
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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
from daemon.following.log_tree import folders_below
from daemon.system import disk

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

__all__ = ["Watcher"]

log = structlog.get_logger(__name__)

# Without a filter, watchdog also subscribes to opening and closing, and every read of ours would be an event.
_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
# The classes of watchdog that wait for the other half of a move, in versions 7 and 6. Not a public interface.
_MOVE_GROUPERS = (
    ("watchdog.observers.inotify_move_event_grouper", "InotifyMoveEventGrouper"),
    ("watchdog.observers.inotify_buffer", "InotifyBuffer"),
)
# Calls of `ensure` (one each sweep) between two attempts to stop polling: a failed attempt walks the whole tree.
_TICKS_BETWEEN_ATTEMPTS = 60
_STOP_TIMEOUT = 5.0
# In nanoseconds; some file systems count times in steps of two seconds.
_COARSEST_CLOCK = 3_000_000_000

_T = TypeVar("_T")
_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheduled:
    """A watched folder, with its identity: another folder may have taken its place under the same path."""

    watch: ObservedWatch
    identity: _Identity


class Watcher:
    """Watches the folders that hold session logs, and the registries of live processes.

    Call `start`, `ensure`, `healthy` and `stop` from one thread at a time. Each may block for as long as placing the
    watches takes (tens of milliseconds for thousands of folders).

    Args:
        roots: the folders. A folder that does not exist yet is watched by `ensure` once it appears.
        hint: called with the path of a session log, a meta file or a folder that may have been created, changed,
            moved or deleted. Called in watchdog's thread: it must be thread-safe and quick, and must not raise.
        overflow: called when events were lost, so that all files have to be looked at. Called in watchdog's thread,
            perhaps several times for one loss.
        registries: folders with the records of live processes, which are watched, too.
        registered: called when a record may have been created, changed or deleted. As for *hint*.
    """

    def __init__(
        self,
        roots: Sequence[LogRoot],
        hint: Callable[[str], None],
        overflow: Callable[[], None],
        *,
        registries: Sequence[Path] = (),
        registered: Callable[[], None] = lambda: None,
    ) -> None:
        self._roots = tuple(root.path for root in roots)
        self._registries = tuple(registries)
        suffixes = {suffix for root in roots for suffix in root.agent.suffixes}
        self._handler = _Handler(hint, self._folder_appeared, tuple(suffixes))
        self._registry_handler = _RegistryHandler(registered)
        self._listener = _LogListener(overflow, self._watches_lost)
        self._observer: BaseObserver | None = None
        self._scheduled: dict[Path, _Scheduled] = {}
        self._known_links: dict[Path, tuple[int, list[str]]] = {}
        self._foreign_instances: frozenset[str] = frozenset()
        self._started = False
        self._polling = False
        self._ticks_polling = 0
        self._is_stuck = False
        self._name = f"the watches {id(self)}"
        # Set in watchdog's threads, read in the caller's.
        self._grew = threading.Event()
        self._broken = threading.Event()
        self._expected: frozenset[Path] | None = None

    @property
    def polling(self) -> bool:
        """Whether some existing folder cannot be watched, so that only a sweep finds changes in it."""
        return self._polling or self._is_stuck

    def start(self) -> None:
        """Begin to watch every existing root. Does not raise if nothing can be watched: see `polling`."""
        # If a folder is made while its parent is being walked, watchdog warns with its whole table of watches: a line
        # of tens of kilobytes full of paths.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        _report_moves_at_once()
        self._listener.attach()
        self._started = True
        self._do(self._open)

    def stop(self) -> None:
        """Stop watching and end watchdog's threads. No hint comes after it has returned. Idempotent."""
        self._started = False
        self._do(self._close)
        self._listener.detach()

    def _do(self, work: Callable[[], _T]) -> _T | None:
        """Do something with the watches; return None if a folder that does not answer keeps it from ending.

        Then nobody else touches the watches until it has ended.
        """
        try:
            return disk.call(self._name, work)
        except disk.Unanswered:
            self._is_stuck = True
            return None

    def healthy(self) -> bool:
        """Whether watchdog's threads live and every existing folder is watched."""
        return bool(self._do(self._is_healthy))

    def _is_healthy(self) -> bool:
        return (
            self._threads_live()
            and not self._polling
            and not self._broken.is_set()
            and all(self._watched(path, identity) for path, identity in self._targets().items())
        )

    def ensure(self) -> bool:
        """Repair what broke since the last call, and watch folders that have appeared. Call it before each sweep.

        Returns:
            Whether something was repaired: hints were lost until now, so the caller looks at all files once.
        """
        if not self._started:
            return False
        was_stuck, self._is_stuck = self._is_stuck, False
        repaired = self._do(self._ensure)
        return was_stuck or self._is_stuck or bool(repaired)

    def _ensure(self) -> bool:
        if self._broken.is_set() or (self._observer is not None and not self._threads_live()):
            log.warning("watcher_restarted")
            self._open()
            return True
        if self._polling:
            return self._leave_polling()
        placed = self._reschedule()
        self._check_coverage()
        return placed

    def _open(self) -> None:
        """Replace the observer with a new one that watches every target."""
        self._close()
        self._foreign_instances = _inotify_instances()
        before = self._polling
        self._polling = False
        self._ticks_polling = 0
        try:
            self._observer = Observer()
            self._observer.start()
        except OSError as error:
            self._poll(error.errno, reported=before)
            return
        expected = self._folders()
        self._reschedule(reported=before)
        if not self._polling and not self._covers(expected):
            self._poll(errno.ENOSPC, reported=before)
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
        # Even if it never started: watchdog 7 opens its descriptor and its first thread in the constructor.
        observer.stop()
        if observer.is_alive():
            observer.join(_STOP_TIMEOUT)

    def _leave_polling(self) -> bool:
        self._ticks_polling += 1
        if self._ticks_polling % _TICKS_BETWEEN_ATTEMPTS:
            return False
        self._open()
        return not self._polling

    def _reschedule(self, *, reported: bool = False) -> bool:
        """Bring the watches in line with the targets; return whether one had to be placed."""
        assert self._observer is not None
        targets = self._targets()
        registries = set(_real_folders(map(str, self._registries)))
        for path in [path for path in self._scheduled if not self._watched(path, targets.get(path))]:
            self._observer.unschedule(self._scheduled.pop(path).watch)
        placed = False
        for path, identity in targets.items():
            if path in self._scheduled:
                continue
            # A hang from here on holds the observer's own lock: the whole watcher has to wait.
            disk.at(self._name)
            handler = self._registry_handler if path in registries else self._handler
            try:
                watch = self._observer.schedule(handler, str(path), recursive=True, event_filter=_EVENTS)
            except FileNotFoundError:
                continue  # gone since it was listed; the next call watches it if it comes back
            except OSError as error:
                self._poll(error.errno, reported=reported)
                continue
            self._scheduled[path] = _Scheduled(watch=watch, identity=identity)
            placed = True
        return placed

    def _targets(self) -> dict[Path, _Identity]:
        """Find the folders to watch, by real path; none lies inside another."""
        roots = sorted(_real_folders(map(str, self._roots)))
        links = sorted(_real_folders(link for root in roots for link in self._links(root)))
        # A link to a folder above a root could put half of the disk under watch.
        links = [link for link in links if not any(root.is_relative_to(link) for root in roots)]
        registries = sorted(_real_folders(map(str, self._registries)))
        targets: dict[Path, _Identity] = {}
        for path in [*roots, *links, *registries]:
            if not any(path.is_relative_to(known) for known in targets):
                with contextlib.suppress(OSError):
                    disk.at(str(path))
                    status = path.stat()
                    if stat.S_ISDIR(status.st_mode):
                        targets[path] = (status.st_dev, status.st_ino)
        return targets

    def _links(self, root: Path) -> list[str]:
        """Return the direct children of *root* that are symlinks. Hundreds are asked only when *root* has changed."""
        try:
            disk.at(str(root))
            modified = root.stat().st_mtime_ns
        except OSError:
            return _links(root)[0]
        known = self._known_links.get(root)
        if known is not None and known[0] == modified:
            return known[1]
        links, is_whole = _links(root)
        # What is changed twice within a tick of the file system's clock keeps its time.
        if is_whole and time.time_ns() - modified > _COARSEST_CLOCK:
            self._known_links[root] = modified, links
        else:
            self._known_links.pop(root, None)
        return links

    def _watched(self, path: Path, identity: _Identity | None) -> bool:
        """Whether *path* has a live watch, and is still the folder on which that watch was placed."""
        scheduled = self._scheduled.get(path)
        if scheduled is None or self._observer is None or scheduled.identity != identity:
            return False
        emitters = self._observer.emitters.copy()
        return any(emitter.is_alive() for emitter in emitters if emitter.watch == scheduled.watch)

    def _threads_live(self) -> bool:
        if self._observer is None or not self._observer.is_alive():
            return False
        # The thread that reads inotify is an attribute of the observer in watchdog 7, of each emitter in 6. When it
        # dies, all others live on, but no event ever arrives again.
        owners = (self._observer, *self._observer.emitters.copy())
        readers = (getattr(owner, name, None) for owner in owners for name in ("_inotify_fd", "_inotify"))
        return all(reader.is_alive() for reader in readers if isinstance(reader, threading.Thread))

    def _check_coverage(self) -> None:
        """Look for folders without a watch, after folders have appeared.

        One call lists the folders, and the next call, a sweep later, looks for their watches: by then watchdog has had
        time to place them.
        """
        expected, self._expected = self._expected, None
        if expected is not None and not self._covers(expected):
            self._poll(errno.ENOSPC)
        elif self._grew.is_set():
            self._grew.clear()
            self._expected = self._folders()

    def _folders(self) -> frozenset[Path]:
        return frozenset(Path(folder) for path in self._targets() for folder, _ in folders_below(str(path)))

    def _covers(self, expected: frozenset[Path]) -> bool:
        """Whether there are at least as many watches as *expected* folders that still exist. True if unknowable."""
        own = _inotify_instances() - self._foreign_instances
        if not own:
            return True
        placed = sum(_count_watches(descriptor) for descriptor in own)
        return placed >= sum(map(_is_folder, expected))

    def _poll(self, code: int | None, *, reported: bool = False) -> None:
        if not self._polling and not reported:
            log.warning("watch_limit_reached", reason=errno.errorcode.get(code or 0, "unknown"), hint=_remedy(code))
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
        # watchdog 7 matches patterns differently from 6, so names are filtered here.
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


class _RegistryHandler(FileSystemEventHandler):
    """Tells of changes in a registry of live processes."""

    def __init__(self, registered: Callable[[], None]) -> None:
        self._registered = registered

    def on_any_event(self, event: FileSystemEvent) -> None:
        if not event.is_directory:
            self._registered()


class _LogListener(logging.Handler):
    """Listens to watchdog's log, and keeps it out of ours: its messages are full of paths."""

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
        # The text without its arguments, which are the paths.
        text = str(record.msg)
        if "overflow" in text:
            log.warning("watch_events_lost")
            self._overflow()
        elif "rebuild" in text:
            self._watches_lost()
        elif "inactive" not in text:  # an emitter logs that when it is stopped
            log.warning("watchdog_warning", text=text)


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
        return "the daemon looks at the files every few seconds instead"
    try:
        now = Path("/proc/sys", *knob.split(".")).read_text(encoding="ascii").strip()
    except OSError:
        now = "unknown"
    return (
        f"raise it with: sudo sysctl {knob}=N (now {now}); until then the daemon looks at the files every few seconds"
    )


def _links(root: Path) -> tuple[list[str], bool]:
    """Return the direct children of *root* that are symlinks, and whether all of its children could be asked."""
    found, is_whole = [], True
    with contextlib.suppress(OSError):
        disk.at(str(root))
        for child in root.iterdir():
            try:
                disk.at(str(child))
                if child.is_symlink():
                    found.append(str(child))
            except disk.Unanswered:
                is_whole = False
    return found, is_whole


def _real_folders(paths: Iterable[str]) -> Iterator[Path]:
    """Yield the real paths of those *paths* that answer and are, or lead to, a folder."""
    for path in paths:
        with contextlib.suppress(OSError):
            disk.at(path)
            real = os.path.realpath(path)
            if Path(real).is_dir():
                yield Path(real)


def _is_folder(folder: Path) -> bool:
    with contextlib.suppress(disk.Unanswered):
        disk.at(str(folder))
        return folder.is_dir()
    return False


def _inotify_instances() -> frozenset[str]:
    """Return the descriptors of this process that are inotify instances; none without /proc."""
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile, such as the descriptor of this listing
                if str(descriptor.readlink()) == "anon_inode:inotify":
                    found.add(descriptor.name)
    return frozenset(found)


def _count_watches(descriptor: str) -> int:
    with contextlib.suppress(OSError), Path("/proc/self/fdinfo", descriptor).open("rb") as info:
        return sum(line.startswith(b"inotify ") for line in info)
    return 0
