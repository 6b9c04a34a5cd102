"""Mistakes that readers of these logs are known to make, and that this reader does not make.

Each test's name says what is right. Its docstring says what other readers do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from llma_core.claude_code.session import SessionAccumulator
from llma_core.privacy import Policy
from llma_core.properties import Attribution
from tests.support.logs import (
    LogBuilder,
    image,
    redacted_thinking,
    text,
    thinking,
    tool_use,
    usage,
)
from tests.support.sessions import body, built, feeds, spans

ADA = Attribution(distinct_id="ada@example.com")
BY_MESSAGE = replace(ADA, grouping="message")
FORK = "9a9a9a9a-0000-4000-8000-000000000001"
LIVE = 1.0e6
"""The clock of a live reader, in seconds. It does not advance: the reader gets no time to wait for more lines."""

Json = dict[str, Any]


def sent(files: dict[str, bytes], attribution: Attribution = ADA) -> list[Json]:
    """Return the events of *files*, each flat: its properties with its name, time and uuid."""
    return [flat(body(event)) for event in built(spans(files), attribution)]


def flat(event: Json) -> Json:
    return {"event": event["event"], "uuid": event["uuid"], "timestamp": event.get("timestamp"), **event["properties"]}


def of(kind: str, found: Sequence[Json]) -> list[Json]:
    return [event for event in found if event["event"] == f"$ai_{kind}" and event.get("claude_code_trace") != "open"]


def only(kind: str, found: Sequence[Json]) -> Json:
    [event] = of(kind, found)
    return event


@pytest.fixture
def log() -> LogBuilder:
    return LogBuilder()


# ---------------------------------------------------------------------- lost or wrong


def test_every_block_of_an_answer_is_kept(log: LogBuilder) -> None:
    """Each line of an answer holds one block. Merging them by kind keeps only the last call and the last text."""
    calls = [tool_use("Read", {"row": row}, id=f"toolu_{row}") for row in range(3)]
    log.prompt("Count")
    log.answer(thinking("Three rows."), text("I count."), *calls, text("Wait."))
    for call in reversed(calls):
        log.tool_result(call["id"], f"row {call['input']['row']}")

    found = sent(log.files())

    [answer] = only("generation", found)["$ai_output_choices"]
    assert [block["type"] for block in answer["content"]] == ["thinking", "text", *["tool_use"] * 3, "text"]
    assert {span["$ai_span_id"]: span["$ai_output_state"] for span in of("span", found)} == {
        f"toolu_{row}": f"row {row}" for row in range(3)
    }


@pytest.mark.parametrize("version", ["2.0.1", "2.0.76", "2.1.50", "2.1.150", "2.1.329"])
def test_the_work_of_subagents_is_nested_under_the_call_that_started_them(version: str) -> None:
    """Reading only the main log misses most tokens of sessions with subagents, whose last lines come late."""
    log = LogBuilder(version=version)
    log.prompt("Let somebody count")
    log.answer(tool_use("Task", {"prompt": "Count", "subagent_type": "gardener"}, id="toolu_task"))
    agent = log.agent("toolu_task", "Count", type="gardener")
    log.agent_result("toolu_task", agent, "Two.")
    log.answer(text("Two."))
    agent.answer(text("Two."), counts=usage(7, 11))

    found = sent(log.files())

    [late] = [event for event in of("generation", found) if event["$ai_agent_name"] != "claude-code"]
    assert (late["$ai_parent_id"], late["$ai_agent_name"]) == ("toolu_task", "gardener")
    assert late["$ai_input_tokens"] == 7
    assert only("trace", found)["claude_code_generations"] == 3


def test_cache_tokens_have_the_names_the_receiver_prices(log: LogBuilder) -> None:
    """Under names without the receiver's prefix, most of a session's cost stays invisible."""
    log.answer(text("Two."), counts=usage(1, 2, cache_read=30_000, cache_5m=200, cache_1h=100))

    answer = only("generation", sent(log.files()))

    assert answer["$ai_cache_read_input_tokens"] == 30_000
    assert answer["$ai_cache_creation_input_tokens"] == 300
    assert (answer["$ai_cache_creation_5m_input_tokens"], answer["$ai_cache_creation_1h_input_tokens"]) == (200, 100)
    assert answer["$ai_cache_reporting_exclusive"] is True
    assert not [name for name in answer if name.startswith("cache_")]


def test_a_later_smaller_count_does_not_replace_a_greater_one() -> None:
    """If the last usage wins, a partial one loses tokens, and one without cache counts loses those."""
    log = LogBuilder(version="2.1.50")
    answer = log.message(stop_reason=None)
    for number, counts in enumerate([{"output_tokens": 40}, {"output_tokens": 3}]):
        answer.add(text(f"part {number}"))
        log.line()["message"]["usage"] = counts if number else usage(9, 40, cache_read=500)

    said = only("generation", sent(log.files()))

    assert (said["$ai_input_tokens"], said["$ai_output_tokens"], said["$ai_cache_read_input_tokens"]) == (9, 40, 500)
    assert said["claude_code_output_tokens_partial"] is True


@pytest.mark.parametrize("version", ["2.0.76", "2.1.329"])
def test_answers_and_calls_have_a_latency(version: str) -> None:
    """Other readers promise a latency and send null."""
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.api_request()
    log.wait(3)
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.wait(5)
    log.tool_result("toolu_ls", "ada")

    found = sent(log.files())

    assert only("generation", found)["$ai_latency"] == pytest.approx(3.1, abs=0.11)
    assert only("span", found)["$ai_latency"] == pytest.approx(5.1)


def test_every_event_has_its_own_time(log: LogBuilder) -> None:
    """Other readers give calls the time of their answer, and end a trace with its last answer, not its last call."""
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "sleep"}, id="toolu_sleep"))
    log.wait(60)
    log.tool_result("toolu_sleep")

    found = sent(log.files())

    assert only("generation", found)["timestamp"] == "2026-03-02T09:00:00.300Z"
    assert only("span", found)["timestamp"] == "2026-03-02T09:01:00.400Z"
    assert only("trace", found)["$ai_latency"] == pytest.approx(60.3)


def test_times_that_go_back_make_no_negative_latency(log: LogBuilder) -> None:
    """Lines are not in the order of their times, so the difference of two times may be negative."""
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls")
    log.line()["timestamp"] = "2026-03-02T08:59:00.000Z"
    log.answer(text("Two."))
    log.line()["timestamp"] = "2026-03-02T08:58:00.000Z"

    found = sent(log.files())

    assert all(event.get("$ai_latency", 0) >= 0 for event in found)
    assert "$ai_latency" not in only("span", found)


def test_a_failed_request_is_an_error_and_not_an_answer(log: LogBuilder) -> None:
    """Other readers count lines about a failure as answers of a model called `<synthetic>`, without an error."""
    log.prompt("Count")
    log.api_request(model="claude-opus-5-5")
    log.api_error(529, "overloaded_error")
    log.permanent_error("API Error: 400 too many trees", status=400, kind="invalid_request_error")
    log.no_response()

    found = sent(log.files())

    assert [
        (event["$ai_is_error"], event["$ai_error_type"], event["$ai_http_status"]) for event in of("generation", found)
    ] == [
        (True, "overloaded_error", 529),
        (True, "invalid_request_error", 400),
    ]
    assert not [event for event in of("generation", found) if event["$ai_model"] == "<synthetic>"]
    assert not [name for event in of("generation", found) for name in event if "tokens" in name]
    assert len(of("generation", found)) == 2
    assert only("trace", found)["claude_code_outcome"] == "failed"


def test_every_kind_of_block_keeps_its_kind(log: LogBuilder) -> None:
    """Other readers turn thinking into text, and drop encrypted thinking, images and server tools."""
    log.prompt("Look")
    log.answer(
        thinking("Hm."),
        redacted_thinking(),
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "trees"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "Trees"}]},
        tool_use("Read", {"file_path": "tree.png"}, id="toolu_read"),
    )
    log.tool_result("toolu_read", [image()])

    found = sent(log.files())

    [answer] = only("generation", found)["$ai_output_choices"]
    assert answer["content"] == [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "thinking", "thinking": "[redacted by the provider]"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "trees"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "Trees"}]},
        {"type": "tool_use", "id": "toolu_read", "name": "Read", "input": {"file_path": "tree.png"}},
    ]
    assert only("span", found)["$ai_output_state"] == [{"type": "text", "text": "[image image/png 8 bytes]"}]


def test_the_input_of_an_answer_starts_with_the_prompt_of_its_turn(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada")
    log.answer(text("One."))

    first, second = of("generation", sent(log.files()))

    assert first["$ai_input"] == [{"role": "user", "content": "Count"}]
    assert second["$ai_input"][0] == {"role": "user", "content": "Count"}
    assert [block["content"] for block in second["$ai_input"][1]["content"]] == ["ada"]
    assert first["$ai_user_prompt"] == second["$ai_user_prompt"] == "Count"


@pytest.mark.parametrize("version", ["2.0.76", "2.1.329"])
def test_a_turn_of_any_length_belongs_to_its_prompt(version: str) -> None:
    """Searching for the prompt only a few dozen lines back loses it for most answers; each then gets its own trace."""
    log = LogBuilder(version=version)
    log.prompt("Count all of them")
    for row in range(60):
        log.answer(tool_use("Bash", {"row": row}, id=f"toolu_{row}"))
        log.tool_result(f"toolu_{row}")

    found = sent(log.files(), BY_MESSAGE)

    assert {event["$ai_user_prompt"] for event in of("generation", found)} == {"Count all of them"}
    assert len({event["$ai_trace_id"] for event in found}) == len(of("trace", found)) == 1
    assert found == sent(log.files(), BY_MESSAGE)


def test_a_command_and_its_expansion_are_one_prompt(log: LogBuilder) -> None:
    """Other readers make two traces of one name from two lines with one prompt id, each with all tokens of both."""
    log.command("/greet", "the world", expansion="Say hello to the world")
    log.answer(text("Hello."), counts=usage(5, 7))

    trace = only("trace", sent(log.files(), BY_MESSAGE))

    assert (trace["$ai_total_input_tokens"], trace["$ai_total_output_tokens"]) == (5, 7)
    assert trace["$ai_trace_name"] == "/greet the world"


def test_a_subagents_lines_in_the_main_log_are_not_prompts() -> None:
    """Old clients write subagents into the main log; their instructions look like a person's prompts."""
    log = LogBuilder(version="2.0.1")
    log.prompt("Let somebody count")
    log.answer(tool_use("Task", {"prompt": "You count trees", "subagent_type": "gardener"}, id="toolu_task"))
    agent = log.agent("toolu_task", "You count trees", type="gardener")
    agent.answer(text("Two."))
    log.tool_result("toolu_task", "Two.")
    log.answer(text("Two trees."))

    found = sent(log.files(), BY_MESSAGE)

    trace = only("trace", found)
    assert trace["$ai_trace_name"] == "Let somebody count"
    assert trace["$ai_output_state"] == [{"role": "assistant", "content": "Two trees."}]
    assert {event["$ai_user_prompt"] for event in of("generation", found)} == {"Let somebody count"}
    assert [event["$ai_agent_name"] for event in of("generation", found)].count("gardener") == 1


