"""Whatever happens, the receiver ends up with the events of `preview`, each of them once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.following.tailer import Tail
from daemon.state.rows import Copies
from llma_core.timestamps import milliseconds
from tests.support.histories import History, forks, histories, hosted
from tests.support.logs import LogBuilder, text, thinking, tool_use, write_files
from tests.support.marks import known
from tests.support.rig import OPENING, SECOND, Reference, Rig, named, reference, routing_for


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep log lines about bad lines and replaced files out of the report of a failing example."""
    with capture_logs():
        yield


@contextmanager
def fresh_rig(grouping: str = "session", inputs: str = "delta") -> Iterator[Rig]:
    """A rig in its own folder, because hypothesis runs a test function many times."""
    root = Path(tempfile.mkdtemp(prefix="rig-"))
    rig = Rig(root, grouping=grouping, inputs=inputs)
    try:
        yield rig
    finally:
        rig.close()
        shutil.rmtree(root)


def reference_of(history: History, grouping: str = "session", inputs: str = "delta") -> Reference:
    with tempfile.TemporaryDirectory(prefix="logs-") as folder:
        projects = Path(folder) / "projects"
        write_files(projects, {**history.logs, **history.metas})
        return reference(projects, routing_for(Path(folder), grouping=grouping, inputs=inputs))


class Schedule:
    """Plays actions of the client, the receiver and the daemon in any order.

    Attributes:
        sizes: how many bytes of each log the client has written.
        metas: the meta files that it has not written yet.
        waits_for: for a log that begins with a copy: the log it copies, and how much of that must exist before.
        order: in which order some logs grow: which one, and up to how many bytes. What grows next does so after
            everything before was read.
        inserted: the line that was inserted before a log's first line.
        once: how much of a log existed before it was truncated.
    """

    STEPS = ("append",) * 6 + ("read",) * 3 + ("acknowledge",) * 3 + ("tick", "lose", "crash", "commit", "end", "drop")

    def __init__(self, data: st.DataObject, rig: Rig, history: History, expected: Reference | None) -> None:
        self.data = data
        self.rig = rig
        self.history = history
        self.expected = expected
        self.sizes = dict.fromkeys(history.logs, 0)
        self.metas = dict(history.metas)
        self.waits_for: dict[str, tuple[str, int]] = {}
        self.order: list[tuple[str, int]] = []
        self.inserted = dict.fromkeys(history.logs, b"")
        self.once = dict(self.sizes)

    def play(self, most: int, more: Sequence[str] = ()) -> None:
        for _ in range(self.data.draw(st.integers(0, most), label="steps")):
            getattr(self, self.data.draw(st.sampled_from((*self.STEPS, *more)), label="step"))()

    def finish(self) -> None:
        for name, end in self.order:
            self._grow(name, end)
        for name, data in self.history.logs.items():
            self.rig.append(name, data[self.sizes[name] :])
            self.sizes[name] = len(data)
        for name, data in self.metas.items():
            self.rig.append(name, data)
        self.metas = {}
        self.rig.finish()

    # ------------------------------------------------------------------ the client

    def append(self) -> None:
        name = self.data.draw(st.sampled_from([*self.sizes, *self.metas]), label="file")
        if name in self.metas:
            self.rig.append(name, self.metas.pop(name))
            return
        start = self.sizes[name]
        before, size = self.waits_for.get(name, (name, 0))
        most = self._most(name)
        if start >= most or self.sizes[before] < size:
            return
        if self.data.draw(st.booleans(), label="any byte"):
            end = self.data.draw(st.integers(start + 1, most), label="to byte")
        else:
            ends = [end for end, _ in self.history.times[name] if start < end <= most]
            end = self.data.draw(st.sampled_from(ends), label="to line")
        self._grow(name, end)

    def _most(self, name: str) -> int:
        """Return how many bytes a log may have by now."""
        if name not in {log for log, _ in self.order}:
            return len(self.history.logs[name])
        now, end = next(((log, end) for log, end in self.order if self.sizes[log] < end), (name, self.sizes[name]))
        return end if now == name else 0

    def _grow(self, name: str, end: int) -> None:
        start = self.sizes[name]
        if start < end:
            if self.order and (name, end) not in self.order[:1]:
                self.rig.read()
            self.rig.append(name, self.history.logs[name][start:end])
            self.sizes[name] = end

    # ------------------------------------------------------------------ somebody else

    def truncate(self) -> None:
        name = self._written()
        if name is not None:
            self.once[name] = max(self.once[name], self.sizes[name])
            self.sizes[name] = self.data.draw(st.integers(0, self.sizes[name]), label="down to")
            self.rig.rewrite(name, self._bytes(name))

    def rewrite(self) -> None:
        """Insert a line before all others, so that every line has another offset."""
        name = self._written()
        if name is not None:
            self.inserted[name] += b'{"type":"mode","number":%d}\n' % len(self.inserted[name])
            self.rig.rewrite(name, self._bytes(name))

    def replace(self) -> None:
        name = self._written()
        if name is not None:
            self.rig.replace(name, self._bytes(name))

    def move(self) -> None:
        """Rename a file to another project's folder, or back."""
        name = self._written()
        if name is not None:
            self.rig.move(name, self._folder())

    def exchange(self) -> None:
        """Copy a file to another project's folder, and remove it."""
        name = self._written()
        if name is not None:
            self.rig.exchange(name, self._folder())

    def copy(self) -> None:
        """Leave a copy of a file as it is now in another project's folder."""
        name = self._written()
        if name is not None:
            self.rig.copy(name, "-backup")

    def _folder(self) -> str:
        return self.data.draw(st.sampled_from(["-one", "-two", "-three"]), label="folder")

    def _written(self) -> str | None:
        written = [name for name, size in self.sizes.items() if size]
        return self.data.draw(st.sampled_from(written), label="file") if written else None

    def _bytes(self, name: str) -> bytes:
        return self.inserted[name] + self.history.logs[name][: self.sizes[name]]

    # ------------------------------------------------------------------ the daemon

    def read(self) -> None:
        self.rig.read(budget=self.data.draw(st.sampled_from([1, 700, 1 << 20]), label="budget"))

    def tick(self) -> None:
        """Let the settle time pass; if nothing is half-written, also the quiet time."""
        if self.history.is_whole(self.sizes):
            self.rig.tick(self.data.draw(st.sampled_from([0.9, 1.1, 400.0]), label="seconds"))
        elif self.history.has_whole_messages(self.sizes):
            self.rig.tick(self.data.draw(st.sampled_from([0.9, 1.1]), label="seconds"))
        else:
            self.rig.read()

    def end(self) -> None:
        # What a truncated file has lost is not part of the trace when the session ends.
        if self.history.is_whole(self.sizes) and all(self.sizes[name] >= size for name, size in self.once.items()):
            self.rig.end()

    def commit(self) -> None:
        self.rig.commit()

    def drop(self) -> None:
        for session in sorted({Path(name).stem for name in self.history.logs}):
            self.rig.drop(session)

    def crash(self) -> None:
        self.rig.crash(self.expected)

    # ------------------------------------------------------------------ the receiver

    def acknowledge(self) -> None:
        self.rig.acknowledge(self._some())

    def lose(self) -> None:
        self.rig.lose_answer(self._some())

    def _some(self) -> list[int] | None:
        count = len(self.rig.in_flight)
        if not count or self.data.draw(st.booleans(), label="all"):
            return None
        return self.data.draw(st.lists(st.integers(0, count - 1), unique=True), label="which")


