"""`preview` yields every event of the given files once."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.archiving.source import find_sources
from daemon.following.log_roots import LogRoot
from daemon.following.log_tree import project_files
from daemon.following.opening import unknown_logs
from daemon.reading.explanation import explain
from daemon.reading.preview import NoLogError, find_logs, preview
from llma_core.agents import AGENTS
from tests.support.logs import MODEL, LogBuilder, project_folder, text, tool_use, usage, write_files
from tests.support.rig import routing_for

FORK = "1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
ORIGINAL = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
OTHER = "2f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
COUNTS = usage(10, 20, cache_read=0, cache_5m=0, cache_1h=0)


def with_agent(version: str = "2.1.329", *, requests: bool = False) -> LogBuilder:
    log = LogBuilder(version=version, requests=requests)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", id="a1")
    agent.answer(text("One."))
    log.agent_result("toolu_task", agent, "One.")
    log.answer(text("One."))
    return log


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    return tmp_path / "config" / "projects"


def events(projects: Path, *paths: Path, grouping: str = "session", inputs: str = "delta") -> list[dict[str, Any]]:
    routing = routing_for(projects.parent.parent, grouping=grouping, inputs=inputs)
    return [json.loads(event.body) for event in preview(list(find_logs(paths or [projects])), routing)]


def spans(found: Sequence[dict[str, Any]]) -> list[str]:
    return [event["properties"]["$ai_span_id"] for event in found]


def found(*paths: Path) -> list[str]:
    return [Path(path).name for path in find_logs(paths)]


# ---------------------------------------------------------------------- events


def test_a_session_comes_complete_with_its_subagents(projects: Path) -> None:
    log = with_agent()
    log.write(projects)
    given = events(projects)
    assert sorted(event["event"] for event in given) == ["$ai_generation"] * 3 + ["$ai_span", "$ai_trace", "$ai_trace"]
    opening, trace = (event["properties"] for event in given if event["event"] == "$ai_trace")
    assert opening["claude_code_trace"] == "open"
    assert trace["claude_code_generations"] == 3
    assert trace["claude_code_subagents"] == 1
    assert {event["distinct_id"] for event in given} == {"ada@example.com"}


def test_the_same_files_give_the_same_bytes(projects: Path) -> None:
    with_agent().write(projects)
    assert events(projects) == events(projects)


def test_open_messages_at_the_end_of_a_file_are_included(projects: Path) -> None:
    log = LogBuilder()
    log.prompt("Count the trees")
    log.message(stop_reason=None).add(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.write(projects)
    _, generation, call, _ = events(projects)
    assert generation["properties"]["claude_code_output_tokens_partial"] is True
    assert call["properties"]["claude_code_tool_status"] == "no_result"


def test_a_subagent_that_works_on_after_clear_keeps_its_session_and_its_calls(projects: Path) -> None:
    log = LogBuilder()
    log.prompt("Count the trees")
    log.answer(tool_use("Agent", {"prompt": "count"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "count")
    agent.answer(tool_use("Bash", id="toolu_ls"))
    log.agent_result("toolu_agent", agent, "It runs.", background=True)
    new = log.clear(FORK)
    new.prompt("Something else")
    begun = len(agent.lines)
    agent.tool_result("toolu_ls", "tree")
    agent.answer(text("One."))
    for line in agent.lines[begun:]:
        assert not isinstance(line, bytes)
        line["sessionId"] = FORK
    files = {**new.files(), **log.files()}
    lines = files[log.agent_path(agent.id)].splitlines(keepends=True)
    files[log.agent_path(agent.id)] = b"".join(lines[:begun])
    files[new.agent_path(agent.id)] = b"".join(lines[begun:])
    files[new.meta_path(agent.id)] = files[log.meta_path(agent.id)]
    write_files(projects, files)

    given = events(projects)

    by_agent = [event["properties"] for event in given if event["properties"]["$ai_agent_name"] == "general-purpose"]
    assert {said["$ai_session_id"] for said in by_agent} == {log.session}
    assert [said["$ai_parent_id"] for said in by_agent if "$ai_model" in said] == ["toolu_agent"] * 2
    assert [said["claude_code_tool_status"] for said in by_agent if "$ai_model" not in said] == ["ok"]


@pytest.mark.parametrize("ids", [(ORIGINAL, FORK), (FORK, ORIGINAL)], ids=["by name", "against names"])
def test_calls_after_clear_of_a_subagent_that_nobody_reports_are_no_side_calls(
    projects: Path, ids: tuple[str, str]
) -> None:
    """The client's totals after `/clear` have the calls of every subagent that works on; its session has them, too."""
    old, cleared = ids
    log = LogBuilder(old)
    log.prompt("Count the trees")
    log.answer(tool_use("Agent", {"prompt": "count"}, id="toolu_agent"), counts=COUNTS)
    agent = log.agent("toolu_agent", "count")
    agent.answer(tool_use("Bash", id="toolu_ls"), counts=COUNTS)
    log.agent_result("toolu_agent", agent, "It runs.", background=True)
    log.cost_state(models={MODEL: [23, 40, 0, 0]})
    new = log.clear(cleared)
    new.prompt("Something else")
    new.answer(text("Done."), counts=COUNTS)
    begun = len(agent.lines)
    agent.tool_result("toolu_ls", "tree")
    agent.answer(text("One."), counts=COUNTS)
    for line in agent.lines[begun:]:
        assert not isinstance(line, bytes)
        line["sessionId"] = cleared
    new.cost_state(models={MODEL: [20, 40, 0, 0]})
    log.prompt("I am back")
    log.answer(text("Welcome."), counts=COUNTS)
    log.cost_state(models={MODEL: [40, 61, 0, 0]})
    files = {**new.files(), **log.files()}
    lines = files[log.agent_path(agent.id)].splitlines(keepends=True)
    files[log.agent_path(agent.id)] = b"".join(lines[:begun])
    files[new.agent_path(agent.id)] = b"".join(lines[begun:])
    write_files(projects, files)

    side = [
        (said["$ai_session_id"], said["$ai_input_tokens"], said["$ai_output_tokens"])
        for said in (event["properties"] for event in events(projects))
        if said.get("claude_code_side_calls")
    ]

    assert side == [(old, 3, 0), (old, 7, 1)], "the old session's own, each once"