def test_folder_and_branch_are_those_of_the_line(log: LogBuilder) -> None:
    """Other readers put the first folder and branch of a session on all its events, even for work in a worktree."""
    log.prompt("Count")
    log.answer(text("Two."))
    log.cd("/home/ada/worktrees/meadow", branch="hay")
    log.prompt("And there?")
    log.answer(text("None."))

    first, second = of("generation", sent(log.files()))

    assert (first["$ai_project_name"], first["$ai_git_branch"]) == ("orchard", "main")
    assert (second["$ai_project_name"], second["$ai_git_branch"]) == ("meadow", "hay")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("clear the cache bug", "clear the cache bug"),
        ("/tmp is full, why?", "/tmp is full, why?"),
        ("help: a<b and c>d", "help: a<b and c>d"),
        ("exit codes of `ls`?", "exit codes of `ls`?"),
    ],
)
def test_a_trace_is_named_after_the_persons_prompt(log: LogBuilder, prompt: str, name: str) -> None:
    """Other readers skip prompts that begin like a command, and lose everything between `<` and `>`."""
    log.prompt(prompt)
    log.answer(text("Yes."))

    assert only("trace", sent(log.files()))["$ai_trace_name"] == name


def test_text_that_the_client_writes_names_no_trace(log: LogBuilder) -> None:
    """Other readers take a summary of the earlier conversation, or the caveat before a command, for a prompt."""
    log.note("<local-command-caveat>Caveat: the messages below were made by the user.</local-command-caveat>")
    log.compaction("This session is being continued from a previous conversation.")
    log.interrupted()
    log.prompt("Count")
    log.answer(text("Two."))

    assert only("trace", sent(log.files()))["$ai_trace_name"] == "Count"


