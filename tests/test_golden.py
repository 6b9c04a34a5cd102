"""The events of whole sessions, pinned: what `tests/golden` holds is what is sent.

A change of these files is a change of what users see. UPDATE_GOLDEN=1 writes them anew, for a reader to compare.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from llma_core import __version__
from llma_core.events import Attribution
from llma_core.privacy import Policy
from tests.support.logs import LogBuilder, image, redacted_thinking, text, thinking, tool_use, usage
from tests.support.sessions import built, spans

GOLDEN = Path(__file__).parent / "golden"
FORK = "9a9a9a9a-0000-4000-8000-000000000001"
ADA = Attribution(distinct_id="ada@example.com")

Files = dict[str, bytes]


def parallel_tools() -> Files:
    """Two tools run while the message that called them is still being written."""
    log = LogBuilder()
    log.prompt("Count the apple and the pear trees")
    log.api_request()
    log.wait(1)
    answer = log.message(stop_reason="tool_use", counts=usage(9, 777, output_tokens_details={"thinking_tokens": 40}))
    answer.add(thinking("Both can be counted at once."))
    answer.add(text("I count both."))
    answer.add(tool_use("Bash", {"command": "ls apples", "timeout": 1000}, id="toolu_apples"))
    log.wait(0.5)
    log.tool_result("toolu_apples", "ada\nbea", noted={"stdout": "ada\nbea", "interrupted": False})
    answer.add(tool_use("mcp__orchard__pears", {"row": 3}, id="toolu_pears"), last=True)
    log.wait(2)
    log.tool_result("toolu_pears", [text("cleo"), image()])
    log.wait(1)
    log.answer(text("Three."), counts=usage(30, 5))
    log.turn_duration()
    log.cost_state(0.0421, added=0, removed=0)
    return log.files()


def subagent() -> Files:
    """A subagent with a meta file does the work."""
    log = LogBuilder()
    log.prompt("Let somebody count")
    log.answer(tool_use("Agent", {"prompt": "Count the apples", "subagent_type": "gardener"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "Count the apples", type="gardener", id="a0123456789abcdef")
    agent.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    agent.tool_result("toolu_ls", "ada")
    agent.answer(text("One apple."))
    log.agent_result("toolu_agent", agent, "One apple.")
    log.answer(text("It is one."))
    return log.files()


def nested_subagent() -> Files:
    """A subagent starts another in the background, whose end starts a turn."""
    log = LogBuilder()
    log.prompt("Let somebody let somebody count")
    log.answer(tool_use("Agent", {"prompt": "outer", "subagent_type": "gardener"}, id="toolu_outer"))
    outer = log.agent("toolu_outer", "outer", type="gardener", id="a0000000000000001")
    outer.answer(tool_use("Agent", {"prompt": "inner", "subagent_type": "picker"}, id="toolu_inner"))
    inner = outer.agent("toolu_inner", "inner", type="picker", id="a0000000000000002")
    outer.agent_result("toolu_inner", inner, "", background=True)
    inner.answer(text("One pear."))
    inner.finish()
    outer.answer(text("It is being done."))
    log.agent_result("toolu_outer", outer, "It is being done.")
    log.answer(text("Wait."))
    log.task_notification("<task-id>a0000000000000002</task-id>\n<status>completed</status>")
    log.answer(text("One pear."))
    return log.files()


def retry() -> Files:
    """Two attempts fail before one succeeds."""
    log = LogBuilder()
    log.prompt("Count")
    for attempt in (1, 2):
        log.api_request()
        log.wait(1)
        log.api_error(529, "overloaded_error", attempt=attempt)
    log.wait(2)
    log.answer(text("Two."))
    return log.files()


def permanent_error() -> Files:
    """A request fails for good and ends the session."""
    log = LogBuilder()
    log.prompt("Count")
    log.api_request()
    log.permanent_error("API Error: 400 messages.0: too many trees", status=400, kind="invalid_request_error")
    return log.files()


def interrupted() -> Files:
    """The user stops a text, denies a call, and stops a running tool."""
    log = LogBuilder()
    log.prompt("Tell me everything")
    log.answer(text("In the beg"), aborted=True)
    log.interrupted()
    log.prompt("Remove the trees")
    log.answer(tool_use("Bash", {"command": "rm -r trees"}, id="toolu_rm"))
    log.denied("toolu_rm")
    log.interrupted(for_tool=True)
    log.prompt("Just wait")
    log.answer(tool_use("Bash", {"command": "sleep 60"}, id="toolu_sleep"))
    log.wait(3)
    refusal = "The user doesn't want to proceed with this tool use."
    log.tool_result("toolu_sleep", refusal, error=True, decision=None, toolDenialKind="user-rejected")
    log.interrupted(for_tool=True)
    log.prompt("Never mind")
    log.answer(text("As you like."))
    return log.files()


def compaction() -> Files:
    """The conversation is replaced by a summary in the middle of a turn."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(tool_use("Read", {"file_path": "trees.txt"}, id="toolu_read"))
    log.tool_result("toolu_read", "ada\nbea")
    log.compaction("They were counting trees: ada, bea.")
    log.answer(text("Two."))
    return log.files()