def check_all_received(rig: Rig, reference: Reference, *, with_traces: bool = True) -> None:
    """Assert that the receiver has the bodies of the reference, and none too often."""
    received = rig.bodies()
    assert received.keys() == reference.bodies.keys()
    for uuid, bodies in received.items():
        trace = reference.names[uuid] == "$ai_trace"
        if not trace:
            assert set(bodies) == {reference.bodies[uuid]}
        elif with_traces:
            # If answers come out of order, an earlier trace of a session that ended before may have been sent last.
            assert reference.bodies[uuid] in bodies
        allowed = 1 + rig.excused[uuid]
        if trace and with_traces:
            # A session that was resumed after its end ends again.
            allowed += sum(rig.endings.values()) - 1
        assert len(bodies) <= allowed


relaxed = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
# For what test_machine.py plays, too, among more; a long run of that is a long run of these.
also_elsewhere = settings(relaxed, max_examples=300 if float(os.environ.get("LLMA_MACHINE_SECONDS", "0")) else 30)


@also_elsewhere
@given(history=histories(), data=st.data())
def test_every_schedule_delivers_the_bodies_of_preview(history: History, data: st.DataObject) -> None:
    expected = reference_of(history)
    with fresh_rig() as rig:
        schedule = Schedule(data, rig, history, expected)
        schedule.play(25)
        schedule.finish()
        check_all_received(rig, expected)


@relaxed
@given(history=histories(), data=st.data())
def test_with_a_trace_for_each_prompt_the_same_events_arrive(history: History, data: st.DataObject) -> None:
    """A turn's trace is sent once, when the turn seems over. So it may sum up less than the finished log has."""
    expected = reference_of(history, "message")
    with fresh_rig("message") as rig:
        schedule = Schedule(data, rig, history, expected)
        schedule.play(25)
        schedule.finish()
        check_all_received(rig, expected, with_traces=False)


@relaxed
@given(history=histories(versions=("2.1.329", "2.1.200", "2.0.1"), requests=True), data=st.data())
def test_with_whole_inputs_the_same_requests_arrive(history: History, data: st.DataObject) -> None:
    expected = reference_of(history, inputs="full")
    with fresh_rig(inputs="full") as rig:
        schedule = Schedule(data, rig, history, expected)
        schedule.play(25)
        schedule.finish()
        check_all_received(rig, expected)


@relaxed
@given(drawn=forks(), data=st.data())
def test_lines_copied_by_a_fork_are_sent_once_and_for_the_original(
    drawn: tuple[History, str, int], data: st.DataObject
) -> None:
    history, fork, copied = drawn
    expected = reference_of(history)
    with fresh_rig() as rig:
        schedule = Schedule(data, rig, history, expected)
        schedule.waits_for[fork] = next(name for name in history.logs if name != fork), copied
        schedule.play(25)
        schedule.finish()
        check_all_received(rig, expected)