def test_a_prompt_that_is_only_an_image_has_a_trace(log: LogBuilder) -> None:
    """Other readers ignore a prompt without text, and nest its answers under a trace that is never sent."""
    log.prompt([image()])
    log.answer(text("A tree."))

    found = sent(log.files(), BY_MESSAGE)

    assert only("generation", found)["$ai_trace_id"] == only("trace", found)["$ai_trace_id"]
    assert only("generation", found)["$ai_input"][0]["content"] == [
        {"type": "text", "text": "[image image/png 8 bytes]"}
    ]


# ---------------------------------------------------------------------- privacy


def test_without_content_an_error_holds_none_either(log: LogBuilder) -> None:
    """Other readers send the output of a failed tool as the error's text, although no content may leave."""
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "cat secret"}, id="toolu_cat"))
    log.tool_result("toolu_cat", "Exit code 1\nHIDDEN", error=True, noted="Error: HIDDEN")
    log.permanent_error("API Error: 400 HIDDEN")

    said = json.dumps(sent(log.files(), replace(ADA, policy=Policy(level="metadata"))))

    assert "HIDDEN" not in said
    assert "invalid_request_error" in said


# ---------------------------------------------------------------------- live and repeated reading


@contextmanager
def counted_work() -> Iterator[list[int]]:
    """Count function calls, which measure the work and not the machine."""
    count = [0]

    def note(_frame: object, event: str, _argument: object) -> None:
        count[0] += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(before)


