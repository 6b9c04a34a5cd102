"""The reader and the settlement, driven by hand: real files, a real store, a made-up receiver; no clock, no network.

    rig = Rig(tmp_path)
    rig.append(name, data)
    rig.read()
    rig.lose_answer(2)
    rig.crash()
    rig.finish()

The rig does step by step what the service does, in the same order. It checks what must always be true: no event is
given out twice, no settled event is given out again, and no committed offset has passed a line whose event is not
settled.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.config.loading import load
from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.delivering.delivery import EventOutcome
from daemon.following.cadence import Cadence
from daemon.following.kept_open import KeptOpen
from daemon.following.live_sessions import LiveSessions
from daemon.following.log_roots import roots_at
from daemon.following.logs import Logs
from daemon.following.opening import by_first_line
from daemon.following.session_files import SessionFiles
from daemon.history.first_start import settle_history
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress
from daemon.reading.logged_history import LoggedHistory
from daemon.reading.open_sessions import OpenSessions
from daemon.reading.preview import emissions, find_logs
from daemon.reading.reader import Reader
from daemon.reading.settlement import Settlement
from daemon.reading.standing import Standing
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from daemon.state.rows import Commit, FrozenRoute
from daemon.state.store import Store
from daemon.system import disk
from llma_core.events import CaptureEvent

__all__ = ["SECOND", "Reference", "Resting", "Rig", "answering_disk", "reference", "routing_for"]

_REPOSITORIES = Repositories()
_SLICE = 1 << 20
_GONE = Cadence().gone
SECOND = "../../second/projects/"


def routing_for(root: Path, *, grouping: str = "session", inputs: str = "delta") -> Routing:
    """Return a routing that needs no git and no account."""
    environ = {
        "CLAUDE_CONFIG_DIR": str(root / "config"),
        "POSTHOG_LLMA_DISTINCT_ID": "ada@example.com",
        "POSTHOG_LLMA_TRACE_GROUPING": grouping,
        "POSTHOG_LLMA_INPUT": inputs,
    }
    return Routing(load({}, environ, config_file=root / "none.toml", home=root), _REPOSITORIES, purpose="preview")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resting:
    """An event that rests on lines, which is every event but a trace.

    Attributes:
        identity: its identity.
        uuid: its uuid.
        file: the file of its last line, relative to `projects`.
        end: end of that line, in bytes.
    """

    identity: str
    uuid: str
    file: str
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The events of finished files.

    Attributes:
        bodies: every event's body by uuid, as `preview` yields it.
        names: every event's name by uuid; that of an opening trace is OPENING.
        resting: every event but traces, with the last line it rests on.
    """

    bodies: Mapping[str, bytes]
    names: Mapping[str, str]
    resting: Sequence[Resting]


OPENING = "opening $ai_trace"
"""The name of an opening trace here: it comes once, and always the same, as everything but a trace does."""


def named(event: CaptureEvent) -> str:
    """Return the name of an event, and OPENING for an opening trace."""
    return OPENING if event.identity.startswith("trace-open|") else event.name


@contextmanager
def answering_disk() -> Iterator[None]:
    """Let this thread ask the disk itself. No folder of a rig hangs, and a call in another thread is costly."""
    before, disk._present.job = disk._present.job, disk._Job("a test", int)
    try:
        yield
    finally:
        disk._present.job = before


@answering_disk()
def reference(projects: Path, routing: Routing) -> Reference:
    """Return the events of the logs below *projects*, read whole and without a store."""
    found = [(emission, each) for emission in emissions(find_logs([projects]), routing) if (each := emission.event)]
    bodies = {event.uuid: event.body for _, event in found}
    assert len(bodies) == len(found), "no event comes twice"
    resting = [
        Resting(
            identity=emission.settled.identity,
            uuid=event.uuid,
            file=str(Path(emission.lines.file).relative_to(projects)),
            end=emission.lines.end,
        )
        for emission, event in found
        if emission.lines is not None
    ]
    return Reference(bodies=bodies, names={event.uuid: named(event) for _, event in found}, resting=resting)


