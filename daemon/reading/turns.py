"""Turns: which of the sessions that may have grown is read next.

Folders take turns, and within one folder sessions come in the order in which they were found. A session whose route has
no room waits, and with it those behind it in its folder that were never looked at: they may be its forks, and what was
copied counts for the session that is read first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence

from daemon.delivering.route import Route
from daemon.following.session_files import SessionFiles

__all__ = ["Turns"]


class Turns:
    """The sessions that wait to be read.

    Args:
        units: the sessions that are there, by name.
        active: the names of those that are being followed: what they hold is known.
        seen: the names of those whose beginning was looked at.
        stalled_on: returns the route of a session by name if it has no room; None if it has, or is not known yet.
        is_stopped: whether a route takes nothing until a person has changed something.

    Attributes:
        stalled_on: as it was given.
    """

    def __init__(
        self,
        units: Mapping[str, SessionFiles],
        *,
        active: Container[str],
        seen: Container[str],
        stalled_on: Callable[[str], Route | None],
        is_stopped: Callable[[Route], bool],
    ) -> None:
        self._units = units
        self._active = active
        self._seen = seen
        self.stalled_on = stalled_on
        self._is_stopped = is_stopped
        self._folders: dict[str, dict[str, None]] = {}
        self._unsorted: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._folders.values()))

    def __contains__(self, unit: SessionFiles) -> bool:
        return unit.name in self._folders.get(unit.folder, ())

    @property
    def names(self) -> set[str]:
        """The names of those that wait."""
        return {name for units in self._folders.values() for name in units}

    def add(self, unit: SessionFiles) -> None:
        """Let *unit* wait for its turn; where it does already, its place stays."""
        self._folders.setdefault(unit.folder, {})[unit.name] = None

    def note_found(self, units: Iterable[SessionFiles]) -> None:
        """Note that *units* were found at once, in whatever order: those of one folder have to be sorted."""
        folders = set()
        for unit in units:
            if unit.name not in self._active:
                if unit.folder in folders:
                    self._unsorted.add(unit.folder)
                folders.add(unit.folder)

    def resume(self, unit: SessionFiles) -> None:
        """Go on with *unit* when its folder's turn comes again, before what waits there: a fork may stand behind it."""
        self._folders[unit.folder] = {unit.name: None, **self._folders.get(unit.folder, {})}

    def clear(self) -> None:
        """Let nobody wait."""
        self._folders.clear()

    async def sort(self, order: Callable[[Sequence[SessionFiles]], Awaitable[Sequence[SessionFiles]]]) -> None:
        """Put originals before their copies, in the folders in which sessions were found all at once.

        What copies a message says so only since 2.1.329: of others, the session that is read first counts as its own.

        Args:
            order: returns sessions in the order in which they are to be read.
        """
        while self._unsorted:
            folder = self._unsorted.pop()
            known = [self._units[name] for name in self._folders.get(folder, ()) if name in self._units]
            if not known:
                continue
            being_read = [unit.name for unit in known if unit.name in self._active]
            ordered = await order([unit for unit in known if unit.name not in self._active])
            # What a hint has brought meanwhile comes last.
            names = [*being_read, *(unit.name for unit in ordered), *self._folders[folder]]
            self._folders[folder] = dict.fromkeys(names)

    def next(self) -> SessionFiles | None:
        """Take the session whose turn it is: folders in turn, within one folder in order; none whose route is full."""
        for folder in list(self._folders):
            units = self._folders[folder]
            while units and (first := next(iter(units))) not in self._units:
                del units[first]
            known = (unit for name in units if (unit := self._units.get(name)) is not None)
            unit = next(self.readable(known), None)
            if unit is not None:
                del units[unit.name]
                # Its folder's next turn comes after those of all others.
                del self._folders[folder]
                if units:
                    self._folders[folder] = units
                return unit
            if not units:
                del self._folders[folder]
        return None

    def readable(self, units: Iterable[SessionFiles]) -> Iterator[SessionFiles]:
        """Pick those of *units* that can be read now, in order.

        Behind one that cannot for now, a session of the same folder that was never looked at waits too: it may be its
        fork. Behind one whose route is stopped it does not, as that may be for ever.
        """
        stalled: set[str] = set()
        for unit in units:
            if (route := self.stalled_on(unit.name)) is not None:
                if not self._is_stopped(route):
                    stalled.add(unit.folder)
            elif unit.name in self._seen or unit.name in self._active or unit.folder not in stalled:
                yield unit
