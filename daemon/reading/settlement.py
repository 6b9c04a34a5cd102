"""Tracks which events are on their way and which are settled, and makes the transactions for the store.

    note(progress)      -> the events to deliver; from now on they hold their lines
    commit(outcomes)    -> one transaction: offsets, settled identities, owed traces, refused events
    written(commit)     -> the transaction is in the store

The rule that nothing is lost: a pipeline's progress is noted before any of its events is sent, and an offset is
committed only over lines whose events are settled. After a crash, everything beyond the offsets is read again.

Synchronous. Use it from one thread only, the event loop's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from daemon.delivering.delivery import EventOutcome
from daemon.delivering.route import LOCAL, Route
from daemon.following.session_files import unit_name
from daemon.reading.claims import Claims
from daemon.reading.emission import Emission, Progress
from daemon.reading.ledger import Ledger
from daemon.reading.standing import Standing
from daemon.state.rows import Commit, Copies, FileMark, Hosted, Owed, RejectedEvent
from llma_core.events import CaptureEvent

__all__ = ["Settlement"]


_COUNTERS = ("bad_lines", "unknown_lines", "ignored_fields")
"""What a step counts, as `Progress` names it."""


class Settlement:
    """Keeps account of everything between reading and the store.

    Args:
        claims: which session wrote what first. Identities that are written to the store are released from it.
        owed: the owed traces, as stored.
        refused: the uuids of the events that are set aside, as stored.
        rejecting: the names of the sessions that they are of.

    Attributes:
        refused: the uuids of the events that are set aside.
        rejecting: the names of the sessions of which one was set aside, in this run or as stored.
    """

    def __init__(
        self,
        claims: Claims,
        owed: Iterable[Owed] = (),
        refused: Iterable[str] = (),
        rejecting: Iterable[str] = (),
    ) -> None:
        self.refused = set(refused)
        self.rejecting = set(rejecting)
        self._owed: dict[str, list[Owed]] = {}
        self._note_owed(owed)
        self._marks: dict[str, FileMark] = {}
        self._claims = claims
        self._ledger = Ledger()
        self._pipelines: dict[str, Standing] = {}
        self._on_their_way: dict[str, Emission] = {}
        self._owing: set[str] = set()
        self._paying: set[str] = set()
        self._ready: list[Emission] = []
        self._ready_names: set[str] = set()
        self._advancing: dict[str, FileMark] = {}
        self._touched: set[str] = set()
        self._counters: Counter[str] = Counter()
        self._copies: dict[tuple[str, str], None] = {}
        self._copies_noted: set[tuple[str, str]] = set()
        self._abandoned: dict[str, str] = {}
        self._hosted: dict[Hosted, None] = {}
        self._hosted_noted: set[Hosted] = set()
        self._guests: dict[str, int] = {}

    # ------------------------------------------------------------------ reading

    def note(self, pipeline: Standing, progress: Progress) -> list[CaptureEvent]:
        """Note the progress of one step of *pipeline*. Return the events to deliver, in order."""
        for path, tail in pipeline.tails.items():
            if self._pipelines.get(path) is not pipeline:
                self._pipelines[path] = pipeline
                self._ledger.open(path, tail.committed)
                if tail.known is not None:
                    self._marks[path] = tail.known
            self._ledger.read(path, progress.ends.get(path, ()))
        self._touched.update(progress.ends)
        wanted = []
        for emission in progress.emissions:
            identity, lines = emission.settled.identity, emission.lines
            if emission.waits is not None:
                if lines is not None:
                    self._ledger.register(identity, lines)
            elif emission.again:
                if identity in self._on_their_way and lines is not None:
                    self._ledger.register(identity, lines)
            elif emission.event is None:
                self._ready.append(emission)
                self._ready_names.add(identity)
            else:
                self._set_out(emission)
                if lines is not None:
                    self._ledger.register(identity, lines)
                wanted.append(emission.event)
        self._note_copies(pipeline, progress)
        needed = pipeline.needed_from()
        for path in pipeline.tails:
            self._ledger.need(path, needed.get(path))
            self._touched.add(path)
        for counter in _COUNTERS:
            if count := getattr(progress, counter):
                self._counters[counter] += count
        return wanted

    def _set_out(self, emission: Emission) -> None:
        """Note that an event is on its way. Few owe or pay a trace: these are known, as each commit asks for them."""
        identity = emission.settled.identity
        self._on_their_way[identity] = emission
        if emission.owes:
            self._owing.add(identity)
        else:
            self._owing.discard(identity)
        if emission.pays is not None:
            self._paying.add(identity)
        else:
            self._paying.discard(identity)

    def _note_copies(self, pipeline: Standing, progress: Progress) -> None:
        """Take note of the lines that are settled when others are, in the same session or in another one."""
        for repeat, file, end in progress.repeats:
            self._ledger.repeat(repeat, file, end)
        for identity, copy in progress.copies:
            if identity in self._on_their_way or identity in self._ready_names or self._claims.met(identity):
                self._ledger.register(identity, copy)
        for identity in progress.passed_over:
            self._touched.update(self._ledger.settle(identity))
        for session, (device, inode) in progress.hosted:
            unit, host = unit_name(pipeline.files.agent, session), pipeline.files.name
            hosted = Hosted(unit=unit, host=host, device=device, inode=inode)
            if hosted not in self._hosted_noted:
                self._hosted[hosted] = None
        for original in pipeline.originals:
            copies = (pipeline.files.name, original)
            if copies not in self._copies_noted:
                self._copies[copies] = None

    def drop(self, pipeline: Standing) -> None:
        """Forget a pipeline. Its events that are on their way stay on their way."""
        begun = self._claims.forget(pipeline.files.name)
        for path in pipeline.tails:
            if self._pipelines.get(path) is pipeline:
                del self._pipelines[path]
                self._ledger.close(path)
                self._touched.discard(path)
                self._marks.pop(path, None)
                self._guests.pop(path, None)
        self._abandoned |= {identity: pipeline.files.name for identity in begun if self._ledger.resting(identity)}

    def stranded(self, existing: Container[str], *, but: str | None = None) -> set[str]:
        """Return the sessions in memory whose copies wait for what another session began and can never send.

        That one was dropped before it was read to its end, for example because it has to wait for the user, and has no
        log any more. Drop the returned sessions, and read them again.

        Args:
            existing: the names of the sessions that have a log.
            but: the name of a session that is left for the next call.
        """
        stranded: set[str] = set()
        for identity, unit in list(self._abandoned.items()):
            names = {self._pipelines[file].files.name for file in self._ledger.resting(identity)}
            if not names or self._claims.is_pending(identity) or self._claims.met(identity) is not None:
                # Nobody waits for it, or somebody will send it.
                del self._abandoned[identity]
            elif unit not in existing and but not in names:
                del self._abandoned[identity]
                stranded |= names
        return stranded

    def is_settled(self, pipeline: Standing) -> bool:
        """Return whether everything that *pipeline* has read is settled and written."""
        return all(
            self._settled_offset(pipeline, path) == tail.offset for path, tail in pipeline.tails.items() if tail.offset
        ) and not any(emission.settled.unit == pipeline.files.name for emission in self._ready)

    def _settled_offset(self, pipeline: Standing, path: str) -> int | None:
        """Return how far a file is settled and written."""
        if path in pipeline.guests:
            return self._guests.get(path)
        mark = self._marks.get(path)
        return mark.offset if mark is not None else None

    @property
    def waiting(self) -> int:
        """How many events are on their way: returned by `note` and not settled."""
        return len(self._on_their_way)

    def waiting_of(self, units: Container[str]) -> Counter[str]:
        """Count the events on their way of each session whose name is in *units*."""
        names = (emission.settled.unit for emission in self._on_their_way.values())
        return Counter(name for name in names if name in units)

    def unit_of(self, identity: str) -> str | None:
        """Return the name of the session of an event on its way; None if no such event is on its way."""
        emission = self._on_their_way.get(identity)
        return emission.settled.unit if emission is not None else None

    def route_of(self, identity: str) -> Route | None:
        """Return where an event on its way goes, if that is not its session's route; else None."""
        emission = self._on_their_way.get(identity)
        return emission.route if emission is not None else None

    # ------------------------------------------------------------------ owed traces

    @property
    def owing(self) -> Collection[str]:
        """The names of the sessions with an owed trace in the store."""
        return self._owed.keys()

    def owed_by(self, unit: str) -> Sequence[Owed]:
        """Return the owed traces of the session *unit*, as stored."""
        return self._owed.get(unit, ())

    def forgive(self, units: Iterable[str]) -> None:
        """Forget the owed traces of sessions whose logs are gone. Remove them from the store first."""
        for unit in units:
            self._owed.pop(unit, None)

    def _note_owed(self, rows: Iterable[Owed]) -> None:
        for row in rows:
            self._owed.setdefault(row.unit, []).append(row)

    # ------------------------------------------------------------------ settling

    def commit(self, outcomes: Sequence[EventOutcome] = ()) -> Commit:
        """Settle *outcomes* and return everything that may now be written, as one transaction.

        Write it and pass it to `written` before you call `commit` again.
        """
        emissions: list[Emission] = []
        rejected: list[RejectedEvent] = []
        accepted: list[str] = []
        sent = 0
        # As locals: this is what a catch-up does most often here.
        on_their_way, owing, paying = self._on_their_way, self._owing, self._paying
        touched, settle = self._touched, self._ledger.settle
        for outcome in outcomes:
            event = outcome.event
            emission = on_their_way.pop(event.identity, None)
            if emission is None:
                continue
            owing.discard(event.identity)
            paying.discard(event.identity)
            touched.update(settle(event.identity))
            emissions.append(emission)
            uuid, was_refused = event.uuid, event.uuid in self.refused
            if event.cut:
                self._counters["cut"] += 1
            if outcome.outcome == "rejected":
                rejected.append(self._rejected(outcome, emission))
                self._counters["rejected"] += not was_refused
                self.refused.add(uuid)
                self.rejecting.add(emission.settled.unit)
            elif outcome.outcome == "delivered":
                if emission.route is None or emission.route != LOCAL:
                    sent += 1
                else:
                    self._counters["kept_local"] += 1
                if was_refused:
                    accepted.append(uuid)
                    self._counters["rejected"] -= 1
                    self.refused.discard(uuid)
        if sent:
            self._counters["sent"] += sent
        for identity in self._ready_names:
            touched.update(settle(identity))
        emissions += self._ready
        self._ready = []
        self._ready_names.clear()
        counters, self._counters = dict(self._counters), Counter()
        # Written no later than the offsets over the copies, so that the store does not forget their original.
        copies, self._copies = list(self._copies), {}
        paid = self._paid(emissions)
        self._owe_no_more(paid)
        files = self._advanced()
        hosted, self._hosted = list(self._hosted), {}
        return Commit(
            files=files,
            settled=[row for emission in emissions for row in (emission.settled, emission.also) if row is not None],
            hosted=hosted,
            copies=[Copies(unit=unit, original=original) for unit, original in copies],
            owed=[owed for emission in emissions for owed in emission.owes],
            paid=paid,
            rejected=rejected,
            accepted=accepted,
            counters=counters,
        )

    def written(self, commit: Commit) -> None:
        """Note that *commit* is in the store."""
        for row in commit.settled:
            self._claims.release(row.identity)
        self._hosted_noted.update(row for row in commit.hosted if not row.offset)
        self._copies_noted.update((row.unit, row.original) for row in commit.copies)
        # By path: a new file may have the inode of one that was deleted and is still in memory.
        for path, mark in self._advancing.items():
            if path in self._pipelines:
                self._marks[path] = mark
        self._advancing.clear()
        self._note_owed(commit.owed)
        for paid in commit.paid:
            left = [owed for owed in self._owed.get(paid.unit, ()) if owed != paid]
            if left:
                self._owed[paid.unit] = left
            else:
                self._owed.pop(paid.unit, None)

    def _paid(self, emissions: Iterable[Emission]) -> list[Owed]:
        """Return the owed traces that are paid: no event that is sent with one of them is still on its way."""
        paid = dict.fromkeys(emission.pays for emission in emissions if emission.pays is not None)
        if paid:
            for identity in self._paying:
                pays = self._on_their_way[identity].pays
                assert pays is not None
                paid.pop(pays, None)
        return list(paid)

    def _owe_no_more(self, paid: Sequence[Owed]) -> None:
        """Make sure that an event settled after its trace does not make that trace owed again."""
        if paid:
            for identity in list(self._owing):
                emission = self._on_their_way[identity]
                if any(owed in paid for owed in emission.owes):
                    left = tuple(owed for owed in emission.owes if owed not in paid)
                    self._set_out(replace(emission, owes=left))

    def _advanced(self) -> list[FileMark]:
        """Return the marks of the files whose offset has changed since the last commit."""
        marks = []
        self._advancing.clear()
        repeating = [each for path in self._touched if (each := self._pipelines.get(path)) and each.has_repeats]
        for each in repeating:
            # What is settled in one file may be what another's lines wait for.
            self._touched.update(each.tails)
            self._ledger.advance(each.tails)
        for path in self._touched:
            pipeline = self._pipelines.get(path)
            if pipeline is None:
                continue
            offset, tail = self._ledger.offset(path)
            if path in pipeline.guests:
                self._advance_guest(pipeline, path, offset)
                continue
            known = self._marks.get(path)
            mark = pipeline.tails[path].mark(pipeline.files.name, offset, tail)
            if known is not None and (known.device, known.inode) == (mark.device, mark.inode):
                if (known.offset, known.path) == (offset, mark.path) or (pipeline.again and known.offset > offset):
                    continue
            elif offset == 0:
                continue
            self._advancing[path] = mark
            marks.append(mark)
        self._touched.clear()
        return marks

    def _advance_guest(self, pipeline: Standing, path: str, offset: int) -> None:
        """Note how far the lines of a session in another session's log are settled."""
        if self._guests.get(path, 0) != offset:
            self._guests[path] = offset
            if not pipeline.is_hosted(path):
                return
            host, (device, inode) = pipeline.guests[path].name, pipeline.tails[path].identity
            self._hosted[Hosted(unit=pipeline.files.name, host=host, device=device, inode=inode, offset=offset)] = None

    def _rejected(self, outcome: EventOutcome, emission: Emission) -> RejectedEvent:
        lines = emission.lines
        return RejectedEvent(
            uuid=outcome.event.uuid,
            name=outcome.event.name,
            bytes=len(outcome.event.body),
            reason=outcome.reason or "refused",
            path=self._path_now(lines.file) if lines else None,
            start=lines.start if lines else None,
            end=lines.end if lines else None,
            unit=emission.settled.unit,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _path_now(self, file: str) -> str:
        """Return where a file is now: it may have been moved since it was opened."""
        pipeline = self._pipelines.get(file)
        return pipeline.tails[file].path if pipeline is not None and file in pipeline.tails else file
