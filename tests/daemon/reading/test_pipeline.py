"""From one session's files to emissions: every event once, with the lines it rests on."""

from __future__ import annotations

import errno
import gc
import json
import os
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from structlog.testing import capture_logs

from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.following.catalog import Catalog
from daemon.following.session_files import SessionFiles
from daemon.following.tailer import mark_at_end, open_log
from daemon.reading.claims import Claims
from daemon.reading.emission import Emission, Progress, Replaced
from daemon.reading.facts import Facts
from daemon.reading.pipeline import Pipeline
from daemon.state.rows import FileMark, FrozenRoute, Owed, Settled
from llma_core.spans import SessionFacts
from tests.support import outbox
from tests.support.logs import LogBuilder, text, tool_use, write_files
from tests.support.marks import known
from tests.support.rig import routing_for

EVERYTHING = 1 << 30
SETTLED_SECONDS = 1.5
WITHOUT_REQUESTS = "2.1.200"
FORK = "1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"


class Desk:
    """Makes pipelines over real files, with one set of claims."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.projects = root / "config" / "projects"
        self.claims = Claims()

    def write(self, log: LogBuilder, end: int | None = None) -> list[int]:
        """Write a log, up to some line of its main file. Return the ends of its lines."""
        log.write(self.projects)
        lines = log.files()[log.path].splitlines(keepends=True)
        path = self.projects / log.path
        path.write_bytes(b"".join(lines[:end]))
        return [sum(map(len, lines[: count + 1])) for count in range(len(lines))]

    def unit(self, log: LogBuilder) -> SessionFiles:
        catalog = Catalog()
        for name in log.files():
            if (self.projects / name).exists():
                catalog.add(str(self.projects / name))
        (unit,) = catalog.sessions.values()
        return unit

    def pipeline(
        self,
        log: LogBuilder,
        *,
        grouping: str = "session",
        claims: Claims | None = None,
        mark: FileMark | None = None,
        owed: Sequence[Owed] = (),
        **settings: Any,
    ) -> Pipeline:
        return Pipeline(
            self.unit(log),
            claims=claims or self.claims,
            routing=routing_for(self.root, grouping=grouping),
            marks=known(*([mark] if mark is not None else [])),
            owed=lambda: owed,
            **settings,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def conversation(session: str | None = None) -> LogBuilder:
    log = LogBuilder(*([session] if session else []), version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(text("I will look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada")
    log.answer(text("One."))
    return log


def named(emissions: Sequence[Emission]) -> list[str]:
    return [emission.event.name if emission.event else "prompt" for emission in emissions]


def kinds(emissions: Sequence[Emission]) -> list[str]:
    return [emission.settled.identity.partition("|")[0] for emission in emissions]


def read(pipeline: Pipeline, now: float = 0.0) -> list[Emission]:
    return pipeline.advance(now, EVERYTHING).emissions


def test_what_was_read_of_a_session_goes_with_its_pipeline(desk: Desk) -> None:
    """In a cycle, it would stay until the garbage collector comes, which looks at all of the memory."""
    log = conversation()
    desk.write(log)
    gc.disable()
    try:
        pipeline = desk.pipeline(log)
        assert read(pipeline)
        known = weakref.ref(pipeline)
        del pipeline
        assert known() is None
    finally:
        gc.enable()


class Table:
    """A settled table in memory."""

    def __init__(self, *rows: Settled) -> None:
        self.rows = {row.identity: (row.unit, row.checksum) for row in rows}
        self.asked: list[str] = []

    def owner(self, identity: str) -> tuple[str, bytes | None] | None:
        self.asked.append(identity)
        return self.rows.get(identity)

    def former_names(self, unit: str) -> list[str]:
        return [f"-orchard/{unit.rpartition('/')[2]}"]


@pytest.mark.parametrize("budget", [EVERYTHING, 1])
def test_the_last_step_of_an_ended_session_includes_what_its_end_makes_final(desk: Desk, budget: int) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    found = []
    while True:
        progress = pipeline.advance(0.0, budget, last=True)
        found += progress.emissions
        assert progress.ended is not progress.more
        if not progress.more:
            break

    apart = desk.pipeline(log, claims=Claims())
    expected = read(apart) + apart.end(0.0).emissions
    assert found == expected
    assert kinds(found)[-1] == "trace"
    assert not apart.advance(0.0, budget).ended


# ---------------------------------------------------------------------- claims


def test_identities_on_their_way_or_settled_have_an_owner() -> None:
    claims = Claims(Table(Settled(identity="gen|1", unit="a", checksum=b"m")))
    assert claims.owner("gen|1") == ("a", b"m")
    assert not claims.is_pending("gen|1")
    assert claims.owner("gen|2") is None
    claims.take("gen|2", "b", None)
    assert claims.owner("gen|2") == ("b", None)
    assert claims.is_pending("gen|2")
    claims.release("gen|2")
    claims.release("gen|2")
    assert claims.owner("gen|2") is None


def test_the_settled_table_is_asked_once_until_an_identity_is_taken() -> None:
    table = Table()
    claims = Claims(table)
    assert [claims.owner("gen|1") for _ in range(3)] == [None] * 3
    assert table.asked == ["gen|1"]
    claims.take("gen|1", "a", b"m")
    table.rows["gen|1"] = ("a", b"m")
    claims.release("gen|1")
    assert claims.owner("gen|1") == ("a", b"m")
    assert table.asked == ["gen|1", "gen|1"]


def test_an_empty_table_is_asked_only_for_identities_taken_here() -> None:
    table = Table()
    answers = iter([True])
    claims = Claims(table, fresh=lambda: next(answers))
    assert [claims.owner(f"gen|{number}") for number in range(10)] == [None] * 10
    claims.take("gen|1", "a", b"m")
    table.rows["gen|1"] = ("a", b"m")
    claims.release("gen|1")
    assert claims.owner("gen|1") == ("a", b"m")
    assert table.asked == ["gen|1"]


def test_a_table_with_rows_is_asked_for_everything() -> None:
    table = Table(Settled(identity="gen|1", unit="a", checksum=b"m"))
    claims = Claims(table, fresh=lambda: False)
    assert claims.owner("gen|1") == ("a", b"m")
    assert claims.owner("gen|2") is None
    assert table.asked == ["gen|1", "gen|2"]


def test_the_cache_of_the_settled_table_is_bounded() -> None:
    table = Table()
    claims = Claims(table)
    for number in range(5000):
        claims.owner(f"gen|{number}")
        claims.ending(f"trace|{number}")
    assert len(claims._free) + len(claims._endings) < 3000
    assert claims.owner("gen|0") is None


def test_the_next_ending_of_a_trace_is_one_more_than_it_was_given_out() -> None:
    claims = Claims(Table(Settled(identity="trace|s|1", unit="a")))
    assert claims.ending("trace|s") == claims.ending("trace|s") == 2
    claims.take("trace|s|2", "a", None)
    assert claims.ending("trace|s") == 3
    claims.release("trace|s|2")
    assert claims.ending("trace|s") == 2, "it was given up, and is to come again"
    assert claims.ending("trace|s|prompt|p") == 1


def test_a_claim_remembers_the_trace_it_owes_until_it_is_released() -> None:
    claims = Claims()
    owed = Owed(trace="trace|s", ending=1, unit="a")
    claims.take("gen|1", "a", None, (owed,))
    claims.take("gen|2", "a", None)
    assert claims.owes("gen|1") == (owed,)
    assert claims.owes("gen|2") == ()
    claims.release("gen|1")
    assert claims.owes("gen|1") == ()


def test_the_session_that_began_a_message_first_is_known_until_the_message_is_taken_or_given_up() -> None:
    claims = Claims()
    for identity in ("gen|1", "gen|2", "gen|3"):
        claims.meet(identity, "a", b"m")
        claims.meet(identity, "b", b"n")
    assert claims.met("gen|1") == ("a", b"m")
    claims.take("gen|1", "a", b"m")
    assert claims.met("gen|1") is None
    claims.forget("b")
    assert claims.met("gen|2") == ("a", b"m")
    claims.forget("a")
    assert claims.met("gen|2") is None
    assert claims.owner("gen|3") is None, "to have begun is not to own"


# ---------------------------------------------------------------------- reading


def test_emissions_come_in_the_order_in_which_they_became_final(desk: Desk) -> None:
    log = conversation()
    ends = desk.write(log)
    pipeline = desk.pipeline(log)
    progress = pipeline.advance(0.0, EVERYTHING)
    assert kinds(progress.emissions) == ["prompt", "trace-open", "gen", "call"]
    assert (progress.lines, progress.bad_lines, progress.more) == (5, 0, False)
    (path,) = progress.ends
    assert [end for end, _ in progress.ends[path]] == ends
    data = Path(path).read_bytes()
    assert [before for _, before in progress.ends[path]] == [data[end - 64 : end] for end in ends]
    assert pipeline.needed_from() == {path: ends[3]}
    assert not pipeline.idle
    assert pipeline.due() == 1.0
    assert kinds(pipeline.poll(SETTLED_SECONDS).emissions) == ["gen"]
    assert pipeline.needed_from() == {}
    assert pipeline.idle
    assert kinds(pipeline.end(SETTLED_SECONDS).emissions) == ["trace"]


def test_an_emission_rests_on_its_lines(desk: Desk) -> None:
    log = conversation()
    ends = [0, *desk.write(log)]
    emissions = read(desk.pipeline(log))
    ranges = [(emission.lines.start, emission.lines.end) for emission in emissions if emission.lines]
    assert ranges == [(ends[0], ends[1]), (ends[1], ends[3]), (ends[1], ends[3]), (ends[2], ends[4])]


def test_the_settle_time_counts_from_reading(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    read(pipeline, 100.0)
    assert read(pipeline, 100.9) == []
    assert kinds(read(pipeline, 101.0)) == ["gen"]


@pytest.mark.parametrize("budget", [1, 500, 3000])
def test_reading_in_slices_gives_the_same_emissions(desk: Desk, budget: int) -> None:
    log = conversation()
    desk.write(log)
    whole = read(desk.pipeline(log, claims=Claims()))
    pipeline = desk.pipeline(log, claims=Claims())
    sliced: list[Emission] = []
    steps, progress = 0, Progress(more=True)
    while progress.more:
        progress = pipeline.advance(0.0, budget)
        sliced += progress.emissions
        steps += 1
    assert sliced == whole
    assert steps > 1


def test_time_does_not_finish_a_message_whose_next_line_is_unread(desk: Desk) -> None:
    """The main log took up the whole slice. The subagent's log was not looked at, and has grown."""
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", meta=False)
    agent.answer(text("One."), text("Or two."))
    ends = desk.write(log)
    name = desk.projects / log.agent_path(agent.id)
    lines = name.read_bytes().splitlines(keepends=True)
    name.write_bytes(b"".join(lines[:2]))
    pipeline = desk.pipeline(log)
    read(pipeline)
    name.write_bytes(b"".join(lines))
    log.prompt("More")
    budget = desk.write(log)[-1] - ends[-1]
    progress = pipeline.advance(10.0, budget)
    assert progress.more
    assert kinds(progress.emissions) == ["trace-open", "gen", "prompt"]
    assert kinds(read(pipeline, 10.0)) == []
    (generation,) = read(pipeline, 20.0)
    assert generation.event is not None
    (answer,) = json.loads(generation.event.body)["properties"]["$ai_output_choices"]
    assert [block["text"] for block in answer["content"]] == ["One.", "Or two."]