def _forked(version: str, *, branch: bool = False) -> Files:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada\nbea")
    log.answer(text("Two."))
    fork = log.fork(FORK, branch=branch)
    fork.prompt("And the pears?")
    fork.answer(text("One."))
    return {**fork.files(), **log.files()}


def fork_marked() -> Files:
    """A fork whose copies say whose they are."""
    return _forked("2.1.329")


def fork_unmarked() -> Files:
    """A fork whose copies say nothing."""
    return _forked("2.1.100")


def held_back() -> Files:
    """A client that holds its answers back writes a call's result before the call."""
    log = LogBuilder(version="2.1.150")
    log.prompt("Count")
    log.tool_result("toolu_ls", "ada\nbea")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.answer(text("Two."))
    return log.files()


def cut_stream() -> Files:
    """A stream breaks off after a block, and the model is asked to go on."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("Tw"), cut=True)
    log.note("Your response above was cut off mid-stream. Go on from there.")
    log.answer(text("Two."))
    return log.files()


def message_grouping() -> Files:
    """Prompts, commands, a queued prompt, and an answer that no prompt stands above: a trace for each."""
    log = LogBuilder()
    log.answer(text("Where were we?"))
    log.prompt("Count the trees", permissionMode="plan")
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "go", id="a0000000000000003")
    agent.answer(text("Two."))
    log.agent_result("toolu_agent", agent, "Two.")
    log.queued_prompt("The pears too")
    log.answer(text("Two, and one pear."))
    log.turn_duration()
    log.title("Trees and pears")
    log.command("/cost", output="Total cost: $0.04")
    log.command("/greet", "the world", expansion="Say hello to the world")
    log.answer(text("Hello, world."))
    return log.files()


def old_client() -> Files:
    """2.0.76: no prompt ids, counts known only now and then, subagents beside their session, warm-ups."""
    log = LogBuilder(version="2.0.76", branch="")
    log.warm_up().answer(text("Ready."), model="claude-haiku-4-5-20251001")
    log.prompt("Count the trees")
    log.answer(
        thinking("Somebody should."), tool_use("Task", {"prompt": "go", "subagent_type": "Explore"}, id="toolu_task")
    )
    agent = log.agent("toolu_task", "go", id="a12b34c")
    agent.answer(text("Two."))
    log.tool_result("toolu_task", [text("Two.")], noted={"status": "completed", "agentId": "a12b34c"})
    log.answer(text("Two."))
    log.prompt("And the pears?")
    log.answer(tool_use("Bash", {"command": "ls pears"}, id="toolu_ls"))
    return log.files()


def content() -> Files:
    """Every kind of content there is, for the content levels."""
    log = LogBuilder()
    log.title("Orchard plans")
    log.prompt([text("What stands in this picture?"), image()])
    log.answer(
        thinking("An apple tree."),
        redacted_thinking(),
        text("An apple tree. I look closer."),
        tool_use("Read", {"file_path": "/home/ada/orchard/tree.png", "schema": {"kind": "image"}}, id="toolu_read"),
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "apple trees"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "Trees", "url": "x"}]},
    )
    log.tool_result("toolu_read", [text("tree.png"), image()])
    log.answer(tool_use("Bash", {"command": "false"}, id="toolu_false"))
    log.tool_result("toolu_false", "Exit code 1", error=True, noted="Error: Exit code 1")
    log.answer(text("It is an apple tree."))
    log.permanent_error("API Error: 500 the tree fell over", status=500, kind="api_error")
    return log.files()


def _two_prompts(version: str) -> Files:
    log = LogBuilder(version=version, requests=True)
    log.prompt("Count the apple trees")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls apples"}, id="toolu_apples"))
    log.tool_result("toolu_apples", "ada\nbea")
    log.queued_prompt("The pear trees too")
    agent = {"prompt": "Count the pears", "subagent_type": "gardener"}
    log.answer(tool_use("Agent", agent, id="toolu_agent"))
    gardener = log.agent("toolu_agent", "Count the pears", type="gardener", id="a0123456789abcdef")
    gardener.answer(tool_use("Bash", {"command": "ls pears"}, id="toolu_pears"))
    gardener.tool_result("toolu_pears", [text("cleo"), image()])
    gardener.answer(text("One pear tree."))
    log.agent_result("toolu_agent", gardener, "One pear tree.")
    log.answer(thinking("Two and one."), text("Three."))
    log.prompt("And the plums?")
    log.answer(text("None."))
    return log.files()


def full_input() -> Files:
    """Requests that are rebuilt: two prompts, tools, a prompt that joins a running turn, a subagent."""
    return _two_prompts("2.1.329")


def full_input_old() -> Files:
    """The same of a client that kept no requests."""
    return _two_prompts("2.1.100")


@dataclass(frozen=True, slots=True)
class Case:
    """One golden file: a log, and how it is sent."""

    files: Callable[[], Files]
    attribution: Attribution = ADA
    repository: str | None = None


CASES = {
    make.__name__: Case(make)
    for make in (
        parallel_tools,
        subagent,
        nested_subagent,
        retry,
        permanent_error,
        interrupted,
        compaction,
        fork_marked,
        fork_unmarked,
        held_back,
        cut_stream,
        old_client,
    )
} | {
    "message_grouping": Case(message_grouping, replace(ADA, grouping="message")),
    "full_input": Case(full_input, replace(ADA, input_mode="full")),
    "full_input_old": Case(full_input_old, replace(ADA, input_mode="full")),
    "level_full": Case(content, repository="ada/orchard"),
    "level_no_tool_content": Case(content, replace(ADA, policy=Policy(level="no_tool_content"))),
    "level_metadata": Case(
        content,
        Attribution(
            distinct_id=f"claude-code:{LogBuilder().session}",
            identified=False,
            policy=Policy(level="metadata"),
            purpose="review",
            properties={"team": "trees"},
        ),
    ),
}


def golden(case: Case) -> str:
    """Return a case's events, one a line, with the release's number taken out."""
    lines = []
    found = spans(case.files(), whole_inputs=case.attribution.input_mode == "full")
    for event in built(found, case.attribution, repository=case.repository):
        value = json.loads(event.body)
        for name in ("$lib_version", "$ai_lib_version"):
            assert value["properties"].pop(name) == __version__
        lines.append(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")
    return "".join(lines)


@pytest.mark.parametrize("name", CASES)
def test_a_session_gives_the_events_it_always_gave(name: str) -> None:
    path = GOLDEN / f"{name}.jsonl"
    said = golden(CASES[name])
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(said, encoding="utf-8")

    expected = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in said.splitlines()] == [json.loads(line) for line in expected.splitlines()]
    assert said == expected


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)
