"""Follows sessions without a store, a lock or a network, for `tail`: what `run` would deliver, as it happens.

The same parts as in the service, driven by hand and by one thread: the watcher's hints and the sweeps say which logs
may have grown, the reader says what that came to. Logs that exist at the beginning are read as at a first start: what
is older than a moment only rebuilds the state.

Nothing is written anywhere, so that any number of these may look on while a daemon runs, or none does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daemon.following.cadence import Cadence
from daemon.following.kept_open import KeptOpen
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import log_roots
from daemon.following.logs import Changes, Logs
from daemon.following.opening import Opening, by_first_line, opening
from daemon.following.schedule import SweepSchedule
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import Identity
from daemon.following.watcher import Watcher
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress
from daemon.reading.open_sessions import OpenSessions
from daemon.reading.pipeline import Pipeline
from daemon.reading.reader import Reader
from daemon.routing.routing import Held, Routing
from daemon.state.rows import FileMark
from llma_core import view
from llma_core.view import EventView, PromptView

__all__ = ["Follower", "Seen"]

_LONGEST_WORDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something that happened in a session.

    Attributes:
        session: the session's id.
        what: a prompt, or what its event says.
        words: a prompt's, an answer's or a call's, as far as they may leave and no longer than shows; else "".
    """

    session: str
    what: PromptView | EventView
    words: str


