"""A seeded writer of session logs: writes to a `projects` folder as many clients at once, in portions of any size.

It always writes several sessions, each turn by turn: main log, subagents' logs and their meta files side by side, in
whole lines, in half lines, or all at once. Some sessions are forked between two turns. Now and then the writer rewrites
a log beside itself and renames it into its place, unchanged or with one more line at the front, or moves a main log to
another project's folder, as the client does.

The events of the sessions do not depend on when a daemon reads, under one condition that a real client meets too: the
lines of one message follow each other within the time after which a message counts as complete. The writer meets it: it
never rests in the middle of a message. It also measures whether the machine kept it from writing.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

from tests.support.histories import VERSIONS, History, add_turn, history_of
from tests.support.logs import LogBuilder
from tests.support.processes import append, now, session_id

__all__ = ["Figures", "Writer"]

_SESSIONS = 6
"""How many sessions are written at the same time."""
_TURNS = (2, 6)
_FORK_SHARE = 0.15
_BURST_SHARE = 0.15
"""Share of the turns that begin a burst: several turns written at once."""
_BURST_TURNS = 8
_REWRITE_SHARE = 0.01
_MOVE_SHARE = 0.02
_REST_SECONDS = 0.05
"""Mean length of the writer's rests."""
_PIECE_SECONDS = 0.01
"""Longest wait between two pieces of one message."""
_NAMES_A_TURN = 1000
_BRANCHES_UNTOLD = frozenset({"2.1.200"})
"""Clients whose /branch does not record which of the two sessions was first."""