def test_final_events_are_sent_before_the_session_ends(log: LogBuilder) -> None:
    """Events sent only at the end of a session are lost when it is killed, and invisible while it runs."""
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada")
    log.answer(text("One."))
    log.prompt("And pears?")
    accumulator = SessionAccumulator(log.session)

    found = [span for feed in feeds(log.path, log.files()[log.path]) for span in feed.to(accumulator, now=LIVE)]

    assert [event.name for event in built(found)] == ["$ai_trace", "$ai_generation", "$ai_span", "$ai_generation"]


def test_a_session_that_continues_changes_no_event_already_sent(log: LogBuilder) -> None:
    """With random ids, calls of one reading belong to answers of another, and an event sent twice differs."""
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada")
    log.answer(text("One."))
    before = [event for event in sent(log.files()) if event["event"] != "$ai_trace"]
    log.title("Trees")
    log.cd("/home/ada/meadow", branch="hay")
    log.update("2.1.400")
    log.prompt("And pears?")
    log.answer(text("None."))

    after = sent(log.files())

    assert [event for event in after if event["uuid"] in {one["uuid"] for one in before}] == before


def test_a_call_keeps_its_id_while_its_answer_grows(log: LogBuilder) -> None:
    """An id made from the last line's time changes with the next line, so a call sent early is sent again."""
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(tool_use("Bash", {"command": "ls"}, id="toolu_1"))
    log.tool_result("toolu_1", "ada")
    accumulator, early = SessionAccumulator(log.session), []
    for feed in feeds(log.path, log.files()[log.path]):
        early += feed.to(accumulator, now=LIVE)
    log.wait(0.4)
    answer.add(tool_use("Bash", {"command": "ls -a"}, id="toolu_2"), last=True)
    log.tool_result("toolu_2", "ada")
    for feed in feeds(log.path, log.files()[log.path])[len(log.lines) - 2 :]:
        early += feed.to(accumulator, now=LIVE + 0.5)
    early += accumulator.end(LIVE + 0.5)

    calls = [event for event in built(early) if event.name == "$ai_span"]

    assert [event.uuid for event in calls] == [event["uuid"] for event in of("span", sent(log.files()))]
    assert len(calls) == 2