@pytest.mark.parametrize("grouping", ["session", "message"])
@pytest.mark.parametrize("host_is_first", [True, False])
def test_lines_of_a_session_that_stand_in_the_log_of_another_are_summed_by_their_own(
    projects: Path, grouping: str, *, host_is_first: bool
) -> None:
    log = LogBuilder(start="2026-03-02T09:00:00.000Z" if host_is_first else "2026-03-02T09:10:00.000Z")
    resumed = LogBuilder(FORK, start="2026-03-02T09:05:00.000Z")
    resumed.prompt("Count the pears")
    first = resumed.answer(text("One."))
    log.wait(600)
    log.prompt("Count the trees")
    own = [log.answer(text("Two."))]
    with resumed.in_the_log_of(log):
        resumed.prompt("And the plums")
        there = [resumed.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))]
        resumed.tool_result("toolu_ls", "plums")
        resumed.api_error()
        there.append(resumed.answer(text("Three.")))
        resumed.compaction("They counted.")
        resumed.title("Pears and plums")
        resumed.cost_state(0.5)
    log.prompt("And the elms")
    own.append(log.answer(text("Four.")))
    log.write(projects)
    resumed.write(projects)

    given = events(projects, grouping=grouping)

    said = [event["properties"] for event in given if "$ai_output_tokens" in event["properties"]]
    by_session = {
        session: sorted(each["$ai_span_id"] for each in said if each["$ai_session_id"] == session)
        for session in (log.session, FORK)
    }
    assert by_session == {log.session: sorted(own), FORK: sorted([first, *there])}
    traces = [each["properties"] for each in given if each["properties"].get("claude_code_trace") == "final"]
    counted: dict[str, list[int]] = {}
    for trace in traces:
        counts = counted.setdefault(trace["$ai_session_id"], [0, 0, 0, 0])
        for place, what in enumerate(("generations", "tool_calls", "api_errors", "compactions")):
            counts[place] += trace.get(f"claude_code_{what}", 0)
    assert counted == {log.session: [2, 0, 0, 0], FORK: [3, 1, 1, 1]}
    if grouping == "session":
        assert {trace["$ai_session_id"]: trace["$ai_span_name"] for trace in traces} == {
            log.session: "Count the trees",
            FORK: "Pears and plums",
        }
    assert len(traces) == (2 if grouping == "session" else 4)