class _Seeded:
    """Makes decisions from a source of random numbers."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def choose(self, *choices: str) -> str:
        return self._source.choice(choices)

    def between(self, least: int, most: int) -> int:
        return self._source.randint(least, most)

    def either(self) -> bool:
        return self._source.random() < 0.5


@dataclass(slots=True, kw_only=True)
class Figures:
    """What the writer did.

    Attributes:
        sessions: sessions begun, including forks.
        forks: sessions that began with a copy of another.
        rewrites: logs that were replaced.
        moves: logs that were moved to another project's folder.
        bytes: bytes written, without those of rewrites.
        longest_message: the longest time that writing the lines of one message took, in seconds.
        longest_silence: the longest time that a session waited for its next piece, in seconds.
    """

    sessions: int = 0
    forks: int = 0
    rewrites: int = 0
    moves: int = 0
    bytes: int = 0
    longest_message: float = 0.0
    longest_silence: float = 0.0


class _Session:
    """One session and how much of it is written."""

    def __init__(self, log: LogBuilder, *, is_fork: bool, turns: int, clock: float) -> None:
        self.log = log
        self.is_fork = is_fork
        self.turns = turns
        self.touched = clock
        self._made = 0
        self._sizes: dict[str, int] = {}
        self._front: dict[str, bytes] = {}
        self._folder: str | None = None
        self.is_forked = False
        self._metas: dict[str, bytes] = {}
        self._history: History = history_of(log)

    def add_turn(self, source: random.Random) -> None:
        """Decide what happens in the next turn, without writing it."""
        self._made += 1
        self.turns -= 1
        add_turn(self.log, _Seeded(source), named_from=self._made * _NAMES_A_TURN)
        self._history = history_of(self.log)

    @property
    def is_open(self) -> bool:
        """Whether a message is half-written."""
        return not self._history.has_whole_messages(self._sizes)

    @property
    def left(self) -> list[str]:
        """The logs and meta files that are not fully written; if any has a half-written message, only those."""
        logs = self._history.logs
        opened = self._history.open_files(self._sizes)
        if opened:
            return sorted(opened)
        grown = [name for name in logs if self._sizes.get(name, 0) < len(logs[name])]
        return grown + [name for name, meta in self._history.metas.items() if self._metas.get(name) != meta]

    def write_piece(self, projects: Path, source: random.Random) -> int:
        """Write some bytes of one file; return how many."""
        name = source.choice(self.left)
        if name in self._history.metas:
            meta = self._metas[name] = self._history.metas[name]
            path = projects / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(meta)
            return len(meta)
        data, start = self._history.logs[name], self._sizes.get(name, 0)
        ends = [end for end, _ in self._history.times[name] if end > start]
        kind = source.random()
        if kind < 0.6:
            end = ends[0]
        elif kind < 0.8:
            end = ends[min(len(ends), source.randint(2, 6)) - 1]
        else:
            end = source.randint(start + 1, ends[min(len(ends), 2) - 1])
        self._append(projects, name, data[start:end])
        return end - start

    def write_all(self, projects: Path) -> int:
        """Write everything that is left, each file at once; return how many bytes of logs."""
        count = 0
        for name, meta in self._history.metas.items():
            (projects / name).parent.mkdir(parents=True, exist_ok=True)
            (projects / name).write_bytes(meta)
            self._metas[name] = meta
        for name, data in self._history.logs.items():
            more = data[self._sizes.get(name, 0) :]
            if more:
                self._append(projects, name, more)
                count += len(more)
        return count

    def rewrite(self, projects: Path, source: random.Random) -> bool:
        """Replace one log with another file; return False if no log exists yet."""
        written = [name for name, size in self._sizes.items() if size]
        if not written:
            return False
        name = source.choice(written)
        if source.random() < 0.5:
            # One more line at the front moves every other line.
            front = self._front.get(name, b"")
            self._front[name] = front + b'{"type":"mode","number":%d}\n' % len(front)
        path = self._path(projects, name)
        beside = path.with_suffix(".beside")
        beside.write_bytes(self._front.get(name, b"") + self._history.logs[name][: self._sizes[name]])
        beside.replace(path)
        return True

    def move(self, projects: Path, source: random.Random) -> bool:
        """Move the main log to another project's folder; return False if it cannot be moved.

        Originals are read before their copies only within one folder, and most clients' copies tell nothing.
        """
        if self.is_fork or self.is_forked or not self._sizes.get(self.log.path):
            return False
        path = self._path(projects, self.log.path)
        self._folder = f"-home-ada-work-tree-{source.randint(1, 9)}"
        new = self._path(projects, self.log.path)
        new.parent.mkdir(exist_ok=True)
        path.rename(new)
        return True

    @property
    def is_moved(self) -> bool:
        """Whether the main log was moved."""
        return self._folder is not None

    def _path(self, projects: Path, name: str) -> Path:
        if name == self.log.path and self._folder is not None:
            return projects / self._folder / Path(name).name
        return projects / name

    def _append(self, projects: Path, name: str, data: bytes) -> None:
        append(self._path(projects, name), data)
        self._sizes[name] = self._sizes.get(name, 0) + len(data)


class Writer:
    """Writes until it is stopped.

    Args:
        projects: the `projects` folder, which must exist.
        seed: determines what is written; the machine's speed determines when.
        requests: whether the logs hold the lines from which requests are rebuilt.
    """

    def __init__(self, projects: Path, *, seed: int, requests: bool = False) -> None:
        self.figures = Figures()
        self._projects = projects
        self._seed = seed
        self._requests = requests
        self._source = random.Random(seed)
        self._sessions: list[_Session] = []

    async def write(self) -> None:
        """Write until cancelled. That happens between two pieces, perhaps in the middle of a message."""
        while True:
            while len(self._sessions) < _SESSIONS:
                self._begin()
            await self._advance(self._next())
            await asyncio.sleep(self._source.expovariate(1 / _REST_SECONDS))

    def finish(self) -> None:
        """Write the rest of every session that has begun."""
        for session in self._sessions:
            self.figures.bytes += session.write_all(self._projects)

    def _next(self) -> _Session:
        """Choose a session at random, but often the one that has waited longest, so that each gets its turn."""
        if self._source.random() < 0.3:
            return min(self._sessions, key=lambda session: session.touched)
        return self._source.choice(self._sessions)

    def _begin(self) -> None:
        self.figures.sessions += 1
        number = self.figures.sessions
        log = LogBuilder(
            session_id(f"{self._seed}/{number}"),
            version=self._source.choice(VERSIONS),
            cwd=f"/home/ada/orchard-{number % 3}",
            start=now(),
            requests=self._requests,
        )
        self._add(log, is_fork=False)

    def _fork(self, log: LogBuilder) -> None:
        self.figures.sessions += 1
        self.figures.forks += 1
        branch = log.version not in _BRANCHES_UNTOLD and self._source.random() < 0.5
        copy = log.fork(session_id(f"{self._seed}/{self.figures.sessions}"), branch=branch)
        self._add(copy, is_fork=True)

    def _add(self, log: LogBuilder, *, is_fork: bool) -> None:
        clock = asyncio.get_running_loop().time()
        session = _Session(log, is_fork=is_fork, turns=self._source.randint(*_TURNS), clock=clock)
        session.add_turn(self._source)
        self._sessions.append(session)

    async def _advance(self, session: _Session) -> None:
        """Write a piece of *session*, and more until no message of it is half-written."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self.figures.longest_silence = max(self.figures.longest_silence, began - session.touched)
        if not session.left:
            self._continue(session)
        elif self._source.random() < _REWRITE_SHARE:
            self.figures.rewrites += session.rewrite(self._projects, self._source)
        elif self._source.random() < _MOVE_SHARE:
            self.figures.moves += session.move(self._projects, self._source)
        else:
            self.figures.bytes += session.write_piece(self._projects, self._source)
        while session.is_open:
            await asyncio.sleep(self._source.random() * _PIECE_SECONDS)
            self.figures.bytes += session.write_piece(self._projects, self._source)
        session.touched = clock()
        self.figures.longest_message = max(self.figures.longest_message, session.touched - began)

    def _continue(self, session: _Session) -> None:
        """Continue a session that is fully written: fork it, begin its next turn, or end it."""
        # No fork of a fork: the logs of most clients do not tell which of the two came first.
        may_fork = not session.is_fork and not session.is_moved and len(self._sessions) < 2 * _SESSIONS
        if may_fork and self._source.random() < _FORK_SHARE:
            session.is_forked = True
            self._fork(session.log)
        if session.turns <= 0:
            self._sessions.remove(session)
        elif self._source.random() < _BURST_SHARE:
            for _ in range(_BURST_TURNS):
                session.add_turn(self._source)
            self.figures.bytes += session.write_all(self._projects)
        else:
            session.add_turn(self._source)