def test_a_subagents_log_that_appears_later_is_read(desk: Desk) -> None:
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_task"))
    desk.write(log)
    pipeline = desk.pipeline(log)
    read(pipeline)
    agent = log.agent("toolu_task", "count")
    agent.answer(text("One."))
    desk.write(log)
    catalog_unit = desk.unit(log)
    pipeline.files.agents.update(catalog_unit.agents)
    read(pipeline, 1.0)
    (generation,) = read(pipeline, 2.5)
    assert generation.event is not None
    properties = json.loads(generation.event.body)["properties"]
    assert properties["$ai_parent_id"] == "toolu_task"
    assert len(pipeline.tails) == 2


def test_a_meta_file_is_read_when_it_appears_and_when_it_changes(desk: Desk) -> None:
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    call = tool_use("Task", {"prompt": "something else"}, id="toolu_task")
    log.answer(call)
    agent = log.agent("toolu_task", "count")
    agent.answer(text("One."))
    desk.write(log)
    meta = desk.projects / log.meta_path(agent.id)
    whole = meta.read_bytes()
    meta.unlink()
    pipeline = desk.pipeline(log)
    read(pipeline)
    assert kinds(read(pipeline, 2.0)) == ["trace-open", "gen"], "the agent's own waits for its call"
    meta.write_bytes(whole[:10])
    assert read(pipeline, 3.0) == []
    meta.write_bytes(whole)
    os.utime(meta, (1, 1))
    (generation,) = read(pipeline, 4.0)
    assert generation.event is not None
    assert json.loads(generation.event.body)["properties"]["$ai_parent_id"] == "toolu_task"


