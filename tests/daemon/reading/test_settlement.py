"""What is settled, and what may therefore be written."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from daemon.delivering.delivery import EventOutcome
from daemon.following.catalog import Catalog
from daemon.following.tailer import Identity
from daemon.reading.added import NOTHING, Added
from daemon.reading.claims import Claims
from daemon.reading.emission import Emission, Progress
from daemon.reading.pipeline import Pipeline
from daemon.reading.settlement import Settlement
from daemon.state.rows import Commit, FileMark, Owed
from llma_core.events import CaptureEvent
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.rig import routing_for

WITHOUT_REQUESTS = "2.1.200"


class SettledIn:
    """A settled table in which everything is one session's."""

    def __init__(self, unit: str, identities: Collection[str]) -> None:
        self._unit = unit
        self._identities = identities

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        return (self._unit, None) if identity in self._identities else None

    def former_names(self, unit: str) -> Sequence[str]:
        assert unit == self._unit
        return ()


class Desk:
    """One session, and its settlement."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = LogBuilder(version=WITHOUT_REQUESTS)
        self.claims = Claims()
        self.marks: dict[Identity, FileMark] = {}
        self.settled: set[str] = set()
        self.settlement = Settlement(self.claims)
        self.path = root / "config" / "projects" / self.log.path

    @property
    def ends(self) -> list[int]:
        lines = self.path.read_bytes().splitlines(keepends=True)
        return [0, *(sum(map(len, lines[: count + 1])) for count in range(len(lines)))]

    def write(self) -> None:
        self.log.write(self.root / "config" / "projects")

    def pipeline(self, added: Added = NOTHING, *, grouping: str = "session") -> Pipeline:
        catalog = Catalog()
        unit = catalog.add(str(self.path))
        assert unit is not None
        return Pipeline(
            unit,
            claims=self.claims,
            routing=routing_for(self.root, grouping=grouping),
            marks=self.marks.get,
            owed=lambda: self.settlement.owed_by(unit.name),
            added=lambda: added,
        )

    def read(self, pipeline: Pipeline, now: float = 0.0) -> list[CaptureEvent]:
        return self.settlement.note(pipeline, pipeline.advance(now, 1 << 30))

    def settle(self, *events: CaptureEvent, outcome: str = "delivered") -> Commit:
        assert outcome in ("delivered", "rejected", "superseded")
        reason = "no" if outcome == "rejected" else None
        outcomes = [EventOutcome(event=event, outcome=outcome, reason=reason) for event in events]  # type: ignore[arg-type]
        commit = self.settlement.commit(outcomes)
        self.settlement.written(commit)
        self.settled |= {row.identity for row in commit.settled}
        self.marks |= {(mark.device, mark.inode): mark for mark in commit.files}
        return commit


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.log.prompt("Count the trees")
    made.log.answer(text("I will look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    made.log.tool_result("toolu_ls", "ada")
    made.log.answer(text("One."))
    made.write()
    return made


def offsets(commit: Commit) -> list[int]:
    return [mark.offset for mark in commit.files]


def identities(commit: Commit) -> list[str]:
    return [row.identity.partition("|")[0] for row in commit.settled]


def test_offsets_are_written_up_to_the_first_line_on_which_something_rests(desk: Desk) -> None:
    pipeline = desk.pipeline()
    wanted = desk.read(pipeline)
    assert [event.name for event in wanted] == ["$ai_trace", "$ai_generation", "$ai_span"]
    assert desk.settlement.waiting == 3
    commit = desk.settle()
    assert offsets(commit) == [desk.ends[1]]
    assert identities(commit) == ["prompt"], "which has no event to wait for"
    assert [row.ending for row in commit.owed] == [1]
    assert not desk.settle(), "nothing new"


def test_a_batch_settles_its_events_and_moves_the_offset_in_one_commit(desk: Desk) -> None:
    pipeline = desk.pipeline()
    wanted = desk.read(pipeline)
    commit = desk.settle(*wanted)
    assert identities(commit) == ["trace-open", "gen", "call", "prompt"]
    assert offsets(commit) == [desk.ends[4]]
    assert commit.counters == {"sent": 3}
    assert desk.settlement.waiting == 0
    assert not desk.settlement.is_settled(pipeline), "the last answer still waits for its time"
    (last,) = desk.read(pipeline, 2.0)
    assert offsets(desk.settle(last)) == [desk.ends[5]]
    assert desk.settlement.is_settled(pipeline)


def test_a_later_event_alone_does_not_move_the_offset(desk: Desk) -> None:
    pipeline = desk.pipeline()
    opening, generation, call = desk.read(pipeline)
    desk.settle()
    assert offsets(desk.settle(call)) == []
    assert offsets(desk.settle(generation)) == [], "the opening trace rests on the same lines"
    assert offsets(desk.settle(opening)) == [desk.ends[4]]


def test_the_written_mark_identifies_the_file(desk: Desk) -> None:
    commit = desk.settle(*desk.read(desk.pipeline()))
    (mark,) = commit.files
    status = desk.path.stat()
    assert (mark.device, mark.inode, mark.path) == (status.st_dev, status.st_ino, str(desk.path))
    again = desk.pipeline()
    again.open()
    assert again.tails[str(desk.path)].committed == mark.offset


def test_until_a_commit_is_written_its_events_are_still_claimed(desk: Desk) -> None:
    wanted = desk.read(desk.pipeline())
    commit = desk.settlement.commit([EventOutcome(event=event, outcome="delivered") for event in wanted])
    assert all(desk.claims.is_pending(row.identity) for row in commit.settled)
    desk.settlement.written(commit)
    assert not any(desk.claims.is_pending(row.identity) for row in commit.settled)


def test_a_refused_event_is_settled_counted_and_recorded_without_content(desk: Desk) -> None:
    opening, generation, call = desk.read(desk.pipeline())
    desk.settle(opening)
    commit = desk.settle(generation, outcome="rejected")
    assert identities(commit) == ["gen"]
    assert commit.counters == {"rejected": 1}
    (rejected,) = commit.rejected
    assert (rejected.uuid, rejected.name, rejected.reason) == (generation.uuid, "$ai_generation", "no")
    assert (rejected.path, rejected.start, rejected.end) == (str(desk.path), desk.ends[1], desk.ends[3])
    assert rejected.bytes == len(generation.body)
    assert rejected.at
    assert offsets(commit) == [desk.ends[2]], "as far as the call's line"
    assert offsets(desk.settle(call)) == [desk.ends[4]]


def test_a_superseded_event_is_settled_and_not_counted(desk: Desk) -> None:
    opening, generation, _ = desk.read(desk.pipeline())
    desk.settlement.refused.add(generation.uuid)
    desk.settle(opening)
    commit = desk.settle(generation, outcome="superseded")
    assert identities(commit) == ["gen"]
    assert (commit.counters, commit.rejected, commit.accepted) == ({}, [], []), "a later body is what was sent"
    assert offsets(commit) == [desk.ends[2]]


def test_an_event_that_was_refused_before_counts_as_refused_until_it_is_accepted(desk: Desk) -> None:
    _, generation, call = desk.read(desk.pipeline())
    desk.settlement.refused |= {generation.uuid, call.uuid, "another"}
    again = desk.settle(generation, outcome="rejected")
    assert again.counters.get("rejected", 0) == 0
    assert [row.uuid for row in again.rejected] == [generation.uuid]
    accepted = desk.settle(call)
    assert accepted.counters == {"sent": 1, "rejected": -1}
    assert accepted.accepted == [call.uuid]
    assert desk.settlement.refused == {generation.uuid, "another"}


def test_a_refused_trace_rests_on_no_line(desk: Desk) -> None:
    pipeline = desk.pipeline()
    desk.settle(*desk.read(pipeline))
    *_, trace = desk.settlement.note(pipeline, pipeline.end(1.0))
    commit = desk.settle(trace, outcome="rejected")
    (rejected,) = commit.rejected
    assert (rejected.name, rejected.path, rejected.start, rejected.end) == ("$ai_trace", None, None, None)
    assert [row.ending for row in commit.paid] == [1]


VERDICT = Added(trace={"verdict": "approve", "score": 0.5, "passed": False, "none": 0, "empty": "", "list": [1]})


def metrics(events: Sequence[CaptureEvent]) -> dict[str, CaptureEvent]:
    """Return the metrics among *events*, by name."""
    found = [event for event in events if event.name == "$ai_metric"]
    return {json.loads(event.body)["properties"]["$ai_metric_name"]: event for event in found}


def test_what_a_command_said_is_sent_as_metrics_with_the_trace(desk: Desk) -> None:
    pipeline = desk.pipeline(VERDICT)
    desk.settle(*desk.read(pipeline))
    *_, trace, verdict, score, passed = desk.settlement.note(pipeline, pipeline.end(1.0))

    assert trace.name == "$ai_trace"
    assert metrics([verdict, score, passed]) == {"verdict": verdict, "score": score, "passed": passed}
    said = [json.loads(event.body)["properties"]["$ai_metric_value"] for event in (verdict, score, passed)]
    assert said == ["approve", 0.5, False]


@pytest.mark.parametrize("first", ["trace", "metrics"])
def test_a_trace_is_owed_until_what_is_sent_with_it_is_settled_too(desk: Desk, first: str) -> None:
    pipeline = desk.pipeline(VERDICT)
    desk.settle(*desk.read(pipeline))
    sent = desk.settlement.note(pipeline, pipeline.end(1.0))
    trace, others = [sent[-4]], sent[-3:]
    early, late = (trace, others) if first == "trace" else (others, trace)

    desk.settle(*sent[:-4])
    assert desk.settle(*early).paid == []
    assert len(desk.settle(*late).paid) == 1
    assert desk.settlement.owing == set()


def test_metrics_that_were_on_their_way_when_the_daemon_stopped_are_sent_although_their_trace_is_settled(
    desk: Desk,
) -> None:
    pipeline = desk.pipeline(VERDICT)
    desk.settle(*desk.read(pipeline))
    *before, trace, verdict, score, _ = desk.settlement.note(pipeline, pipeline.end(1.0))
    desk.settle(*before, trace, verdict)
    assert [row.ending for row in desk.settlement.owed_by(pipeline.files.name)] == [1]

    desk.claims = Claims(SettledIn(pipeline.files.name, desk.settled))
    desk.settlement = Settlement(desk.claims, desk.settlement.owed_by(pipeline.files.name))
    again = desk.pipeline(VERDICT)
    sent = desk.read(again) + desk.settlement.note(again, again.end(1.0))

    assert metrics(sent).keys() == {"score", "passed"}
    assert metrics(sent)["score"].body == score.body
    assert len(sent) == 2
    assert len(desk.settle(*sent).paid) == 1
    assert desk.settlement.owing == set()

    last = desk.pipeline(NOTHING)
    assert desk.read(last) + desk.settlement.note(last, last.end(1.0)) == []


def test_with_a_trace_for_each_prompt_what_a_command_said_is_once_on_the_last_ones(desk: Desk) -> None:
    desk.log.prompt("Count the birds")
    desk.log.answer(text("Two."))
    desk.write()
    pipeline = desk.pipeline(VERDICT, grouping="message")
    sent = desk.read(pipeline) + desk.settlement.note(pipeline, pipeline.end(1.0))

    bodies = [json.loads(event.body)["properties"] for event in sent]
    *_, last = [body["$ai_trace_id"] for body in bodies if body.get("claude_code_trace") == "final"]
    said = [body for body in bodies if "$ai_metric_name" in body]
    assert [body["$ai_metric_value"] for body in said] == ["approve", 0.5, False]
    assert {body["$ai_trace_id"] for body in said} == {last}
    assert last != desk.log.session

    desk.settle(*[event for event in sent if event not in metrics(sent).values()])
    assert len(desk.settlement.owed_by(pipeline.files.name)) == 1, "what was said is still on its way"

    desk.claims = Claims(SettledIn(pipeline.files.name, desk.settled))
    desk.settlement = Settlement(desk.claims, desk.settlement.owed_by(pipeline.files.name))
    again = desk.pipeline(VERDICT, grouping="message")
    repeated = desk.read(again) + desk.settlement.note(again, again.end(1.0))
    assert [event.body for event in repeated] == [event.body for event in metrics(sent).values()]
    desk.settle(*repeated)
    assert desk.settlement.owing == set()

    desk.log.prompt("Count the bees")
    desk.log.answer(text("None."))
    desk.write()
    other = desk.pipeline(Added(trace={"verdict": "reject"}), grouping="message")
    later = desk.read(other) + desk.settlement.note(other, other.end(2.0))
    (verdict,) = metrics(later).values()
    assert json.loads(verdict.body)["properties"]["$ai_metric_value"] == "reject"
    assert verdict.uuid != metrics(sent)["verdict"].uuid


def test_an_event_that_was_cut_is_counted_as_cut(desk: Desk) -> None:
    _, generation, _ = desk.read(desk.pipeline())
    commit = desk.settle(replace(generation, cut=True))
    assert commit.counters == {"sent": 1, "cut": 1}


def test_bad_lines_are_counted(desk: Desk) -> None:
    pipeline = desk.pipeline()
    pipeline.open()
    desk.settlement.note(pipeline, Progress(bad_lines=3))
    assert desk.settle().counters == {"bad_lines": 3}
    assert desk.settle().counters == {}


def test_a_repeated_outcome_settles_once(desk: Desk) -> None:
    wanted = desk.read(desk.pipeline())
    desk.settle(*wanted)
    commit = desk.settle(*wanted)
    assert not commit


def test_a_trace_is_paid_when_it_is_settled_and_not_before(desk: Desk) -> None:
    pipeline = desk.pipeline()
    desk.settle(*desk.read(pipeline))
    last, trace = desk.settlement.note(pipeline, pipeline.end(1.0))
    assert desk.settle(last).paid == []
    commit = desk.settle(trace)
    assert commit.paid == [Owed(trace=f"trace|{desk.log.session}", ending=1, unit=pipeline.files.name)]
    assert identities(commit) == ["trace"]


def test_an_event_settled_after_the_trace_it_owed_does_not_make_it_owed_again(desk: Desk) -> None:
    desk.log.lines.pop(0)
    desk.write()
    pipeline = desk.pipeline()
    _, first, *others = desk.read(pipeline) + desk.settlement.note(pipeline, pipeline.end(1.0))
    assert [row.ending for row in desk.settle(*others[:-1]).owed] == []
    assert len(desk.settle(others[-1]).paid) == 1
    assert list(desk.settle(first).owed) == []


# ---------------------------------------------------------------------- pipelines come and go


def test_dropping_a_pipeline_leaves_its_events_on_their_way(desk: Desk) -> None:
    pipeline = desk.pipeline()
    wanted = desk.read(pipeline)
    desk.settlement.drop(pipeline)
    assert desk.settlement.waiting == 3
    commit = desk.settle(*wanted)
    assert identities(commit) == ["trace-open", "gen", "call", "prompt"]
    assert offsets(commit) == [], "nobody knows how far the file is read"


def test_a_new_pipeline_registers_the_lines_of_events_on_their_way(desk: Desk) -> None:
    pipeline = desk.pipeline()
    opening, generation, call = desk.read(pipeline)
    desk.settlement.drop(pipeline)
    again = desk.pipeline()
    assert desk.read(again) == []
    assert offsets(desk.settle(opening)) == [desk.ends[1]]
    assert offsets(desk.settle(generation)) == [desk.ends[2]]
    assert offsets(desk.settle(call)) == [desk.ends[4]]


def test_the_offset_of_a_replaced_file_goes_back_to_its_beginning(desk: Desk) -> None:
    pipeline = desk.pipeline()
    desk.settle(*desk.read(pipeline))
    desk.settlement.drop(pipeline)
    desk.path.write_bytes(b"")
    again = desk.pipeline()
    desk.read(again)
    assert offsets(desk.settle()) == [0]
    assert desk.settlement.is_settled(again)


def test_messages_begun_by_a_dropped_pipeline_are_forgotten(desk: Desk) -> None:
    pipeline = desk.pipeline()
    desk.read(pipeline)
    ((identity, _),) = [(name, met) for name in _messages(desk) if (met := desk.claims.met(name)) is not None]
    desk.settlement.drop(pipeline)
    assert desk.claims.met(identity) is None


def _messages(desk: Desk) -> Sequence[str]:
    return [
        f"gen|{line['message']['id']}"
        for line in {line["message"].get("id"): line for line in desk.log.lines if isinstance(line, dict)}.values()
        if line["type"] == "assistant"
    ]


def test_dropping_an_older_pipeline_of_a_file_does_not_affect_the_newer_one(desk: Desk) -> None:
    old = desk.pipeline()
    desk.read(old)
    new = desk.pipeline()
    desk.read(new)
    desk.settlement.drop(old)
    assert offsets(desk.settle()) == [desk.ends[1]]


def test_reading_settled_lines_again_never_lowers_an_offset(desk: Desk) -> None:
    known = desk.settle(*desk.read(desk.pipeline())).files[0]
    settlement = Settlement(desk.claims)
    catalog = Catalog()
    unit = catalog.add(known.path)
    assert unit is not None
    marks = {(known.device, known.inode): known}.get
    pipeline = Pipeline(unit, claims=Claims(), routing=routing_for(desk.root), marks=marks, again=True)
    wanted = settlement.note(pipeline, pipeline.advance(0.0, 1 << 30))
    assert offsets(settlement.commit()) == []
    desk.log.prompt("More")
    desk.write()
    wanted += settlement.note(pipeline, pipeline.advance(0.0, 1 << 30))
    commit = settlement.commit([EventOutcome(event=event, outcome="delivered") for event in wanted])
    assert offsets(commit) == [desk.ends[-1]]


def test_a_file_with_nothing_settled_gets_no_mark(desk: Desk) -> None:
    desk.log.lines.pop(0)
    desk.write()
    desk.read(desk.pipeline())
    assert offsets(desk.settle()) == []


# ---------------------------------------------------------------------- what the store says


def test_owed_traces_are_known_by_session_and_follow_what_is_written() -> None:
    one, other, third = (Owed(trace=trace, ending=1, unit=unit) for trace, unit in (("t", "a"), ("u", "b"), ("v", "a")))
    settlement = Settlement(Claims(), [one, other])
    assert set(settlement.owing) == {"a", "b"}
    assert list(settlement.owed_by("a")) == [one]
    settlement.written(Commit(owed=[third]))
    assert list(settlement.owed_by("a")) == [one, third]
    settlement.written(Commit(paid=[one, other]))
    assert list(settlement.owed_by("a")) == [third]
    assert set(settlement.owing) == {"a"}
    settlement.forgive(["a"])
    assert not settlement.owing
    assert list(settlement.owed_by("a")) == []


def test_an_event_that_was_settled_before_it_is_noted_again_holds_no_line(desk: Desk) -> None:
    """The event was on its way when it was read, and was settled before this step is noted."""
    pipeline = desk.pipeline()
    wanted = desk.read(pipeline)
    desk.settlement.drop(pipeline)
    again = desk.pipeline()
    progress = again.advance(0.0, 1 << 30)
    emissions: list[Emission] = progress.emissions
    assert [emission.again for emission in emissions] == [True] * 4
    desk.settle(*wanted)
    desk.settlement.note(again, progress)
    assert offsets(desk.settle()) == [desk.ends[4]]