@relaxed
@given(drawn=hosted(), data=st.data())
def test_lines_in_the_log_of_another_session_arrive_once_and_in_the_trace_of_their_own(
    drawn: tuple[History, list[tuple[str, int]]], data: st.DataObject
) -> None:
    history, order = drawn
    grouping = data.draw(st.sampled_from(["session", "message"]), label="grouping")
    expected = reference_of(history, grouping)
    with fresh_rig(grouping) as rig:
        schedule = Schedule(data, rig, history, expected)
        schedule.order = order
        schedule.play(25)
        schedule.finish()
        check_all_received(rig, expected, with_traces=grouping == "session")


@also_elsewhere
@given(history=histories(), data=st.data())
def test_a_file_that_is_truncated_rewritten_or_replaced_loses_and_repeats_no_event(
    history: History, data: st.DataObject
) -> None:
    expected = reference_of(history)
    with fresh_rig() as rig:
        schedule = Schedule(data, rig, history, None)
        schedule.play(30, more=("truncate", "rewrite", "replace") * 2)
        schedule.finish()
        check_all_received(rig, expected)


@also_elsewhere
@given(history=histories(), data=st.data())
def test_a_file_that_is_moved_or_copied_to_another_project_loses_and_doubles_nothing(
    history: History, data: st.DataObject
) -> None:
    expected = reference_of(history)
    with fresh_rig() as rig:
        schedule = Schedule(data, rig, history, expected)
        schedule.play(30, more=("move", "exchange", "copy") * 2)
        schedule.finish()
        check_all_received(rig, expected)


@relaxed
@given(history=histories(), data=st.data())
def test_lines_that_were_there_at_the_first_start_are_not_sent_and_all_others_are(
    history: History, data: st.DataObject
) -> None:
    expected = reference_of(history)
    times = sorted({time for lines in history.times.values() for _, time in lines if time is not None})
    latest = data.draw(st.sampled_from(times), label="latest line")
    with fresh_rig() as rig:
        schedule = Schedule(data, rig, history, None)
        starts: dict[str, int] = {}
        for name, lines in history.times.items():
            schedule.sizes[name] = max((end for end, time in lines if time is not None and time <= latest), default=0)
            starts[name] = schedule.sizes[name]
            half = data.draw(st.integers(0, 20), label="bytes of the next line")
            schedule.sizes[name] = min(schedule.sizes[name] + half, len(history.logs[name]))
            if schedule.sizes[name]:
                rig.append(name, history.logs[name][: schedule.sizes[name]])
        first_start = milliseconds(latest)
        assert first_start is not None
        rig.begin(first_start + 1)
        schedule.play(15)
        schedule.finish()
        # An opening trace comes with the first of its session's new events, wherever the lines are that it tells of.
        traces = {uuid for uuid, name in expected.names.items() if name in ("$ai_trace", OPENING)}
        after = {resting.uuid for resting in expected.resting if resting.end > starts.get(resting.file, 0)} - traces
        received = {uuid: bodies for uuid, bodies in rig.bodies().items() if uuid not in traces}
        assert received.keys() == after
        for uuid, bodies in rig.bodies().items():
            assert expected.bodies[uuid] in bodies
            assert len(bodies) <= 1 + rig.excused[uuid] or uuid not in received
        if after:
            closing = {uuid for uuid, name in expected.names.items() if name == "$ai_trace"}
            assert len(closing & rig.bodies().keys()) == 1, "and the trace"


# ---------------------------------------------------------------------- cases