def test_an_unknown_type_is_logged_once_by_name_and_never_with_content(desk: Desk) -> None:
    log = conversation()
    for kind in ("tomorrow", "tomorrow", "what I typed", "x" * 100):
        log.raw({"type": kind})
    desk.write(log)
    with capture_logs() as logged:
        read(desk.pipeline(log))
    told = [(line["log_level"], line["type"]) for line in logged if line["event"] == "unknown_record_type"]
    assert told == [("debug", "tomorrow"), ("debug", "unnamed")]


def test_bad_lines_are_counted_settled_and_logged_once_without_content(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    path = desk.projects / log.path
    with path.open("ab") as file:
        file.write(b'{"secret": \n[]\n\n{"type":"from the future"}\n')
    with capture_logs() as logged:
        progress = desk.pipeline(log).advance(0.0, EVERYTHING)
    assert progress.bad_lines == 3
    assert progress.ends[str(path)][-1][0] == path.stat().st_size
    (line,) = [line for line in logged if line["event"] == "bad_line"]
    assert "secret" not in str({key: value for key, value in line.items() if key != "path"})


def test_a_line_over_the_limit_is_counted_and_its_end_is_unknown(
    desk: Desk,
) -> None:
    log = conversation()
    log.lines.insert(1, b"x" * 3001)
    log.lines.insert(2, {"type": "mode"})
    desk.write(log)
    with capture_logs():
        progress = desk.pipeline(log, line_bytes=3000).advance(0.0, EVERYTHING)
    assert progress.bad_lines == 1
    assert kinds(progress.emissions) == ["prompt", "trace-open", "gen", "call"]
    (ends,) = progress.ends.values()
    assert [len(before) for _, before in ends] == [64, 0, 0, 64, 64, 64, 64]


def test_the_ending_of_a_short_line_includes_the_line_before_it(desk: Desk) -> None:
    log = conversation()
    for number in range(30):
        log.lines.insert(0, {"n": number})
    desk.write(log)
    with capture_logs():
        progress = desk.pipeline(log).advance(0.0, 100)
    ((path, ends),) = progress.ends.items()
    data = Path(path).read_bytes()
    assert [before for _, before in ends] == [data[:end][-64:] for end, _ in ends]


# ---------------------------------------------------------------------- replaced and gone


def with_an_agent(desk: Desk) -> tuple[LogBuilder, Pipeline, Path]:
    """Read one line of a session, then write the rest. Also return the path of its subagent's log."""
    log = LogBuilder(version=WITHOUT_REQUESTS)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", meta=False)
    log.agent_result("toolu_task", agent, "One.")
    log.answer(text("One."))
    desk.write(log, 1)
    pipeline = desk.pipeline(log)
    read(pipeline)
    desk.write(log)
    return log, pipeline, desk.projects / log.agent_path(agent.id)


@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_a_step_returns_what_it_found_before_it_raises_that_a_file_was_replaced(desk: Desk, how: str) -> None:
    log, pipeline, path = with_an_agent(desk)
    if how == "truncated":
        path.write_bytes(b"")
    else:
        path.with_name("beside").write_bytes(path.read_bytes())
        path.with_name("beside").replace(path)
    progress = pipeline.advance(0.0, EVERYTHING)
    assert kinds(progress.emissions) == ["trace-open", "gen", "call"]
    assert progress.more
    with pytest.raises(Replaced, match=path.name):
        read(pipeline)
    assert pipeline.salvage(0.0).emissions == [], "what is there now was made of it"
    again = desk.pipeline(log)
    emissions = read(again) + again.end(1.0).emissions
    assert [(kind, emission.again) for kind, emission in zip(kinds(emissions), emissions, strict=True)] == [
        ("prompt", True),
        ("trace-open", True),
        ("gen", True),
        ("call", True),
        ("gen", False),
        ("trace", False),
    ]


def test_a_file_that_cannot_be_read_for_a_while_loses_no_event(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pipeline, path = with_an_agent(desk)

    def broken(name: str, *, buffered: bool = False) -> BinaryIO:
        if name == str(path):
            raise OSError(errno.EIO, "Input/output error", name)
        return open_log(name, buffered=buffered)

    with monkeypatch.context() as patch:
        patch.setattr("daemon.following.tailer.open_log", broken)
        assert kinds(read(pipeline)) == ["trace-open", "gen", "call"]
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error") as caught:
                read(pipeline)
            assert caught.value.filename == str(path)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert kinds(emissions) == ["gen", "trace"]


def test_a_deleted_subagents_log_does_not_affect_the_others(desk: Desk) -> None:
    _, pipeline, path = with_an_agent(desk)
    path.unlink()
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert kinds(emissions) == ["trace-open", "gen", "call", "gen", "trace"]


def test_files_can_be_found_while_others_are_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop finds them while the reader's thread reads."""
    _, pipeline, path = with_an_agent(desk)
    found = iter(range(100))

    def finding(name: str, *, buffered: bool = False) -> BinaryIO:
        if name.endswith(".meta.json"):
            pipeline.files.agents[str(path.with_name(f"agent-{next(found)}.jsonl"))] = "late"
        return open_log(name, buffered=buffered)

    path.with_name(path.name.replace(".jsonl", ".meta.json")).write_bytes(b"{}")
    monkeypatch.setattr("daemon.reading.pipeline.open_log", finding)
    assert kinds(read(pipeline)) == ["trace-open", "gen", "call"]
    assert len(pipeline.files.agents) == 2


def test_a_new_pipeline_does_not_send_events_again_that_are_on_their_way(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    first = read(desk.pipeline(log))
    again = read(desk.pipeline(log))
    assert [emission.again for emission in again] == [True] * 4
    assert [emission.event for emission in again] == [None] * 4
    assert [emission.lines for emission in again] == [emission.lines for emission in first]


def test_a_new_pipeline_owes_the_trace_of_events_on_their_way(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    first = desk.pipeline(log)
    assert len(read(first) + read(first, SETTLED_SECONDS)) == 5
    again = desk.pipeline(log)
    assert all(emission.again for emission in read(again) + read(again, SETTLED_SECONDS))
    (trace,) = again.end(SETTLED_SECONDS).emissions
    assert trace.pays == Owed(trace=f"trace|{log.session}", ending=1, unit=again.files.name)


def test_events_on_their_way_do_not_owe_a_trace_that_was_given_out(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    read(pipeline)
    assert kinds(pipeline.end(1.0).emissions) == ["gen", "trace"]
    again = desk.pipeline(log)
    read(again)
    assert kinds(again.end(1.0).emissions) == ["gen"]
    log.prompt("More")
    desk.write(log)
    (prompt,) = read(again)
    assert prompt.owes == (Owed(trace=f"trace|{log.session}", ending=2, unit=again.files.name),)


# ---------------------------------------------------------------------- what is ours to send


def test_settled_lines_are_replayed_without_emissions(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    path = str(desk.projects / log.path)
    mark = mark_at_end(path, "unit")
    assert mark is not None
    log.prompt("More")
    log.answer(text("Two."))
    desk.write(log)
    owed = Owed(trace=f"trace|{log.session}", ending=1, unit="unit")
    pipeline = desk.pipeline(log, mark=mark, owed=[owed])
    assert kinds(read(pipeline)) == ["prompt"]
    opening, generation, trace = pipeline.end(1.0).emissions
    assert trace.event is not None
    assert json.loads(trace.event.body)["properties"]["claude_code_generations"] == 3
    assert trace.pays == replace(owed, unit=pipeline.files.name)
    assert (opening.owes, generation.owes) == ((), ()), "it is owed already"


def test_a_copy_of_another_sessions_lines_is_not_sent(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    read(desk.pipeline(log))
    fork = log.fork(FORK)
    fork.prompt("More")
    fork.answer(text("Two."))
    desk.write(fork)
    pipeline = desk.pipeline(fork)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert kinds(emissions) == ["prompt", "trace-open", "gen", "trace"]
    assert emissions[-1].event is not None
    assert json.loads(emissions[-1].event.body)["properties"]["claude_code_generations"] == 1


def test_a_copy_with_new_ids_waits_for_what_it_is_a_copy_of(desk: Desk) -> None:
    log = LogBuilder(version="2.1.45")
    log.prompt("Count the trees")
    log.answer(text("One."))
    desk.write(log)
    original = desk.pipeline(log)
    written = read(original) + original.end(1.0).emissions
    [path] = write_copy(desk, log)
    catalog = Catalog()
    files = catalog.add(path)
    assert files is not None
    copy = Pipeline(files, claims=desk.claims, routing=routing_for(desk.root))

    progress = copy.advance(0.0, 1_000_000)
    end = copy.end(1.0)

    [generation] = [emission for emission in written if emission.settled.identity.startswith("gen|")]
    assert [emission.prompt is None for emission in progress.emissions + end.emissions] == [False]
    assert [name for name, _ in progress.copies + end.copies] == [generation.settled.identity]
    assert generation.also is not None
    desk.claims.release(generation.settled.identity)
    desk.claims.release(generation.also.identity)
    assert desk.claims.owner(generation.also.identity) is None


def write_copy(desk: Desk, log: LogBuilder) -> list[str]:
    """Write a copy of a log in which everything has a new id; return its path."""
    files = log.copied_with_new_ids(FORK)
    write_files(desk.projects, files)
    return [str(desk.projects / name) for name in files]


def test_a_session_with_only_copies_has_no_trace(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    read(pipeline)
    pipeline.end(1.0)
    fork = log.fork(FORK)
    desk.write(fork)
    copy = desk.pipeline(fork)
    assert read(copy) + copy.end(1.0).emissions == []


def test_another_message_with_the_same_id_gets_its_own_identity(desk: Desk) -> None:
    """Some gateways number the messages of every session from the beginning."""
    first, second = LogBuilder(version=WITHOUT_REQUESTS), LogBuilder(FORK, version=WITHOUT_REQUESTS, start="2026-03-03")
    for log in (first, second):
        log.prompt(f"Count the trees of {log.session}")
        log.answer(text(f"One in {log.session}."), id="msg_1")
        desk.write(log)
    (_, _, one), (_, _, other) = (
        read(pipeline) + pipeline.end(1.0).emissions[:2] for pipeline in map(desk.pipeline, (first, second))
    )
    assert one.settled.identity == "gen|msg_1"
    assert other.settled.identity == f"gen|msg_1|{other.settled.unit}"
    assert one.event is not None
    assert other.event is not None
    assert one.event.uuid != other.event.uuid


def test_lines_from_before_the_first_start_are_history_in_a_new_session(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log, first_start=2**50)
    assert read(pipeline) + pipeline.end(1.0).emissions == []


def test_the_trace_of_a_session_from_before_the_first_start_counts_its_history(desk: Desk) -> None:
    log = conversation()
    ends = desk.write(log)
    path = str(desk.projects / log.path)
    mark = mark_at_end(path, "unit")
    assert mark is not None
    assert mark.offset == ends[-1]
    log.wait(3600)
    log.prompt("More")
    log.answer(text("Two."))
    desk.write(log)
    first_start = 1772445600000 - 1_800_000
    pipeline = desk.pipeline(log, mark=mark, first_start=first_start)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert kinds(emissions) == ["prompt", "trace-open", "gen", "trace"]
    assert emissions[-1].event is not None
    assert json.loads(emissions[-1].event.body)["properties"]["claude_code_generations"] == 3


# ---------------------------------------------------------------------- traces


def test_the_first_event_owes_the_trace_and_only_that(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    owes = Owed(trace=f"trace|{log.session}", ending=1, unit=pipeline.files.name)
    assert [emission.owes for emission in emissions] == [(owes,), *[()] * 5]
    assert [emission.pays for emission in emissions] == [None] * 5 + [owes]


def said(emission: Emission) -> dict[str, Any]:
    assert emission.event is not None
    found: dict[str, Any] = json.loads(emission.event.body)
    return found


def openings(emissions: Sequence[Emission]) -> list[Emission]:
    return [emission for emission in emissions if emission.settled.identity.startswith("trace-open|")]


def test_the_opening_trace_comes_before_the_first_event_and_has_the_final_ones_time(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    (opening,) = openings(emissions)
    final = emissions[-1]
    assert emissions[1] is opening
    assert (opening.owes, opening.pays) == ((), None)
    begun, ended = said(opening), said(final)
    assert begun["event"] == ended["event"] == "$ai_trace"
    assert begun["uuid"] != ended["uuid"]
    assert begun["timestamp"] == ended["timestamp"]
    assert (begun["properties"]["claude_code_trace"], ended["properties"]["claude_code_trace"]) == ("open", "final")
    assert begun["properties"]["$ai_input_state"] == [{"role": "user", "content": "Count the trees"}]
    assert {"$ai_latency", "$ai_total_input_tokens", "claude_code_generations"}.isdisjoint(begun["properties"])


def test_a_turns_trace_has_no_opening_one(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log, grouping="message")
    assert openings(read(pipeline) + pipeline.end(1.0).emissions) == []


@pytest.mark.parametrize("settles", [[], ["gen"], ["trace-open"], ["gen", "call"], ["trace-open", "gen", "call"]])
def test_after_a_crash_the_opening_trace_is_sent_if_it_was_not_settled_and_with_the_same_body(
    desk: Desk, settles: list[str]
) -> None:
    log = conversation()
    desk.write(log)
    before = read(desk.pipeline(log))
    table = Table(*(emission.settled for emission in before if kinds([emission])[0] in settles))
    again = openings(read(desk.pipeline(log, claims=Claims(table))))
    assert [said(emission) for emission in again] == [
        said(emission) for emission in openings(before) if "trace-open" not in settles
    ]


def test_a_resumed_session_that_was_opened_is_not_opened_again(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    table = Table(*(emission.settled for emission in emissions))
    log.prompt("More")
    log.answer(text("Two."))
    desk.write(log)
    resumed = desk.pipeline(log, claims=Claims(table))
    more = read(resumed) + resumed.end(2.0).emissions
    assert kinds(more) == ["prompt", "gen", "trace"]


def test_a_session_whose_trace_was_sent_before_there_were_opening_ones_gets_none(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    table = Table(*(emission.settled for emission in emissions if emission not in openings(emissions)))
    mark = mark_at_end(str(desk.projects / log.path), "unit")
    log.prompt("More")
    log.answer(text("Two."))
    desk.write(log)
    resumed = desk.pipeline(log, claims=Claims(table), mark=mark)
    assert openings(read(resumed) + resumed.end(2.0).emissions) == []


def test_a_session_that_goes_on_after_its_history_opens_with_its_first_new_event(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    mark = mark_at_end(str(desk.projects / log.path), "unit")
    assert mark is not None
    log.prompt("More")
    log.answer(text("Two."))
    desk.write(log)
    pipeline = desk.pipeline(log, mark=mark)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert kinds(emissions) == ["prompt", "trace-open", "gen", "trace"]
    assert said(emissions[1])["timestamp"] == said(emissions[-1])["timestamp"]


def test_a_second_end_without_new_lines_has_no_trace(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    read(pipeline)
    pipeline.end(1.0)
    assert pipeline.end(2.0).emissions == []


def test_every_prompt_has_a_trace_if_traces_are_grouped_by_prompt(desk: Desk) -> None:
    log = conversation()
    log.prompt("More")
    log.answer(text("Two."))
    desk.write(log)
    pipeline = desk.pipeline(log, grouping="message")
    emissions = read(pipeline)
    emissions += read(pipeline, SETTLED_SECONDS)
    assert kinds(emissions) == ["prompt", "gen", "call", "gen", "prompt", "gen", "trace"]
    emissions = pipeline.end(2.0).emissions
    assert kinds(emissions) == ["trace"]


def test_a_turn_whose_trace_was_given_out_owes_no_other(desk: Desk) -> None:
    log = conversation()
    desk.write(log, 3)
    pipeline = desk.pipeline(log, grouping="message")
    read(pipeline)
    assert kinds(pipeline.end(1.0).emissions) == ["gen", "call", "trace"]
    desk.write(log)
    read(pipeline, 2.0)
    late = read(pipeline, 5.0) + pipeline.end(6.0).emissions
    assert kinds(late) == ["gen"]
    assert late[0].owes == ()


def test_an_owed_trace_with_nothing_left_to_report_is_settled_unsent(desk: Desk) -> None:
    log = conversation()
    desk.write(log, 0)
    owed = Owed(trace=f"trace|{log.session}", ending=1, unit="unit")
    pipeline = desk.pipeline(log, owed=[owed])
    read(pipeline)
    (emission,) = pipeline.end(1.0).emissions
    assert (emission.event, emission.pays, emission.settled.identity) == (None, owed, f"{owed.trace}|1")
    assert pipeline.end(2.0).emissions == [], "once"


def test_a_neighboring_sessions_trace_is_left_to_that_session(desk: Desk) -> None:
    """A few old subagents' logs hold answers of another session."""
    log = conversation()
    for line in log.lines:
        assert isinstance(line, dict)
        line["sessionId"] = FORK
    desk.write(log)
    alone = desk.pipeline(log, claims=Claims())
    assert "trace" in kinds(read(alone) + alone.end(1.0).emissions)
    neighbours = desk.pipeline(log, claims=Claims(), has_main=lambda session: session == FORK)
    emissions = read(neighbours) + neighbours.end(1.0).emissions
    assert kinds(emissions) == ["prompt", "gen", "call", "gen"]
    assert {emission.owes for emission in emissions} == {()}


def test_lines_that_go_on_with_another_session_are_left_to_that_session(desk: Desk) -> None:
    """A session without a log of its own is left to the one whose log it is."""
    log = conversation()
    log.prompt("And the pears")
    new = log.answer(text("Two."))
    for line in log.lines[-2:]:
        assert isinstance(line, dict)
        line["sessionId"] = FORK
    desk.write(log)
    alone = desk.pipeline(log, claims=Claims())
    assert kinds(read(alone) + alone.end(1.0).emissions).count("gen") == 3
    neighbours = desk.pipeline(log, claims=Claims(), has_main=lambda session: session == FORK)
    progress = neighbours.advance(0.0, EVERYTHING)
    emissions = progress.emissions + neighbours.end(1.0).emissions
    assert kinds(emissions).count("gen") == 2
    assert [each for each in emissions if new in each.settled.identity] == []
    [(session, _)] = progress.hosted
    assert session == FORK
    assert progress.called == {FORK}
    assert neighbours.originals == {f"claude-code/{FORK}"}


# ---------------------------------------------------------------------- routes


def test_the_first_event_decides_the_route_of_a_session(desk: Desk) -> None:
    log = conversation()
    desk.write(log)
    pipeline = desk.pipeline(log)
    assert pipeline.frozen is None
    read(pipeline)
    assert pipeline.frozen is not None
    assert pipeline.route is not None
    assert pipeline.frozen == FrozenRoute(
        distinct_id="ada@example.com",
        identified=True,
        grouping="session",
        host="https://us.i.posthog.com",
        key=pipeline.route.fingerprint,
    )
    frozen = FrozenRoute(distinct_id="bob", identified=False, grouping="message")
    again = desk.pipeline(log, claims=Claims(), frozen=frozen)
    emissions = read(again) + again.end(1.0).emissions
    assert {json.loads(e.event.body)["distinct_id"] for e in emissions if e.event} == {"bob"}
    assert emissions[-1].pays is not None
    assert emissions[-1].pays.trace.startswith(f"trace|{log.session}|prompt|")


# ---------------------------------------------------------------------- forks of sessions under a restraint


OFF = Restraint(off=True)


def a_fork_in_mid_turn() -> tuple[LogBuilder, LogBuilder]:
    """A session, and its fork that answers a prompt which it copied, and then one of its own."""
    log = LogBuilder(version="2.1.329")
    log.prompt("hidden plan")
    log.answer(text("hidden answer"))
    log.prompt("hidden rest")
    fork = log.fork(FORK)
    fork.lines[:0] = [
        {"type": "agent-setting", "agentSetting": "hidden-agent", "sessionId": FORK},
        {"type": "custom-title", "customTitle": "hidden title", "sessionId": FORK},
    ]
    fork.answer(text("The rest."), id="msg_rest")
    fork.prompt("More")
    fork.title("hidden title again")
    fork.answer(text("Here."), id="msg_more")
    fork.compaction("hidden summary")
    fork.cost_state(77.5)
    return log, fork


@pytest.mark.parametrize("grouping", ["session", "message"])
def test_a_fork_of_a_session_that_is_off_takes_nothing_over(desk: Desk, grouping: str) -> None:
    log, fork = a_fork_in_mid_turn()
    desk.write(log)
    original = desk.pipeline(log, grouping=grouping, restraint=OFF)
    assert {emission.event for emission in read(original) + original.end(1.0).emissions} == {None}
    desk.write(fork)
    pipeline = desk.pipeline(
        fork, grouping=grouping, restraint_of=lambda name: OFF if name.endswith(log.session) else UNRESTRAINED
    )
    emissions = read(pipeline) + pipeline.end(1.0).emissions

    sent = [said(emission)["properties"] for emission in emissions if emission.event is not None]
    assert "hidden" not in json.dumps(sent)
    assert [each["$ai_span_id"] for each in sent if "$ai_model" in each] == ["msg_rest", "msg_more"]
    assert {each.get("$ai_trace_name") for each in sent} == {None, "More"}
    assert "claude_code_client_cost_usd" not in sent[-1], "which holds the original's"
    assert pipeline.restraint == Restraint(input="prompt"), "which stays with the fork"


def test_a_copy_that_says_whose_it_is_obeys_the_restraint_of_that_session(desk: Desk) -> None:
    """Although nothing of that session was read."""
    log, fork = a_fork_in_mid_turn()
    desk.write(fork)
    pipeline = desk.pipeline(fork, restraint_of=lambda name: OFF if name.endswith(log.session) else UNRESTRAINED)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    sent = [said(emission)["properties"] for emission in emissions if emission.event is not None]
    assert {each["$ai_session_id"] for each in sent} == {FORK}
    assert "hidden answer" not in json.dumps(sent)


def test_a_copy_obeys_what_a_caller_says_of_a_session_that_was_not_read(desk: Desk) -> None:
    log, fork = a_fork_in_mid_turn()
    desk.write(fork)
    facts = Facts()
    said_so = outbox.line("session", 1, agent="claude-code", session_id=log.session, phase="start", privacy_mode=True)
    [private] = outbox.spans(outbox.process() + said_so)
    assert isinstance(private, SessionFacts)
    facts.note(private, "recorder/1-1-1")
    pipeline = desk.pipeline(fork, facts=facts)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    sent = [said(emission)["properties"] for emission in emissions if emission.event is not None]
    assert {name for each in sent for name, value in each.items() if "hidden" in json.dumps(value)} == {
        "$ai_agent_name"
    }


def test_a_title_that_the_user_gives_a_fork_is_the_forks_own(desk: Desk) -> None:
    log, fork = a_fork_in_mid_turn()
    fork.title("My own", kind="custom-title")
    desk.write(log)
    original = desk.pipeline(log, restraint=OFF)
    read(original)
    original.end(1.0)
    desk.write(fork)
    pipeline = desk.pipeline(fork, restraint_of=lambda name: OFF if name.endswith(log.session) else UNRESTRAINED)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert said(emissions[-1])["properties"]["$ai_trace_name"] == "My own"


def test_a_fork_under_the_same_restraint_keeps_what_it_took_over(desk: Desk) -> None:
    log, fork = a_fork_in_mid_turn()
    strict = Restraint(content="no_tool_content", include=(("**",),))
    desk.write(log)
    original = desk.pipeline(log, restraint=strict)
    read(original)
    original.end(1.0)
    desk.write(fork)
    pipeline = desk.pipeline(fork, restraint=strict, restraint_of=lambda _name: strict)
    emissions = read(pipeline) + pipeline.end(1.0).emissions
    assert said(emissions[-1])["properties"]["$ai_trace_name"] == "hidden title"