def test_what_another_session_is_asked_in_a_log_is_no_input_of_the_session_whose_log_it_is(projects: Path) -> None:
    log, resumed = LogBuilder(), LogBuilder(FORK)
    for each in (log, resumed):
        each.prompt("Count the trees")
        each.answer(text("One."))
    with resumed.in_the_log_of(log):
        resumed.prompt("Count the pears")
    log.prompt("And the elms")
    log.answer(text("Two."))
    log.write(projects)
    resumed.write(projects)

    given = [event["properties"] for event in events(projects) if event["event"] == "$ai_generation"]

    assert [each["$ai_session_id"] for each in given if "elms" in json.dumps(each)] == [log.session]
    assert [each for each in given if "pears" in json.dumps(each)] == []


def test_a_subagent_that_such_lines_start_is_their_sessions_in_whatever_folder_it_is(projects: Path) -> None:
    log, resumed = LogBuilder(), LogBuilder(FORK)
    for each in (resumed, log):
        each.prompt("Count the trees")
        each.answer(text("One."))
    with resumed.in_the_log_of(log):
        resumed.prompt("Count the pears")
        resumed.answer(tool_use("Agent", {"prompt": "count", "subagent_type": "scout"}, id="toolu_agent"))
        agent = resumed.agent("toolu_agent", "count", type="scout")
        agent.answer(text("Two."))
        resumed.agent_result("toolu_agent", agent, "Two.")
        resumed.answer(text("Three."))
    files = {**log.files(), **resumed.files()}
    for place in (resumed.agent_path, resumed.meta_path):
        files[place(agent.id).replace(FORK, log.session)] = files.pop(place(agent.id))
    write_files(projects, files)

    given = [event["properties"] for event in events(projects)]

    [scout] = [each for each in given if "$ai_model" in each and each["$ai_agent_name"] == "scout"]
    assert (scout["$ai_session_id"], scout["$ai_parent_id"]) == (FORK, "toolu_agent")
    finals = [each for each in given if each.get("claude_code_trace") == "final"]
    assert sorted((each["$ai_session_id"], each["claude_code_generations"]) for each in finals) == [
        (log.session, 1),
        (FORK, 4),
    ]
    assert [each["claude_code_subagents"] for each in finals if each["$ai_session_id"] == FORK] == [1]


def test_an_event_of_lines_in_the_log_of_another_session_is_explained_with_their_place(projects: Path) -> None:
    log, resumed = LogBuilder(), LogBuilder(FORK)
    for each in (resumed, log):
        each.prompt("Count the trees")
        each.answer(text("One."))
    with resumed.in_the_log_of(log):
        there = resumed.answer(text("Two."))
    log.write(projects)
    resumed.write(projects)
    [uuid] = [event["uuid"] for event in events(projects) if event["properties"]["$ai_span_id"] == there]

    found = explain(find_logs([projects]), routing_for(projects.parent.parent), uuid)

    assert found is not None
    assert found.lines is not None
    assert Path(found.lines.file) == projects / log.path
    assert there.encode() in (projects / log.path).read_bytes()[found.lines.start : found.lines.end]