FORK = "1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
WITHOUT_REQUESTS = "2.1.200"
"""A client that writes no line for a request, so that a line's place says what it is."""
SETTLED = 1.5
"""Seconds after which a message with a stop reason is final."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    with fresh_rig() as made:
        yield made


def lines_of(log: LogBuilder) -> list[bytes]:
    return log.files()[log.path].splitlines(keepends=True)


def conversation() -> LogBuilder:
    """A prompt, an answer of two lines that calls a tool, its result, an answer."""
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(text("I will look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada")
    log.answer(text("One."))
    return log


def write(rig: Rig, log: LogBuilder, start: int = 0, end: int | None = None) -> None:
    """Append some lines of the main log."""
    rig.append(log.path, b"".join(lines_of(log)[start:end]))


def names(rig: Rig) -> list[str]:
    """The span ids of the received events, in order."""
    return [json.loads(event.body)["properties"]["$ai_span_id"] for event in rig.received]


def counts(rig: Rig) -> dict[str, int]:
    return {uuid: len(bodies) for uuid, bodies in rig.bodies().items()}


def test_a_crash_within_the_settle_time_only_makes_the_message_wait_again(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.read()
    rig.acknowledge()
    rig.tick(0.5)
    assert rig.in_flight == []
    last_answer = sum(map(len, lines_of(log)[:4]))
    rig.crash(rig.reference())
    assert rig.offsets() == {log.path: last_answer}
    rig.read()
    assert rig.in_flight == [], "it waits from the moment it was read again"
    rig.tick(SETTLED)
    assert [event.name for event in rig.in_flight] == ["$ai_generation"]
    rig.finish()
    check_all_received(rig, rig.reference())


def test_a_crash_before_the_quiet_time_is_over_keeps_a_message_without_a_stop_reason(rig: Rig) -> None:
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.message(stop_reason=None).add(text("On"))
    write(rig, log)
    rig.tick(200.0)
    rig.acknowledge()
    rig.crash(rig.reference())
    assert rig.offsets() == {log.path: len(lines_of(log)[0])}
    rig.read()
    rig.tick(200.0)
    assert rig.in_flight == []
    rig.tick(101.0)
    assert [event.name for event in rig.in_flight] == ["$ai_trace", "$ai_generation"]
    rig.finish()
    check_all_received(rig, rig.reference())


def test_a_file_with_the_inode_of_one_that_was_deleted_is_settled_by_itself(rig: Rig) -> None:
    for number in (1, 2):
        log = LogBuilder(f"0f4d1c52-6a0e-4b57-9a35-00000000000{number}")
        log.prompt("Count the trees" * number)
        log.answer(text("One."))
        log.prompt("Thanks")
        write(rig, log)
    rig.read()
    tails = [tail for session in rig._sessions for tail in session.pipeline.tails.values() if isinstance(tail, Tail)]
    # The file system gives the number of a deleted file, whose session is still in memory, to a new one.
    tails[0].device, tails[0].inode = tails[1].identity
    rig.acknowledge()
    assert all(rig._reader.is_settled(session) for session in rig._sessions)


def test_a_crash_in_the_middle_of_a_message_loses_none_of_its_lines(rig: Rig) -> None:
    log = conversation()
    write(rig, log, 0, 2)
    rig.read()
    rig.commit()
    rig.crash()
    write(rig, log, 2)
    rig.finish()
    reference = rig.reference()
    check_all_received(rig, reference)
    assert len(reference.bodies) == 5


def test_a_crash_in_the_middle_of_a_line_loses_nothing(rig: Rig) -> None:
    log = conversation()
    data = log.files()[log.path]
    half = len(data) - len(lines_of(log)[-1]) // 2
    rig.append(log.path, data[:half])
    rig.tick(SETTLED)
    rig.acknowledge()
    rig.crash()
    assert rig.offsets()[log.path] == len(data) - len(lines_of(log)[-1]), "the half line is not settled"
    rig.append(log.path, data[half:])
    rig.finish()
    check_all_received(rig, rig.reference())
    assert set(counts(rig).values()) == {1}


def test_a_call_without_its_result_is_still_open_after_a_crash(rig: Rig) -> None:
    log = conversation()
    write(rig, log, 0, 3)
    rig.tick(SETTLED)
    rig.acknowledge()
    rig.crash()
    assert rig.offsets()[log.path] == sum(map(len, lines_of(log)[:2])), "the call's own line is still needed"
    rig.read()
    assert rig.in_flight == [], "its message was delivered, though it stands on that line too"
    write(rig, log, 3)
    rig.finish()
    check_all_received(rig, rig.reference())
    assert set(counts(rig).values()) == {1}


def test_a_trace_on_its_way_at_a_crash_is_sent_again(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.end()
    rig.acknowledge(range(len(rig.in_flight) - 1))
    assert [event.name for event in rig.in_flight] == ["$ai_trace"]
    rig.lose_answer()
    rig.crash()
    rig.finish()
    trace = [event for event in rig.received if named(event) == "$ai_trace"]
    assert len(trace) == 2
    assert trace[0] == trace[1]
    check_all_received(rig, rig.reference())


def test_a_trace_that_was_accepted_before_its_events_is_not_sent_again(rig: Rig) -> None:
    """Two requests are on their way, and only the later one is accepted before the daemon ends."""
    write(rig, conversation())
    rig.end()
    assert rig.in_flight[-1].name == "$ai_trace"
    rig.acknowledge([len(rig.in_flight) - 1])
    rig.crash()
    rig.finish()
    assert set(counts(rig).values()) == {1}
    check_all_received(rig, rig.reference())
    assert rig.store.owed() == []


def test_a_session_with_only_an_owed_trace_is_read_again_for_it(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.tick(SETTLED)
    rig.acknowledge()
    rig.crash(rig.reference())
    assert rig.offsets() == {log.path: len(log.files()[log.path])}
    rig.finish()
    assert [named(event) for event in rig.received].count("$ai_trace") == 1
    check_all_received(rig, rig.reference())
    rig.crash()
    rig.finish()
    assert set(counts(rig).values()) == {1}, "and owes nothing after that"


@pytest.mark.parametrize("crashes", [(), ("ended",), ("resumed",), ("ended", "resumed")])
def test_a_session_that_is_resumed_sends_its_trace_once_more_under_the_same_uuid(
    rig: Rig, crashes: tuple[str, ...]
) -> None:
    log = conversation()
    before = len(lines_of(log))
    write(rig, log)
    rig.end()
    rig.acknowledge()
    if "ended" in crashes:
        rig.crash()
    log.prompt("And the bushes?")
    log.answer(text("None."))
    write(rig, log, before)
    rig.tick(SETTLED)
    rig.acknowledge()
    if "resumed" in crashes:
        rig.crash()
    rig.finish()
    traces = [json.loads(event.body) for event in rig.received if named(event) == "$ai_trace"]
    assert [trace["properties"]["claude_code_generations"] for trace in traces] == [2, 3]
    assert traces[0]["uuid"] == traces[1]["uuid"]
    assert traces[0]["timestamp"] == traces[1]["timestamp"]
    assert sum(counts(rig).values()) == len(counts(rig)) + 1


def test_the_offset_waits_for_an_earlier_event_that_is_answered_later(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.tick(SETTLED)
    assert [event.name for event in rig.in_flight] == ["$ai_trace", "$ai_generation", "$ai_span", "$ai_generation"]
    rig.acknowledge([0])
    prompt, message = len(lines_of(log)[0]), sum(map(len, lines_of(log)[:2]))
    rig.acknowledge([2])
    assert rig.offsets() == {log.path: prompt}
    rig.acknowledge([0])
    assert rig.offsets() == {log.path: message}, "the call is still on its way"
    rig.crash(rig.reference())
    rig.read()
    assert [event.name for event in rig.in_flight] == ["$ai_span"], "what was settled is not sent again"
    rig.finish()
    check_all_received(rig, rig.reference())


def test_a_refused_event_is_settled_and_set_aside(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.tick(SETTLED)
    rig.refuse([0])
    rig.acknowledge()
    assert rig.offsets() == {log.path: len(log.files()[log.path])}
    (rejected,) = rig.store.rejected()
    assert rejected.uuid == rig.refused[0]
    assert (rejected.path, rejected.start) == (str(rig.path(log.path)), len(lines_of(log)[0]))
    rig.crash()
    rig.finish()
    assert rig.reference().bodies.keys() - rig.bodies().keys() == set(rig.refused)


def test_a_log_cut_within_its_first_line_waits_for_the_rest_of_it(rig: Rig) -> None:
    """A line was inserted before, so that nothing there tells yet whether this is the same log."""
    log = conversation()
    write(rig, log, 0, 3)
    rig.read()
    rig.rewrite(log.path, b'{"type":"mode"}\n' + lines_of(log)[0][:100])
    rig.tick(SETTLED)
    assert [event.name for event in rig.in_flight] == ["$ai_trace", "$ai_generation"], "its call is not given up"
    rig.append(log.path, lines_of(log)[0][100:])
    write(rig, log, 1)
    rig.finish()
    check_all_received(rig, reference_of_log(log))


def test_what_is_open_in_a_log_is_sent_once_another_log_stands_in_its_place(rig: Rig) -> None:
    log, other = conversation(), LogBuilder(version=WITHOUT_REQUESTS, start="2026-03-03T09:00:00.000Z")
    other.prompt("Count the pears")
    write(rig, log, 0, 3)
    rig.read()
    [first] = lines_of(other)
    rig.rewrite(log.path, b'{"type":"mode"}\n' + first[:100])
    rig.read()
    rig.append(log.path, first[100:])
    rig.finish()
    calls = [json.loads(event.body)["properties"] for event in rig.received if event.name == "$ai_span"]
    assert [call["claude_code_tool_status"] for call in calls] == ["no_result"]


def hosting() -> tuple[LogBuilder, LogBuilder]:
    """A session whose log holds lines of another one, and that other one."""
    log, resumed = LogBuilder(version=WITHOUT_REQUESTS), LogBuilder(FORK, version=WITHOUT_REQUESTS)
    resumed.prompt("Count the pears")
    resumed.answer(text("One."))
    log.prompt("Count the trees")
    log.answer(text("Two."))
    with resumed.in_the_log_of(log):
        resumed.prompt("And the plums")
        resumed.answer(text("Three."))
    return log, resumed


def generations_of(rig: Rig) -> list[tuple[str, int]]:
    """The received traces in order: whose each is, and how many generations it counts."""
    said = [json.loads(event.body)["properties"] for event in rig.received if named(event) == "$ai_trace"]
    return [(each["$ai_session_id"], each["claude_code_generations"]) for each in said]


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_a_session_that_goes_on_in_the_log_of_another_is_summed_as_a_whole(rig: Rig, *, is_in_memory: bool) -> None:
    log, resumed = hosting()
    write(rig, log, 0, 2)
    write(rig, resumed)
    rig.tick(SETTLED)
    rig.acknowledge()
    if not is_in_memory:
        assert rig.drop(FORK)
    write(rig, log, 2)
    rig.finish()
    check_all_received(rig, rig.reference())
    assert sorted(generations_of(rig)) == [(log.session, 1), (FORK, 2)]


def test_a_session_with_lines_in_the_log_of_another_is_read_after_a_crash(rig: Rig) -> None:
    """The other session's offset has passed them; the session's own log has nothing new."""
    log, resumed = hosting()
    write(rig, resumed)
    rig.finish()
    write(rig, log)
    rig.read_only(log.session)
    rig.now += SETTLED
    rig.read_only(log.session)
    rig.acknowledge()
    assert rig.offsets()[log.path] == len(log.files()[log.path])
    rig.crash()
    rig.finish()
    check_all_received(rig, rig.reference())
    assert generations_of(rig)[-1] == (FORK, 2)


def test_a_subagent_in_the_folder_of_another_session_arrives_once_whatever_happens(rig: Rig) -> None:
    log, resumed = hosting()
    with resumed.in_the_log_of(log):
        resumed.answer(tool_use("Task", {"prompt": "count", "subagent_type": "scout"}, id="toolu_task"))
        agent = resumed.agent("toolu_task", "count", type="scout")
        agent.answer(text("Four."))
        begun = len(agent.lines)
        agent.answer(text("Five."))
        resumed.agent_result("toolu_task", agent, "Five.")
        resumed.answer(text("Six."))
    files = resumed.files()
    name, meta = (place(agent.id).replace(FORK, log.session) for place in (resumed.agent_path, resumed.meta_path))
    lines = files[resumed.agent_path(agent.id)].splitlines(keepends=True)
    write(rig, resumed)
    write(rig, log, 0, -2)
    rig.append(meta, files[resumed.meta_path(agent.id)])
    rig.append(name, b"".join(lines[:begun]))
    rig.tick(SETTLED)
    rig.acknowledge()
    rig.append(name, b"".join(lines[begun:]))
    rig.read_only(log.session)
    rig.acknowledge()
    rig.crash()
    write(rig, log, -2)
    rig.finish()
    check_all_received(rig, rig.reference())
    assert max(generations_of(rig)) == (FORK, 6)


def test_history_in_the_log_of_another_session_is_not_sent(rig: Rig) -> None:
    """The other session is another project's, so that its log is in another folder."""
    log = LogBuilder(version=WITHOUT_REQUESTS, cwd="/home/ada/meadow")
    resumed = LogBuilder(FORK, version=WITHOUT_REQUESTS)
    for each in (resumed, log):
        each.prompt("Count the trees")
        each.answer(text("One."))
    with resumed.in_the_log_of(log):
        resumed.prompt("Count the pears")
        resumed.answer(text("Two."))
        then = len(log.lines)
        resumed.prompt("And the plums")
        new = resumed.answer(text("Three."))
    write(rig, resumed)
    write(rig, log, 0, then)
    latest = milliseconds(log.line(then - 1)["timestamp"])
    assert latest is not None
    rig.begin(latest + 1)
    write(rig, log, then)
    rig.finish()
    said = [json.loads(event.body)["properties"]["$ai_span_id"] for event in rig.received]
    assert sorted(said) == sorted([new, FORK, FORK]), "the answer, and the opening and the final trace"