@pytest.mark.parametrize("version", ["1.0.128", "2.0.76", "2.1.50", "2.1.100", "2.1.329"])
def test_messages_that_a_fork_copies_are_not_counted_again(version: str) -> None:
    """An id made from the session alone gives every message copied into another session's log a new event."""
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(text("Two."))
    fork = log.fork(FORK)
    fork.prompt("And pears?")
    fork.answer(text("None."))

    found = sent({**fork.files(), **log.files()})

    assert sorted(event["$ai_session_id"] for event in of("generation", found)) == sorted([log.session, FORK])


def test_a_log_without_a_session_id_belongs_to_the_session_in_its_name(log: LogBuilder) -> None:
    """Other readers give all logs without an id one shared empty trace."""
    log.prompt("Count")
    log.answer(text("Two."))
    for line in log.lines:
        assert isinstance(line, dict)
        line.pop("sessionId")

    found = sent(log.files())

    assert {(event["$ai_session_id"], event["$ai_trace_id"]) for event in found} == {(log.session, log.session)}


# ---------------------------------------------------------------------- robustness


@pytest.mark.parametrize(
    "line",
    [
        b"[1, 2]",
        b'"words"',
        b"7",
        b"null",
        b"",
        b'{"type": "assistant", "message": null}',
        b'{"type": "user", "message": null}',
        b'{"type": "assistant", "message": {"id": "msg_x", "usage": {"input_tokens": null, "output_tokens": null}}}',
        b'{"type": "assistant", "message": {"id": "msg_x", "content": 5, "usage": []}}',
        b'{"type": "user", "isMeta": true, "message": {"content": "\\ud800 caf\xe9"}}',
        b'{"type": "assistant", "mess',
    ],
)
def test_a_malformed_line_loses_no_other_line(log: LogBuilder, line: bytes) -> None:
    """Other readers silently lose a whole session because of one unexpected line."""
    log.raw(line)
    log.prompt("Zähl die Äpfel 🍎")
    log.raw(line)
    log.answer(text("Zwei."))
    log.raw(line)

    found = sent(log.files())

    answer = next(event for event in of("generation", found) if event["$ai_span_id"] != "msg_x")
    assert answer["$ai_output_choices"][0]["content"] == [text("Zwei.")]
    assert only("trace", found)["$ai_trace_name"] == "Zähl die Äpfel 🍎"


def test_the_work_for_a_line_does_not_grow_with_the_session(log: LogBuilder) -> None:
    """Other readers keep everything in memory, and search all prompts for the prompt of each answer."""
    turns = []
    for turn in range(300):
        start = len(log.lines)
        log.prompt(f"Count row {turn}")
        log.answer(tool_use("Bash", {"row": turn}, id=f"toolu_{turn}"))
        log.tool_result(f"toolu_{turn}")
        log.answer(text("Two."))
        turns.append(len(log.lines) - start)
    lines = iter(feeds(log.path, log.files()[log.path]))
    accumulator = SessionAccumulator(log.session)
    work = []

    for count in turns:
        with counted_work() as calls:
            for _ in range(count):
                next(lines).to(accumulator, now=LIVE)
        work.append(calls[0])

    assert max(work[-100:]) <= max(work[2:102])
    accumulator.end(LIVE)
    assert accumulator.idle


def test_everything_the_log_knows_of_an_answer_is_sent(log: LogBuilder) -> None:
    """Other readers drop provider, tier, speed, the split of cache writes, searches, version and effort."""
    counts = usage(
        speed="fast", server_tool_use={"web_search_requests": 2}, output_tokens_details={"thinking_tokens": 9}
    )
    log.prompt("Count")
    log.answer(text("Two."), model="eu.anthropic.claude-opus-5-5-v1:0", counts=counts)

    answer = only("generation", sent(log.files()))

    assert answer["$ai_provider"] == "bedrock"
    assert answer["$ai_model_parameters"] == {
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "effort": "medium",
        "service_tier": "standard",
        "speed": "fast",
    }
    assert (answer["$ai_web_search_count"], answer["$ai_reasoning_tokens"]) == (2, 9)
    assert (answer["claude_code_version"], answer["claude_code_effort"]) == ("2.1.329", "medium")
    assert answer["claude_code_entrypoint"] == "cli"
