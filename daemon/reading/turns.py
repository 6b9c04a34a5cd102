"""The queue of sessions that may have grown: which one is read next.

Project folders take turns. Within one folder, sessions come in the order in which they were found. A session whose
route has no room waits, and so do the sessions behind it in its folder whose beginning nobody has looked at yet: they
may be its forks, and copied lines count for the session that is read first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence

from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles

__all__ = ["Turns"]


class Turns:
    """The sessions that wait to be read.

    Args:
        sessions: the existing sessions, by name.
        active: the names of the sessions in memory.
        seen: the names of the sessions whose beginning was looked at.
        stalled_on: returns the route of a session, by name, if the route has no room; None if it has room or is not
            known yet.
        is_stopped: returns whether a route accepts nothing for now.

    Attributes:
        stalled_on: the function that was passed in.
    """

    def __init__(
        self,
        sessions: Mapping[str, SessionFiles],
        *,
        active: Container[str],
        seen: Container[str],
        stalled_on: Callable[[str], Route | None],
        is_stopped: Callable[[Route], bool],
    ) -> None:
        self._sessions = sessions
        self._active = active
        self._seen = seen
        self.stalled_on = stalled_on
        self._is_stopped = is_stopped
        self._folders: dict[str, dict[str, None]] = {}
        self._unsorted: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._folders.values()))

    def __contains__(self, files: SessionFiles) -> bool:
        return files.name in self._folders.get(files.folder, ())

    @property
    def names(self) -> set[str]:
        """The names of the waiting sessions."""
        return {name for names in self._folders.values() for name in names}

    def add(self, files: SessionFiles) -> None:
        """Enqueue a session. One that waits already keeps its place."""
        self._folders.setdefault(files.folder, {})[files.name] = None

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
        self._folders[files.folder] = {files.name: None, **self._folders.get(files.folder, {})}

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
            known = [self._sessions[name] for name in self._folders.get(folder, ()) if name in self._sessions]
            if not known:
                continue
            being_read = [files.name for files in known if files.name in self._active]
            ordered = await order([files for files in known if files.name not in self._active])
            # Sessions that a hint has added meanwhile come last.
            names = [*being_read, *(files.name for files in ordered), *self._folders[folder]]
            self._folders[folder] = dict.fromkeys(names)

    def next(self) -> SessionFiles | None:
        """Take the next session whose route has room; None if there is none. Folders take turns."""
        for folder in list(self._folders):
            names = self._folders[folder]
            while names and (first := next(iter(names))) not in self._sessions:
                del names[first]
            known = (files for name in names if (files := self._sessions.get(name)) is not None)
            files = next(self.readable(known), None)
            if files is not None:
                del names[files.name]
                # The next turn of this folder comes after those of all others.
                del self._folders[folder]
                if names:
                    self._folders[folder] = names
                return files
            if not names:
                del self._folders[folder]
        return None

    def readable(self, sessions: Iterable[SessionFiles]) -> Iterator[SessionFiles]:
        """Yield those of *sessions* that can be read now, in order.

        If the route of one has no room, those behind it in the same folder wait, too, unless they were looked at
        already: one may be its fork. If its route is stopped, they do not wait, because it may stay stopped for good.
        """
        stalled: set[str] = set()
        for files in sessions:
            if (route := self.stalled_on(files.name)) is not None:
                if not self._is_stopped(route):
                    stalled.add(files.folder)
            elif files.name in self._seen or files.name in self._active or files.folder not in stalled:
                yield files