@pytest.mark.parametrize("version", ["2.0.1", "2.0.76", "2.1.72", "2.1.200", "2.1.329"])
def test_lines_copied_by_a_fork_come_once_and_for_the_original(projects: Path, version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count the trees")
    first = log.answer(text("One."))
    fork = log.fork(FORK)
    fork.prompt("Again")
    second = fork.answer(text("Still one."))
    log.write(projects)
    fork.write(projects)
    given = events(projects)
    assert sorted(spans(given)) == sorted([first, second, *[log.session, FORK] * 2])
    assert {event["properties"]["$ai_span_id"]: event["properties"]["$ai_session_id"] for event in given} == {
        first: log.session,
        log.session: log.session,
        second: FORK,
        FORK: FORK,
    }


def test_a_marked_copy_counts_for_its_original_even_if_that_is_not_among_the_paths(projects: Path) -> None:
    log = LogBuilder()
    log.prompt("Count the trees")
    first = log.answer(text("One."))
    fork = log.fork(FORK)
    log.write(projects)
    fork.write(projects)

    def generations(name: str) -> dict[str, str]:
        given = [event for event in events(projects, projects / name) if event["event"] == "$ai_generation"]
        return {event["properties"]["$ai_span_id"]: event["uuid"] for event in given}

    assert generations(fork.path) == generations(log.path)
    assert list(generations(fork.path)) == [first]


def test_every_prompt_has_a_trace_if_traces_are_grouped_by_prompt(projects: Path) -> None:
    log = LogBuilder()
    prompts = []
    for number in range(3):
        prompts.append(log.prompt(f"Count {number}"))
        log.answer(text("One."))
    log.write(projects)
    traces = [event for event in events(projects, grouping="message") if event["event"] == "$ai_trace"]
    assert sorted(spans(traces)) == sorted(prompts)


@pytest.mark.parametrize(("inputs", "exact"), [("delta", None), ("prompt", None), ("full", True)])
def test_requests_are_rebuilt_on_request(projects: Path, inputs: str, exact: bool | None) -> None:
    log = with_agent(requests=True)
    log.write(projects)
    given = events(projects, inputs=inputs)
    said = [event["properties"] for event in given if event["event"] == "$ai_generation"]
    assert [each.get("claude_code_input_exact") for each in said] == [exact] * 3
    assert [("$ai_tools" in each) for each in said] == [inputs == "full"] * 3


def test_nothing_is_written(projects: Path) -> None:
    with_agent().write(projects)
    root = projects.parent.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    events(projects)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


# ---------------------------------------------------------------------- paths


def test_with_a_sessions_log_come_its_subagents_logs_and_nothing_else(projects: Path) -> None:
    log = with_agent()
    log.write(projects)
    other = LogBuilder(OTHER)
    other.prompt("Elsewhere")
    other.write(projects)
    assert found(projects / log.path) == [Path(log.path).name, "agent-a1.jsonl", "agent-a1.meta.json"]


@pytest.mark.parametrize("depth", ["config", "projects", "project"])
def test_a_folder_stands_for_all_logs_below_it(projects: Path, depth: str) -> None:
    log = with_agent()
    log.write(projects)
    folder = {"config": projects.parent, "projects": projects, "project": (projects / log.path).parent}[depth]
    assert sorted(found(folder)) == sorted(Path(name).name for name in log.files())
    assert spans(events(projects, folder)) == spans(events(projects))


def test_logs_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    one, other = with_agent(), LogBuilder(OTHER)
    other.prompt("Elsewhere")
    one.write(tmp_path / "2026/ada/projects")
    other.write(tmp_path / "2026/bob/.claude/projects")
    write_files(tmp_path, {"2026/ada/truth.json": b"{}"})
    assert sorted(found(tmp_path)) == sorted(Path(name).name for name in (*one.files(), *other.files()))


def test_a_folder_brings_the_logs_at_every_depth_and_nothing_that_only_looks_like_one(tmp_path: Path) -> None:
    logs = {name: LogBuilder(session=f"{name}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b") for name in "012"}
    for number, log in logs.items():
        log.prompt("Count the trees")
        log.answer(text("One."), id=f"msg_{number}")
    places = {"0": "top", "1": "deep/er/and/deeper", "2": "config/projects/-orchard"}
    files = {f"{places[name]}/{log.session}.jsonl": log.files()[log.path] for name, log in logs.items()}
    write_files(tmp_path, files)
    write_files(tmp_path, {"deep/er/notes.jsonl": b"{}\n", f"top/{logs['0'].session}/notes/x.jsonl": b"{}\n"})
    assert list(find_logs([tmp_path])) == sorted(str(tmp_path / name) for name in files)
    assert sorted(spans([e for e in events(tmp_path / "x/y", tmp_path) if e["event"] != "$ai_trace"])) == [
        "msg_0",
        "msg_1",
        "msg_2",
    ]


def test_folders_may_be_deeper_than_calls_of_a_program(tmp_path: Path) -> None:
    log = with_agent()
    project, name = (tmp_path / "projects" / log.path).parent, f"{log.session}.jsonl"
    write_files(project, {name: log.files()[log.path]})
    places = []
    for top in (project / log.session / "subagents" / "d", project / "other" / "d"):
        top.parent.mkdir(parents=True, exist_ok=True)
        folder = str(top)
        for _ in range(250):
            os.mkdir(folder)  # noqa: PTH102 - a Path would read the long path again, each time
            folder += "/d"
        places.append(folder.removesuffix("d") + "agent-a1.jsonl")
    root = LogRoot(AGENTS[0], tmp_path / "projects")
    limit, calls = sys.getrecursionlimit(), len(inspect.stack(0)) + 200
    try:
        for place in places:
            Path(place).parent.mkdir(exist_ok=True)
            Path(place).write_bytes(log.files()[log.agent_path("a1")])
        sys.setrecursionlimit(calls)
        assert list(find_logs([project])) == sorted([str(project / name), *places])
        assert {path for path, _ in project_files(root.agent, str(project))} == {places[0], str(project / name)}
        assert unknown_logs([root]) == places[1:]
        listed = {file.name for each in find_sources(str(tmp_path)).sources for file in each.files}
        assert listed >= {place.removeprefix(f"{tmp_path}/") for place in places}
    finally:
        sys.setrecursionlimit(limit)
        # pytest, too, removes folders in folders with calls in calls.
        for place in places:
            Path(place).unlink(missing_ok=True)
            folder = place.rpartition("/")[0]
            while folder.endswith("/d"):
                os.rmdir(folder)  # noqa: PTH106 - a Path would read the long path again, each time
                folder = folder.removesuffix("/d")


def test_logs_of_the_same_name_in_folders_of_the_same_name_all_come(tmp_path: Path) -> None:
    for number in "01":
        log = LogBuilder(session=f"{number}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b")
        log.prompt("Count the trees")
        log.answer(text("One."), id=f"msg_{number}")
        write_files(tmp_path, {f"{number}/x/1/full.jsonl": log.files()[log.path]})
    given = [event for event in events(tmp_path / "x/y", tmp_path) if event["event"] == "$ai_generation"]
    assert spans(given) == ["msg_0", "msg_1"]
    assert len({event["properties"]["$ai_session_id"] for event in given}) == 2


def test_a_project_folder_does_not_bring_its_neighbours(projects: Path) -> None:
    log = LogBuilder(cwd="/home/ada/orchard")
    log.prompt("Count the trees")
    log.write(projects)
    neighbour = LogBuilder(OTHER, cwd="/home/ada/orchard-2")
    neighbour.prompt("Elsewhere")
    neighbour.write(projects)
    assert found(projects / project_folder("/home/ada/orchard")) == [Path(log.path).name]


def test_a_log_that_is_named_twice_comes_once(projects: Path) -> None:
    log = with_agent()
    log.write(projects)
    once = events(projects, projects / log.path)
    assert events(projects, projects / log.path, projects.parent, projects / log.path) == once


def test_a_link_stands_for_its_target(projects: Path, tmp_path: Path) -> None:
    log = with_agent()
    log.write(projects)
    link = tmp_path / "link.jsonl"
    link.symlink_to(projects / log.path)
    assert events(projects, link) == events(projects)


def test_the_order_of_the_paths_does_not_matter(projects: Path) -> None:
    log = LogBuilder(version="2.1.200")
    log.prompt("Count the trees")
    log.answer(text("One."))
    fork = log.fork(FORK)
    fork.prompt("Again")
    log.write(projects)
    fork.write(projects)
    paths = [projects / log.path, projects / fork.path]
    assert events(projects, *paths) == events(projects, *reversed(paths))


@pytest.mark.parametrize("name", ["notes.txt", "empty", "missing.jsonl"])
def test_a_path_without_a_log_is_reported_in_one_line(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {"notes.txt": b"trees"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoLogError, match="no session log here") as caught:
        list(find_logs([tmp_path / name]))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
