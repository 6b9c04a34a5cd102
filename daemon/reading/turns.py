"""The queue of sessions that may have grown: which one is read next.

Project folders take turns. Within one folder, sessions come in the order in which they were found. A session whose
route has no room waits, and so do the sessions behind it in its folder whose beginning nobody has looked at yet: they
may be its forks, and copied lines count for the session that is read first.

Thousands of sessions may wait for a route. None of them is asked for its route again until that route moves: it has
room, or it stops or no longer does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence

from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles

__all__ = ["Line", "Turns"]


class Line:
    """Sessions in the order in which they are read. `Turns.line` builds one.

    Attributes:
        names: the sessions by name, each with the route that it was found to wait for; None if it was found to wait
            for none, or was not asked yet.
    """

    def __init__(self, turns: Turns, names: Iterable[str]) -> None:
        self.names: dict[str, Route | None] = dict.fromkeys(names)
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

    def first(self) -> SessionFiles | None:
        """Return the first session that can be read now, which stays in line; None if there is none.

        If the route of one has no room, those behind it in the same folder wait, too, unless they were looked at
        already: one may be its fork. If its route is stopped, they do not wait, because it may stay stopped for good.
        """
        turns = self._turns
        if not self._has_changed and all(
            not turns.has_room(route) and turns.is_stopped(route) == stopped for route, stopped in self._stalled.items()
        ):
            return None
        self._has_changed = True
        stalled: dict[Route, bool] = {}
        folders: set[str] = set()
        for name, known in list(self.names.items()):
            files, route = turns.sessions.get(name), known
            if files is None:
                del self.names[name]
                continue
            if files.folder in folders and not turns.was_looked_at(name):
                continue
            if route is None or (route not in stalled and turns.has_room(route)):
                route = self.names[name] = turns.stalled_on(name)
            if route is None:
                return files
            if route not in stalled:
                stalled[route] = turns.is_stopped(route)
            if not stalled[route]:
                folders.add(files.folder)
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
        self._folders: dict[str, Line] = {}
        self._unsorted: set[str] = set()

    def __len__(self) -> int:
        return sum(len(line.names) for line in self._folders.values())

    def __contains__(self, files: SessionFiles) -> bool:
        line = self._folders.get(files.folder)
        return line is not None and files.name in line.names

    @property
    def names(self) -> set[str]:
        """The names of the waiting sessions."""
        return {name for line in self._folders.values() for name in line.names}

    @property
    def stalled(self) -> set[Route]:
        """The routes that sessions wait for, as of the last time that `next` found none to read."""
        return {route for line in self._folders.values() for route in line.stalled}

    def was_looked_at(self, name: str) -> bool:
        """Whether the beginning of a session was looked at."""
        return name in self._seen or name in self._active

    def line(self, sessions: Iterable[SessionFiles] = ()) -> Line:
        """Return a line of *sessions* of any folders, which is not a part of the queue."""
        return Line(self, [files.name for files in sessions])

    def add(self, files: SessionFiles) -> None:
        """Enqueue a session. One that waits already keeps its place."""
        line = self._folders.get(files.folder)
        if line is None:
            line = self._folders[files.folder] = self.line()
        line.add(files.name)

    def note_found(self, sessions: Iterable[SessionFiles]) -> None:
        """Note that *sessions* were found at once, in no particular order, so that `sort` sorts those of one folder."""
        folders = set()
        for files in sessions:
            if files.name not in self._active:
                if files.folder in folders:
                    self._unsorted.add(files.folder)
                folders.add(files.folder)

    def resume(self, files: SessionFiles) -> None:
        """Put a session first in its folder, because it is not read to its end: one of its forks may wait behind it."""
        self.add(files)
        line = self._folders[files.folder]
        line.arrange([files.name, *line.names])

    def clear(self) -> None:
        """Empty the queue."""
        self._folders.clear()

    async def sort(self, order: Callable[[Sequence[SessionFiles]], Awaitable[Sequence[SessionFiles]]]) -> None:
        """Put originals before their copies, in the folders whose sessions were found at once.

        Copied messages say so only since 2.1.329. Older ones count for the session that is read first.

        Args:
            order: returns sessions in the order in which to read them.
        """
        while self._unsorted:
            folder = self._unsorted.pop()
            line = self._folders.get(folder)
            known = [self.sessions[name] for name in line.names if name in self.sessions] if line is not None else []
            if line is None or not known:
                continue
            being_read = [files.name for files in known if files.name in self._active]
            ordered = await order([files for files in known if files.name not in self._active])
            # Sessions that a hint has added meanwhile come last.
            line.arrange([*being_read, *(files.name for files in ordered), *line.names])

    def next(self) -> SessionFiles | None:
        """Take the next session whose route has room; None if there is none. Folders take turns."""
        for folder, line in list(self._folders.items()):
            files = line.first()
            if files is not None:
                line.remove(files.name)
                # The next turn of this folder comes after those of all others.
                del self._folders[folder]
                if line.names:
                    self._folders[folder] = line
                return files
            if not line.names:
                del self._folders[folder]
        return None