class Follower(AbstractContextManager["Follower"]):
    """Follows the logs below some config folders. Watches from entering the context until leaving it.

    For one thread: `advance` reads what there is and says what it came to, `wait` sleeps until there may be more.

    Args:
        config_dirs: Claude Code's config folders; each has folders of logs, now or later.
        routing: how much is said of which sessions.
        since: the wall clock in seconds since the epoch; what happened before it is not told.
        session_timeout: seconds of quiet after which a session that was never seen running has ended.
        wanted: which sessions to follow, by their beginning; asked again while the beginning names no folder.
        on_held: called with the id of a session that cannot be shown, and why.
        cadence: times and sizes.
    """

    def __init__(
        self,
        config_dirs: Sequence[Path],
        routing: Routing,
        *,
        since: float,
        session_timeout: float,
        wanted: Callable[[Opening], bool] = lambda _opening: True,
        on_held: Callable[[str, str], None] = lambda _session, _reason: None,
        cadence: Cadence | None = None,
    ) -> None:
        self._since = int(since * 1000)
        self._wanted = wanted
        self._on_held = on_held
        self._cadence = cadence or Cadence()
        self._live = LiveSessions(config_dirs)
        self._sessions = OpenSessions()
        self._logs = Logs(log_roots(config_dirs), kept=KeptOpen(), is_open=self._sessions.__contains__)
        self._reader = Reader(
            logs=self._logs,
            routing=routing,
            claims=Claims(),
            sessions=self._sessions,
            marks=self._mark,
            live=self._live,
            session_timeout=session_timeout,
            first_start=self._since,
            cadence=self._cadence,
        )
        self._hints = _Hints()
        self._watcher = Watcher(self._logs.roots, self._hints.add, self._hints.add_all)
        self._schedule = SweepSchedule(self._cadence, time.monotonic(), time.time())
        self._there: dict[Identity, str] = {}
        self._unwanted: set[str] = set()
        self._held: set[str] = set()
        self._queue: dict[str, None] = {}

    def __enter__(self) -> Self:
        """Begin to watch, and find out which logs there are."""
        self._watcher.start()
        self._logs.include(self._logs.sweep("full").changed)
        self._there = {file.identity: path for path, file in self._logs.files.items()}
        self._enqueue(
            [files for files in self._logs.sessions.values() if self._logs.touched(files) >= self._since * 1_000_000]
        )
        self._schedule = SweepSchedule(self._cadence, time.monotonic(), time.time())
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no longer."""
        self._watcher.stop()
        self._logs.close()

    @property
    def sessions(self) -> int:
        """How many sessions there are, followed or not."""
        return len(self._logs.sessions)

    def wait(self) -> None:
        """Sleep until something may have happened: a hint, a time that is due, or the next sweep."""
        dues = [session.due for session in self._sessions if session.due is not None]
        self._hints.wait(max(0.0, min([self._schedule.next_at, *dues]) - time.monotonic()))

    def advance(self) -> Iterator[Seen]:
        """Read what has come, and yield what it was, session by session."""
        self._look()
        yield from self._read_queue()
        for files in self._reader.tend(time.monotonic(), self._live.running()):
            self._queue[files.name] = None
        yield from self._read_queue()

    # ------------------------------------------------------------------ which sessions

    def _look(self) -> None:
        paths, everything = self._hints.take()
        for path in paths:
            self._take(self._logs.hinted(path))
        now, wall = time.monotonic(), time.time()
        kind = self._schedule.due(now, wall, self._watcher, overflow=everything)
        if kind is not None:
            self._take(self._logs.apply(self._logs.sweep(kind, wall)))
            self._enqueue(self._reader.retry_unreadable())

    def _take(self, changes: Changes) -> None:
        self._enqueue([*changes.grown, *changes.cut])

    def _enqueue(self, sessions: Sequence[SessionFiles]) -> None:
        for files in by_first_line(sessions) if len(sessions) > 1 else sessions:
            self._queue[files.name] = None

    def _is_wanted(self, files: SessionFiles) -> bool:
        if files.name in self._sessions:
            return True
        if files.name in self._unwanted:
            return False
        began = opening(files)
        wanted = self._wanted(began)
        if not wanted and began.cwd is not None:
            self._unwanted.add(files.name)
        return wanted

    # ------------------------------------------------------------------ what they came to

    def _read_queue(self) -> Iterator[Seen]:
        while self._queue:
            name = next(iter(self._queue))
            del self._queue[name]
            files = self._logs.sessions.get(name)
            if files is not None and self._is_wanted(files):
                yield from self._read(files)
            elif files is not None:
                self._logs.note_read(files)

    def _read(self, files: SessionFiles) -> Iterator[Seen]:
        again, now = True, time.monotonic()
        if files.name not in self._sessions and (touched := self._logs.touched(files)):
            # What it says came when it was written: nothing that has been there for a while has to wait for more.
            now -= max(0.0, time.time() - touched / 1e9)
        while again:
            outcome = self._reader.read(self._reader.session(files, now), now, running=self._live.running())
            for step in outcome.steps:
                yield from self._tell(outcome.session.pipeline, step)
            again = self._reader.note(outcome)
            if outcome.held is not None:
                self._hold(files, outcome.held)

    def _mark(self, identity: Identity) -> FileMark | None:
        """Return the mark of a log that existed at the beginning: all of it is read, older lines are history."""
        path = self._there.get(identity)
        if path is None:
            return None
        device, inode = identity
        return FileMark(
            device=device, inode=inode, path=path, unit="", offset=0, head=b"", head_length=0, tail=b"", history=True
        )

    def _tell(self, pipeline: Pipeline, progress: Progress) -> Iterator[Seen]:
        for emission in progress.emissions:
            session = pipeline.unit.session
            if emission.event is not None:
                body = emission.event.body
                yield Seen(session=session, what=view.read(body), words=view.words(body)[:_LONGEST_WORDS])
            elif emission.prompt is not None:
                asked = view.prompt(emission.prompt, pipeline.attribution())
                yield Seen(session=session, what=asked, words=(asked.words or "")[:_LONGEST_WORDS])

    def _hold(self, files: SessionFiles, held: Held) -> None:
        if files.session not in self._held:
            self._held.add(files.session)
            self._on_held(files.session, held.reason)


class _Hints:
    """Paths to look at, from the watcher's thread; no more of them than there are files, however long nobody looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._paths: dict[str, None] = {}
        self._all = False

    def add(self, path: str) -> None:
        with self._lock:
            self._paths[path] = None
        self._came.set()

    def add_all(self) -> None:
        self._all = True
        self._came.set()

    def wait(self, seconds: float) -> None:
        self._came.wait(seconds)

    def take(self) -> tuple[list[str], bool]:
        """Return the paths that came since the last time, and whether everything has to be looked at."""
        self._came.clear()
        with self._lock:
            paths, self._paths = list(self._paths), {}
            everything, self._all = self._all, False
        return paths, everything