class Rig:
    """One daemon, one machine and one receiver.

    Args:
        root: an empty folder.
        grouping: POSTHOG_LLMA_TRACE_GROUPING.
        inputs: POSTHOG_LLMA_INPUT.
        gone: how long a session whose end is proved must be quiet, in seconds.

    Attributes:
        projects: the `projects` folder.
        registries: the client's registries of live processes, one in each configuration folder.
        received: every event that the receiver got, in order.
        in_flight: the events given out for delivery and not settled, in order.
        refused: the uuids that the receiver refused.
        excused: for each uuid, how often the answer to its request was lost.
        endings: how often each session, by id, has ended.
        now: the steady clock, in seconds.
    """

    def __init__(self, root: Path, *, grouping: str = "session", inputs: str = "delta", gone: float = _GONE) -> None:
        self.projects = root / "config" / "projects"
        self.projects.mkdir(parents=True)
        self.registries = (root / "config" / "sessions", root / "second" / "sessions")
        # The logs of another account, which a client can be told to use for the same session.
        self._second = root / "second" / "projects"
        self._second.mkdir(parents=True)
        self._gone = gone
        self._state = root / "state"
        self._state.mkdir(mode=0o700)
        self._routing = routing_for(root, grouping=grouping, inputs=inputs)
        self.received: list[CaptureEvent] = []
        self.in_flight: list[CaptureEvent] = []
        self.refused: list[str] = []
        self.excused: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.now = 0.0
        self._places_now: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._answer_lost: set[str] = set()
        self._settled: set[str] = set()
        self._start()

    # ------------------------------------------------------------------ the client

    def path(self, name: str) -> Path:
        """Return where the file *name* is."""
        return self._at(self._places_now.get(name, name))

    def _at(self, place: str) -> Path:
        return Path(os.path.normpath(self.projects / place))

    def move(self, name: str, folder: str) -> None:
        """Move a file to another project's folder, as the client does while a session runs.

        Args:
            name: the file.
            folder: the project's folder; one that begins with `SECOND` is in the second configuration folder.
        """
        path = self.path(name)
        self._settle_at(name, folder).parent.mkdir(parents=True, exist_ok=True)
        path.rename(self.path(name))

    def copy(self, name: str, folder: str) -> Path:
        """Copy a file to another project's folder, and return where it is; the session goes on in the first one."""
        place = self._at("/".join((folder, *Path(name).parts[1:])))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(self.path(name).read_bytes())
        return place

    def exchange(self, name: str, folder: str) -> None:
        """Copy a file to another project's folder, and remove it from its own."""
        path, place = self.path(name), self.copy(name, folder)
        if path != place:
            path.unlink()
        self._settle_at(name, folder)

    def hard_link(self, name: str, folder: str) -> None:
        """Give a file a second name in another project's folder."""
        place = self._at("/".join((folder, *Path(name).parts[1:])))
        place.parent.mkdir(parents=True, exist_ok=True)
        if place != self.path(name):
            place.unlink(missing_ok=True)
            place.hardlink_to(self.path(name))

    def _settle_at(self, name: str, folder: str) -> Path:
        place = "/".join((folder, *Path(name).parts[1:]))
        self._places_now[name] = place
        self._names[place] = name
        return self.path(name)

    def _name_of(self, path: str) -> str:
        """Return the name of a file by where it is or was."""
        place = os.path.relpath(path, self.projects)
        return self._names.get(place, place)

    def append(self, name: str, data: bytes) -> None:
        """Append to a file; create it if it does not exist."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def rewrite(self, name: str, data: bytes) -> None:
        """Overwrite a file in its place."""
        self.path(name).write_bytes(data)

    def replace(self, name: str, data: bytes) -> None:
        """Replace a file by another one."""
        path = self.path(name)
        beside = path.with_name("beside")
        beside.write_bytes(data)
        beside.replace(path)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self.path(name).unlink()

    def reference(self) -> Reference:
        """Return the events of the files as they are now."""
        return reference(self.projects, self._routing)

    # ------------------------------------------------------------------ the daemon's life

    def _start(self) -> None:
        self.store = Store(self._state)
        # Tests crash the daemon here, not the machine: SQLite does not have to wait for the disk.
        self.store._connection.execute("PRAGMA synchronous=OFF")
        self._lookup = self.store.reader()
        self.claims = Claims(self._lookup)
        self.settlement = Settlement(self.claims, self.store.owed())
        self._sessions = OpenSessions()
        self._kept = KeptOpen()
        roots = [*roots_at(self.projects), *roots_at(self._second)]
        self._logs = Logs(roots, kept=self._kept, is_open=self._sessions.__contains__)
        self._live = LiveSessions([registry.parent for registry in self.registries], self.store.sightings())
        self._running: frozenset[str] = frozenset()
        self._is_new = True
        self._reader = Reader(
            logs=self._logs,
            routing=self._routing,
            claims=self.claims,
            sessions=self._sessions,
            settlement=self.settlement,
            marks=self._lookup.mark,
            former=self._lookup.files_of,
            hosts=self._lookup.hosts,
            decided=self,
            # Sessions end when a test says so, and not by their quiet.
            cadence=Cadence(rest=float("inf"), gone=self._gone),
            live=self._live,
            first_start=self.store.first_start,
            history=LoggedHistory(self._lookup),
        )

    def begin(self, at: int) -> None:
        """Start for the first time at *at* milliseconds since the epoch: existing files are history."""
        # The middle of the millisecond, so that no rounding leads to another one.
        self._reader.first_start = settle_history(self.store, self._logs.roots, "skip", (at + 0.5) / 1000)

    def crash(self, reference: Reference | None = None) -> None:
        """Lose everything that is not in the store, and start again.

        Args:
            reference: the events of the finished files. All of them must still be sent or settled after the crash.
        """
        self.in_flight.clear()
        self._answer_lost.clear()
        if reference is not None:
            self.check_offsets(reference)
        self.close()
        self.now += 1000.0
        self._start()

    def close(self) -> None:
        """Close the store and all logs."""
        self._logs.close()
        self._lookup.close()
        self.store.close()

    def check_offsets(self, reference: Reference) -> None:
        """Assert that no offset has passed a line of an event that is not settled."""
        offsets = self.offsets()
        for resting in reference.resting:
            if resting.end <= offsets.get(resting.file, 0):
                owner = self._lookup.owner(resting.identity)
                assert owner is not None, f"{resting.identity} can never be sent again"

    # ------------------------------------------------------------------ decisions, for the reader

    def frozen(self, name: str) -> FrozenRoute | None:
        """Return a session's route from the store."""
        return self._lookup.route(name)

    def restraint(self, name: str) -> Restraint:
        """Return none: no project here has settings."""
        del name
        return UNRESTRAINED

    def restraint_of(self, name: str) -> Restraint:
        """Return none, too."""
        return self.restraint(name)

    def forget(self, names: Sequence[str]) -> None:
        """Do nothing: `frozen` asks the store every time."""

    # ------------------------------------------------------------------ reading

    @answering_disk()
    def look(self) -> None:
        """Look at the files without reading them, as while the receiver is away."""
        self._logs.apply(self._logs.sweep("full"))
        self._running = self._live.running()
        if seen := self._live.unsaved():
            self.store.see(seen)
            self._live.saved(seen)

    def read(self, *, budget: int = _SLICE) -> None:
        """Read everything that is new in the files, originals before their copies.

        Args:
            budget: how many bytes of a session are read at first. Each further slice of it is a byte longer than the
                one before, up to 32 bytes more, and then it begins again. So cuts fall everywhere, also within line
                ends, and a log takes far fewer slices than it has bytes.
        """
        self.look()
        self._reader.retry_stranded()
        sessions = self._logs.sessions.values()
        unread = self._logs.unread(sessions, self._lookup.offset)
        wanted = {files.name for path in unread if (files := self._logs.session_of(path)) is not None}
        if self._is_new:
            self._is_new = False
            hosted = self._logs.note_hosts([files for files in sessions if not unread.keys().isdisjoint(files.mains)])
            wanted |= hosted
        # A new log on the inode of a deleted one may have just the size up to which that one was settled. But it was
        # found to be new, and so it is kept open until it is read.
        wanted |= {files.name for files in sessions if any(map(self._kept.__contains__, files.paths))}
        wanted |= {*self._sessions.names, *self.settlement.owing, *self._logs.unread_guests(self.store.hosted())}
        for files in by_first_line(sessions):
            if files.name in wanted:
                self._read(files, budget)
        for files in self._reader.called():
            self._read(files, budget)

    def read_only(self, session: str) -> None:
        """Read one session, by id, and no other."""
        self.look()
        for files in list(self._logs.sessions.values()):
            if files.session == session:
                self._read(files, _SLICE)

    def tick(self, seconds: float) -> None:
        """Read, let time pass, and read again."""
        self.read()
        self.now += seconds
        self.read()

    def end(self, session: str | None = None) -> None:
        """Read once more, then end one session, by id, or all in memory, so that their traces are given out.

        A session that cannot be read does not end.
        """
        self.read()
        for each in self._sessions:
            if session in (None, each.files.session) and each.name not in self._reader.unreadable:
                self.endings[each.files.session] += 1
                # A session that has ended before ends again, to show that this gives out nothing twice.
                each.ended = False
                self._read(each.files, _SLICE, finish=True)

    def drop(self, session: str) -> bool:
        """Take a session, by id, out of memory if nothing of it is open or unsettled. Return whether it was.

        A deleted session with an owed trace stays, because it could not be read again.
        """
        for each in self._sessions:
            if each.files.session == session and each.pipeline.idle:
                self._write(())
                is_there = self._logs.exists(each.files)
                if self._reader.is_settled(each) and (is_there or each.name not in self.settlement.owing):
                    self._reader.drop(each.files)
                    return True
        return False

    def hold(self, session: str) -> None:
        """Take a session, by id, out of memory as it is, because it has to wait for the user."""
        for each in self._sessions:
            if each.files.session == session:
                self._reader.close(each.name)

    def offsets(self) -> dict[str, int]:
        """Return how far each file is settled, by the file's name."""
        found = {}
        for mark in self.store.files():
            name = self._name_of(mark.path)
            path = self.path(name)
            # A file that was copied and removed has the mark of each.
            if name not in found or (path.exists() and path.stat().st_ino == mark.inode):
                found[name] = mark.offset
        return found

    def needed(self) -> dict[str, int]:
        """Return where the oldest needed line of each file starts, by the file's name."""
        needed: dict[str, int] = {}
        for each in self._sessions:
            needed |= {self._name_of(path): at for path, at in each.pipeline.needed_from().items()}
        return needed

    def forget_missing(self) -> None:
        """Forget the owed traces of sessions without any file, as the service does when it starts."""
        self.look()
        missing = [name for name in self.settlement.owing if name not in self._logs.sessions]
        self.store.forget_owed(missing)
        self.settlement.forgive(missing)

    @answering_disk()
    def _read(self, files: SessionFiles, budget: int, *, finish: bool = False) -> None:
        for each in itertools.cycle(range(budget, budget + 32)):
            session = self._reader.session(files, self.now)
            outcome = self._reader.read(session, self.now, running=self._running, budget=each, finish=finish)
            for step in outcome.steps:
                self._hand_over(session.pipeline, step)
            if outcome.state in ("replaced", "unreadable"):
                self.look()
            if not self._reader.note(outcome):
                break

    def _hand_over(self, pipeline: Standing, progress: Progress) -> None:
        wanted = self.settlement.note(pipeline, progress)
        if pipeline.frozen is not None and self._lookup.route(pipeline.files.name) is None:
            self.store.freeze({pipeline.files.name: pipeline.frozen})
        flying = {event.identity for event in self.in_flight}
        for event in wanted:
            assert event.identity not in flying, f"{event.identity} is on its way already"
            assert event.identity not in self._settled, f"{event.identity} is settled"
            flying.add(event.identity)
            self.in_flight.append(event)

    # ------------------------------------------------------------------ the receiver

    def acknowledge(self, chosen: Iterable[int] | None = None) -> None:
        """Deliver and settle a batch: the events at the places *chosen* in `in_flight`, or all of them."""
        batch = self._take(chosen)
        # This includes events that were received before, but whose answer was lost.
        self.received += batch
        self._answer_lost.difference_update(event.uuid for event in batch)
        self._write([EventOutcome(event=event, outcome="delivered") for event in batch])

    def lose_answer(self, chosen: Iterable[int] | None = None) -> None:
        """Deliver a batch, and lose the receiver's answer."""
        for place in self._places(chosen):
            event = self.in_flight[place]
            if event.uuid not in self._answer_lost:
                self.received.append(event)
                self._answer_lost.add(event.uuid)
                self.excused[event.uuid] += 1

    def refuse(self, chosen: Iterable[int] | None = None) -> None:
        """Have the receiver refuse a batch for good."""
        batch = self._take(chosen)
        self.refused += [event.uuid for event in batch]
        self._write([EventOutcome(event=event, outcome="rejected", reason="too many trees") for event in batch])

    def _places(self, chosen: Iterable[int] | None) -> list[int]:
        if chosen is None:
            return list(range(len(self.in_flight)))
        return sorted({place for place in chosen if place < len(self.in_flight)})

    def _take(self, chosen: Iterable[int] | None) -> list[CaptureEvent]:
        places = self._places(chosen)
        batch = [self.in_flight[place] for place in places]
        self.in_flight = [event for place, event in enumerate(self.in_flight) if place not in places]
        return batch

    def commit(self) -> None:
        """Write what may be written without any new answer."""
        self._write(())

    def _write(self, outcomes: Sequence[EventOutcome]) -> None:
        commit: Commit = self.settlement.commit(outcomes)
        if commit:
            self.store.commit(commit)
            self.settlement.written(commit)
        self._settled |= {row.identity for row in commit.settled}

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Read everything, end every session and deliver everything. Assert that nothing is left to do."""
        for _ in range(2):
            self.end()
            self.acknowledge()
            assert not self.settlement.waiting
            for each in self._sessions:
                assert each.pipeline.idle
                assert self.drop(each.files.session), "a settled session can leave memory"
            if not self.store.owed():
                break
            # If a session was resumed before its trace was settled, and the daemon then crashed, one more trace may be
            # owed. The session is read again for it.
        assert self.store.owed() == []
        assert self.needed() == {}

    def bodies(self) -> dict[str, list[bytes]]:
        """Return the bodies that the receiver got under each uuid, in order."""
        found: dict[str, list[bytes]] = {}
        for event in self.received:
            found.setdefault(event.uuid, []).append(event.body)
        return found
