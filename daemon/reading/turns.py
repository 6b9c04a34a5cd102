"""The queue of sessions that may have grown: which one is read next.

Project folders take turns. Within one folder, sessions come in the order in which they were found. A session whose
route has no room waits, and so do the sessions behind it in its folder whose beginning nobody has looked at yet: they
may be its forks, and copied lines count for the session that is read first.

The client moves logs to other folders, and a fork may be in another one than its original. So sessions that begin with
the same line of a conversation wait in the same line, whatever folders they are in.

Thousands of sessions may wait for a route. None of them is asked for its route again until that route moves: it has
room, or it stops or no longer does.

Programs may record faster than their files are read, each in a file of its own. None of these is a copy, so their order
matters little: those that are found later wait behind those in order, until they are about as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

from daemon.delivering.route import Route
from daemon.following.opening import Ordered
from daemon.following.session_files import SessionFiles

__all__ = ["Line", "Turns"]

_MANY = 2
"""Fewer sessions need no order."""
_ONE_IN = 2
"""A line of recorded files is sorted once one in so many of them is in no order."""
_PASSES = 2
"""How often to sort before the next session is read: once more for what the first pass has moved to another line.

Sessions may be found faster than they are sorted. What the last pass leaves is sorted after that session's slice.
"""


class Line:
    """Sessions in the order in which they are read. `Turns.line` builds one.

    Attributes:
        names: the sessions by name, each with the route that it was found to wait for; None if it was found to wait
            for none, or was not asked yet.
        is_spool: whether they are what programs have recorded. None of these has lines in common with another one.
    """

    def __init__(self, turns: Turns, names: Iterable[str], *, is_spool: bool = False) -> None:
        self.names: dict[str, Route | None] = dict.fromkeys(names)
        self.is_spool = is_spool
        self._turns = turns
        self._has_changed = True
        self._stalled: dict[Route, bool] = {}

    @property
    def stalled(self) -> Collection[Route]:
        """The routes that its sessions wait for, as of the last time that none could be read."""
        return self._stalled.keys()

    def add(self, name: str) -> None:
        """Put a session at the end. One that is there already keeps its place."""
        self._has_changed = self._has_changed or self.names.get(name) is None
        self.names.setdefault(name, None)

    def remove(self, name: str) -> None:
        """Take a session out, if it is there."""
        self.names.pop(name, None)

    def arrange(self, names: Iterable[str]) -> None:
        """Put the sessions in another order. It may have more of them, and must have all."""
        self.names = {name: self.names.get(name) for name in names}
        self._has_changed = True

    def upcoming(self) -> Iterator[SessionFiles]:
        """Yield its sessions in order, whether or not there is room for them."""
        return (files for name in self.names if (files := self._turns.sessions.get(name)) is not None)

    def first(self) -> SessionFiles | None:
        """Return the first session that can be read now, which stays in line; None if there is none.

        If the route of one has no room, those behind it in the same line wait, too, unless they were looked at
        already: one may be its fork. If its route is stopped, they do not wait, because it may stay stopped for good.
        """
        turns = self._turns
        if not self._has_changed and all(
            not turns.has_room(route) and turns.is_stopped(route) == stopped for route, stopped in self._stalled.items()
        ):
            return None
        self._has_changed = True
        gone: list[str] = []
        files = self._find(gone)
        for name in gone:
            del self.names[name]
        return files

    def _find(self, gone: list[str]) -> SessionFiles | None:
        """Do what `first` does, but add the sessions that do not exist any more to *gone* instead of removing them."""
        turns = self._turns
        stalled: dict[Route, bool] = {}
        lanes: set[str] = set()
        # Thousands may wait, and this runs for each of them: it must not look at all, nor copy them.
        for name, known in self.names.items():
            files, route = turns.sessions.get(name), known
            if files is None:
                gone.append(name)
                continue
            if turns.lane(files) in lanes and not turns.was_looked_at(name):
                continue
            if route is None or (route not in stalled and turns.has_room(route)):
                route = self.names[name] = turns.stalled_on(name)
            if route is None:
                return files
            if route not in stalled:
                stalled[route] = turns.is_stopped(route)
            if not stalled[route]:
                lanes.add(turns.lane(files))
        self._has_changed, self._stalled = False, stalled
        return None


class Turns:
    """The sessions that wait to be read.

    Args:
        sessions: the existing sessions, by name.
        active: the names of the sessions in memory.
        seen: the names of the sessions whose beginning was looked at.
        stalled_on: returns the route of a session, by name, if the route has no room; None if it has room or is not
            known yet.
        has_room: returns whether more may be read for a route.
        is_stopped: returns whether a route accepts nothing for now.

    Attributes:
        sessions: as passed in, like the functions of that name.
    """

    def __init__(
        self,
        sessions: Mapping[str, SessionFiles],
        *,
        active: Container[str],
        seen: Container[str],
        stalled_on: Callable[[str], Route | None],
        has_room: Callable[[Route], bool],
        is_stopped: Callable[[Route], bool],
    ) -> None:
        self.sessions = sessions
        self.stalled_on = stalled_on
        self.has_room = has_room
        self.is_stopped = is_stopped
        self._active = active
        self._seen = seen
        self._lines: dict[str, Line] = {}
        self._unsorted: set[str] = set()
        self._unordered = Counter[str]()
        self._has_fresh = False
        self._roots: dict[str, frozenset[str]] = {}
        self._lanes: dict[str, str] = {}

    def __len__(self) -> int:
        return sum(len(line.names) for line in self._lines.values())

    def __contains__(self, files: SessionFiles) -> bool:
        line = self._lines.get(self.lane(files))
        return line is not None and files.name in line.names

    @property
    def names(self) -> set[str]:
        """The names of the waiting sessions."""
        return {name for line in self._lines.values() for name in line.names}

    @property
    def stalled(self) -> set[Route]:
        """The routes that sessions wait for, as of the last time that `next` found none to read."""
        return {route for line in self._lines.values() for route in line.stalled}

    def was_looked_at(self, name: str) -> bool:
        """Whether the beginning of a session was looked at."""
        return name in self._seen or name in self._active

    def line(self, sessions: Iterable[SessionFiles] = ()) -> Line:
        """Return a line of *sessions* of any folders, which is not a part of the queue."""
        return Line(self, [files.name for files in sessions])

    def lane(self, files: SessionFiles) -> str:
        """Return the folder in whose line a session waits: its own, or that of a session that began with its lines."""
        return self._lanes.get(files.name, files.folder)

    def add(self, files: SessionFiles) -> None:
        """Enqueue a session. One that waits already keeps its place."""
        lane = self.lane(files)
        line = self._line(lane, is_spool=files.agent.is_spool)
        if files.name not in line.names and not line.is_spool and not self.was_looked_at(files.name):
            self._has_fresh = True
        line.add(files.name)
        if self._goes_first(files.name) and next(iter(self._lines)) != lane:
            self._lines = {lane: self._lines.pop(lane), **self._lines}

    def _goes_first(self, name: str) -> bool:
        """Whether a session is what a program has recorded, not read yet: it may say something of other sessions."""
        files = self.sessions.get(name)
        return files is not None and files.agent.is_spool and name not in self._active

    def _line(self, lane: str, *, is_spool: bool = False) -> Line:
        line = self._lines.get(lane)
        if line is None:
            line = self._lines[lane] = Line(self, (), is_spool=is_spool)
        return line

    def note_found(self, sessions: Iterable[SessionFiles]) -> None:
        """Note that *sessions* were found at once, in no particular order, so that `sort` sorts those of one folder."""
        lanes: dict[str, list[SessionFiles]] = {}
        for files in sessions:
            if files.name not in self._active:
                lanes.setdefault(self.lane(files), []).append(files)
        for lane, together in lanes.items():
            if len(together) < _MANY:
                continue
            if together[0].agent.is_spool:
                self._unordered[lane] += len(together)
            else:
                self._unsorted.add(lane)

    def resume(self, files: SessionFiles) -> None:
        """Put a session first in its line, because it is not read to its end: one of its forks may wait behind it."""
        self.add(files)
        line = self._lines[self.lane(files)]
        line.arrange([files.name, *line.names])

    def clear(self) -> None:
        """Empty the queue."""
        self._lines.clear()

    async def sort(self, order: Callable[[Sequence[SessionFiles]], Awaitable[Sequence[Ordered]]]) -> None:
        """Put originals before their copies, where sessions were found at once or may be copies of one that waits.

        Copied messages say so only since 2.1.329. Older ones count for the session that is read first.

        Args:
            order: returns sessions in the order in which to read them.
        """
        for _ in range(_PASSES):
            self._note_unordered()
            if not (self._unsorted or self._has_fresh):
                return
            lanes, self._unsorted, self._has_fresh = self._unsorted, set(), False
            waiting = {
                name: lane
                for lane, line in self._lines.items()
                if lane in lanes or not line.is_spool
                for name in line.names
                if name in self.sessions
            }
            self._roots = {name: roots for name, roots in self._roots.items() if name in waiting}
            self._lanes = {name: lane for name, lane in self._lanes.items() if name in waiting}
            if len(waiting) < _MANY:
                continue
            ordered = await order(
                [
                    self.sessions[name]
                    for name, lane in waiting.items()
                    if name not in self._roots or (lane in lanes and name not in self._active)
                ]
            )
            self.join(ordered)
            by_lane: dict[str, list[str]] = {}
            for files, _ in ordered:
                by_lane.setdefault(self.lane(files), []).append(files.name)
            for lane in lanes & by_lane.keys() & self._lines.keys():
                line = self._lines[lane]
                being_read = [name for name in line.names if name in self._active]
                found = [name for name in by_lane[lane] if name in line.names and name not in self._active]
                # Sessions that a hint has added meanwhile come last.
                line.arrange([*being_read, *found, *line.names])

    def _note_unordered(self) -> None:
        """Note which lines of recorded files are to be sorted: those of which about half are in no order yet.

        So however many files wait and however few are found at a time, each file is sorted a few times.
        """
        for lane, number in list(self._unordered.items()):
            line = self._lines.get(lane)
            if line is not None and _ONE_IN * number >= len(line.names):
                self._unsorted.add(lane)
            if line is None or lane in self._unsorted:
                del self._unordered[lane]

    def join(self, ordered: Iterable[Ordered]) -> None:
        """Let sessions with a root in common wait in the same line, that of the first of them.

        A line that gets others is sorted anew by `sort`.
        """
        ordered = list(ordered)
        asked = {files.name for files, _ in ordered}
        leaders: dict[str, str] = {}
        for lane, line in self._lines.items():
            for name in line.names if not line.is_spool else ():
                if name not in asked:
                    for root in self._roots.get(name, ()):
                        leaders.setdefault(root, lane)
        for files, roots in ordered:
            if roots:
                self._roots[files.name] = roots
            before = self.lane(files)
            lane = next((leaders[root] for root in roots if root in leaders), before)
            for root in roots:
                leaders.setdefault(root, lane)
            if lane != before:
                self._lanes[files.name] = lane
                self._move(files.name, before, lane)

    def _move(self, name: str, before: str, lane: str) -> None:
        line = self._lines.get(before)
        if line is not None and name in line.names:
            line.remove(name)
            if not line.names:
                del self._lines[before]
            self._line(lane).add(name)
            self._unsorted.add(lane)

    def upcoming(self) -> Iterator[SessionFiles]:
        """Yield the waiting sessions, about in the order in which they will be read, while the queue stays as it is."""
        for abreast in zip_longest(*(line.upcoming() for line in self._lines.values())):
            yield from (files for files in abreast if files is not None)

    def next(self) -> SessionFiles | None:
        """Take the next session whose route has room; None if there is none. Lines take turns."""
        for lane, line in list(self._lines.items()):
            files = line.first()
            if files is not None:
                line.remove(files.name)
                # The next turn of this line comes after those of all others.
                del self._lines[lane]
                if line.names and self._goes_first(next(iter(line.names))):
                    self._lines = {lane: line, **self._lines}
                elif line.names:
                    self._lines[lane] = line
                return files
            if not line.names:
                del self._lines[lane]
        return None