def test_replacing_a_file_loses_nothing_that_was_just_read_of_another(rig: Rig) -> None:
    """Events that a step found before it came to the replaced file must be found again."""
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count", "subagent_type": "scout"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", type="scout")
    agent.answer(text("One."))
    log.agent_result("toolu_task", agent, "One.")
    log.answer(text("One."))
    files = log.files()
    (name,) = (name for name in files if name.startswith(log.agent_path(agent.id)))
    rig.append(log.meta_path(agent.id), files[log.meta_path(agent.id)])
    rig.append(name, files[name])
    write(rig, log, 0, 1)
    rig.read()
    write(rig, log, 1)
    rig.replace(name, files[name])
    rig.finish()
    check_all_received(rig, rig.reference())
    assert set(counts(rig).values()) == {1}


def test_replacing_a_file_loses_nothing_that_is_open_in_a_deleted_file_of_the_session(rig: Rig) -> None:
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count", "subagent_type": "scout"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", type="scout")
    # Nothing shows that the session is over.
    agent.answer(text("One."))
    files = log.files()
    for name, data in files.items():
        rig.append(name, data)
    reference = rig.reference()
    rig.read()
    rig.delete(log.agent_path(agent.id))
    rig.replace(log.path, files[log.path])
    rig.finish()
    answers = [event for event in rig.received if event.name == "$ai_generation"]
    assert len({event.uuid for event in answers}) == len(answers) == 2
    assert {event.uuid for event in answers} < reference.bodies.keys()


