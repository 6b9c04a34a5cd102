"""Requests rebuilt by their hashes, and what is returned for a request that cannot be rebuilt."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.claude_code import records
from llma_core.claude_code.requests import MEMORY_BYTES, RequestLog
from llma_core.spans import Generation, Request
from tests.support.logs import LogBuilder, Transcript, image, text, thinking, tool_use
from tests.support.requests import SHAPE, hashed
from tests.support.sessions import spans

Json = dict[str, Any]


def take(log: RequestLog, row: Json | bytes) -> None:
    line = row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
    log.take(records.decode(line, requests=True))


def request_log_of(thread: Transcript) -> RequestLog:
    """Return the requests of a thread after its whole file was read."""
    log = RequestLog()
    for row in thread.lines:
        take(log, row)
    return log


def requests_of(thread: Transcript, memory: int = MEMORY_BYTES) -> list[Request]:
    """Return the requests that the thread's answers name, each as it is known when its answer begins."""
    log = RequestLog(memory)
    found: dict[str, Request] = {}
    for row in thread.lines:
        take(log, row)
        named = row.get("requestRef") if isinstance(row, dict) else None
        if named is not None and named not in found:
            request = log.request(named)
            assert request is not None
            found[named] = request
    return list(found.values())


def messages(request: Request) -> list[Json]:
    assert request.messages is not None
    return [
        {"role": message.role, "content": [json.loads(block) for block in message.blocks]}
        for message in request.messages
    ]


def orchard(**settings: Any) -> LogBuilder:
    log = LogBuilder(requests=True, **settings)
    log.prompt("Count the trees")
    log.answer(thinking("Both."), text("I look."), tool_use("Bash", {"command": "ls"}, id="toolu_1"))
    log.tool_result("toolu_1", [text("ada"), image()])
    log.answer(text("One."))
    return log


def lines_of(log: LogBuilder, kind: str) -> list[Json]:
    return [line for line in log.lines if isinstance(line, dict) and line["type"] == kind]


# ---------------------------------------------------------------------- what is found


def test_a_request_is_what_was_sent() -> None:
    first, second = requests_of(orchard())

    assert [json.loads(block) for block in first.system] == SHAPE["system"]
    assert json.loads(first.tools or b"") == SHAPE["tools"]
    assert [message["role"] for message in messages(first)] == ["user", "system"]
    assert messages(second)[:2] == messages(first)
    assert messages(second)[2:] == [
        {
            "role": "assistant",
            "content": [thinking("Both."), text("I look."), tool_use("Bash", {"command": "ls"}, id="toolu_1")],
        },
        {
            "role": "user",
            "content": [{"tool_use_id": "toolu_1", "type": "tool_result", "content": [text("ada"), image()]}],
        },
    ]
    assert first.exact
    assert second.exact


def test_what_stands_in_the_conversation_is_not_written_twice() -> None:
    blobs = lines_of(orchard(), "api-request-blob")

    assert [blob["message"]["role"] for blob in blobs] == ["user", "system"]


def test_results_between_the_lines_of_an_answer_are_one_message_behind_it() -> None:
    log = LogBuilder(requests=True)
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(tool_use("Bash", {"command": "ls a"}, id="toolu_1"))
    log.tool_result("toolu_1", "one")
    answer.add(tool_use("Bash", {"command": "ls b"}, id="toolu_2"), last=True)
    log.tool_result("toolu_2", "two")
    log.answer(text("Three."))

    _, last = requests_of(log)

    assert [block["id"] for block in messages(last)[2]["content"]] == ["toolu_1", "toolu_2"]
    assert [block["content"] for block in messages(last)[3]["content"]] == ["one", "two"]
    assert last.exact


def test_a_subagents_requests_are_its_own() -> None:
    log = LogBuilder(requests=True)
    log.prompt("Let somebody count")
    log.answer(tool_use("Agent", {"prompt": "Count"}, id="toolu_1"))
    agent = log.agent("toolu_1", "Count")
    agent.answer(text("One."))

    [request] = requests_of(agent)

    assert messages(request)[0]["content"][-1] == text("Count")
    assert request.exact


