"""Turns the bytes of one session's files into emissions: the events to send, with the lines they rest on.

    files --Tail--> lines --agent--> records --accumulator--> spans --Pipeline--> emissions

A pipeline is built when a session has something to read. It reads every file from byte 0. The lines before the
committed offsets only rebuild the accumulator's state; nothing of them is sent. An event is sent if the last line it
rests on lies beyond its file's committed offset, and if its identity is neither settled nor on its way. The rules about
what may be sent are asked again in every step, because a project's files may change.

A client that goes on with another session may write that session's lines into the log it has open. The pipeline of the
session that the lines name sends them: it reads such a log as a guest, beside its own files, and takes only its lines.
The session whose log it is passes them over. It tells the store, no later than it commits an offset over such lines,
that they are there; how far they are settled for the other session is stored beside that. So after a crash, the other
session is read, too. It reads its own log and those of others side by side, in the order in which they were written.

Each public step (`advance`, `poll`, `end`, `salvage`) returns a `Progress`. If a step raises an error, everything it
found is released and can be found again by the next pipeline.

Everything here is synchronous and waits for nothing. `reader.py` drives it.
"""

from __future__ import annotations

import os
import re
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.delivering.route import Route
from daemon.following.glances import Glances
from daemon.following.opening import Opening
from daemon.following.session_files import SessionFiles, unit_name
from daemon.following.sweep import is_missing
from daemon.following.tailer import TAIL_BYTES, Chunk, Fate, KeepsOpen, Marks, Tail, digest, open_log, unknown
from daemon.reading.added import NOTHING, Added
from daemon.reading.claims import Claims
from daemon.reading.emission import Emission, Progress, Replaced
from daemon.reading.facts import Facts
from daemon.reading.ledger import LineEnd
from daemon.reading.logged_history import LoggedHistory
from daemon.routing.routing import Held, Routing, Ruling
from daemon.state.rows import FileMark, FrozenRoute, Owed, Settled
from daemon.system import disk
from llma_core import events
from llma_core.agent import Decoded, UnknownRecord
from llma_core.errors import RecordError
from llma_core.events import CaptureEvent
from llma_core.hosted_lines import HostedLines
from llma_core.lines import MAX_LINE_BYTES, Line
from llma_core.properties import Attribution
from llma_core.recorded_events import callers_properties
from llma_core.recovery import Damage, read_records
from llma_core.spans import (
    ApiFailure,
    Compaction,
    Generation,
    LineRange,
    Metric,
    OpeningTrace,
    Prompt,
    Recorded,
    SessionFacts,
    SideCalls,
    Span,
    ToolCall,
    Trace,
    TurnKey,
    Verdict,
    same_message,
)

__all__ = ["Pipeline"]

_log = structlog.get_logger(__name__)
_Arguments = ParamSpec("_Arguments")
_T = TypeVar("_T")
_META_BYTES = 1024 * 1024
"""Larger meta files are ignored."""
_NO_CONTENT = Restraint(content="metadata")
_TYPE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_UNKNOWN_TYPES = 100
"""Largest number of unknown record types that are logged."""
_MetaVersion = tuple[int, int, int]
"""What changes with a meta file: inode, modification time, size."""
_LineSpan = Prompt | Generation | ToolCall | ApiFailure | Compaction | SideCalls | Metric | Recorded
"""Every span but a trace: it rests on lines."""


@dataclass(slots=True)
class _Place:
    """A working directory, as known in one step.

    Attributes:
        allowed: whether events from there are sent.
        asked: whether git was asked for its repository.
        repository: `owner/name`; None if it has none, or git was not asked yet.
    """

    allowed: bool
    asked: bool = False
    repository: str | None = None