def test_deleting_a_subagents_file_loses_none_of_the_sessions_own_events(rig: Rig) -> None:
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count", "subagent_type": "scout"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", type="scout", meta=False)
    log.agent_result("toolu_task", agent, "One.")
    log.answer(text("One."))
    rig.append(log.agent_path(agent.id), log.files()[log.agent_path(agent.id)])
    write(rig, log, 0, 1)
    rig.read()
    write(rig, log, 1)
    rig.path(log.agent_path(agent.id)).unlink()
    rig.finish()
    check_all_received(rig, rig.reference())


def test_a_complete_copy_does_not_take_the_message_of_an_original_that_still_waits(rig: Rig) -> None:
    """Both were written while the daemon was away. The copy continues, so its messages are final at once."""
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(text("One."))
    fork = log.fork("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b")
    fork.prompt("Again")
    fork.answer(text("Still one."))
    write(rig, log)
    write(rig, fork)
    rig.read()
    assert rig.in_flight == []
    rig.finish()
    check_all_received(rig, rig.reference())
    sessions = [json.loads(event.body)["properties"]["$ai_session_id"] for event in rig.received]
    assert sorted(sessions) == [log.session] * 3 + [fork.session] * 3


def sent(rig: Rig) -> dict[str, str]:
    """The span ids of all that the receiver has but traces, each with its trace."""
    events = [json.loads(event.body)["properties"] for event in rig.received if event.name != "$ai_trace"]
    assert len({event["$ai_span_id"] for event in events}) == len(events), "nothing comes twice"
    return {event["$ai_span_id"]: event["$ai_trace_id"] for event in events}