def test_a_new_run_of_the_client_names_messages_written_long_before() -> None:
    log = orchard()
    log._requests._last = "", []
    log.prompt("And the pears?")
    log.answer(text("None."))

    line = lines_of(log, "api-request")[-1]
    last = requests_of(log)[-1]

    assert "base" not in line
    assert len(line["tail"]) == len(messages(last)) == 6
    assert last.exact


def test_a_compaction_begins_anew() -> None:
    log = orchard()
    log.compaction("One tree, ada.")
    log.prompt("And the pears?")
    log.answer(text("None."))

    last = requests_of(log)[-1]

    assert [block["text"] for block in messages(last)[0]["content"][1:]] == ["One tree, ada.", "And the pears?"]
    assert last.exact


def test_what_was_written_before_a_compaction_is_forgotten() -> None:
    log = orchard()
    before = request_log_of(log).size
    log.compaction("One tree.")

    assert before > 0
    assert request_log_of(log).size < before


def test_a_message_may_have_parameters_and_marks_of_its_own() -> None:
    log = LogBuilder(requests=True)
    marked = {"role": "system", "content": [text("Be quick")], "output_config": {"effort": "low"}}
    log.raw({"type": "api-request-blob", "hash": hashed(marked), "message": marked})
    log.raw({"type": "api-request", "id": "r1", "keep": 0, "tail": [hashed(marked)]})
    cached = {"role": "user", "content": [{**text("Hello"), "cache_control": {"type": "ephemeral"}}]}
    bare = {"role": "user", "content": [text("Hello")]}
    log.raw({"type": "api-request-blob", "hash": hashed(bare), "message": cached})
    log.raw({"type": "api-request", "id": "r2", "base": "r1", "keep": 1, "tail": [hashed(bare)]})

    request = request_log_of(log).request("r2")

    assert request is not None
    assert [message["role"] for message in messages(request)] == ["system", "user"]


def test_a_string_is_one_text_block() -> None:
    log = LogBuilder(requests=True)
    plain, block = {"role": "user", "content": "Hello"}, {"role": "user", "content": [text("Hello")]}
    log.raw({"type": "api-request-blob", "hash": hashed(block), "message": plain})
    log.raw({"type": "api-request", "id": "r1", "keep": 0, "tail": [hashed(block)]})

    request = request_log_of(log).request("r1")

    assert request is not None
    assert messages(request) == [block]


@pytest.mark.parametrize("number", ["1e-7", "1e+21", "10000.5", "0.1", "123456789012345680000", "-5e-324"])
def test_numbers_are_hashed_as_the_client_writes_them(number: str) -> None:
    """JavaScript and Python spell some numbers differently."""
    block = '{"id":"t","input":{"n":' + number + '},"name":"Bash","type":"tool_use"}'
    message = '{"content":[' + block + '],"role":"assistant"}'
    name = hashlib.sha256(message.encode()).hexdigest()
    log = RequestLog()
    take(log, f'{{"type":"api-request-blob","hash":"{name}","message":{message}}}'.encode())
    take(log, {"type": "api-request", "id": "r1", "keep": 0, "tail": [name]})

    request = log.request("r1")

    assert request is not None
    assert request.messages is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('abcé\n"\\\x1f\u2028', max_size=3), inner),
        max_leaves=10,
    )
)
def test_any_tools_input_is_hashed_as_the_client_does(value: Any) -> None:
    log = LogBuilder(requests=True)
    message = {"role": "assistant", "content": [tool_use("Bash", {"value": value}, id="toolu_1")]}
    log.raw({"type": "api-request-blob", "hash": hashed(message), "message": message})
    log.raw({"type": "api-request", "id": "r1", "keep": 0, "tail": [hashed(message)]})

    request = request_log_of(log).request("r1")

    assert request is not None
    # After the reader had to replace characters, the message is no longer what was sent.
    assert (request.messages is not None) == ("\\u0000" not in json.dumps(value))