class Pipeline:
    """Reads one session's files and produces its emissions.

    Its files have names here: the path at which each was found first. It stays when the file is moved.

    Args:
        files: the session's files. They may grow in number while the pipeline is used.
        claims: which session wrote what first.
        routing: decides the route of the session, and who its events belong to.
        marks: returns how a file was last known.
        frozen: the session's route; None if it was not decided before.
        restraint: what the files of its project made stricter before.
        restraint_of: returns that of another session, by name.
        owed: returns the session's owed traces, as stored.
        first_start: milliseconds since the epoch. Only what is older can be history. None to send everything.
        history: tells which of the older lines are history. None if all are.
        again: whether to read settled lines once more and send what was never sent of them. Then *marks* and
            *first_start* have no effect, and no stored offset is lowered.
        resends: the uuids of events of the session that were rejected and are to be sent again, although they are
            settled. Takes effect in every step: others may take away what is on its way again.
        former: returns the files that the store knows of a session by its name; one whose content a new file begins
            with was copied to it.
        find_hosts: looks up which other sessions are known to have lines of this one in their logs, and adds them to
            *files*.
        has_main: returns whether a session, by id, has a main log.
        is_visited: returns whether another session's subagent works on in this one's folder.
        kept: keeps files open until they are read to their end.
        glances: what was found of its files a moment ago; None if nobody has looked.
        added: returns what commands add to the session now.
        facts: what callers know of sessions; None if nobody says anything.
        line_bytes: length of a line above which it is skipped and counted.

    Attributes:
        tails: its files, by name.
        guests: which of them are other sessions' main logs with lines of this one, and whose.
        has_repeats: whether what one file says may be said again in another.
        waiting: why lines that programs recorded wait for the user, each reason once.
        routes: where those lines are sent that name another route than the session's.
        is_spent: whether an error has cost what was made of lines that were read. Build a new pipeline then.
    """

    def __init__(
        self,
        files: SessionFiles,
        *,
        claims: Claims,
        routing: Routing,
        marks: Marks = unknown,
        former: Callable[[str], Iterable[FileMark]] = lambda _unit: (),
        frozen: FrozenRoute | None = None,
        restraint: Restraint = UNRESTRAINED,
        restraint_of: Callable[[str], Restraint] = lambda _unit: UNRESTRAINED,
        owed: Callable[[], Iterable[Owed]] = tuple,
        first_start: int | None = None,
        history: LoggedHistory | None = None,
        again: bool = False,
        resends: Container[str] | None = None,
        find_hosts: Callable[[], None] = lambda: None,
        has_main: Callable[[str], bool] = lambda _session: False,
        is_visited: Callable[[], bool] = lambda: False,
        kept: KeepsOpen | None = None,
        glances: Glances | None = None,
        added: Callable[[], Added] = lambda: NOTHING,
        facts: Facts | None = None,
        line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._facts = facts or Facts()
        self._was_late = False
        self.files = files
        self.frozen = frozen
        self.restraint = restraint
        self._restraint_of = restraint_of
        self._allowed_as: dict[str, bool] = {}
        self.again = again
        self.resends = resends
        self.tails: dict[str, Tail] = {}
        self.guests: dict[str, SessionFiles] = {}
        self.has_repeats = False
        self.is_spent = False
        self.waiting: dict[str, None] = {}
        self.routes: dict[Route, None] = {}
        self._marks = marks
        self._former = former
        self._files: dict[str, str] = {}
        self._agents: dict[str, str | None] = {}
        self._owners: dict[str, HostedLines] = {}
        self._ahead: dict[str, deque[tuple[int, Line]]] = {}
        self._written: dict[str, int] = {}
        self._guest_bytes = 0
        self._hosted: set[str] = set()
        self._hosts_others = False
        self._compared: dict[str | None, dict[bytes, tuple[str, int]]] = {}
        self._progress = Progress()
        self._claims = claims
        self._routing = routing
        self._began: int | None = None
        self._ruling: Ruling | None = None
        self._attribution: Attribution | None = None
        self._places: dict[tuple[str | None, str | None], _Place] = {}
        self._route: Route | None = None
        self._owed: set[tuple[str, int]] = set()
        self._owed_in_store = owed
        self._first_start = None if again else first_start
        self._history = history
        self._find_hosts = find_hosts
        self._has_main = has_main
        self._is_visited = is_visited
        self._kept = kept
        self._glances = glances
        self._line_bytes = line_bytes
        self._added = added
        self._waiting: list[Trace] = []
        self._openings: dict[str, OpeningTrace] = {}
        self._decode = files.agent.decoder(whole_inputs=routing.whole_inputs)
        # What it asks this pipeline must not keep it alive: then all goes when the pipeline does. In a cycle, it would
        # wait for the garbage collector, which looks at everything else in memory for that.
        self._accumulator = files.agent.accumulator(
            files.session,
            copied=_weakly(self._is_copy),
            opened=_weakly(self._note_begun),
            passed=_weakly(self._passed),
            whole_inputs=routing.whole_inputs,
        )
        self._metas: dict[str, _MetaVersion] = {}
        self._complained: set[str] = set()
        self._unknown: set[str] = set()
        self._endings: dict[str, bytes] = {}
        self._originals: set[str] = set()
        self._has_history = False

    # ------------------------------------------------------------------ steps

    def open(self) -> None:
        """Open the files of the session that are not open yet.

        Raises:
            OSError: one cannot be read; `filename` names it.
            sqlite3.OperationalError: the store cannot be read.
        """
        is_new = not self.tails
        if is_new:
            self._find_hosts()
            own = [(path, self.files.agents.get(path)) for path in self.files.paths]
            self._compare([*own, *((path, host.agents.get(path)) for path, host in self.files.guests.items())])
        for path in self.files.paths:
            known = self._files.get(path)
            if known is not None and (self.tails[known].path == path or is_missing(path)):
                # What is read there, or was: whether that is still the same file is found out by reading it.
                continue
            # The file was moved away from there, or has several names: another one may have taken its place.
            file = self._opened(path)
            if file is None:
                # Only one at a time is read so early: it is in memory until its lines are taken.
                file = self._open(path, begins=is_new and len(self.files.paths) == 1)
            self._files[path] = file
        for path, host in self.files.guests.items():
            if path not in self._files and (file := self._opened(path) or self._open_guest(path, host, is_new=is_new)):
                self._files[path] = file

    def _open_guest(self, path: str, host: SessionFiles, *, is_new: bool) -> str | None:
        """Open another session's log that has lines of this one; return its name here, None if it is gone."""
        tail = Tail(path, unknown, self._kept, line_bytes=self._line_bytes)
        try:
            with _naming(path):
                tail.open()
        except (FileNotFoundError, NotADirectoryError):
            return None
        agent = host.agents.get(path)
        if agent is None and not is_new:
            # Its lines have their place among those that were read.
            raise Replaced(path)
        file = f"{path}#{self.files.session}"
        self.tails[file], self._agents[file] = tail, agent
        self._owners[file] = HostedLines(self.files.agent, host.session, is_main=agent is None)
        self.guests[file] = host
        return file

    def _compare(self, paths: Iterable[tuple[str, str | None]]) -> None:
        """Note which threads have several files: what one of them says is passed over in the others."""
        found: set[str | None] = set()
        for _, agent in paths:
            if agent in found:
                self._compared.setdefault(agent, {})
            found.add(agent)
        self.has_repeats = bool(self._compared)

    def _open(self, path: str, *, begins: bool) -> str:
        """Open a file; return the name it has here from now on, wherever it is moved.

        Args:
            path: where it is.
            begins: whether to read its beginning right away.
        """
        seen = self._glances.take(path) if self._glances is not None else None
        tail = Tail(
            path,
            self._marks,
            self._kept,
            again=self.again,
            line_bytes=self._line_bytes,
            # The end of a recording is the end of its process: nothing comes behind a line that is broken off.
            breaks_off=self.files.agent.is_spool,
        )
        with _naming(path):
            agrees = tail.open(seen, begins=begins)
        agent = self.files.agents.get(path)
        if agent not in self._compared and agent in self._agents.values():
            # Its lines have to be compared with what was read, of which nothing is left.
            raise Replaced(path)
        if tail.known is None:
            with _naming(path):
                tail.adopt(self._former(self.files.name))
        elif not agrees:
            _log.info("file_replaced", path=path, action="reading it again from its beginning")
        self._has_history = self._has_history or tail.history
        file = path if path not in self.tails else f"{path}#{tail.inode}"
        self.tails[file], self._agents[file] = tail, agent
        if self.files.agent.shares_logs and (agent is None or self._is_in_its_folder(path)):
            self._owners[file] = HostedLines(self.files.agent, self.files.session, is_main=agent is None)
        return file

    def _is_in_its_folder(self, path: str) -> bool:
        """Whether a subagent's log is in the session's own folder, and not in that of a session after `/clear`."""
        place = self.files.agent.classify(path)
        return place is not None and place.session == self.files.session

    def is_hosted(self, file: str) -> bool:
        """Whether a guest is known to hold lines of the session: a subagent's log may be no other's, or not read."""
        return self._agents[file] is None or file in self._hosted

    def _opened(self, path: str) -> str | None:
        """Return the name of the open file that is at *path* too: it was moved there, or has several names."""
        if not self.tails:
            return None
        try:
            status = disk.call(path.rpartition("/")[0], partial(os.lstat, path))
        except OSError:
            return None
        there = status.st_dev, status.st_ino
        agent = self.files.agents.get(path)
        return next(
            (file for file, tail in self.tails.items() if tail.identity == there and self._agents[file] == agent), None
        )

    def _find(self, file: str) -> bool:
        """Look where a file is that is not where it was; return whether it is still one of the session's."""
        tail = self.tails[file]
        for path in self.files.guests if file in self.guests else self.files.paths:
            if path != tail.path and self._opened(path) == file:
                self._files[path], tail.path = file, path
                return True
        return False

    def advance(self, now: float, budget: int, *, last: bool = False) -> Progress:
        """Read up to about *budget* bytes and return what they made final.

        A deleted file has nothing more to read; what was read of it still counts.

        Args:
            now: a steady clock, in seconds.
            budget: how much to read, in bytes.
            last: whether the session has ended. Then, once everything is read, this does what `end` does, too.

        Raises:
            Replaced: a file was truncated or replaced.
            Held: the session has to wait for the user. Build a new pipeline when it no longer has to.
            OSError: a file cannot be read; `filename` names it. Unless it `is_spent`, the pipeline stays usable: try
                again.
        """
        try:
            self.open()
            with self._step() as progress:
                self._read_metas(progress, now)
                self._read(progress, now, budget)
                if not progress.more:
                    self._admit([*self._released_traces(), *self._accumulator.poll(now)], progress)
                    if last:
                        self._end(progress, now)
        finally:
            for tail in self.tails.values():
                tail.forget_beginning()
        return progress

    @contextmanager
    def _step(self) -> Iterator[Progress]:
        progress = self._progress = Progress()
        self._ruling = self._attribution = None
        self._places.clear()
        try:
            yield progress
        except BaseException:
            # What this step has found is lost. The next pipeline must be able to find it again.
            self.is_spent = self.is_spent or bool(progress.ends)
            for emission in progress.emissions:
                if not emission.again:
                    for row in (emission.settled, emission.also):
                        if row is not None:
                            self._claims.release(row.identity)
            raise

    def _read(self, progress: Progress, now: float, budget: int) -> None:
        mains = [file for file, agent in self._agents.items() if agent is None] if self.guests else []
        left = self._read_side_by_side(mains, progress, now, budget) if mains else budget
        for path, tail in self.tails.items():
            if path in mains:
                continue
            if left <= 0:
                # How much this file has grown is known only when it is read.
                progress.more = True
                return
            try:
                chunk = self._chunk(path, tail, left)
            except (Replaced, OSError):
                if not progress.ends and not progress.emissions:
                    raise
                # What this step has found is returned first, because it may be in no file any more. The next step
                # raises this error again.
                progress.more = True
                return
            left -= sum([line.end - line.start for line in chunk.lines])
            self._take_lines(path, chunk.lines, progress, now)
            progress.more = progress.more or chunk.more

    def _read_side_by_side(self, files: Sequence[str], progress: Progress, now: float, budget: int) -> int:
        """Read the main logs in the order in which their lines were written; return what is left of the budget.

        What a line belongs to depends on the lines before it. So however late they are read, and however often, their
        order has to be the one in which they came.
        """
        left, read_to_end = budget, set[str]()
        while True:
            for file in files:
                ahead = self._ahead.setdefault(file, deque())
                if ahead or file in read_to_end:
                    continue
                if left <= 0:
                    progress.more = True
                    return 0
                try:
                    chunk = self._chunk(file, self.tails[file], left)
                except (Replaced, OSError):
                    while any(self._ahead.values()):
                        self._take_ahead(progress, now)
                    if not progress.ends and not progress.emissions:
                        raise
                    # As for what is read of a single log.
                    progress.more = True
                    return 0
                left -= sum([line.end - line.start for line in chunk.lines])
                ahead.extend((self._time_of(file, line), line) for line in chunk.lines)
                if not chunk.more:
                    read_to_end.add(file)
            if any(self._ahead.values()):
                self._take_ahead(progress, now)
            elif len(read_to_end) == len(files):
                return left

    def _time_of(self, file: str, line: Line) -> int:
        """Return when a line was written, in milliseconds since the epoch; one that does not say goes with the last."""
        at = self.files.agent.glance(line.data).at if line.data is not None else None
        if at is not None:
            self._written[file] = at
        return self._written.get(file, 0)

    def _take_ahead(self, progress: Progress, now: float) -> None:
        """Take the oldest of the lines that were read, and those of its file that no other file's line precedes."""
        waiting = [(ahead[0][0], number, file) for number, (file, ahead) in enumerate(self._ahead.items()) if ahead]
        first, *others = sorted(waiting)
        ahead, until = self._ahead[first[2]], min(others, default=None)
        lines = []
        while ahead and (until is None or (ahead[0][0], first[1]) < until[:2]):
            lines.append(ahead.popleft()[1])
        self._take_lines(first[2], lines, progress, now)

    def _chunk(self, file: str, tail: Tail, limit: int) -> Chunk:
        if not tail.is_there():
            self._find(file)
        with _naming(tail.path):
            chunk = tail.read(limit)
        if chunk is None:
            if self._fate(file) == "open":
                # What is open in it is not given up before it is known to be gone. The session's end decides, too.
                return Chunk(lines=[], more=False)
            raise Replaced(tail.path)
        return chunk

    def poll(self, now: float) -> Progress:
        """Return what time alone made final.

        Raises:
            Held: as for `advance`.
        """
        with self._step() as progress:
            self._read_metas(progress, now)
            self._admit([*self._released_traces(), *self._accumulator.poll(now)], progress)
        return progress

    def end(self, now: float) -> Progress:
        """Return what became final because the session has ended. Last lines count that lack only their line end.

        Raises:
            Held: as for `advance`.
        """
        with self._step() as progress:
            self._read_metas(progress, now)
            self._end(progress, now)
        return progress

    def _end(self, progress: Progress, now: float) -> None:
        for file, tail in self.tails.items():
            self._take_lines(file, tail.last_line(), progress, now)
        self._admit([*self._released_traces(), *self._accumulator.end(now)], progress)
        if not self._waiting:
            self._write_off(progress)
        progress.ended = True

    def _write_off(self, progress: Progress) -> None:
        for row in self._owed_in_store():
            # Nothing is left for this trace to report, an earlier ending reports it all, or it was settled and nothing
            # is left to be sent with it. Without this, it would be owed forever.
            identity = f"{row.trace}|{row.ending}"
            if self._claims.is_pending(identity) or any(emission.pays == row for emission in progress.emissions):
                continue
            if self._claims.owner(identity) is None:
                self._claims.take(identity, self.files.name, None)
            settled = Settled(identity=identity, unit=self.files.name)
            progress.emissions.append(
                Emission(settled=settled, event=None, lines=None, pays=row),
            )

    def salvage(self, now: float) -> Progress:
        """Return what is open in files that no longer exist, as far as it is known. The session has not ended.

        It will never be complete, and a new pipeline would not find it.

        Raises:
            Held: as for `advance`.
        """
        with self._step() as progress:
            # This pipeline is the last that knows what was open in a file that does not tell yet what it is now.
            gone = {file for file in self.tails if self._fate(file) != "lives on"}
            spans: list[Span] = [
                span
                for span in self._accumulator.end(now)
                if isinstance(span, OpeningTrace) or (not isinstance(span, Trace) and span.lines.file in gone)
            ]
            self._admit(spans, progress)
        return progress

    def _fate(self, file: str) -> Fate:
        """Return what became of a file, by all files of the session that are of the same thread."""
        tail, agent = self.tails[file], self._agents[file]
        paths = [] if file in self.guests else self.files.paths
        others = (path for path in paths if path != tail.path and self.files.agents.get(path) == agent)
        fates = {tail.fate(self._tells, path) for path in (None, *others)}
        return "lives on" if "lives on" in fates else "open" if "open" in fates else "over"

    def _tells(self, line: bytes) -> bool:
        """Whether a line tells two logs apart: it says when it was written, and other lines may be in any log."""
        return self.files.agent.glance(line).at is not None

    # ------------------------------------------------------------------ what others ask

    def due(self) -> float | None:
        """Return when `poll` may return something, on the clock of *now*; None if time alone makes nothing final."""
        return self._accumulator.due()

    def needed_from(self) -> dict[str, int]:
        """Return where the oldest line starts that is still needed, for each file that has one."""
        return self._accumulator.needed_from()

    @property
    def originals(self) -> frozenset[str]:
        """The names of the sessions whose lines were copied into this one's files, as far as these were read."""
        return frozenset(self._originals)

    @property
    def idle(self) -> bool:
        """Whether nothing of the session is open: only new lines can make something final."""
        return self._accumulator.idle and not self._waiting

    @property
    def at_rest(self) -> bool:
        """Whether the session's end would give out nothing now but traces that go out again if it goes on."""
        return self._accumulator.at_rest and not self._waiting

    @property
    def route(self) -> Route | None:
        """Where the session's events go; None before the first event."""
        return self._route

    @property
    def first_cwd(self) -> str | None:
        """The session's first working directory; None if no line that was read has one."""
        return self._accumulator.first_cwd

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each setting in the project's files that has no effect, as of the last step that read them."""
        return self._ruling.project.warnings if self._ruling is not None else ()

    @property
    def read_bytes(self) -> int:
        """Number of bytes that were read of its files, incomplete last lines included, and of its lines in guests."""
        own = sum(tail.position for file, tail in self.tails.items() if file not in self.guests)
        return own + self._guest_bytes

    @property
    def unread(self) -> int:
        """Number of bytes in the files that are known and not read yet."""
        return sum(max(0, tail.size - tail.position) for tail in self.tails.values())

    @property
    def opened(self) -> dict[str, str]:
        """The name here of each path that was opened."""
        return self._files

    def position(self, path: str) -> int | None:
        """Return the end of what was read of the file at *path*, in bytes; None if that is not open."""
        file = self._files.get(path)
        return self.tails[file].position if file is not None else None

    # ------------------------------------------------------------------ lines to spans

    def _take_lines(self, path: str, lines: list[Line], progress: Progress, now: float) -> None:
        if not lines:
            return
        progress.ends.setdefault(path, []).extend(self._ends(path, lines))
        agent, is_guest, owners = self._agents[path], path in self.guests, self._owners.get(path)
        is_spool = self.files.agent.is_spool
        decode, feed, compared = self._decode, self._accumulator.feed, self._compared.get(agent)
        # Each goes when the next one comes: it may be tens of megabytes, and so is what comes of it.
        lines.reverse()
        while lines:
            line = lines.pop()
            data = line.data
            if is_guest and (data is None or owners is None or owners.has_none(data)):
                continue
            progress.lines += not is_guest
            place = LineRange(file=path, start=line.start, end=line.end)
            if data is None:
                progress.bad_lines += self._is_new(place)
                self._complain(path, line, "longer than the limit")
                continue
            if compared is not None and self._is_repeated(compared, data, place, progress):
                continue
            if self._began is None and not is_guest:
                self._began = self.files.agent.glance(data).at
            try:
                records: Sequence[Decoded] = (decode(data),)
            except RecordError:
                records = self._recovered(path, line, data, progress)
            for record in records:
                owner = owners.owner_of(record, data) if owners is not None else None
                if (is_guest or owner is not None) and not self._is_own(owner, place, progress):
                    continue
                if isinstance(record, UnknownRecord):
                    self._note_unknown(record.type, place, progress)
                if spans := feed(record, place, agent=agent, now=now):
                    self._admit(spans, progress)
            if is_spool:
                progress.ignored_fields += self._accumulator.ignored_fields() * self._is_new(place)

    def _recovered(self, path: str, line: Line, data: bytes, progress: Progress) -> Sequence[Decoded]:
        """Return the whole records in a damaged line."""
        found = read_records(data, self._decode)
        if found.damage is not None and path not in self.guests:
            progress.bad_lines += self._is_new(LineRange(file=path, start=line.start, end=line.end))
            self._complain(path, line, found.damage.reason, found.damage)
        return found.records

    def _is_new(self, lines: LineRange) -> bool:
        """Whether lines are to be counted: those that are settled were counted when they were read first."""
        return not self._is_committed(lines)

    def _is_own(self, owner: str | None, place: LineRange, progress: Progress) -> bool:
        """Whether a record belongs to the session, by the other session than the log's that it is said to belong to."""
        if place.file in self.guests:
            if owner != self.files.session:
                return False
            progress.lines += 1
            self._hosted.add(place.file)
            self._guest_bytes += place.end - place.start
            return True
        if owner is None or not self._is_neighbor(owner):
            return True
        self._note_hosted(owner, place, progress)
        return False

    def _note_hosted(self, session: str, place: LineRange, progress: Progress) -> None:
        """Note that a line belongs to another session, which is read for it."""
        # What that session has settled must be known as long as there are lines of it here.
        self._originals.add(unit_name(self.files.agent, session))
        progress.hosted.add((session, self.tails[place.file].identity))
        self._hosts_others = True
        self._hosted.add(place.file)
        if not self._is_committed(place):
            progress.called.add(session)

    @staticmethod
    def _is_repeated(compared: dict[bytes, tuple[str, int]], data: bytes, place: LineRange, progress: Progress) -> bool:
        """Whether another file of the same thread had this line before."""
        file, end = compared.setdefault(digest(data), (place.file, place.end))
        if file == place.file:
            return False
        progress.repeats.append((place, file, end))
        return True

    def _ends(self, path: str, lines: Iterable[Line]) -> Iterator[LineEnd]:
        """Yield the end of each line with the TAIL_BYTES before it; with b"" where they are not all known."""
        before = self._endings.get(path, b"")
        for line in lines:
            data, end = line.data, line.end
            line_end = b"\n" if data is None or end - line.start > len(data) else b""
            if data is not None and len(data) >= TAIL_BYTES:
                before = data[len(line_end) - TAIL_BYTES :] + line_end
                yield end, before
            else:
                before = b"" if data is None else (before + data + line_end)[-TAIL_BYTES:]
                yield end, before if len(before) == min(TAIL_BYTES, end) else b""
        self._endings[path] = before

    def _note_unknown(self, kind: str, place: LineRange, progress: Progress) -> None:
        """Log each unknown type once. Text that does not look like a type name may be content, so it is not logged."""
        progress.unknown_lines += self.files.agent.is_spool and self._is_new(place)
        kind = kind if _TYPE_NAME.fullmatch(kind) else "unnamed"
        if kind not in self._unknown and len(self._unknown) < _UNKNOWN_TYPES:
            self._unknown.add(kind)
            _log.debug("unknown_record_type", type=kind, session=self.files.session)

    def _complain(self, path: str, line: Line, reason: str, damage: Damage | None = None) -> None:
        if path not in self._complained:
            self._complained.add(path)
            _log.warning(
                "bad_line",
                path=path,
                start=line.start,
                end=line.end,
                reason=reason,
                damage_start=line.start + (damage.at if damage is not None else 0),
                damage_bytes=damage.size if damage is not None else line.end - line.start,
                action="whole records in it count, the rest is skipped; further ones of this file are only counted",
            )

    def _read_metas(self, progress: Progress, now: float) -> None:
        client = self.files.agent
        if client.meta_suffix is None:
            return
        # More of them may be found while these are read.
        own = [(path, agent) for path, agent in list(self.files.agents.items()) if not self._may_be_hosted(path)]
        agents = {
            f"{path.removesuffix(client.log_suffix)}{client.meta_suffix}": agent
            for path, agent in (*own, *self._hosted_agents())
        }
        together: dict[str, dict[str, _MetaVersion | None]] = {}
        for meta in agents:
            together.setdefault(meta.rpartition("/")[0], {})[meta] = self._metas.get(meta)
        found: dict[str, tuple[_MetaVersion, bytes]] = {}
        for folder, metas in together.items():
            with suppress(disk.Unanswered):
                found |= disk.call(folder, partial(_read_metas, metas))
        for meta, agent in agents.items():
            if meta in found and (said := client.decode_meta(found[meta][1])) is not None:
                self._metas[meta] = found[meta][0]
                self._admit(self._accumulator.link(agent, said, now=now), progress)

    def _may_be_hosted(self, path: str) -> bool:
        """Whether a subagent's log in the session's folder is another session's, or nothing tells that yet."""
        if not self._hosts_others:
            return False
        file = self._files.get(path, "")
        owners = self._owners.get(file)
        return file in self._hosted or (owners is not None and owners.is_open)

    def _hosted_agents(self) -> list[tuple[str, str]]:
        """Return the subagents' logs of the session in other sessions' folders, each with the subagent's id."""
        found = ((self.tails[file].path, self._agents[file]) for file in self.guests if file in self._hosted)
        return [(path, agent) for path, agent in found if agent is not None]

    # ------------------------------------------------------------------ spans to emissions

    def _note_begun(self, identity: str, checksum: bytes, lines: LineRange) -> None:
        """Note that the accumulator has begun a message."""
        if not self._is_committed(lines):
            self._claims.meet(identity, self.files.name, checksum)

    def _is_committed(self, lines: LineRange) -> bool:
        # A last line without a line end may have been settled, and its line end have come since.
        return lines.end - 1 <= self.tails[lines.file].committed

    def _is_copy(self, identity: str, checksum: bytes | None, at: int | None) -> bool:
        """Return whether another session wrote this first."""
        owner = self._claims.owner(identity)
        if owner is None:
            # Another session may be in the middle of it. If this session met it first, that proves nothing.
            met = self._claims.met(identity)
            owner = met if met is not None and met[0] != self.files.name else None
        if owner is not None:
            session, known = owner
            if session == self.files.name or not (checksum is None or known is None or same_message(checksum, known)):
                return False
            self._originals.add(session)
            self._may_send_of(session)
            self._pass_over(identity)
            return True
        # A session that existed at the first start has history of its own. In any other session, history is copied.
        if not self._has_history and self._is_from_history(identity, at):
            self._pass_over(identity)
            return True
        return False

    def _passed(self, name: str, lines: LineRange) -> None:
        """Let the copies of what is not settled yet wait for that: they may be all that is left of it."""
        identity = self._claims.name_of(name)
        # A copy with new ids is known as one only when it is complete. Nobody has to wait for it.
        self._pass_over(identity)
        if not self._is_committed(lines) and (
            self._claims.is_pending(identity) or self._claims.met(identity) is not None
        ):
            self._progress.copies.append((identity, lines))

    def _pass_over(self, identity: str) -> None:
        if self._claims.pass_over(identity, self.files.name):
            self._progress.passed_over.append(identity)

    def _is_from_history(
        self, identity: str, at: int | None, file: str | None = None, *, is_marked: bool = False
    ) -> bool:
        """Return whether something is history, or a copy of it; *is_marked* if its line says that it is a copy."""
        if self._first_start is None or at is None or at >= self._first_start:
            return False
        # What another session's log holds may be history in that session's project.
        owner = self.files if file is None else self.guests.get(file, self.files)
        return self._history is None or is_marked or self._history.holds(owner, identity)

    def _admit(self, spans: list[Span], progress: Progress) -> None:
        """Turn spans into emissions. Traces wait while a command of the session runs."""
        waits = self._added().waits
        for span in spans:
            if isinstance(span, Trace):
                if waits:
                    self._waiting.append(span)
                else:
                    self._admit_trace(span, progress)
                continue
            if isinstance(span, OpeningTrace):
                self._openings[span.session] = span
                continue
            if isinstance(span, SessionFacts):
                self._facts.note(span, self.files.name)
                continue
            try:
                opening = self._open_trace(span) if span.context.session in self._openings else None
                emission = self._emission(span) or self._kept_back(span)
            except BaseException:
                self.is_spent = True
                raise
            if opening is not None:
                progress.emissions.append(opening)
            if emission is not None:
                progress.emissions.append(emission)
            else:
                # It may be what copies in other sessions wait for.
                self._pass_over(events.identity(span))

    def _admit_trace(self, span: Trace, progress: Progress) -> None:
        """Turn a trace into emissions."""
        try:
            emission = self._trace(span)
        except BaseException:
            self.is_spent = True
            raise
        if emission is not None:
            progress.emissions.append(emission)
        progress.emissions += self._verdicts(span)

    def _released_traces(self) -> list[Span]:
        """Return the traces that waited for a command, if it has ended."""
        if self._added().waits:
            return []
        released: list[Span] = [*self._waiting]
        self._waiting.clear()
        return released

    def _open_trace(self, span: _LineSpan) -> Emission | None:
        """Return the opening trace that goes out before *span*, if that is the first event that is ours to send.

        Its session has one that did not go out yet.

        It rests on the same lines: none of them is committed before it is settled, so that a crash does not lose it.
        """
        if isinstance(span, Prompt) or self._sent_from(span) is None:
            return None
        session = span.context.session
        identity = events.opening_key(session)
        owner = self._claims.owner(identity)
        if owner is None and self._is_past(span):
            return None
        opening = self._openings.pop(session)
        attribution = self.attribution()
        if attribution.grouping != "session" or self._is_neighbor(session):
            return None
        settled = Settled(identity=identity, unit=self.files.name)
        if self._claims.is_pending(identity):
            return Emission(settled=settled, event=None, lines=span.lines, again=True)
        # If what opened the session is settled and a trace of it went out, there is one to be found. If it is not
        # settled, that trace was only settled first.
        has_trace = span.context is not opening.context and self._claims.ending(events.trace_key(session, None)) > 1
        place = self._place(opening.context.cwd)
        if not place.allowed or (owner is None and has_trace):
            return None
        repository = self._repository(place, opening.context.cwd)
        event = events.build(opening, attribution, repository=repository, name=identity)
        if owner is not None and not self._is_resent(event):
            return None
        self._claims.take(identity, self.files.name, None)
        return Emission(settled=settled, event=event, lines=span.lines)

    def _is_past(self, span: _LineSpan) -> bool:
        """Whether *span* is settled or history."""
        return self._is_committed(span.lines) or self._is_history(span)

    def _sent_from(self, span: _LineSpan) -> _Place | None:
        """Return where *span* happened, if its event may be one to send: it is new, or those of the session again."""
        if self.resends is None and self._is_past(span):
            return None
        context = span.context
        place = self._place(context.cwd)
        if not place.allowed:
            return None
        session = context.session
        if session == self.files.session:
            return place
        original = unit_name(self.files.agent, session)
        if self._is_private(original) and self.restraint.content != _NO_CONTENT.content:
            # Its own log was not read, so nothing tells what else here is a copy of it.
            self.restraint = self.restraint.also(_NO_CONTENT)
            self._ruling = self._attribution = None
        return place if self._may_send_of(original) else None

    def _may_send_of(self, original: str) -> bool:
        """Whether copies of a session's lines may be sent. Where its restraint is the stricter one, it holds for them.

        What the fork takes over, such as a title, is hidden then, and inputs are its own prompts only.

        Args:
            original: the session's name.
        """
        known = self._allowed_as.get(original)
        if known is None:
            theirs = self._restraint_of(original)
            own = self._rule()
            both = own.project.under(own.restraint.also(theirs)) if theirs != UNRESTRAINED else own.project
            known = self._allowed_as[original] = both is own.project or both.allows(self._accumulator.first_cwd)
            before, after = own.project.settings, both.settings
            if not known or (before.content_level, before.input) != (after.content_level, after.input):
                self._accumulator.hide_copies()
                self.restraint = self.restraint.also(Restraint(input="prompt"))
                self._ruling = self._attribution = None
        return known

    def _kept_back(self, span: _LineSpan) -> Emission | None:
        """Return the emission of what the session's restraint forbids for good; None if it does not.

        It is settled unsent, so that copies of it in other sessions are known to be copies. Lines that were read
        before count, too: an earlier version may have settled nothing of them.
        """
        if self.resends is not None or self._place(span.context.cwd).allowed or self._is_history(span):
            return None
        identity, restraint = events.identity(span), self._rule().restraint
        is_forbidden = restraint.off or restraint.include or restraint.exclude
        if not is_forbidden or self._claims.owner(identity) is not None:
            return None
        checksum = span.checksum if isinstance(span, Generation) else None
        self._claims.take(identity, self.files.name, checksum)
        settled = Settled(identity=identity, unit=self.files.name, checksum=checksum)
        return Emission(settled=settled, event=None, lines=None, also=self._also(span, identity))

    def _also(self, span: _LineSpan, identity: str) -> Settled | None:
        """Return the second row of a generation that was taken as *identity*: copies with new ids know it by that."""
        if not isinstance(span, Generation) or not span.request_name or self._claims.owner(span.request_name):
            return None
        self._claims.take_also(span.request_name, identity)
        return Settled(identity=span.request_name, unit=self.files.name)

    def _repository(self, place: _Place, cwd: str | None) -> str | None:
        if not place.asked:
            place.repository, place.asked = self._routing.repository(cwd), True
        return place.repository

    def _emission(self, span: _LineSpan) -> Emission | None:
        lines = span.lines
        place = self._sent_from(span)
        if place is None:
            return None
        if isinstance(span, SideCalls) and self._is_visited():
            # The client counts a subagent's calls after `/clear` here, too, and they are sent as the other session's.
            return None
        identity = events.identity(span)
        owner = self._claims.owner(identity)
        if owner is not None and owner[0] != self.files.name and not isinstance(span, Recorded):
            # The accumulator found it to be no copy: another session's message has the same id. Nobody has to wait for
            # this one under that id.
            self._pass_over(identity)
            identity = self._claims.own_name(identity, self.files.name)
            owner = self._claims.owner(identity)
        checksum = span.checksum if isinstance(span, Generation) else None
        if owner is not None and self._claims.is_pending(identity):
            # This pipeline was built while the event was on its way. The event must not be sent twice, and its lines
            # must not be committed before it is settled.
            settled = Settled(identity=identity, unit=self.files.name, checksum=checksum)
            self._owed.update((owed.trace, owed.ending) for owed in self._claims.owes(identity))
            return Emission(settled=settled, event=None, lines=lines, again=True)
        # What is past got here only because events are sent again.
        if owner is not None and self.resends is None:
            return None
        if owner is None and self.resends is not None and self._is_past(span):
            return None
        attribution = self._attribution or self.attribution()
        event, route = None, None
        if isinstance(span, Recorded):
            assert self._route is not None
            try:
                route = self._routing.named(span.host, span.key, self._route, is_local=span.is_local)
            except Held as held:
                self.waiting[held.reason] = None
                settled = Settled(identity=identity, unit=self.files.name)
                return Emission(settled=settled, event=None, lines=lines, waits=held.reason)
            if route == self._route:
                route = None
            else:
                self.routes[route] = None
        if not isinstance(span, Prompt):
            repository = place.repository if place.asked else self._repository(place, span.context.cwd)
            event = events.build(span, attribution, repository=repository, name=identity)
        if owner is not None and not self._is_resent(event):
            return None
        # What is sent again has owed its trace when it was sent first.
        owes = self._owe(span) if owner is None else ()
        self._claims.take(identity, self.files.name, checksum, owes)
        return Emission(
            settled=Settled(identity=identity, unit=self.files.name, checksum=checksum),
            event=event,
            lines=lines,
            also=self._also(span, identity) if checksum is not None else None,
            owes=owes,
            prompt=span if isinstance(span, Prompt) else None,
            route=route,
        )

    def _is_resent(self, event: CaptureEvent | None) -> bool:
        """Whether an event was rejected and is to be sent again."""
        return event is not None and self.resends is not None and event.uuid in self.resends

    def _place(self, cwd: str | None) -> _Place:
        first = self._accumulator.first_cwd
        place = self._places.get((first, cwd))
        if place is None:
            place = self._places[first, cwd] = _Place(self._rule().allows(first, cwd))
        return place

    def _is_history(self, span: _LineSpan) -> bool:
        if self._first_start is None:
            return False
        if self._history is not None and self.tails[span.lines.file].history:
            # The mark of its file tells where history ends in it.
            return False
        if isinstance(span, ToolCall):
            at = span.ended_at if span.ended_at is not None else span.called_at
        else:
            at = span.ended_at if isinstance(span, Generation) else span.at
        is_marked = span.context.session != self.files.session
        is_history = self._is_from_history(events.identity(span), at, span.lines.file, is_marked=is_marked)
        if not is_history and self._history is not None and at is not None and at < self._first_start:
            self._history.warn(self.files.session)
        return is_history

    def _owe(self, span: _LineSpan) -> tuple[Owed, ...]:
        """Return the traces that are owed because of *span*, but not those that are owed already.

        If turns have the traces, the end of a session is owed, too, as soon as a command has to do with the session:
        what the command says of it is sent then. What programs record owes nothing: they record its trace, too.
        """
        if isinstance(span, Recorded):
            return ()
        session = span.context.session
        by_turn = self.attribution().grouping == "message"
        turns: tuple[TurnKey | None, ...] = (span.context.turn,) if by_turn else ()
        if (not by_turn or self._added() != NOTHING) and not self._is_neighbor(session):
            turns += (None,)
        owed: tuple[Owed, ...] = ()
        for turn in turns:
            trace = events.trace_key(session, turn)
            ending = self._claims.ending(trace)
            if (ending == 1 or turn is None) and not self._is_owed(trace, ending):
                self._owed.add((trace, ending))
                owed += (Owed(trace=trace, ending=ending, unit=self.files.name),)
        return owed

    def _is_owed(self, trace: str, ending: int) -> bool:
        return (trace, ending) in self._owed or any(
            (row.trace, row.ending) == (trace, ending) for row in self._owed_in_store()
        )

    def _is_neighbor(self, session: str) -> bool:
        """Return whether *session* sends its own trace. A few old agent files hold answers of a neighboring session."""
        return session != self.files.session and self._has_main(session)

    def _trace(self, span: Trace) -> Emission | None:
        """Return the emission of a trace; None if it is not owed, not allowed, or of the other grouping."""
        if not self._rule().allows(self._accumulator.first_cwd):
            return None
        attribution = self.attribution()
        by_turn = attribution.grouping == "message"
        if span.scope == "turn" and not by_turn:
            return None
        if span.scope == "session" and self._is_neighbor(span.session):
            return None
        trace = events.trace_key(span.session, span.turn)
        ending = self._claims.ending(trace)
        if span.scope == "session" and by_turn:
            return self._ending(trace, ending)
        is_owed = self._is_owed(trace, ending) and (ending == 1 or span.scope == "session")
        if not is_owed:
            if self.resends is None or ending == 1:
                return None
            # Its last ending may have been rejected.
            ending -= 1
        identity = f"{trace}|{ending}"
        if (end := self._facts.end(self.files.name)) is not None:
            attribution = replace(attribution, ending=end)
        if said := self._added().trace:
            attribution = replace(attribution, properties={**attribution.properties, **said})
        event = events.build(
            span,
            attribution,
            repository=self._routing.repository(span.context.cwd),
            name=identity,
        )
        is_resent = self._is_resent(event)
        if not (is_owed or is_resent) or self._claims.is_pending(identity):
            return None
        # If the last ending had the same body, the receiver has this trace already. That happens if the trace was
        # accepted before the events it counts, and nothing came since.
        checksum = digest(event.body)
        before = self._claims.owner(f"{trace}|{ending - 1}")
        is_known = before is not None and before[1] == checksum and not is_resent
        self._claims.take(identity, self.files.name, checksum)
        self._owed.discard((trace, ending))
        return Emission(
            settled=Settled(identity=identity, unit=self.files.name, checksum=checksum),
            event=None if is_known else event,
            lines=None,
            pays=Owed(trace=trace, ending=ending, unit=self.files.name),
        )

    def _ending(self, trace: str, ending: int) -> Emission | None:
        """Return the emission of a session's end that is owed although its turns have the traces; it has no event."""
        identity = f"{trace}|{ending}"
        if not self._is_owed(trace, ending) or self._claims.is_pending(identity):
            return None
        self._claims.take(identity, self.files.name, None)
        self._owed.discard((trace, ending))
        return Emission(
            settled=Settled(identity=identity, unit=self.files.name),
            event=None,
            lines=None,
            pays=Owed(trace=trace, ending=ending, unit=self.files.name),
        )

    def _verdicts(self, span: Trace) -> list[Emission]:
        """Return what commands said of the session, as events of their own with each of its ends.

        They are on the session's trace, or on that of its last turn.

        They pay for the same owed end. So if the daemon stops after that was settled, they are still sent.
        """
        said = {
            name: value
            for name, value in self._added().trace.items()
            if isinstance(value, bool) or (isinstance(value, str | int | float) and value)
        }
        key = events.trace_key(span.session, span.turn)
        if not said or span.scope != "session" or self._claims.ending(key) == 1:
            return []
        attribution = self.attribution()
        if self._is_neighbor(span.session):
            return []
        latest = self._claims.ending(key) - 1
        endings = {row.ending for row in self._owed_in_store() if row.trace == key and row.ending < latest}
        found = []
        for ending in sorted(endings | {latest}):
            pays = Owed(trace=key, ending=ending, unit=self.files.name)
            for name, value in said.items():
                verdict = Verdict(name=name, value=value, number=ending, context=span.context, at=span.ended_at)
                identity = events.identity(verdict)
                owner = self._claims.owner(identity)
                if self._claims.is_pending(identity) or (owner is not None and self.resends is None):
                    continue
                repository = self._routing.repository(span.context.cwd)
                event = events.build(verdict, attribution, repository=repository, name=identity)
                if owner is None or self._is_resent(event):
                    self._claims.take(identity, self.files.name, None)
                    settled = Settled(identity=identity, unit=self.files.name)
                    found.append(Emission(settled=settled, event=event, lines=None, pays=pays))
        return found

    def attribution(self) -> Attribution:
        """Return who the session's events belong to and what they may say now. The first event decides the route.

        Raises:
            Held: the session has to wait for the user.
        """
        if self._attribution is None:
            ruling = self._rule()
            route = ruling.route
            assert route is not None
            start = self._facts.start(self.files.name)
            person = None if start is None else start.distinct_id
            if self.frozen is None or (self.frozen.host, self.frozen.key) != (route.host, route.fingerprint):
                is_first = self.frozen is None
                self.frozen = self._routing.freeze(self._opening(), ruling, self.frozen)
                if is_first and person is not None:
                    self.frozen = replace(self.frozen, distinct_id=person, identified=True)
            if person is not None and person != self.frozen.distinct_id and not self._was_late:
                self._was_late = True
                action = "the person its caller names came too late: events were sent before"
                _log.warning("session_facts_late", session=self.files.session, action=action)
            self._route = route
            attribution = self._routing.attribution(self.frozen, ruling)
            if attribution.grouping == "session":
                self._accumulator.forget_turns()
            known = {} if start is None else callers_properties(start)
            added = self._added().properties
            if known or added:
                attribution = replace(attribution, properties={**attribution.properties, **known, **added})
            if start is not None:
                attribution = replace(attribution, trace_name=start.name)
            self._attribution = attribution
        return self._attribution

    def _rule(self) -> Ruling:
        if self._ruling is None:
            if self._is_private(self.files.name):
                self.restraint = self.restraint.also(_NO_CONTENT)
            self._ruling = self._routing.rule(self._opening(), self.frozen, self.restraint)
            self.restraint = self._ruling.restraint
        return self._ruling

    def _is_private(self, name: str) -> bool:
        """Whether the caller of a session, by name, says that no content of it may leave."""
        start = self._facts.start(name)
        return start is not None and start.is_private

    def _opening(self) -> Opening:
        agent, session = self.files.agent.name, self.files.session
        return Opening(agent=agent, session=session, cwd=self._accumulator.first_cwd, at=self._began)


def _weakly(method: Callable[_Arguments, _T]) -> Callable[_Arguments, _T]:
    """Return what calls a method as long as its object lives, and does not keep it alive."""
    known = weakref.WeakMethod(method)

    def call(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _T:
        found = known()
        assert found is not None, "nobody else calls it"
        return found(*arguments, **named)

    return call


def _read_metas(metas: Mapping[str, _MetaVersion | None]) -> dict[str, tuple[_MetaVersion, bytes]]:
    """Return those of some meta files that are new, or not as they are known."""
    found = {}
    for path, known in metas.items():
        disk.at(path.rpartition("/")[0])
        with suppress(OSError):
            if (fresh := _read_meta(path, known)) is not None:
                found[path] = fresh
    return found


def _read_meta(path: str, known: _MetaVersion | None) -> tuple[_MetaVersion, bytes] | None:
    """Return which version of a meta file there is, and what is in it; None if it is *known*, or too large."""
    status = os.lstat(path)
    seen = (status.st_ino, status.st_mtime_ns, status.st_size)
    if seen == known or status.st_size > _META_BYTES:
        return None
    with open_log(path) as file:
        return seen, file.read(_META_BYTES)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Let errors name the file; errors of reading do not do so by themselves."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise
