"""Sessions as they go on, looked at from aside: what `run` would deliver, without a store, a lock or a network.

The same parts as in the service, driven by hand and by one thread: the watcher's hints and the sweep say which logs
may have grown, a pipeline for each session says what that came to. Logs that are there at the beginning are read as at
a first start: what is older than a moment only rebuilds the state.

Nothing is written anywhere, so that any number of these may look on while a daemon runs, or none does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from daemon.following.catalog import Catalog
from daemon.following.live_sessions import LiveSessions
from daemon.following.opening import Opening, by_first_line, opening
from daemon.following.session_files import SessionFiles
from daemon.following.sweep import Sweep
from daemon.following.tailer import Identity
from daemon.following.watcher import Watcher
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress, Replaced
from daemon.reading.pipeline import Pipeline
from daemon.routing.routing import Held, Routing
from daemon.state.rows import FileMark
from llma_core import events
from llma_core.events import EventView, PromptView

__all__ = ["Follower", "Seen"]

SLICE_BYTES = 4 * 1024 * 1024
HOT_SWEEP_SECONDS = 10.0
FULL_SWEEP_SECONDS = 600.0
GONE_SECONDS = 10.0
"""Quiet after which a session that was seen running, and no longer runs, has ended."""
IDLE_SECONDS = 3600.0
"""Quiet after which a session with nothing open is dropped from memory, to be read again when it grows."""
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
        config_dirs: Claude Code's config folders; each has a `projects` folder, now or later.
        routing: how much is said of which sessions.
        since: the wall clock in seconds since the epoch; what happened before it is not told.
        session_timeout: seconds of quiet after which a session that was never seen running has ended.
        wanted: which sessions to follow, by their beginning; asked again while the beginning names no folder.
        on_held: called with the id of a session that cannot be shown, and why.
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
    ) -> None:
        # By their real paths, once: hints and sweeps must name a file alike, however the user reaches it.
        roots = list(dict.fromkeys((folder / "projects").resolve() for folder in config_dirs))
        self._routing = routing
        self._since = int(since * 1000)
        self._timeout = session_timeout
        self._wanted = wanted
        self._on_held = on_held
        self._hints = _Hints()
        self._watcher = Watcher(roots, self._hints.add, self._hints.add_all)
        self._sweep = Sweep(roots)
        self._live = LiveSessions(config_dirs)
        self._catalog = Catalog()
        self._claims = Claims()
        self._there: dict[str, Identity] = {}
        self._following: dict[str, _Following] = {}
        self._unwanted: set[str] = set()
        self._held: set[str] = set()
        self._queue: dict[str, None] = {}
        self._hot_at = self._full_at = 0.0

    def __enter__(self) -> Self:
        """Begin to watch, and find out which logs are there."""
        self._watcher.start()
        changed, _ = self._sweep.full()
        recent: list[SessionFiles] = []
        for path in changed:
            unit, found = self._catalog.add(path), self._sweep.files[path]
            if unit is None:
                continue
            self._there[path] = found.identity
            if found.modified >= self._since * 1_000_000 and unit not in recent:
                recent.append(unit)
        self._queue.update((unit.name, None) for unit in by_first_line(recent))
        now = time.monotonic()
        self._hot_at, self._full_at = now + HOT_SWEEP_SECONDS, now + FULL_SWEEP_SECONDS
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no longer."""
        self._watcher.stop()

    @property
    def sessions(self) -> int:
        """How many sessions there are, followed or not."""
        return len(self._catalog.units)

    def wait(self) -> None:
        """Sleep until something may have happened: a hint, a time that is due, or the next sweep."""
        dues = [due for following in self._following.values() if (due := following.pipeline.due()) is not None]
        self._hints.wait(max(0.0, min([self._hot_at, *dues]) - time.monotonic()))

    def advance(self) -> Iterator[Seen]:
        """Read what has come, and yield what it was, session by session."""
        self._look()
        while self._queue:
            name = next(iter(self._queue))
            del self._queue[name]
            unit = self._catalog.units.get(name)
            if unit is not None and self._is_wanted(unit):
                yield from self._read(unit)
        yield from self._by_the_clock()

    # ------------------------------------------------------------------ which sessions

    def _look(self) -> None:
        paths, everything = self._hints.take()
        for path in paths:
            changed, gone = self._sweep.hinted(path)
            self._found(changed)
            self._gone(gone)
        now = time.monotonic()
        if not everything and now < self._hot_at:
            return
        full = self._watcher.ensure() or everything or self._watcher.polling or now >= self._full_at
        changed, gone = self._sweep.full() if full else self._sweep.hot(time.time())
        self._found(changed)
        self._gone(gone)
        self._hot_at = now + HOT_SWEEP_SECONDS
        if full:
            self._full_at = now + FULL_SWEEP_SECONDS

    def _found(self, paths: Sequence[str]) -> None:
        units: dict[str, SessionFiles] = {}
        for path in paths:
            unit = self._catalog.add(path)
            if unit is None:
                # An agent's log that names its session inside, and does not yet: look again when it grows.
                self._sweep.files.pop(path, None)
            elif path not in unit.metas.values() or unit.name in self._following:
                units[unit.name] = unit
        found = by_first_line(units.values()) if len(units) > 1 else units.values()
        self._queue.update((unit.name, None) for unit in found)

    def _gone(self, paths: Sequence[str]) -> None:
        for path in paths:
            unit = self._catalog.remove(path)
            self._there.pop(path, None)
            if unit is not None and not unit.paths:
                self._drop(unit.name)

    def _is_wanted(self, unit: SessionFiles) -> bool:
        if unit.name in self._following:
            return True
        if unit.name in self._unwanted:
            return False
        began = opening(unit)
        wanted = self._wanted(began)
        if not wanted and began.cwd is not None:
            self._unwanted.add(unit.name)
        return wanted

    # ------------------------------------------------------------------ what they came to

    def _read(self, unit: SessionFiles) -> Iterator[Seen]:
        more, more_of_it = True, False
        while more:
            following = self._following.get(unit.name)
            if following is None:
                # What it says came when it was written: what lies there for a while is not made to wait for more.
                following = self._following[unit.name] = _Following(self._pipeline(unit))
                following.heard_at = time.monotonic() - self._age(unit)
            elif not more_of_it:
                following.heard_at = time.monotonic()
            more_of_it = True
            following.ended = False
            try:
                progress = following.pipeline.advance(following.heard_at, SLICE_BYTES)
            except Replaced:
                # Its new logs are read from their beginning; what was told is known by its identity.
                self._drop(unit.name)
                continue
            except Held as held:
                self._hold(unit, held)
                return
            except OSError:
                # It may be readable when it grows; it is the daemon's part to complain.
                self._drop(unit.name)
                return
            yield from self._tell(following.pipeline, progress)
            more = progress.more

    def _age(self, unit: SessionFiles) -> float:
        """How long ago *unit* was last written to, as far as it was seen, in seconds."""
        touched = max((file.modified for path in unit.paths if (file := self._sweep.files.get(path))), default=0)
        return max(0.0, time.time() - touched / 1e9) if touched else 0.0

    def _mark(self, unit: SessionFiles, identity: Identity) -> FileMark | None:
        """Return the mark of a log that was there: all of it is looked at, and older lines are its own history."""
        path = next((path for path in unit.paths if self._there.get(path) == identity), None)
        if path is None:
            return None
        device, inode = identity
        return FileMark(
            device=device,
            inode=inode,
            path=path,
            unit=unit.name,
            offset=0,
            head=b"",
            head_length=0,
            tail=b"",
            history=True,
        )

    def _pipeline(self, unit: SessionFiles) -> Pipeline:
        return Pipeline(
            unit,
            claims=self._claims,
            routing=self._routing,
            marks=partial(self._mark, unit),
            first_start=self._since,
            has_main=partial(self._catalog.has_main, unit.folder),
        )

    def _by_the_clock(self) -> Iterator[Seen]:
        """Yield what the time made final, and end the sessions that are over."""
        running = self._live.running()
        for name, following in list(self._following.items()):
            pipeline, now = following.pipeline, time.monotonic()
            following.seen_running = following.seen_running or pipeline.unit.session in running
            try:
                due = pipeline.due()
                if due is not None and due <= now:
                    yield from self._tell(pipeline, pipeline.poll(now))
                if not following.ended and self._has_ended(following, running, now):
                    following.ended = True
                    yield from self._tell(pipeline, pipeline.end(now))
            except Held as held:
                self._hold(pipeline.unit, held)
                continue
            if pipeline.idle and (following.ended or now >= following.heard_at + IDLE_SECONDS):
                self._drop(name)

    def _has_ended(self, following: _Following, running: frozenset[str], now: float) -> bool:
        if following.pipeline.unit.session in running:
            return False
        quiet = min(GONE_SECONDS, self._timeout) if following.seen_running else self._timeout
        return now >= following.heard_at + quiet

    def _tell(self, pipeline: Pipeline, progress: Progress) -> Iterator[Seen]:
        for emission in progress.emissions:
            session = pipeline.unit.session
            if emission.event is not None:
                body = emission.event.body
                yield Seen(session=session, what=events.read(body), words=events.words(body)[:_LONGEST_WORDS])
            elif emission.prompt is not None:
                asked = events.prompt(emission.prompt, pipeline.attribution())
                yield Seen(session=session, what=asked, words=(asked.words or "")[:_LONGEST_WORDS])

    def _hold(self, unit: SessionFiles, held: Held) -> None:
        self._drop(unit.name)
        if unit.session not in self._held:
            self._held.add(unit.session)
            self._on_held(unit.session, held.reason)

    def _drop(self, name: str) -> None:
        self._following.pop(name, None)
        self._claims.forget(name)


class _Following:
    """A session that is being followed."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.heard_at = 0.0
        self.seen_running = False
        self.ended = False


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
