"""Follows sessions for `tail`: shows live what `run` would deliver. It needs no store, no lock and no network.

It has the same parts as the service, driven by one thread: the watcher's hints and the sweeps tell which logs may have
grown, and the reader reads them. Logs that exist at the beginning are read as at a first start: what is older than
*since* only rebuilds the state.

It writes nothing, so any number of followers can run, with or without a daemon.
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
from daemon.system.running_clock import RunningClock
from llma_core import view
from llma_core.view import EventView, PromptView

__all__ = ["Follower", "Seen"]

_LONGEST_WORDS = 1000
"""Longest text of one `Seen`, in characters. A terminal shows less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something that happened in a session.

    Attributes:
        session: the session's id.
        what: a prompt, or an event read back.
        words: the text of the prompt, answer or call, as far as the content level allows, and cut; "" if it has none.
    """

    session: str
    what: PromptView | EventView
    words: str


class Follower(AbstractContextManager["Follower"]):
    """Follows the logs below some config folders, from entering the context until leaving it.

    Use it from one thread: `advance` reads and yields what happened, `wait` sleeps until there may be more.

    Args:
        config_dirs: Claude Code's config folders. Their folders of logs may be created later.
        routing: decides which sessions may be shown, and how much of them.
        since: what happened before this is not shown, in seconds since the epoch.
        session_timeout: seconds of quiet after which a session ends in which something is open, unless it is known to
            run.
        outboxes: folders in which programs record their own calls.
        wanted: returns whether to follow a session, by its beginning. Asked again until the beginning names a folder.
        on_held: called with the id of a session that cannot be shown, and the reason.
        cadence: times and sizes.
    """

    def __init__(
        self,
        config_dirs: Sequence[Path],
        routing: Routing,
        *,
        since: float,
        session_timeout: float,
        outboxes: Sequence[Path] = (),
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
        self._logs = Logs(log_roots(config_dirs, outboxes), kept=KeptOpen(), is_open=self._sessions.__contains__)
        self._reader = Reader(
            logs=self._logs,
            routing=routing,
            claims=Claims(),
            sessions=self._sessions,
            marks=self._mark,
            live=self._live,
            session_timeout=session_timeout,
            first_start=self._since,
            dated=True,
            cadence=self._cadence,
        )
        self._clock = RunningClock(0.0)
        self._hints = _Hints()
        self._watcher = Watcher(
            self._logs.roots,
            self._hints.add,
            self._hints.add_all,
            registries=self._live.folders,
            registered=self._hints.wake,
        )
        self._schedule = SweepSchedule(self._cadence, time.monotonic(), time.time())
        self._existing: dict[Identity, str] = {}
        self._unwanted: set[str] = set()
        self._held: set[str] = set()
        self._queue: dict[str, None] = {}

    def __enter__(self) -> Self:
        """Start to watch, and find the existing logs."""
        self._watcher.start()
        self._logs.include(self._logs.sweep("full").changed)
        self._existing = {file.identity: path for path, file in self._logs.files.items()}
        self._enqueue(
            [files for files in self._logs.sessions.values() if self._logs.touched(files) >= self._since * 1_000_000]
        )
        self._schedule = SweepSchedule(self._cadence, time.monotonic(), time.time())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching and close all files."""
        self._watcher.stop()
        self._logs.close()

    @property
    def sessions(self) -> int:
        """How many sessions exist, followed or not."""
        return len(self._logs.sessions)

    def wait(self) -> None:
        """Sleep until something may have happened: a hint came, something is due, or the next sweep is."""
        dues = [self._clock.steady(session.due) for session in self._sessions if session.due is not None]
        self._clock.pause = max(0.0, min([self._schedule.next_at, *dues]) - time.monotonic())
        self._hints.wait(self._clock.pause)

    def advance(self) -> Iterator[Seen]:
        """Read what is new and yield what happened, session by session."""
        self._look()
        yield from self._read_queue()
        for files in self._reader.tend(self._clock.now(), self._live.running()):
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

    # ------------------------------------------------------------------ reading them

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
        again, now = True, self._clock.now()
        if files.name not in self._sessions and (touched := self._logs.touched(files)):
            # The lines count as of when they were written, so that old ones are final at once.
            now -= max(0.0, time.time() - touched / 1e9)
        while again:
            outcome = self._reader.read(self._reader.session(files, now), now, running=self._live.running())
            for step in outcome.steps:
                pipeline = outcome.session.pipeline
                assert isinstance(pipeline, Pipeline)
                yield from self._tell(pipeline, step)
            again = self._reader.note(outcome)
            self._queue |= {each.name: None for each in self._reader.called()}
            if outcome.held is not None:
                self._hold(files, outcome.held)

    def _mark(self, identity: Identity) -> FileMark | None:
        """Return the mark of a log that existed at the beginning: it is read whole, and old lines are history."""
        path = self._existing.get(identity)
        if path is None:
            return None
        device, inode = identity
        return FileMark(
            device=device, inode=inode, path=path, unit="", offset=0, head=b"", head_length=0, tail=b"", history=True
        )

    def _tell(self, pipeline: Pipeline, progress: Progress) -> Iterator[Seen]:
        for emission in progress.emissions:
            session = pipeline.files.session
            if emission.event is not None:
                body = emission.event.body
                what = view.read(body)
                # That a session has begun is seen from its prompt.
                if not what.is_open:
                    yield Seen(session=session, what=what, words=view.words(body)[:_LONGEST_WORDS])
            elif emission.prompt is not None:
                asked = view.prompt(emission.prompt, pipeline.attribution())
                yield Seen(session=session, what=asked, words=(asked.words or "")[:_LONGEST_WORDS])

    def _hold(self, files: SessionFiles, held: Held) -> None:
        if files.session not in self._held:
            self._held.add(files.session)
            self._on_held(files.session, held.reason)


class _Hints:
    """The paths that the watcher's thread reports, without repetition, so that they stay few if nobody takes them."""

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

    def wake(self) -> None:
        """End the wait, without a path to look at."""
        self._came.set()

    def wait(self, seconds: float) -> None:
        self._came.wait(seconds)

    def take(self) -> tuple[list[str], bool]:
        """Return the paths since the last call, and whether hints were lost, so that everything has to be looked at."""
        self._came.clear()
        with self._lock:
            paths, self._paths = list(self._paths), {}
            everything, self._all = self._all, False
        return paths, everything