def reference_of_log(log: LogBuilder) -> Reference:
    with tempfile.TemporaryDirectory(prefix="logs-") as folder:
        log.write(Path(folder) / "projects")
        return reference(Path(folder) / "projects", routing_for(Path(folder)))


def a_fork(log: LogBuilder) -> LogBuilder:
    fork = log.fork("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b")
    fork.prompt("Again")
    fork.answer(text("Still one."), id="msg_fork")
    return fork


def test_what_a_fork_copied_is_sent_from_there_when_its_original_is_gone_before_it_was_sent(rig: Rig) -> None:
    log = conversation()
    log.prompt("And again")
    fork = a_fork(log)
    expected = reference_of_log(log)
    write(rig, log)
    write(rig, fork)
    rig.tick(SETTLED)
    rig.commit()
    rig.crash()
    rig.delete(log.path)
    rig.forget_missing()
    rig.finish()
    answers = {uuid for uuid, name in expected.names.items() if name not in ("$ai_trace", OPENING)}
    assert len(sent(rig)) == len(answers) + 1
    assert "msg_fork" in sent(rig)


@pytest.mark.parametrize("version", ["2.1.329", "2.1.200", "2.0.1"])
def test_a_copy_of_what_is_on_its_way_lets_no_offset_pass_it(rig: Rig, version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count the trees")
    log.answer(thinking("Let me see"), text("One."), id="msg_one")
    log.prompt("And the birds")
    log.answer(text("Two."), id="msg_two")
    log.prompt("And again")
    write(rig, log)
    rig.tick(SETTLED)
    fork = a_fork(log)
    write(rig, fork)
    rig.tick(SETTLED)
    rig.commit()
    rig.crash(rig.reference())
    rig.finish()
    check_all_received(rig, rig.reference())


@pytest.mark.parametrize("is_gone", [True, False])
def test_what_a_session_began_and_cannot_send_is_sent_from_its_copy(rig: Rig, *, is_gone: bool) -> None:
    """The session has to wait for the user before its answer is complete, and then its log is deleted."""
    log = conversation()
    begun = log.files()[log.path]
    log.prompt("And again")
    log.answer(text("Two "), text("birds."), id="msg_open")
    whole = log.files()[log.path]
    rest = whole[len(begun) :].splitlines(keepends=True)
    fork = a_fork(log)
    rig.append(log.path, begun + b"".join(rest[:2]))
    rig.read()
    write(rig, fork)
    rig.read()
    rig.acknowledge()
    assert "msg_open" not in sent(rig)
    rig.hold(log.session)
    if is_gone:
        rig.delete(log.path)
        rig.forget_missing()
    else:
        rig.append(log.path, b"".join(rest[2:]))
    rig.finish()
    assert sent(rig)["msg_open"] == (fork.session if is_gone else log.session)
    assert "msg_fork" in sent(rig)


def test_once_the_original_is_settled_its_copies_are(rig: Rig) -> None:
    log = conversation()
    log.prompt("And again")
    fork = a_fork(log)
    write(rig, log)
    write(rig, fork)
    rig.tick(SETTLED)
    assert rig.offsets().get(fork.path, 0) == 0, "what they are copies of is on its way"
    rig.finish()
    assert rig.offsets()[fork.path] == len(fork.files()[fork.path])


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("place", ["move", "exchange"])
def test_a_session_whose_log_goes_to_another_project_is_the_same_session(
    rig: Rig, place: str, *, crashes: bool
) -> None:
    log = conversation()
    write(rig, log)
    rig.tick(SETTLED)
    rig.commit()
    getattr(rig, place)(log.path, "-home-ada-work-tree")
    written = len(log.files()[log.path])
    log.prompt("Once more")
    log.answer(text("Three."), id="msg_after")
    rig.append(log.path, log.files()[log.path][written:])
    if crashes:
        rig.crash()
    rig.finish()
    expected = reference_of_log(log)
    check_all_received(rig, expected)
    assert [named(event) for event in rig.received].count("$ai_trace") == 1


def test_a_log_of_two_names_is_read_once(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.hard_link(log.path, "-backup")
    rig.tick(SETTLED)
    rig.move(log.path, "-one")
    rig.finish()
    check_all_received(rig, reference_of_log(log))


def test_a_log_made_anew_where_another_was_moved_away_is_one_more_of_the_session(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.tick(SETTLED)
    rig.move(log.path, "-one")
    rig.tick(SETTLED)
    written = len(log.files()[log.path])
    log.prompt("Once more")
    log.answer(text("Three."), id="msg_after")
    path = rig.projects / log.path
    path.write_bytes(log.files()[log.path][written:])
    rig.finish()
    assert "msg_after" in sent(rig)
    assert set(sent(rig).values()) == {log.session}


@pytest.mark.parametrize("folder", ["-a", "-z"])
def test_a_log_that_takes_the_place_of_a_second_name_is_read(rig: Rig, folder: str) -> None:
    """Somebody links a log to another folder, and it is then written anew in its own, or in the other one."""
    log = conversation()
    write(rig, log)
    rig.hard_link(log.path, folder)
    rig.tick(SETTLED)
    rig.acknowledge()
    rig.delete(log.path)
    log.prompt("Once more")
    log.answer(text("Three."), id="msg_after")
    write(rig, log)
    rig.finish()
    assert "msg_after" in sent(rig)
    check_all_received(rig, rig.reference())


def test_a_copy_of_history_is_history(rig: Rig) -> None:
    log = conversation()
    log.prompt("And again")
    write(rig, log)
    rig.begin(0)
    rig.exchange(log.path, "-backup")
    written = len(log.files()[log.path])
    log.answer(text("Three."), id="msg_after")
    rig.append(log.path, log.files()[log.path][written:])
    rig.finish()
    assert list(sent(rig)) == ["msg_after"]


def test_the_store_knows_which_session_holds_copies_of_another(rig: Rig) -> None:
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(text("One."))
    fork = log.fork("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b")
    fork.prompt("Again")
    fork.answer(text("Still one."))
    write(rig, log)
    rig.finish()
    assert list(rig.store.copies()) == []
    write(rig, fork)
    rig.finish()
    unit, original = (f"claude-code/{each.session}" for each in (fork, log))
    assert list(rig.store.copies()) == [Copies(unit=unit, original=original)]
    rig.crash()
    rig.append(fork.path, b"{}\n")
    rig.finish()
    assert list(rig.store.copies()) == [Copies(unit=unit, original=original)]


def test_a_copy_is_sent_if_its_original_disappears_unfinished(rig: Rig) -> None:
    log = LogBuilder()
    log.prompt("Count the trees")
    log.answer(text("One."))
    fork = log.fork("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b")
    fork.prompt("Again")
    write(rig, log)
    rig.read()
    rig.replace(log.path, b"")
    rig.read()
    write(rig, fork)
    rig.read()
    assert [json.loads(event.body)["properties"]["$ai_session_id"] for event in rig.in_flight] == [log.session]


@pytest.mark.parametrize("version", [WITHOUT_REQUESTS, "2.1.72"])
@pytest.mark.parametrize("folder", [None, "-elsewhere", f"{SECOND}-elsewhere"])
def test_a_fork_of_history_sends_only_its_own_lines_whatever_folder_it_is_in(
    rig: Rig, folder: str | None, version: str
) -> None:
    """Lines that 2.1.72 copies name the session that they were copied from."""
    log = conversation()
    log.update(version)
    write(rig, log)
    first_start = milliseconds("2026-03-02T09:00:30Z")
    assert first_start is not None
    rig.begin(first_start)
    fork = log.fork("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", wait=60.0)
    fork.prompt("Again")
    answer = fork.answer(text("Still one."))
    write(rig, fork)
    if folder is not None:
        rig.move(fork.path, folder)
    rig.finish()
    assert names(rig) == [fork.session, answer, fork.session]
    trace = json.loads(rig.received[-1].body)["properties"]
    assert trace["claude_code_generations"] == 1


def test_a_late_event_of_a_turn_whose_trace_was_sent_is_sent_and_owes_no_trace() -> None:
    with fresh_rig("message") as rig:
        log = conversation()
        write(rig, log, 0, 4)
        rig.end()
        rig.acknowledge()
        assert [event.name for event in rig.received] == ["$ai_generation", "$ai_span", "$ai_trace"]
        write(rig, log, 4)
        rig.tick(SETTLED)
        rig.acknowledge()
        assert rig.store.owed() == []
        rig.finish()
        assert [named(event) for event in rig.received].count("$ai_trace") == 1


def test_a_trace_with_nothing_left_to_report_is_not_owed_forever(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.tick(SETTLED)
    rig.acknowledge()
    assert len(rig.store.owed()) == 1
    rig.rewrite(log.path, b"")
    rig.crash()
    rig.finish()
    assert [named(event) for event in rig.received].count("$ai_trace") == 0


def test_a_short_last_line_does_not_make_a_file_look_replaced(rig: Rig) -> None:
    log = conversation()
    write(rig, log)
    rig.append(log.path, b"{}\n")
    rig.finish()
    rig.crash()
    tail = Tail(str(rig.path(log.path)), known(*rig.store.files()))
    assert tail.open()