# ---------------------------------------------------------------------- what is not


def test_an_unknown_request_is_none() -> None:
    assert request_log_of(orchard()).request("nobody") is None


def test_a_blob_that_is_not_what_its_hash_says_is_no_part_of_a_request() -> None:
    log = orchard()
    lines_of(log, "api-request-blob")[0]["message"]["content"][1]["text"] = "Count the bushes"

    for request in requests_of(log):
        assert request.messages is None
        assert not request.exact
        # The known parts are still returned.
        assert [json.loads(block) for block in request.system] == SHAPE["system"]


def test_a_row_that_was_changed_is_no_part_of_a_request() -> None:
    log = orchard()
    answered = next(line for line in lines_of(log, "assistant"))
    answered["message"]["content"][0]["thinking"] = "Neither."

    first, second = requests_of(log)

    assert first.exact
    assert second.messages is None


def test_tools_that_are_not_what_their_hash_says_make_no_exact_request() -> None:
    log = orchard()
    [line] = lines_of(log, "api-request-shape")
    line["shape"] = {**line["shape"], "system": [text("You tend a [shortened]")]}

    first, _ = requests_of(log)

    assert first.messages is not None
    assert not first.exact


def test_without_its_tools_a_request_is_not_exact() -> None:
    log = orchard()
    log.lines.remove(lines_of(log, "api-request-shape")[0])

    first, _ = requests_of(log)

    assert (first.system, first.tools, first.exact) == ((), None, False)


def test_a_request_that_the_client_left_something_out_of_is_not_exact() -> None:
    log = orchard()
    lines_of(log, "api-request")[0]["cut"] = {"kind": "tool-mark-address"}

    first, _ = requests_of(log)

    assert first.messages is not None
    assert not first.exact


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": "nobody"},
        {"keep": -1},
        {"keep": 99},
        {"tail": None},
        {"tail": "abc"},
        {"tail": [1]},
        {"tail": ["0" * 64]},
    ],
)
def test_a_request_that_names_what_is_not_there_has_no_messages(wrong: Json) -> None:
    log = orchard()
    lines_of(log, "api-request")[1].update(wrong)

    first, second = requests_of(log)

    assert first.exact
    assert second.messages is None


# ---------------------------------------------------------------------- memory


def many_answers(count: int) -> LogBuilder:
    log = LogBuilder(requests=True)
    for number in range(count):
        log.prompt(f"{number} " + "apple " * 100)
        log.answer(text("pear " * 100))
    return log


def test_beyond_its_memory_it_drops_the_oldest_and_says_so() -> None:
    log = many_answers(30)

    found = requests_of(log, memory=20_000)

    assert all(request.exact for request in requests_of(log))
    exact = [request.exact for request in found]
    assert exact == sorted(exact, reverse=True)
    assert {request.exact for request in found} == {True, False}
    assert {request.messages is None for request in found if not request.exact} == {True}
    assert all(request.tools for request in found), "what every request needs is dropped last"


@pytest.mark.parametrize("memory", [0, 1, 700, 5000])
def test_its_memory_is_bounded_whatever_comes(memory: int) -> None:
    log = RequestLog(memory)
    for row in many_answers(20).lines:
        take(log, row)
        assert log.size <= memory


def test_what_is_dropped_is_a_matter_of_the_lines_alone() -> None:
    log = many_answers(30)

    assert requests_of(log, memory=25_000) == requests_of(log, memory=25_000)


def test_a_generation_has_its_request_only_when_it_was_asked_for() -> None:
    files = orchard().files()

    asked = [span for span in spans(files, whole_inputs=True) if isinstance(span, Generation)]
    unasked = [span for span in spans(files) if isinstance(span, Generation)]

    assert [span.request is not None and span.request.exact for span in asked] == [True, True]
    assert [(span.request, span.conversation) for span in unasked] == [(None, None), (None, None)]
