from __future__ import annotations

import json
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llma_core.claude_code import records
from llma_core.claude_code.session import QUIET_SECONDS, SETTLE_SECONDS, SessionAccumulator
from llma_core.errors import RecordError
from llma_core.privacy import ContentLevel, Policy
from llma_core.properties import Attribution, Grouping, InputMode
from llma_core.spans import (
    ApiFailure,
    Compaction,
    Generation,
    LineRange,
    OpeningTrace,
    Prompt,
    Span,
    ToolCall,
    Trace,
    TurnKey,
)
from tests.support.logs import AgentLog, LogBuilder, Transcript, image, text, thinking, tool_use, usage
from tests.support.sessions import Feed, built, feeds, identity, spans

S = TypeVar("S", bound=Span)

VERSIONS = [
    "1.0.128",
    "2.0.1",
    "2.0.76",
    "2.1.1",
    "2.1.25",
    "2.1.72",
    "2.1.100",
    "2.1.150",
    "2.1.200",
    "2.1.300",
    "2.1.329",
]


def of(kind: type[S], found: Iterable[Span]) -> list[S]:
    return [span for span in found if isinstance(span, kind)]


def only(kind: type[S], found: Iterable[Span]) -> S:
    [span] = of(kind, found)
    return span


def turns(found: Iterable[Span]) -> list[Trace]:
    return [trace for trace in of(Trace, found) if trace.scope == "turn"]


def session_trace(found: Iterable[Span]) -> Trace:
    [trace] = [trace for trace in of(Trace, found) if trace.scope == "session"]
    return trace


class Live:
    """Reads a log with an accumulator while the log is written."""

    def __init__(self, log: LogBuilder) -> None:
        self.accumulator = SessionAccumulator(log.session)
        self._log = log
        self._read: dict[str, int] = {}

    def read(self, now: float = 0.0) -> list[Span]:
        """Read everything that was written to any file since the last call."""
        found: list[Span] = []
        for name, data in self._log.files().items():
            told = feeds(name, data)
            known = 0 if name.endswith(".meta.json") else self._read.get(name, 0)
            self._read[name] = len(told)
            for feed in told[known:]:
                found += feed.to(self.accumulator, now=now)
        return found


@pytest.fixture
def log() -> LogBuilder:
    return LogBuilder()


@pytest.fixture
def live(log: LogBuilder) -> Live:
    return Live(log)


# ---------------------------------------------------------------------- one message from its lines


@pytest.mark.parametrize("version", VERSIONS)
def test_the_lines_of_a_message_are_one_generation_in_every_version(version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count the apple trees")
    message = log.answer(thinking("hm"), text("I will look."), tool_use("Bash", id="toolu_1"), counts=usage(9, 777))
    log.tool_result("toolu_1", "2")
    log.answer(text("Two."), counts=usage(12, 30))

    found = spans(log.files())

    first, second = of(Generation, found)
    assert first.identity == message
    assert [block.type for block in first.output] == ["thinking", "text", "tool_use"]
    assert first.tools_called == ("Bash",)
    assert [block.type for block in second.output] == ["text"]
    assert first.usage is not None
    assert first.usage.input == 9
    assert len(of(ToolCall, found)) == 1


def test_results_between_the_blocks_end_no_message(log: LogBuilder) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(text("Both at once."))
    answer.add(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "one")
    answer.add(tool_use("Read", id="toolu_2"), last=True)
    log.tool_result("toolu_2", "two")

    found = spans(log.files())

    assert only(Generation, found).tools_called == ("Bash", "Read")
    assert [(call.call_id, call.output) for call in of(ToolCall, found)] == [
        ("toolu_1", b'"one"'),
        ("toolu_2", b'"two"'),
    ]


def test_before_2_1_25_a_result_ends_the_message_of_its_call() -> None:
    log = LogBuilder(version="2.1.1")
    live = Live(log)
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    live.read()

    log.tool_result("toolu_1", "one")

    assert [type(span) for span in live.read()] == [OpeningTrace, Generation, ToolCall]


@pytest.mark.parametrize("version", ["1.0.128", "2.0.76", "2.1.24"])
def test_before_2_1_25_only_a_result_ends_a_message_that_calls_tools_however_slowly_it_is_written(version: str) -> None:
    """A client that hardly gets to run writes its blocks seconds apart, each with the stop reason."""
    log = LogBuilder(version=version)
    live = Live(log)
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    for number in (1, 2, 3):
        answer.add(tool_use("Bash", id=f"toolu_{number}"), late=True)
        live.read(now=10.0 * number)
        assert live.accumulator.poll(now=10.0 * number + 9.9) == []
    log.tool_result("toolu_1", "one")

    assert only(Generation, live.read(now=40.0)).tools_called == ("Bash", "Bash", "Bash")


@pytest.mark.parametrize("version", ["2.0.76", "2.1.25", "2.1.72", "2.1.329"])
def test_a_stop_reason_of_calls_ends_no_message_without_a_call(version: str) -> None:
    log = LogBuilder(version=version)
    live = Live(log)
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(text("I will look."), late=True)
    live.read()
    assert live.accumulator.poll(now=QUIET_SECONDS - 0.1) == []
    answer.add(tool_use("Bash", id="toolu_1"), late=True)
    log.tool_result("toolu_1", "one")
    found = [*live.read(now=QUIET_SECONDS), *live.accumulator.poll(now=QUIET_SECONDS + 2.0)]
    assert only(Generation, found).tools_called == ("Bash",)


@pytest.mark.parametrize("version", ["2.0.76", "2.1.72", "2.1.329"])
@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking"])
def test_an_answer_is_not_over_while_there_are_only_thoughts(version: str, kind: str) -> None:
    log = LogBuilder(version=version)
    live = Live(log)
    log.prompt("Count")
    answer = log.message()
    answer.add(thinking("hm") if kind == "thinking" else {"type": kind, "data": "c2VjcmV0"}, late=True)
    live.read()
    assert live.accumulator.poll(now=QUIET_SECONDS - 0.1) == []
    answer.add(text("Two."), late=True)
    found = [*live.read(now=QUIET_SECONDS), *live.accumulator.poll(now=QUIET_SECONDS + SETTLE_SECONDS)]
    assert [block.type for block in only(Generation, found).output] == [kind, "text"]


def test_a_stop_reason_of_calls_that_never_come_ends_a_message_after_the_quiet_time() -> None:
    log = LogBuilder(version="2.0.76")
    live = Live(log)
    log.prompt("Count")
    log.message(stop_reason="tool_use").add(text("I will look."), late=True)
    live.read()
    assert only(Generation, live.accumulator.poll(now=QUIET_SECONDS)).tools_called == ()


@pytest.mark.parametrize("version", ["1.0.128", "2.1.58", "2.1.72", "2.1.100"])
def test_output_counts_known_only_at_the_end_are_a_lower_bound_without_it(version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(text("one"), text("two"), counts=usage(9, 777))

    generation = only(Generation, spans(log.files()))

    assert generation.usage is not None
    complete = version in ("2.1.72", "2.1.100")
    assert generation.usage.output == (777 if complete else 3)
    assert generation.output_partial == (not complete)
    assert generation.stop_reason == ("end_turn" if complete else None)


def test_a_block_that_is_written_twice_is_given_once(log: LogBuilder) -> None:
    log.prompt("Count")
    answer = log.message()
    for block in (text("one"), thinking("", signature="a"), text("one"), thinking("", signature="b")):
        answer.add(block)

    output = only(Generation, spans(log.files())).output

    assert [json.loads(block.raw).get("signature", "text") for block in output] == ["text", "a", "b"]


def test_a_call_that_is_written_twice_is_one_call_whatever_its_input_says(log: LogBuilder) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(tool_use("Edit", {"old": "a"}, id="toolu_1"))
    answer.add(tool_use("Edit", {"old": "a", "replace_all": False}, id="toolu_1"))

    found = spans(log.files())

    assert only(Generation, found).tools_called == ("Edit",)
    assert only(ToolCall, found).input == b'{"old":"a"}'


def test_a_line_may_hold_no_block_or_several(log: LogBuilder) -> None:
    log.prompt("Count")
    answer = log.message()
    answer.add()
    answer.add(text("one"), tool_use("Bash", id="toolu_1"), tool_use("Read", id="toolu_2"))

    found = spans(log.files())

    assert [block.type for block in only(Generation, found).output] == ["text", "tool_use", "tool_use"]
    assert len(of(ToolCall, found)) == 2


def test_a_request_says_when_a_generation_began_and_with_what(log: LogBuilder) -> None:
    log.prompt("Count")
    log.wait(5)
    log.api_request(max_tokens=64000, thinking={"type": "enabled", "budget_tokens": 5}, speed="fast")
    log.wait(2)
    log.answer(text("Two."))

    generation = only(Generation, spans(log.files()))

    assert generation.started_at is not None
    assert generation.ended_at is not None
    assert generation.ended_at - generation.started_at == 2100
    assert (generation.max_tokens, generation.context.effort, generation.speed) == (64000, "medium", "fast")
    assert generation.thinking == b'{"type":"enabled","budget_tokens":5}'


def test_without_a_request_line_a_generation_began_with_what_it_answers() -> None:
    log = LogBuilder(version="2.1.200")
    log.prompt("Count")
    log.wait(3)
    log.answer(tool_use("Bash", id="toolu_1"))
    log.wait(10)
    log.tool_result("toolu_1")
    log.wait(4)
    log.answer(text("Two."))

    first, second = of(Generation, spans(log.files()))

    assert [(g.ended_at or 0) - (g.started_at or 0) for g in (first, second)] == [3100, 4100]


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-opus-5-5", "anthropic"),
        ("us.anthropic.claude-opus-5-5-v1:0", "bedrock"),
        ("anthropic.claude-opus-5-5-v1:0", "bedrock"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/x", "bedrock"),
        ("claude-opus-5-5@20260101", "vertex"),
    ],
)
def test_the_form_of_a_models_name_tells_the_provider(log: LogBuilder, model: str, provider: str) -> None:
    log.prompt("Count")
    log.answer(text("Two."), model=model)

    generation = only(Generation, spans(log.files()))

    assert (generation.model, generation.provider) == (model, provider)


# ---------------------------------------------------------------------- cut, interrupted


@pytest.mark.parametrize("version", ["2.0.76", "2.1.200", "2.1.329"])
def test_a_cut_stream_is_partial_and_has_no_stop_reason_of_the_providers(version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    cut = log.answer(text("Tw"), cut=True)
    log.note("Your response above was cut off mid-stream.")
    whole = log.answer(text("Two."))

    first, second = of(Generation, spans(log.files()))

    assert (first.identity, first.output_partial, first.stop_reason) == (cut, True, None)
    assert second.identity == whole
    assert second.output_partial == (version == "2.0.76")


def test_a_made_up_stop_reason_of_another_line_does_not_outweigh_a_true_count(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Tw"), cut=True, counts=usage(9, 500))

    generation = only(Generation, spans(log.files()))

    assert generation.usage is not None
    assert generation.usage.output == 3


@pytest.mark.parametrize("version", ["2.1.200", "2.1.329"])
def test_a_message_the_user_stopped_is_interrupted(version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(text("A slow ans"), aborted=True)
    log.interrupted()

    generation = only(Generation, spans(log.files()))

    assert (generation.stop_reason, generation.output_partial) == ("interrupted", True)


def test_an_interrupt_after_a_complete_message_leaves_it_as_it_is(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.denied("toolu_1")
    log.interrupted(for_tool=True)

    generation = only(Generation, spans(log.files()))

    assert (generation.stop_reason, generation.output_partial) == ("tool_use", False)


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "refusal", "pause_turn", "word_of_the_future"])
def test_a_stop_reason_is_the_providers_own_word(log: LogBuilder, reason: str) -> None:
    log.prompt("Count")
    log.answer(text("Two."), stop_reason=reason)

    generation = only(Generation, spans(log.files()))

    assert (generation.stop_reason, generation.output_partial) == (reason, False)


# ---------------------------------------------------------------------- when a message is finished


def test_another_message_finishes_a_message(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    first = log.answer(text("One."))
    assert of(Generation, live.read()) == []

    log.answer(text("Two."))

    assert [g.identity for g in of(Generation, live.read())] == [first]


@pytest.mark.parametrize("what", ["prompt", "command", "interrupted", "task_notification", "permanent_error"])
def test_a_prompt_an_interrupt_and_an_error_finish_a_message(log: LogBuilder, live: Live, what: str) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    assert of(Generation, live.read()) == []

    written: dict[str, Callable[[], object]] = {
        "prompt": lambda: log.prompt("And now?"),
        "command": lambda: log.command("/cost"),
        "interrupted": log.interrupted,
        "task_notification": log.task_notification,
        "permanent_error": log.permanent_error,
    }
    written[what]()

    assert len(of(Generation, live.read())) == 1


def test_a_stop_reason_finishes_a_message_after_the_settle_time(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    answer = log.message()
    answer.add(text("One."))
    live.read(now=100.0)
    assert live.accumulator.due() == 100.0 + SETTLE_SECONDS
    answer.add(text("Two."))
    live.read(now=100.5)

    assert live.accumulator.poll(100.5 + SETTLE_SECONDS - 0.01) == []
    [generation] = of(Generation, live.accumulator.poll(100.5 + SETTLE_SECONDS))
    assert len(generation.output) == 2


def test_without_a_stop_reason_a_message_waits_for_the_quiet_time(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("One."), aborted=True)
    live.read(now=100.0)

    assert live.accumulator.due() == 100.0 + QUIET_SECONDS
    assert live.accumulator.poll(100.0 + QUIET_SECONDS - 0.01) == []
    assert len(of(Generation, live.accumulator.poll(100.0 + QUIET_SECONDS))) == 1


@pytest.mark.parametrize("when", ["at first", "in between"])
def test_turns_that_nobody_wants_are_neither_given_out_nor_waited_for(log: LogBuilder, live: Live, when: str) -> None:
    accumulator = live.accumulator
    if when == "at first":
        accumulator.forget_turns()
    log.prompt("Count the apple trees")
    log.answer(text("Two."))
    found = live.read(now=100.0)
    found += accumulator.poll(100.0 + SETTLE_SECONDS)
    accumulator.forget_turns()
    accumulator.forget_turns()

    assert accumulator.due() is None

    log.prompt("And the pears")
    log.answer(text("Three."))
    found += live.read(now=200.0)
    found += accumulator.poll(200.0 + 2 * QUIET_SECONDS)
    found += accumulator.end(9_000.0)
    assert turns(found) == []
    assert (session_trace(found).generations, session_trace(found).answer) == (2, b'"Three."')


def test_whoever_wants_to_know_is_told_where_a_message_begins(log: LogBuilder) -> None:
    told: list[tuple[str, LineRange]] = []
    accumulator = SessionAccumulator(log.session, opened=lambda name, _, lines: told.append((name, lines)))
    log.prompt("Count the apple trees")
    message = log.answer(thinking("hm"), text("I will look."))
    for feed in feeds(log.path, log.files()[log.path]):
        feed.to(accumulator, now=0.0)

    lines = log.files()[log.path].splitlines(keepends=True)
    [begun] = [index for index, line in enumerate(lines) if message.encode() in line][:1]
    start = sum(map(len, lines[:begun]))
    assert told == [(f"gen|{message}", LineRange(file=log.path, start=start, end=start + len(lines[begun])))]


def test_an_answer_of_several_texts_is_one_to_its_trace(log: LogBuilder) -> None:
    log.prompt("Count the apple trees")
    log.answer(text('Two "tall"\n'), text(""), text("and a \U0001f34e."))

    answer = session_trace(spans(log.files())).answer

    assert answer is not None
    assert json.loads(answer) == 'Two "tall"\n\nand a \U0001f34e.'


def test_the_threads_next_request_shortens_the_wait(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("One."), aborted=True)
    live.read(now=100.0)
    log.api_request()
    live.read(now=101.0)

    assert len(of(Generation, live.accumulator.poll(101.0 + SETTLE_SECONDS))) == 1


def test_a_request_of_another_thread_does_not(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason=None)
    answer.add(tool_use("Agent", {"prompt": "go"}, id="toolu_1"))
    agent = log.agent("toolu_1", "go")
    agent.api_request()
    live.read(now=100.0)

    assert live.accumulator.poll(100.0 + 10 * SETTLE_SECONDS) == []


def test_the_end_finishes_everything(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"), aborted=True)
    live.read()

    found = live.accumulator.end(0.0)

    assert [type(span) for span in found] == [OpeningTrace, Generation, ToolCall, Trace, Trace]
    assert live.accumulator.idle
    assert live.accumulator.needed_from() == {}


def test_threads_do_not_end_each_others_messages(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(tool_use("Agent", {"prompt": "go"}, id="toolu_1"))
    agent = log.agent("toolu_1", "go")
    agent.answer(text("sub"))

    assert of(Generation, live.read()) == []

    answer.add(text("more"))
    found = live.read() + live.accumulator.end(0.0)
    assert sorted(len(g.output) for g in of(Generation, found)) == [1, 2]


def test_a_late_line_brings_its_calls_and_no_second_generation(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add(tool_use("Bash", id="toolu_1"))
    live.read(now=0.0)
    [generation] = of(Generation, live.accumulator.poll(10.0))
    answer.add(text("late words"))
    answer.add(tool_use("Read", id="toolu_2"))
    log.tool_result("toolu_2", "found")

    found = live.read(now=11.0) + live.accumulator.end(12.0)

    assert of(Generation, found) == []
    late = {call.call_id: call for call in of(ToolCall, found)}
    assert late["toolu_2"].generation == generation.identity
    assert late["toolu_2"].generation_ended_at == late["toolu_2"].called_at
    assert late["toolu_2"].output == b'"found"'


# ---------------------------------------------------------------------- tool calls


def test_a_call_is_given_when_its_message_and_its_result_are_there(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    live.read(now=0.0)
    assert of(ToolCall, live.accumulator.poll(10.0)) == []
    log.wait(2)
    log.tool_result("toolu_1", "2")

    assert of(ToolCall, live.read(now=11.0)) == [], "a hooked-in program may still have something to say"
    assert live.accumulator.due() == 11.0 + SETTLE_SECONDS
    [call] = of(ToolCall, live.accumulator.poll(11.0 + SETTLE_SECONDS))

    assert (call.status, call.output, call.permission_decision) == ("ok", b'"2"', "accept")
    assert call.called_at is not None
    assert call.ended_at == call.called_at + 2100
    assert call.generation_ended_at == call.called_at


def test_a_result_may_stand_before_its_call() -> None:
    log = LogBuilder(version="2.1.150")
    log.prompt("Count")
    log.tool_result("toolu_1", "early")
    log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    log.answer(text("Done."))

    found = spans(log.files())

    call = only(ToolCall, found)
    assert (call.status, call.output) == ("ok", b'"early"')
    asking, answering = of(Generation, found)
    assert [message.origin for message in asking.input] == ["prompt"]
    assert [message.origin for message in answering.input] == ["prompt", "tool_result"]


def test_a_call_without_a_result_is_given_when_a_later_prompt_is_answered(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_1"))
    log.prompt("Never mind")
    assert of(ToolCall, live.read()) == []

    log.answer(text("As you like."))

    [call] = of(ToolCall, live.read())

    assert (call.status, call.output, call.ended_at, call.permission_decision) == ("no_result", None, None, None)
    assert call.input == b'{"command":"ls"}'


def test_a_result_may_come_after_the_next_prompt(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.prompt("Do not count")
    found = live.read(now=0.0) + live.accumulator.poll(QUIET_SECONDS * 2)
    log.denied("toolu_1")
    found += live.read(now=QUIET_SECONDS * 2)
    log.answer(text("As you like."))
    found += live.read(now=QUIET_SECONDS * 2) + live.accumulator.end(QUIET_SECONDS * 2)

    assert [call.status for call in of(ToolCall, found)] == ["denied"]
    assert sorted(trace.tool_calls for trace in turns(found)) == [0, 1]


def test_an_answer_on_another_branch_gives_up_no_call(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    begin = len(log.lines) - 1
    log.prompt("And pears")
    log.answer(tool_use("Bash", id="toolu_1"))
    first = log.line(-1)["uuid"]
    log.rewind(begin)
    log.prompt("And plums")
    log.answer(text("No plums."))
    log.tool_result("toolu_1", "two")
    log.line(-1)["parentUuid"] = first

    assert [call.status for call in of(ToolCall, spans(log.files()))] == ["ok"]


def _asked(span: Generation | ApiFailure) -> list[str]:
    return [json.loads(message.content) for message in span.input]


@pytest.mark.parametrize("prompts", [0, 1, 3])
def test_an_input_holds_nothing_of_another_branch(log: LogBuilder, prompts: int) -> None:
    """Two terminals go on with one session. The first one's answer begins once both have asked."""
    for number in range(prompts):
        log.prompt(f"Before {number}")
        log.answer(text("Done."))
    log.prompt("Count")
    asked = len(log.lines) - 1
    log.answer(text("One."))
    begin = len(log.lines) - 1
    log.prompt("And pears")
    pears = log.line(-1)
    log.rewind(begin)
    log.prompt("And plums")
    plums = len(log.lines) - 1
    log.answer(text("No pears."), id="msg_pears")
    log.line(-1)["parentUuid"] = pears["uuid"]
    log.rewind(plums)
    log.api_error()
    log.answer(text("No plums."), id="msg_plums")
    log.rewind(asked)
    log.answer(text("Two."), id="msg_again")
    found = spans(log.files())

    said = {generation.identity: _asked(generation) for generation in of(Generation, found)}
    assert (said["msg_pears"], said["msg_plums"], said["msg_again"]) == (["And pears"], ["And plums"], ["Count"])
    assert _asked(only(ApiFailure, found)) == ["And plums"]


def test_a_prompt_that_a_person_went_back_from_is_in_no_later_input(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    begin = len(log.lines) - 1
    log.prompt("And paers")
    log.rewind(begin)
    log.prompt("And pears")
    log.answer(text("Two."))
    log.prompt("Thanks")
    log.answer(text("Well."))

    assert [_asked(generation) for generation in of(Generation, spans(log.files()))] == [
        ["Count"],
        ["And pears"],
        ["Thanks"],
    ]


def test_a_prompt_without_an_answer_is_in_the_input_of_the_one_below_it(log: LogBuilder) -> None:
    log.prompt("Count")
    log.interrupted()
    log.prompt("The apples, I mean")
    log.answer(text("One."))

    first, second, *_ = _asked(only(Generation, spans(log.files())))
    assert {first, second} == {"The apples, I mean", "Count"}


def test_the_end_of_a_background_task_gives_up_no_call(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.task_notification()
    assert of(ToolCall, live.read()) == []

    log.tool_result("toolu_1", "at last")
    log.api_request()

    [call] = of(ToolCall, live.read())
    assert call.status == "ok"


def test_the_first_of_two_results_counts(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "first")
    log.tool_result("toolu_1", "second")

    assert only(ToolCall, spans(log.files())).output == b'"first"'


def test_a_result_without_a_call_is_no_call(log: LogBuilder) -> None:
    log.prompt("Count")
    log.tool_result("toolu_unknown", "whose?")
    log.answer(text("Odd."))

    assert of(ToolCall, spans(log.files())) == []


REFUSAL = "The user doesn't want to proceed with this tool use."


@pytest.mark.parametrize(
    ("version", "result", "status"),
    [
        ("2.1.329", {"content": "2"}, "ok"),
        ("2.1.329", {"content": "Exit code 3\nout", "error": True, "noted": "Error: Exit code 3"}, "error"),
        ("2.1.329", {"content": "partly", "noted": {"stdout": "partly", "interrupted": True}}, "interrupted"),
        ("2.1.329", {"content": REFUSAL, "error": True, "decision": "reject"}, "denied"),
        ("2.1.329", {"content": "not allowed", "error": True, "decision": "deny"}, "denied"),
        ("2.1.329", {"content": REFUSAL, "error": True, "decision": None, "toolDenialBeforeRun": True}, "denied"),
        (
            "2.1.329",
            {"content": REFUSAL, "error": True, "decision": None, "toolDenialKind": "user-rejected"},
            "interrupted",
        ),
        ("2.1.200", {"content": REFUSAL, "error": True, "toolDenialKind": "user-rejected"}, "denied"),
        ("2.0.76", {"content": REFUSAL, "error": True}, "denied"),
        ("2.0.76", {"content": "[Request interrupted by user for tool use]", "error": True}, "interrupted"),
        ("2.0.76", {"content": [text("[Request interrupted by user]")], "error": True}, "interrupted"),
        ("2.0.76", {"content": REFUSAL + " said a file"}, "ok"),
    ],
)
def test_how_a_call_ended(version: str, result: Mapping[str, Any], status: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", **result)

    assert only(ToolCall, spans(log.files())).status == status


def test_a_call_without_a_parsable_input_keeps_what_the_log_has(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", "not an object", id="toolu_1"), {"type": "tool_use", "id": "toolu_2", "name": "Read"})

    first, second = of(ToolCall, spans(log.files()))

    assert (first.input, second.input) == (b'"not an object"', None)


# ---------------------------------------------------------------------- input


def test_a_generations_input_is_what_came_since_the_previous_one_of_its_thread(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"), tool_use("Agent", {"prompt": "go"}, id="toolu_2"))
    agent = log.agent("toolu_2", "go")
    agent.answer(text("sub"))
    log.tool_result("toolu_1", "one")
    log.agent_result("toolu_2", agent, "two")
    log.queued_prompt("hurry up")
    log.answer(text("Two."))

    first, sub, second = sorted(of(Generation, spans(log.files())), key=lambda g: g.ended_at or 0)

    assert [(m.origin, m.content) for m in first.input] == [("prompt", b'"Count"')]
    assert [(m.origin, m.content) for m in sub.input] == [("agent_prompt", b'"go"')]
    assert [m.origin for m in second.input] == ["prompt", "tool_result", "tool_result", "prompt"]
    assert [second.input[0].content, second.input[3].content] == [b'"Count"', b'"hurry up"']


def test_every_input_starts_with_what_its_turn_started_with(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_1"))
    agent = log.agent("toolu_1", "go")
    agent.answer(tool_use("Bash", id="toolu_2"))
    agent.tool_result("toolu_2", "ada")
    agent.answer(text("sub"))
    log.agent_result("toolu_1", agent, "two")
    log.answer(text("Two."))
    log.prompt("And the pears?")
    log.answer(text("None."))

    inputs = [g.input[0].content for g in of(Generation, spans(log.files()))]

    assert sorted(inputs) == [b'"And the pears?"', b'"Count"', b'"Count"', b'"go"', b'"go"']


def test_two_results_in_one_line_are_one_message(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"), tool_use("Bash", id="toolu_2"))
    log.tool_result("toolu_1", "one")
    log.line()["message"]["content"].append({"type": "tool_result", "tool_use_id": "toolu_2", "content": "two"})
    log.answer(text("Two."))

    found = spans(log.files())

    assert [call.output for call in of(ToolCall, found)] == [b'"one"', b'"two"']
    assert [m.origin for m in of(Generation, found)[1].input] == ["prompt", "tool_result"]


@pytest.mark.parametrize("whole_inputs", [False, True])
def test_a_failed_attempt_has_the_input_of_its_request(log: LogBuilder, whole_inputs: bool) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "one")
    log.api_error()
    log.answer(text("One."))

    found = spans(log.files(), whole_inputs=whole_inputs)

    failure = only(ApiFailure, found)
    assert [m.origin for m in failure.input] == ["prompt", "tool_result"]
    assert failure.input == of(Generation, found)[1].input
    said = [m.origin for m in failure.conversation or ()]
    assert said == (["prompt", "answer", "tool_result"] if whole_inputs else [])


def test_what_the_client_adds_is_told_from_what_a_person_types(log: LogBuilder) -> None:
    log.command("/greet", "world", expansion="Say hello to world", output="printed")
    log.answer(text("Hello."))
    log.answer(text("cut"), aborted=True)
    log.interrupted()
    log.task_notification()
    log.answer(text("Seen."))

    first, _, last = of(Generation, spans(log.files()))

    assert [m.origin for m in first.input] == ["prompt", "client", "command_output"]
    assert len(last.input) == 2
    assert "prompt" not in [m.origin for m in last.input]


# ---------------------------------------------------------------------- prompts and turns


def test_the_editors_note_is_no_prompt(log: LogBuilder) -> None:
    note = "<ide_opened_file>The user opened the file cart.py.</ide_opened_file>"
    log.prompt([text(note)])
    log.prompt([text(note), text("Why is the total wrong?")])
    log.answer(text("Rounding."))

    found = spans(log.files())

    assert [span.context.prompt for span in of(Prompt, found)] == ["Why is the total wrong?"]
    assert session_trace(found).name == "Why is the total wrong?"


def test_a_prompt_that_is_an_image_only_has_no_words(log: LogBuilder) -> None:
    log.prompt([image()])
    log.answer(text("A tree."))

    assert only(Generation, spans(log.files())).context.prompt is None


def test_a_prompt_takes_the_place_of_a_command_with_its_id(log: LogBuilder) -> None:
    number = log.prompt("<command-name>/model</command-name>\n<command-args>opus</command-args>")
    log.prompt("What is in this folder?", id=number)
    log.answer(text("Files."))

    generation = only(Generation, spans(log.files()))

    assert (generation.context.prompt, generation.context.turn_name) == (("What is in this folder?",) * 2)


@pytest.mark.parametrize("tag", ["bash-notification", "teammate-message"])
def test_an_envelope_is_no_prompt(log: LogBuilder, tag: str) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    log.prompt(f"<{tag}>done</{tag}>")
    log.answer(text("Two."))

    assert [span.context.prompt for span in of(Prompt, spans(log.files()))] == ["Count"]


@pytest.mark.parametrize("version", ["2.0.76", "2.1.100", "2.1.329"])
def test_a_prompt_opens_a_turn_that_lines_below_it_belong_to(version: str) -> None:
    log = LogBuilder(version=version)
    first = log.prompt("Count the apple trees")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1")
    log.answer(text("Two."))
    second = log.prompt("And the pears?")
    log.answer(text("Three."))

    found = spans(log.files())

    assert [p.context.turn for p in of(Prompt, found)] == [
        TurnKey(kind="prompt", id=first),
        TurnKey(kind="prompt", id=second),
    ]
    assert [(g.context.turn.id, g.context.prompt) for g in of(Generation, found)] == [
        (first, "Count the apple trees"),
        (first, "Count the apple trees"),
        (second, "And the pears?"),
    ]
    assert [(t.turn and t.turn.id, t.name, t.generations) for t in turns(found)] == [
        (first, "Count the apple trees", 2),
        (second, "And the pears?", 1),
    ]


def test_lines_find_their_prompt_by_their_chain_and_not_by_their_place(log: LogBuilder) -> None:
    first = log.prompt("Count")
    log.answer(text("One."))
    above = log.line()
    log.prompt("And now?")
    log.answer(text("Still about the first."), parentUuid=above["uuid"])

    last = of(Generation, spans(log.files()))[-1]

    assert last.context.turn.id == first


def test_a_long_chain_is_followed_to_its_prompt(log: LogBuilder) -> None:
    prompt = log.prompt("Count")
    for number in range(400):
        log.answer(tool_use("Bash", id=f"toolu_{number}"))
        log.tool_result(f"toolu_{number}")

    found = of(Generation, spans(log.files()))

    assert {g.context.turn.id for g in found} == {prompt}
    assert len(found) == 400


def test_a_command_opens_no_trace_until_the_model_answers_it(log: LogBuilder) -> None:
    log.command("/clear")
    assert of(Trace, spans(log.files())) == []

    prompt = log.command("/greet", "world", expansion="Say hello to world")
    log.answer(text("Hello."))

    found = spans(log.files())
    assert of(Prompt, found) == []
    assert only(Generation, found).context.prompt == "/greet world"
    assert [(t.turn and t.turn.id, t.name) for t in turns(found)] == [(prompt, "/greet world")]


def test_the_end_of_a_background_task_starts_a_turn_of_its_own_without_a_prompt(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Started."))
    turn = log.task_notification()
    log.answer(text("It is done."))

    last = of(Generation, spans(log.files()))[-1]

    assert (last.context.turn.id, last.context.prompt) == (turn, None)
    assert len(of(Prompt, spans(log.files()))) == 1


def test_a_queued_prompt_stays_in_the_running_turn(log: LogBuilder) -> None:
    prompt = log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1")
    log.queued_prompt("the pears too")
    log.answer(text("Both."))

    found = spans(log.files())

    assert {g.context.turn.id for g in of(Generation, found)} == {prompt}
    assert len(turns(found)) == 1


def test_an_answer_that_no_prompt_stands_above_is_a_stretch_named_by_its_first_message(log: LogBuilder) -> None:
    first = log.answer(text("Out of nowhere."))
    log.answer(text("And more."))

    found = spans(log.files())

    assert {g.context.turn for g in of(Generation, found)} == {TurnKey(kind="stretch", id=first)}
    assert [(t.turn, t.generations) for t in turns(found)] == [(TurnKey(kind="stretch", id=first), 2)]


def test_a_prompt_that_mentions_a_command_is_not_one(log: LogBuilder) -> None:
    words = "Why does <bash-input>ls</bash-input> stand in my log?"
    log.prompt(words)
    log.answer(text("Because."))

    assert only(Generation, spans(log.files())).context.prompt == words


def test_a_prompt_of_blocks_is_its_words(log: LogBuilder) -> None:
    log.prompt([text("Count"), {"type": "image", "source": {}}, text("these")])

    prompt = only(Prompt, spans(log.files()))

    assert (prompt.context.prompt, prompt.context.turn_name) == ("Count\nthese", "Count these")


def test_permission_mode_is_the_turns(log: LogBuilder) -> None:
    log.prompt("Plan it", permissionMode="plan")
    log.answer(text("Planned."))
    log.prompt("Do it", permissionMode="acceptEdits")
    log.answer(text("Done."))

    assert [g.context.permission_mode for g in of(Generation, spans(log.files()))] == ["plan", "acceptEdits"]


# ---------------------------------------------------------------------- what was true where a line stands


def test_a_name_given_later_is_not_on_what_came_before(log: LogBuilder) -> None:
    log.prompt("Count the apple trees")
    log.answer(text("One."))
    log.title("Trees")
    log.answer(text("Two."))
    log.title("Mine", kind="custom-title")
    log.title("Generated again")
    log.answer(text("Three."))

    found = spans(log.files())

    assert [g.context.session_name for g in of(Generation, found)] == ["Count the apple trees", "Trees", "Mine"]
    assert session_trace(found).name == "Mine"


def test_folder_branch_and_version_are_those_of_the_messages_last_line(log: LogBuilder) -> None:
    log.prompt("Count")
    answer = log.message()
    answer.add(text("one"))
    answer.add(text("two"), cwd="/home/ada/orchard/pears", gitBranch="pears", version="2.1.330")

    context = only(Generation, spans(log.files())).context

    assert (context.cwd, context.branch, context.version) == ("/home/ada/orchard/pears", "pears", "2.1.330")


@pytest.mark.parametrize("branch", ["HEAD", ""])
def test_no_branch_is_no_branch(branch: str) -> None:
    log = LogBuilder(branch=branch)
    log.prompt("Count")
    log.answer(text("Two."))

    assert only(Generation, spans(log.files())).context.branch is None


def test_the_accumulator_knows_where_the_session_began(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("Two."), cwd="/elsewhere")
    live.read()

    assert live.accumulator.first_cwd == "/home/ada/orchard"


# ---------------------------------------------------------------------- subagents


def with_agent(log: Transcript, call: str = "toolu_1", prompt: str = "Count apples") -> None:
    log.answer(tool_use("Agent", {"prompt": prompt, "subagent_type": "gardener"}, id=call))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subagents_spans_hang_on_the_call_that_started_it_in_every_version(version: str) -> None:
    log = LogBuilder(version=version)
    prompt = log.prompt("Count")
    with_agent(log)
    agent = log.agent("toolu_1", "Count apples", type="gardener")
    agent.answer(tool_use("Bash", id="toolu_2"))
    agent.tool_result("toolu_2", "2")
    agent.answer(text("Two apples."))
    log.agent_result("toolu_1", agent, "Two apples.")
    log.answer(text("Two."))

    found = spans(log.files())

    inside = [span.context for span in found if span.context.is_subagent]
    assert len(inside) == 3
    for context in inside:
        assert (context.parent_call, context.agent) == ("toolu_1", "gardener")
        assert (context.turn.id, context.prompt, context.turn_name) == (prompt, "Count", "Count")
    trace = session_trace(found)
    assert (trace.generations, trace.tool_calls, trace.subagents, trace.answer) == (4, 2, 1, b'"Two."')


def test_nested_subagents_hang_on_their_own_parents_calls(log: LogBuilder) -> None:
    log.prompt("Count")
    with_agent(log, "toolu_1", "outer")
    outer = log.agent("toolu_1", "outer")
    outer.answer(tool_use("Agent", {"prompt": "inner"}, id="toolu_2"))
    inner = outer.agent("toolu_2", "inner")
    inner.answer(text("deep"))
    outer.agent_result("toolu_2", inner, "deep")
    outer.answer(text("outer done"))
    log.agent_result("toolu_1", outer, "done")

    found = {g.output[0].raw: g.context for g in of(Generation, spans(log.files()))}

    assert found[b'{"type":"text","text":"deep"}'].parent_call == "toolu_2"
    assert found[b'{"type":"text","text":"outer done"}'].parent_call == "toolu_1"
    assert session_trace(spans(log.files())).subagents == 2


def test_parallel_subagents_with_the_same_words_take_a_call_each() -> None:
    log = LogBuilder(version="2.1.72")
    log.prompt("Count")
    calls = [tool_use("Task", {"prompt": "go"}, id=f"toolu_{number}") for number in (1, 2)]
    log.answer(*calls)
    for number in (1, 2):
        log.agent(f"toolu_{number}", "go", meta=False).answer(text(f"agent {number}"))

    parents = {
        g.output[0].raw: g.context.parent_call for g in of(Generation, spans(log.files())) if g.context.is_subagent
    }

    assert parents == {
        b'{"type":"text","text":"agent 1"}': "toolu_1",
        b'{"type":"text","text":"agent 2"}': "toolu_2",
    }


def two_agents_with_the_same_words() -> LogBuilder:
    """Agent `later` comes first by name. Only the results tell which call started which agent."""
    log = LogBuilder(version="2.1.72")
    log.prompt("Count")
    log.answer(*(tool_use("Task", {"prompt": "go"}, id=f"toolu_{number}") for number in (1, 2)))
    first = log.agent("toolu_1", "go", id="zz", meta=False)
    second = log.agent("toolu_2", "go", id="aa", meta=False)
    first.answer(text("first"))
    second.answer(text("second"))
    log.agent_result("toolu_2", second, "second")
    log.agent_result("toolu_1", first, "first")
    return log


def parents_of(found: Iterable[Span]) -> dict[str, str | None]:
    subs = [span for span in of(Generation, found) if span.context.is_subagent]
    return {json.loads(sub.output[0].raw)["text"]: sub.context.parent_call for sub in subs}


@pytest.mark.parametrize("results", [True, False])
def test_whose_call_is_whose_does_not_depend_on_whose_file_is_read_first(results: bool) -> None:
    log = two_agents_with_the_same_words()
    files = log.files()
    if not results:
        files[log.path] = b"".join(files[log.path].splitlines(keepends=True)[:-2])
    main = [log.path] * files[log.path].count(b"\n")
    agents = [log.agent_path("aa"), log.agent_path("zz")]

    for order in (agents, agents[::-1]):
        again = [*main, *(name for name in order for _ in range(9))]
        assert parents_of(spans(files, order=again)) == {"first": "toolu_1", "second": "toolu_2"}


def test_an_agent_with_the_words_of_another_waits_for_a_result_that_names_one_of_them() -> None:
    log = LogBuilder(version="2.1.72")
    live = Live(log)
    log.prompt("Count")
    log.answer(*(tool_use("Task", {"prompt": "go"}, id=f"toolu_{number}") for number in (1, 2)))
    first, second = (log.agent(f"toolu_{number}", "go", meta=False) for number in (1, 2))
    first.answer(text("first"))
    assert parents_of(live.read(now=0.0) + live.accumulator.poll(SETTLE_SECONDS)) == {}

    log.agent_result("toolu_2", second, "second")

    assert parents_of(live.read(now=SETTLE_SECONDS)) == {"first": "toolu_1"}


def test_the_blocks_of_a_message_stand_in_the_order_the_client_gives_them(log: LogBuilder) -> None:
    log.prompt("Count")
    log.api_request()
    answer = log.message(stop_reason="tool_use")
    answer.add(text("late"), apiBlockIndex=1)
    answer.add(thinking("early"), apiBlockIndex=0)
    answer.add(tool_use("Bash", id="toolu_1"), last=True, apiBlockIndex=2)

    generation = only(Generation, spans(log.files()))

    assert [part.type for part in generation.output] == ["thinking", "text", "tool_use"]


# ---------------------------------------------------------------------- hooked-in programs, side calls, unknown lines


def test_what_ran_before_and_after_a_tool_is_noted_with_its_call(log: LogBuilder) -> None:
    log.hook("SessionStart", seconds=1)
    log.prompt("Count")
    log.hook("UserPromptSubmit", seconds=2)
    log.answer(tool_use("Read", id="toolu_1"), tool_use("Bash", id="toolu_2"))
    log.hook("PreToolUse", "toolu_1", tool="Read")
    log.tool_result("toolu_1")
    log.tool_result("toolu_2")
    log.hook("PostToolUse", "toolu_1", tool="Read", error="no apples")
    log.hook("PostToolUse", "toolu_2", tool="Bash", seconds=0.5)
    log.answer(text("Two."))
    end = len(log.files()[log.path])
    log.hook("Stop", seconds=3)

    found = spans(log.files())

    one, two = of(ToolCall, found)
    assert [(run.name, run.duration_ms, run.failed, run.error) for run in one.hooks] == [
        ("PreToolUse:Read", 5, False, None),
        ("PostToolUse:Read", 5, True, "no apples"),
    ]
    assert [(run.name, run.duration_ms, run.failed) for run in two.hooks] == [("PostToolUse:Bash", 500, False)]
    assert one.lines.end < two.lines.end < end, "a call rests on the lines that say what ran after it"
    for trace in (session_trace(found), *turns(found)):
        assert (trace.hook_runs, trace.hook_ms, trace.hook_errors) == (6, 6510, 1)


def test_a_call_waits_for_what_runs_after_it_until_the_thread_goes_on(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    live.read(now=0.0)
    live.accumulator.poll(SETTLE_SECONDS)
    log.tool_result("toolu_1")
    log.hook("PostToolUse", "toolu_1", tool="Bash")
    assert of(ToolCall, live.read(now=SETTLE_SECONDS)) == []

    log.api_request()

    [call] = of(ToolCall, live.read(now=SETTLE_SECONDS))
    assert [run.name for run in call.hooks] == ["PostToolUse:Bash"]


def test_before_clients_noted_hooks_a_call_waits_for_nothing() -> None:
    log = LogBuilder(version="2.1.72")
    live = Live(log)
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.answer(text("Meanwhile."))
    log.tool_result("toolu_1")

    assert len(of(ToolCall, live.read())) == 1


def test_a_stop_that_is_summed_up_and_noted_counts_once(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Two."))
    log.hook("Stop", "stop-1", seconds=1)
    infos = [{"command": "check", "durationMs": 1000}]
    log.raw(log.line() | {"type": "system", "subtype": "stop_hook_summary", "toolUseID": "stop-1", "hookInfos": infos})
    log.raw(
        log.line()
        | {"type": "system", "subtype": "stop_hook_summary", "toolUseID": "stop-2", "hookInfos": infos * 2}
        | {"hookErrors": ["no"]}
    )

    trace = session_trace(spans(log.files()))

    assert (trace.hook_runs, trace.hook_ms, trace.hook_errors) == (3, 3000, 1)


def test_what_a_fork_copies_of_hooked_in_programs_does_not_count(log: LogBuilder) -> None:
    log.hook("SessionStart")
    log.prompt("Count")
    log.hook("UserPromptSubmit")
    log.answer(text("Two."))
    fork = log.fork("11111111-2222-4333-8444-555555555555")
    fork.prompt("Again")
    fork.hook("UserPromptSubmit", seconds=7)
    fork.answer(text("Still two."))

    traces = [t for t in of(Trace, spans(log.files() | fork.files())) if t.scope == "session"]

    assert {t.session: t.hook_ms for t in traces} == {log.session: 10, fork.session: 7000}


def test_lines_of_unknown_types_are_counted_on_their_traces(log: LogBuilder) -> None:
    log.raw({"type": "tomorrow"})
    log.prompt("Count")
    log.raw({"type": "next-week", "message": {"id": "msg_9", "usage": {"input_tokens": 5}}})
    log.raw({"no": "type"})
    log.answer(text("Two."))
    log.prompt("Again")
    log.answer(text("Still two."))

    found = spans(log.files())

    assert session_trace(found).unknown_records == 3
    assert [trace.unknown_records for trace in turns(found)] == [2, 0]
    assert len(of(Generation, found)) == 2


def test_unknown_lines_count_on_the_same_turn_whenever_they_are_read(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Agent", {"prompt": "apples"}, id="toolu_1"))
    agent = log.agent("toolu_1", "apples")
    agent.raw({"type": "tomorrow"})
    agent.answer(text("One."))
    log.agent_result("toolu_1", agent, "One.")
    log.answer(text("One apple."))
    log.turn_duration()
    found = live.read(now=0.0)
    for now in (SETTLE_SECONDS, SETTLE_SECONDS * 2, SETTLE_SECONDS * 3):
        found += live.accumulator.poll(now)
    log.raw({"type": "next-week"})
    found += live.read(now=10.0) + live.accumulator.poll(20.0)
    log.prompt("Again")
    log.answer(text("Still one."))
    found += live.read(now=30.0) + live.accumulator.end(40.0)

    expected = [1, 0]
    assert [trace.unknown_records for trace in turns(found)] == expected
    for name in (log.path, log.agent_path(agent.id)):
        again = spans(log.files(), order=[name] * 20)
        assert [trace.unknown_records for trace in turns(again)] == expected
        assert session_trace(again).unknown_records == session_trace(found).unknown_records == 2


def test_unknown_lines_that_a_fork_copies_do_not_count(log: LogBuilder) -> None:
    log.raw({"type": "tomorrow"})
    log.prompt("Count")
    log.raw({"type": "tomorrow"})
    log.answer(text("One."))
    fork = log.fork("ffffffff-0000-4000-8000-000000000000")
    fork.lines[:0] = [{"type": "tomorrow"}]
    fork.prompt("Again")
    fork.raw({"type": "tomorrow"})
    fork.answer(text("Still one."))

    found = spans({**log.files(), **fork.files()})

    traces = {trace.session: trace.unknown_records for trace in of(Trace, found) if trace.scope == "session"}
    assert traces == {log.session: 2, fork.session: 1}


def test_what_is_typed_in_a_fork_is_its_prompt_although_the_client_reuses_the_copies_id(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Two."))
    fork = log.fork("11111111-2222-4333-8444-555555555555")
    copied = next(line["promptId"] for line in fork.lines if isinstance(line, dict) and "promptId" in line)
    fork.prompt("Again", id=copied)
    fork.answer(text("Still two."))

    found = [span for span in spans(log.files() | fork.files()) if getattr(span, "context", None)]

    assert [g.context.prompt for g in of(Generation, found)] == ["Count", "Again"]
    assert [t.name for t in of(Trace, found) if t.session == fork.session] == ["Again", "Again"]


def test_a_line_without_an_id_is_named_by_its_place_and_no_path(log: LogBuilder) -> None:
    log.prompt("Count")
    log.permanent_error()
    log.line()["uuid"] = None

    for name in ("here", "there"):
        files = {path.replace("orchard", name): data for path, data in log.files().items()}
        [failure] = of(ApiFailure, spans(files))
        assert failure.identity.startswith(f"{log.session}:")
        assert "/" not in failure.identity


def test_the_meta_file_is_believed_before_the_words() -> None:
    log = LogBuilder(version="2.1.200")
    log.prompt("Count")
    log.answer(*(tool_use("Task", {"prompt": "go"}, id=f"toolu_{number}") for number in (1, 2)))
    log.agent("toolu_2", "go").answer(text("second"))

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_2"


def test_without_a_meta_file_the_result_that_names_the_agent_is_believed() -> None:
    log = LogBuilder(version="2.1.72")
    log.prompt("Count")
    log.answer(tool_use("Task", {"prompt": "other words"}, id="toolu_1"))
    agent = log.agent("toolu_1", "go", meta=False)
    agent.answer(text("sub"))
    log.agent_result("toolu_1", agent, "done")

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_1"


def test_a_subagent_read_before_its_call_waits_for_it(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    agent = log.agent("toolu_1", "Count apples")
    agent.answer(text("One."))
    agent.answer(text("Two."))
    assert of(Generation, live.read(now=0.0)) == []
    assert of(Generation, live.accumulator.poll(QUIET_SECONDS - 1)) == []

    answer.add(tool_use("Agent", {"prompt": "Count apples"}, id="toolu_1"))

    [*_, found] = of(Generation, live.read(now=QUIET_SECONDS - 1))
    assert found.context.parent_call == "toolu_1"


@pytest.mark.parametrize("lines_of_apples", [0, 1])
@pytest.mark.parametrize("version", ["2.0.76", "2.1.72", "2.1.200", "2.1.329"])
def test_a_nested_subagent_waits_while_the_log_of_its_parent_is_not_read_to_its_end(
    version: str, lines_of_apples: int
) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(tool_use("Agent", {"prompt": "apples"}, id="toolu_1"))
    apples = log.agent("toolu_1", "apples")
    apples.answer(tool_use("Agent", {"prompt": "pears"}, id="toolu_3"))
    pears = apples.agent("toolu_3", "pears")
    pears.answer(text("Five pears."))
    apples.agent_result("toolu_3", pears, "Five pears.")
    apples.answer(text("Three apples."))
    log.agent_result("toolu_1", apples, "Three apples.")
    log.title("Trees")
    log.answer(text("Eight."))
    log.turn_duration()
    files = log.files()
    accumulator = SessionAccumulator(log.session)
    told = {name: feeds(name, content) for name, content in files.items()}
    found: list[Span] = []
    late = log.agent_path(apples.id)
    first, rest = told[late][:lines_of_apples], told[late][lines_of_apples:]
    metas = [feed for name in told if name.endswith(".meta.json") for feed in told[name]]
    for feed in [*metas, *told[log.agent_path(pears.id)], *first, *told[log.path]]:
        found += feed.to(accumulator)
    for polls in range(1, 4):
        found += accumulator.poll(SETTLE_SECONDS * polls)
    for feed in rest:
        found += feed.to(accumulator, now=SETTLE_SECONDS * 4)
    found += accumulator.end(SETTLE_SECONDS * 4)

    [sub] = [g for g in of(Generation, found) if any(b"Five pears." in block.raw for block in g.output)]

    assert (sub.context.parent_call, sub.context.prompt) == ("toolu_3", "Count")
    assert bodies(g for g in of(Generation, found)) == bodies(of(Generation, spans(files)))


def test_a_subagent_whose_call_never_comes_goes_without_it_after_the_quiet_time(log: LogBuilder, live: Live) -> None:
    prompt = log.prompt("Count")
    agent = log.agent("toolu_1", "Count apples", type="gardener")
    agent.answer(text("One."))
    agent.answer(text("Two."))
    live.read(now=0.0)

    found = of(Generation, live.accumulator.poll(QUIET_SECONDS))

    assert {(g.context.parent_call, g.context.is_subagent, g.context.agent) for g in found} == {
        ("toolu_1", True, "gardener")
    }
    assert {g.context.turn.id for g in found} == {prompt}


def test_an_old_subagent_whose_call_never_comes_hangs_on_its_own_first_line() -> None:
    log = LogBuilder(version="2.0.76")
    log.prompt("Count")
    agent = log.agent("toolu_1", "Count apples")
    agent.answer(text("One."))

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.turn == TurnKey(kind="prompt", id=agent.line(0)["uuid"])


def test_a_warm_up_is_a_subagent_that_no_call_starts() -> None:
    log = LogBuilder(version="2.0.76")
    live = Live(log)
    warm_up = log.warm_up()
    warm_up.answer(text("Ready."))
    log.prompt("Count")
    live.read(now=0.0)

    [sub] = of(Generation, live.accumulator.poll(QUIET_SECONDS))

    assert (sub.context.agent, sub.context.parent_call, sub.context.session_name) == ("warm-up", None, None)


@pytest.mark.parametrize(
    ("name", "agent"),
    [
        ("acompact-0a1b2c3d", "compact"),
        ("aside_question-0a1b2c3d", "side_question"),
        ("aprompt_suggestion-0a1b2c3d", "prompt_suggestion"),
        ("a0a1b2c3d4e5f6071", "subagent"),
    ],
)
def test_an_agent_that_the_client_starts_by_itself_is_called_what_its_id_says(name: str, agent: str) -> None:
    log = LogBuilder(version="2.1.100")
    log.prompt("Count")
    log.answer(text("One."))
    started = log.agent("toolu_none", "How many?", id=name, meta=False)
    started.answer(text("One."))

    [sub] = [found for found in of(Generation, spans(log.files())) if found.context.is_subagent]

    assert (sub.context.agent, sub.context.parent_call) == (agent, None)


def test_a_session_that_was_started_as_an_agent_has_its_name(log: LogBuilder) -> None:
    log.raw({"type": "agent-setting", "agentSetting": "gardener", "sessionId": log.session})
    log.prompt("Count")
    log.answer(tool_use("Agent", {"prompt": "go", "subagent_type": "scout"}, id="toolu_1"))
    log.agent("toolu_1", "go", type="scout").answer(text("One."))

    found = spans(log.files())

    assert [made.context.agent for made in of(Generation, found)] == ["gardener", "scout"]
    assert session_trace(found).context.agent == "gardener"


def test_a_teammate_in_a_session_of_its_own_has_its_name(log: LogBuilder) -> None:
    log.raw({"type": "agent-setting", "agentSetting": "general-purpose", "sessionId": log.session})
    log.prompt('<teammate-message teammate_id="lead">Count</teammate-message>', agentName="mate", teamName="pickers")
    log.message().add(text("One."), last=True, agentName="mate", teamName="pickers")

    assert only(Generation, spans(log.files())).context.agent == "mate"


def test_parallel_subagents_inside_an_old_main_file_are_told_apart_by_their_chains() -> None:
    log = LogBuilder(version="1.0.128")
    log.prompt("Count")
    log.answer(
        tool_use("Task", {"prompt": "apples"}, id="toolu_1"), tool_use("Task", {"prompt": "pears"}, id="toolu_2")
    )
    apples, pears = log.agent("toolu_1", "apples"), log.agent("toolu_2", "pears")
    one, two = apples.message(), pears.message()
    one.add(text("an apple"))
    two.add(text("a pear"))
    one.add(text("another apple"))

    found = {g.context.parent_call: len(g.output) for g in of(Generation, spans(log.files()))}

    assert found == {None: 2, "toolu_1": 2, "toolu_2": 1}


# ---------------------------------------------------------------------- errors


def test_a_failed_attempt_that_is_repeated(log: LogBuilder) -> None:
    log.prompt("Count")
    log.api_request(model="claude-haiku-4-5")
    log.wait(1)
    log.api_error(529, "overloaded_error")
    log.answer(text("Two."))

    found = spans(log.files())

    failure = only(ApiFailure, found)
    assert (failure.status, failure.error_type, failure.model) == (529, "overloaded_error", "claude-haiku-4-5")
    assert failure.at is not None
    assert failure.started_at == failure.at - 1100
    assert "Overloaded" in (failure.message or "")
    trace = session_trace(found)
    assert (trace.outcome, trace.api_errors, trace.generations) == ("ok", 1, 1)


@pytest.mark.parametrize("version", ["2.0.76", "2.1.329"])
def test_a_permanent_error_is_a_failure_and_no_generation(version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.permanent_error("API Error: 400 messages.0: too many trees")

    found = spans(log.files())

    failure = only(ApiFailure, found)
    assert (failure.status, failure.message) == (400, "API Error: 400 messages.0: too many trees")
    assert failure.error_type == ("invalid_request_error" if version == "2.1.329" else None)
    assert of(Generation, found) == []
    trace = session_trace(found)
    assert (trace.outcome, trace.input_tokens) == ("failed", None)


def test_the_type_of_an_old_error_is_read_from_its_words() -> None:
    log = LogBuilder(version="2.0.76")
    log.prompt("Count")
    log.permanent_error('API Error: 401 {"type":"error","error":{"type":"authentication_error","message":"no"}}')

    failure = only(ApiFailure, spans(log.files()))

    assert (failure.status, failure.error_type) == (401, "authentication_error")


def test_an_error_of_a_type_the_client_does_not_know_has_none(log: LogBuilder) -> None:
    log.prompt("Count")
    log.permanent_error("API Error: the model refused", status=None, kind=None)

    failure = only(ApiFailure, spans(log.files()))

    assert (failure.error_type, failure.status, failure.message) == (None, None, "API Error: the model refused")


def test_a_line_that_stands_for_no_answer_gives_nothing(log: LogBuilder) -> None:
    log.prompt("Count")
    log.no_response()

    assert [type(span) for span in spans(log.files())] == [Prompt, Trace, Trace]


def test_an_error_on_a_subagent_hangs_on_the_agents_call(log: LogBuilder) -> None:
    log.prompt("Count")
    with_agent(log)
    log.agent("toolu_1", "Count apples").permanent_error()

    found = spans(log.files())

    assert only(ApiFailure, found).context.parent_call == "toolu_1"
    assert session_trace(found).outcome != "failed"


@pytest.mark.parametrize("how", ["aborted", "interrupted", "unanswered", "mid-stream", "mid-tool", "after a tool"])
def test_a_session_that_was_stopped_says_so(log: LogBuilder, how: str) -> None:
    log.prompt("Count")
    if how == "aborted":
        log.answer(text("On"), aborted=True)
    elif how == "interrupted":
        log.answer(text("One."))
        log.prompt("And?")
        log.interrupted()
    elif how == "mid-stream":
        log.update("2.1.80")
        log.message().add(text("On"))
    elif how == "unanswered":
        log.api_request()
    else:
        log.answer(tool_use("Bash", id="toolu_1"))
        if how == "after a tool":
            log.tool_result("toolu_1", "One.")

    assert session_trace(spans(log.files())).outcome == "interrupted"
    assert turns(spans(log.files()))[-1].outcome == "interrupted"

    if how == "unanswered":
        log.no_response()
    log.prompt("Again")
    log.answer(text("One."))
    found = spans(log.files())
    assert session_trace(found).outcome == "ok"
    assert [turn.outcome for turn in turns(found)][-2:] == ["interrupted", "ok"]


@pytest.mark.parametrize(
    ("limit", "fields"), [("max_turns_reached", {"maxTurns": 1, "turnCount": 2}), ("budget_usd", {"remaining": -0.01})]
)
def test_a_limit_that_stopped_the_client_is_named(log: LogBuilder, limit: str, fields: dict[str, Any]) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "One.")
    log.attachment(limit, **fields)

    found = spans(log.files())
    assert [(trace.outcome, trace.stopped_by) for trace in of(Trace, found)] == [("interrupted", limit)] * 2

    log.prompt("Go on")
    log.answer(text("One."))
    trace = session_trace(spans(log.files()))
    assert (trace.outcome, trace.stopped_by) == ("ok", None)


def test_a_budget_of_which_something_is_left_stops_nothing(log: LogBuilder) -> None:
    log.prompt("Count")
    log.attachment("budget_usd", used=0.5, total=1, remaining=0.5)
    log.answer(text("One."))
    log.attachment("budget_usd", used=0.6, total=1, remaining=0.4)

    trace = session_trace(spans(log.files()))
    assert (trace.outcome, trace.stopped_by) == ("ok", None)


def test_a_local_command_after_the_last_answer_stops_nothing(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    log.command("/exit")

    assert session_trace(spans(log.files())).outcome == "ok"


@pytest.mark.parametrize("start", ["answer", "failed attempt", "attempt that failed during a message", "agent first"])
def test_a_session_opens_once_with_the_time_that_its_trace_has_in_the_end(log: LogBuilder, start: str) -> None:
    log.prompt("Count the trees")
    if start == "failed attempt":
        log.api_error()
    elif start == "attempt that failed during a message":
        message = log.message()
        message.add(text("One"))
        log.api_error()
        message.add(text("Two"))
    elif start == "agent first":
        log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_task"))
        agent = log.agent("toolu_task", "count", id="a1")
        agent.answer(text("One."))
        log.agent_result("toolu_task", agent, "One.")
    log.answer(text("Two."))
    log.prompt("And the pears?")
    log.answer(text("Three."))

    found = spans(log.files())

    opening, trace = only(OpeningTrace, found), session_trace(found)
    assert (opening.session, opening.prompt, opening.name) == (log.session, "Count the trees", "Count the trees")
    assert opening.at == trace.first_at
    first = next(span for span in found if isinstance(span, OpeningTrace | Generation | ToolCall))
    assert first is opening


def test_a_session_without_an_attempt_of_its_own_does_not_open(log: LogBuilder) -> None:
    log.prompt("Count")
    assert of(OpeningTrace, spans(log.files())) == []


def test_a_trace_counts_the_time_in_which_somebody_worked(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    log.wait(7200)
    log.prompt("And the pears?")
    log.answer(text("Two."))

    trace = session_trace(spans(log.files()))

    assert trace.worked_ms is not None
    assert trace.worked_ms < 3000
    assert trace.started_at is not None
    assert trace.ended_at is not None
    assert trace.ended_at - trace.started_at > 7_200_000


def test_what_stands_twice_in_a_log_is_told_once(log: LogBuilder) -> None:
    log.prompt("Count")
    log.api_error()
    log.permanent_error()
    log.compaction()
    for line in [log.line(number) for number in range(-4, 0)]:
        log.raw(line)

    found = spans(log.files())

    assert (len(of(ApiFailure, found)), len(of(Compaction, found))) == (2, 1)
    assert (session_trace(found).api_errors, session_trace(found).compactions) == (2, 1)


# ---------------------------------------------------------------------- compaction


def test_a_compaction_belongs_to_the_turn_it_interrupts(log: LogBuilder) -> None:
    prompt = log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1")
    log.compaction(trigger="auto", preTokens=150000, postTokens=3000, durationMs=1500)
    log.answer(text("Two."))

    found = spans(log.files())

    compaction = only(Compaction, found)
    assert (compaction.trigger, compaction.tokens_before, compaction.tokens_after) == ("auto", 150000, 3000)
    assert (compaction.duration_ms, compaction.context.turn.id) == (1500, prompt)
    assert {g.context.turn.id for g in of(Generation, found)} == {prompt}
    assert session_trace(found).compactions == 1
    assert len(of(Prompt, found)) == 1


def test_the_summary_of_a_compaction_may_come_after_what_the_client_attaches(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    log.compaction("They counted one tree.")
    summary = log.lines.pop()
    assert of(Compaction, live.read(now=0.0)) == []
    start = log.files()[log.path].index(b"compact_boundary")
    assert live.accumulator.needed_from()[log.path] < start
    log.attachment("date", date="2026-11-30")
    assert of(Compaction, live.read(now=1.0) + live.accumulator.poll(2.0)) == []
    log.lines.append(summary)

    compaction = only(Compaction, live.read(now=3.0))

    assert compaction.summary == "They counted one tree."
    assert compaction.lines.end == len(log.files()[log.path])
    assert live.accumulator.needed_from() == {}
    assert [compaction] == of(Compaction, spans(log.files()))


@pytest.mark.parametrize("goes_on", ["answer", "prompt", "end", "quiet"])
def test_a_compaction_without_a_summary_waits_for_what_follows_it(log: LogBuilder, live: Live, goes_on: str) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    log.compaction()
    del log.lines[-1]
    assert of(Compaction, live.read(now=0.0)) == []
    assert not live.accumulator.idle

    if goes_on == "answer":
        log.answer(text("Two."))
    elif goes_on == "prompt":
        log.prompt("Go on")
    found = live.read(now=1.0)
    if goes_on == "end":
        found += live.accumulator.end(2.0)
    elif goes_on == "quiet":
        assert live.accumulator.due() is not None
        found += live.accumulator.poll(QUIET_SECONDS)

    assert only(Compaction, found).summary is None


# ---------------------------------------------------------------------- copies

FORK = "9a9a9a9a-0000-4000-8000-000000000001"


@pytest.mark.parametrize("version", ["2.0.76", "2.1.72", "2.1.100", "2.1.200", "2.1.300", "2.1.329"])
@pytest.mark.parametrize("branch", [False, True])
def test_what_a_fork_copies_is_given_once_and_by_the_session_that_wrote_it(version: str, branch: bool) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "2")
    log.answer(text("Two."))
    fork = log.fork(FORK, branch=branch)
    fork.prompt("And the pears?")
    fork.answer(text("Three."))

    alone, both = spans(log.files()), spans({**log.files(), **fork.files()})

    assert [span for span in both if span.context.session == log.session] == alone
    new = [span for span in both if span not in alone]
    assert [type(span) for span in new] == [Prompt, OpeningTrace, Generation, Trace, Trace]
    assert {span.context.session for span in new} == {FORK}
    assert only(Prompt, new).context.prompt == "And the pears?"


@pytest.mark.parametrize("session", ["00000000-0000-4000-8000-000000000000", "ffffffff-0000-4000-8000-000000000000"])
def test_a_copy_with_new_ids_gives_nothing_but_what_it_adds(session: str) -> None:
    log = LogBuilder(version="2.1.45")
    log.prompt("Count")
    log.answer(thinking("hm"), tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "2")
    log.answer(text("Two."))
    alone = spans(log.files())

    copied = log.copied_with_new_ids(session)
    both = spans({**copied, **log.files()})

    def all_but_prompts(found: list[Span]) -> list[str]:
        return sorted(identity(span) for span in found if not isinstance(span, Prompt))

    assert all_but_prompts(both) == all_but_prompts(alone)
    assert len(of(Generation, spans(copied))) == 2, "without its original, it gives each message once"


def test_answers_of_a_gateway_with_one_request_id_are_no_copies_of_each_other() -> None:
    log = LogBuilder(version="2.1.45")
    other = LogBuilder(version="2.1.45", session="ffffffff-0000-4000-8000-000000000000")
    for each, words in ((log, "Two."), (other, "Three.")):
        each.wait(len(words))
        each.prompt(words)
        each.answer(text(words))
        each.line()["requestId"] = "req_0"

    found = spans({**log.files(), **other.copied_with_new_ids(other.session)})

    assert len(of(Generation, found)) == 2


def test_a_fork_that_adds_nothing_gives_nothing(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Two."))
    fork = log.fork(FORK)

    assert spans({**log.files(), **fork.files()}) == spans(log.files())


def test_a_fork_goes_on_in_the_copied_prompts_turn_without_giving_the_prompt_again(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Two."))
    fork = log.fork(FORK)
    fork.answer(text("Or three."))

    new = [span for span in spans({**log.files(), **fork.files()}) if span.context.session == FORK]

    assert [type(span) for span in new] == [OpeningTrace, Generation, Trace, Trace]
    assert only(Generation, new).context.prompt == "Count"


def test_a_message_repeated_under_a_new_sessions_name_stays_the_first_ones() -> None:
    log = LogBuilder(version="2.1.1")
    log.prompt("Count")
    log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    for number, line in enumerate([log.line(-2), log.line(-1)]):
        log.raw({**line, "uuid": f"again-{number}", "sessionId": FORK})
    log.tool_result("toolu_1", "2")

    found = spans(log.files())

    assert {span.context.session for span in found} == {log.session}
    assert len(of(Generation, found)) == len(of(ToolCall, found)) == 1


@pytest.mark.parametrize("finished", [False, True])
def test_a_message_that_stands_in_two_agents_logs_is_given_once(log: LogBuilder, finished: bool) -> None:
    log.prompt("Count")
    with_agent(log)
    log.answer(tool_use("Task", {"prompt": "Count pears"}, id="toolu_2"))
    apples, pears = log.agent("toolu_1", "Count apples"), log.agent("toolu_2", "Count pears")
    apples.answer(text("I look."), tool_use("Bash", id="toolu_3"))
    if finished:
        apples.tool_result("toolu_3")
        apples.answer(text("Two."))
    pears.lines += [{**line, "agentId": pears.id} for line in apples.lines if isinstance(line, dict)]

    found = spans(log.files())

    assert Counter(span.identity for span in of(Generation, found)).most_common(1)[0][1] == 1
    assert session_trace(found).generations == len(of(Generation, found)) == 3 + finished


@pytest.mark.parametrize("branch", [False, True])
def test_a_marked_copy_whose_original_is_nowhere_is_sent_under_the_originals_name(
    log: LogBuilder, branch: bool
) -> None:
    log.prompt("Count")
    message = log.answer(text("Two."))
    fork = log.fork(FORK, branch=branch)

    generation = only(Generation, spans(fork.files()))

    assert (generation.identity, generation.context.session) == (message, log.session)


# ---------------------------------------------------------------------- traces


def test_a_turns_trace_comes_with_the_next_prompt(log: LogBuilder, live: Live) -> None:
    first = log.prompt("Count")
    log.answer(text("Two."))
    log.prompt("And the pears?")
    live.read(now=0.0)

    [trace] = of(Trace, live.accumulator.poll(SETTLE_SECONDS))

    assert trace.turn == TurnKey(kind="prompt", id=first)
    assert (trace.prompt, trace.answer, trace.generations) == ("Count", b'"Two."', 1)


def test_a_turns_trace_comes_with_the_word_that_it_ended(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("Two."))
    log.turn_duration()
    live.read(now=0.0)

    assert len(of(Trace, live.accumulator.poll(SETTLE_SECONDS))) == 1
    assert of(Trace, live.accumulator.poll(10 * SETTLE_SECONDS)) == []


def test_a_turn_with_background_agents_has_not_ended(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("Started."))
    log.turn_duration(pending_agents=1)
    live.read(now=0.0)

    assert of(Trace, live.accumulator.poll(10 * SETTLE_SECONDS)) == []
    assert len(of(Trace, live.accumulator.poll(QUIET_SECONDS))) == 1


def test_a_turn_the_model_still_works_on_has_not_ended(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1")
    live.read(now=0.0)

    assert of(Trace, live.accumulator.poll(10 * QUIET_SECONDS)) == []


def test_a_turn_waits_for_its_subagents(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    with_agent(log)
    agent = log.agent("toolu_1", "Count apples")
    log.agent_result("toolu_1", agent, "", background=True)
    log.answer(text("It runs."))
    log.prompt("Meanwhile?")
    live.read(now=0.0)
    assert of(Trace, live.accumulator.poll(10.0)) == []

    agent.answer(text("Two apples."))
    agent.finish()
    live.read(now=20.0)

    [trace] = of(Trace, live.accumulator.poll(30.0))
    assert (trace.name, trace.generations, trace.subagents) == ("Count", 3, 1)


def test_the_sessions_trace_comes_with_its_end_and_again_only_if_something_came(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("Two."))
    log.cost_state(0.25, added=5, removed=1)
    live.read()

    first = session_trace(live.accumulator.end(0.0))
    assert (first.client_cost_usd, first.lines_added, first.lines_removed) == (0.25, 5, 1)
    assert of(Trace, live.accumulator.end(0.0)) == []

    log.prompt("And the pears?")
    log.answer(text("Three."))
    live.read()
    second = session_trace(live.accumulator.end(0.0))
    assert (second.generations, second.answer, second.first_at) == (2, b'"Three."', first.first_at)


def test_a_traces_own_time_is_its_first_generations(log: LogBuilder) -> None:
    log.prompt("Count")
    log.wait(30)
    log.answer(text("One."))
    log.answer(text("Two."))

    found = spans(log.files())

    assert session_trace(found).first_at == of(Generation, found)[0].ended_at


# ---------------------------------------------------------------------- needed lines


def test_what_is_not_given_yet_holds_its_lines(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    prompt_end = len(log.files()[log.path])
    log.api_request()
    request_end = len(log.files()[log.path])
    log.answer(tool_use("Bash", id="toolu_1"))
    live.read(now=0.0)
    assert live.accumulator.needed_from() == {log.path: request_end}
    assert not live.accumulator.idle

    live.accumulator.poll(10.0)
    assert live.accumulator.needed_from() == {log.path: request_end}, "its call has no result yet"

    log.tool_result("toolu_1")
    live.read(now=10.0)
    live.accumulator.poll(20.0)
    assert live.accumulator.needed_from() == {}
    assert live.accumulator.idle
    assert prompt_end < request_end


def test_a_waiting_subagent_holds_its_own_file(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    agent = log.agent("toolu_1", "Count apples")
    agent.answer(text("One."))
    agent.answer(text("Two."))
    live.read(now=0.0)

    needed = live.accumulator.needed_from()

    assert list(needed) == [log.agent_path(agent.id)]
    assert needed[log.agent_path(agent.id)] > 0


def test_an_early_result_holds_its_line(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    start = len(log.files()[log.path])
    log.tool_result("toolu_1", "early")
    live.read(now=0.0)

    assert live.accumulator.needed_from() == {log.path: start}

    live.accumulator.poll(QUIET_SECONDS)
    assert live.accumulator.needed_from() == {}


@pytest.mark.parametrize("kind", [Generation, ToolCall, ApiFailure, Compaction, Prompt])
def test_a_span_names_the_lines_it_rests_on(log: LogBuilder, kind: type[Any]) -> None:
    log.prompt("Count")
    log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "RESULT")
    log.compaction()
    log.permanent_error()
    data = log.files()[log.path]

    [span] = of(kind, spans(log.files()))

    lines = data[span.lines.start : span.lines.end]
    assert span.lines.file == log.path
    assert lines.endswith(b"\n")
    expected: dict[Any, bytes] = {
        Generation: b"I look.",
        ToolCall: b"RESULT",
        ApiFailure: b"isApiErrorMessage",
        Compaction: b"compact_boundary",
        Prompt: b"Count",
    }
    assert expected[kind] in lines


# ---------------------------------------------------------------------- properties of whole sessions


def busy_session(version: str = "2.1.329") -> LogBuilder:
    """Return a session in which everything happens at once, in three logs and two meta files."""
    log = LogBuilder(version=version, requests=True)
    log.prompt("Count the trees")
    answer = log.message(stop_reason="tool_use")
    answer.add(text("Two helpers."))
    answer.add(tool_use("Agent", {"prompt": "apples", "subagent_type": "gardener"}, id="toolu_1"))
    apples = log.agent("toolu_1", "apples", type="gardener")
    answer.add(tool_use("Bash", {"command": "ls"}, id="toolu_2"), last=True)
    apples.answer(tool_use("Agent", {"prompt": "pears", "subagent_type": "picker"}, id="toolu_3"))
    log.tool_result("toolu_2", "trees")
    pears = apples.agent("toolu_3", "pears", type="picker")
    pears.answer(text("Five pears."))
    apples.agent_result("toolu_3", pears, "Five pears.")
    apples.api_error()
    apples.answer(text("Three apples."))
    log.agent_result("toolu_1", apples, "Three apples.")
    log.title("Trees")
    log.compaction()
    log.answer(text("Eight."))
    log.turn_duration()
    log.prompt("Sure?")
    log.answer(text("Ye"), aborted=True)
    log.interrupted()
    log.prompt("Go on")
    log.permanent_error()
    log.cost_state()
    return log


VARIANTS = {version: busy_session(version) for version in ("2.0.76", "2.1.25", "2.1.72", "2.1.200", "2.1.329")}
GROUPINGS: tuple[Grouping, ...] = ("session", "message")
MODES: tuple[InputMode, ...] = ("delta", "full")


def bodies(found: Iterable[Span], modes: tuple[InputMode, ...] = MODES) -> Counter[bytes]:
    """Count the event bodies of *found*, in both groupings and with each of *modes*."""
    return Counter(body for span in found for body in _bodies(pickle.dumps(span), modes))


@cache
def _bodies(pickled: bytes, modes: tuple[InputMode, ...]) -> list[bytes]:
    """Return the event bodies of a span. Most examples come to the same spans, and building bodies takes longest."""
    span = pickle.loads(pickled)
    return [
        event.body
        for grouping in GROUPINGS
        for mode in modes
        for event in built([span], Attribution(distinct_id="ada@example.com", grouping=grouping, input_mode=mode))
    ]


@pytest.fixture(params=[False, True], ids=["what is new", "whole inputs"], scope="module")
def whole_inputs(request: pytest.FixtureRequest) -> bool:
    return request.param  # type: ignore[no-any-return]


@cache
def read_at_once(version: str, *, whole_inputs: bool = False) -> tuple[Span, ...]:
    """Return the spans of a variant that is read as a whole: many examples are compared with them."""
    return tuple(spans(VARIANTS[version].files(), whole_inputs=whole_inputs))


@cache
def bodies_read_at_once(version: str, *, whole_inputs: bool) -> Counter[bytes]:
    return bodies(read_at_once(version, whole_inputs=whole_inputs))


@pytest.mark.parametrize("version", VARIANTS)
def test_asking_for_whole_inputs_changes_nothing_else(version: str) -> None:
    files = VARIANTS[version].files()

    assert bodies(spans(files, whole_inputs=True), ("delta",)) == bodies(spans(files), ("delta",))


@pytest.mark.parametrize("version", VARIANTS)
@given(sizes=st.lists(st.integers(min_value=1, max_value=3000), min_size=1, max_size=5))
@settings(max_examples=15)
def test_the_sizes_of_reads_make_no_difference(version: str, whole_inputs: bool, sizes: list[int]) -> None:
    files = VARIANTS[version].files()

    found = spans(files, chunks=sizes, whole_inputs=whole_inputs)

    assert bodies(found) == bodies_read_at_once(version, whole_inputs=whole_inputs)


@pytest.mark.parametrize("version", VARIANTS)
@given(data=st.data())
@settings(max_examples=40)
def test_the_order_in_which_files_are_read_makes_no_difference(
    version: str, whole_inputs: bool, data: st.DataObject
) -> None:
    files = VARIANTS[version].files()
    slots = [name for name, content in files.items() for _ in content.splitlines()]
    # A byte for each: drawing a permutation costs more than reading the files.
    places = data.draw(st.binary(min_size=len(slots), max_size=len(slots)))
    order = [name for _, name in sorted(zip(places, slots, strict=True), key=lambda placed: placed[0])]

    found = spans(files, order=order, whole_inputs=whole_inputs)

    assert bodies(found) == bodies_read_at_once(version, whole_inputs=whole_inputs)


@pytest.mark.parametrize("version", VARIANTS)
@given(times=st.lists(st.floats(min_value=0, max_value=5000), max_size=6).map(sorted))
@settings(max_examples=25)
def test_what_time_finishes_is_what_the_end_would_have_finished(version: str, times: list[float]) -> None:
    log = VARIANTS[version]
    live = Live(log)

    found = live.read(now=0.0)
    for now in times:
        found += live.accumulator.poll(now)
    found += live.accumulator.end(times[-1] if times else 0.0)

    assert Counter(map(identity, found)) == Counter(map(identity, read_at_once(version)))


def flushes(told: list[Feed]) -> list[list[Feed]]:
    """Cut a file as Claude Code writes it: all lines of a message, and the lines between them, come together."""
    messages = [_message_id(feed) for feed in told]
    found: list[list[Feed]] = []
    until = 0
    for number, (feed, message) in enumerate(zip(told, messages, strict=True)):
        if number >= until:
            found.append([])
        found[-1].append(feed)
        if message is not None:
            until = max(until, len(messages) - messages[::-1].index(message))
    return found


def _message_id(feed: Feed) -> str | None:
    assert feed.line is not None
    assert feed.line.data is not None
    return (json.loads(feed.line.data).get("message") or {}).get("id")


@pytest.mark.parametrize("version", VARIANTS)
@given(data=st.data())
@settings(max_examples=25)
def test_reading_slowly_gives_the_same_spans_as_reading_at_once(
    version: str, whole_inputs: bool, data: st.DataObject
) -> None:
    """Flushes come seconds apart here, with polls between them, so traces may come more than once."""
    log = VARIANTS[version]
    accumulator = SessionAccumulator(log.session, whole_inputs=whole_inputs)
    files = log.files()
    left = {}
    found: list[Span] = []
    now = 0.0
    for name, content in files.items():
        if name.endswith(".meta.json"):
            found += feeds(name, content)[0].to(accumulator, now=now)
        else:
            left[name] = flushes(feeds(name, content, whole_inputs=whole_inputs))
    # A byte for each choice: drawing choice by choice costs more than reading the files.
    choices = 2 * sum(map(len, left.values()))
    chosen = iter(data.draw(st.binary(min_size=choices, max_size=choices)))
    while left:
        name = sorted(left)[next(chosen) % len(left)]
        for feed in left[name].pop(0):
            found += feed.to(accumulator, now=now)
        if not left[name]:
            del left[name]
        now += (0.0, 0.5, 2.0)[next(chosen) % 3]
        found += accumulator.poll(now)
    found += accumulator.end(now)

    def of_lines(every: Iterable[Span]) -> Counter[bytes]:
        return bodies(span for span in every if not isinstance(span, Trace))

    expected = read_at_once(version, whole_inputs=whole_inputs)
    assert of_lines(found) == of_lines(expected)
    assert {identity(span) for span in found} == {identity(span) for span in expected}


# ---------------------------------------------------------------------- no bytes do harm

LEVELS: tuple[ContentLevel, ...] = ("full", "no_tool_content", "metadata")
KEYS = st.sampled_from(
    sorted(
        {
            key
            for struct in vars(records).values()
            if hasattr(struct, "__struct_encode_fields__")
            for key in struct.__struct_encode_fields__
        }
        | {"source", "media_type", "data", "type", "command", "prompt", "subagent_type"}
    )
)
TYPES = st.sampled_from(
    [
        "user",
        "assistant",
        "system",
        "attachment",
        "api-request",
        "api-request-blob",
        "api-request-shape",
        "cost-state",
        "ai-title",
        "custom-title",
        "summary",
    ]
)
WORDS = st.sampled_from(
    [
        "",
        "a",
        "toolu_1",
        "msg_1",
        "text",
        "thinking",
        "tool_use",
        "tool_result",
        "image",
        "queued_command",
        "api_error",
        "compact_boundary",
        "turn_duration",
        "<synthetic>",
        "Agent",
        "Warmup",
        "<command-name>/x</command-name>",
        "<task-notification>",
        "[Request interrupted by user]",
        "2026-03-02T09:00:00.100Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999-23:59",
        "2.1.329",
        "2.1.24",
        "9" * 5000,
        "\ud800",
        "a\x00b",
        "\udfff\u2028",
        "\U0001f34e",
    ]
) | st.text(max_size=10)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(10**30)]) | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | WORDS, inner, max_size=5),
    max_leaves=12,
)
BLOCKS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "thinking", "tool_use", "tool_result", "image", "server_tool_use"]) | VALUES},
        optional={
            "id": st.sampled_from(["toolu_1", "toolu_2"]) | VALUES,
            "tool_use_id": st.sampled_from(["toolu_1", "toolu_2"]) | VALUES,
            "name": st.sampled_from(["Bash", "Agent", "mcp__a__b", "mcp__"]) | VALUES,
            "text": VALUES,
            "input": VALUES,
            "content": VALUES,
            "is_error": VALUES,
            "source": VALUES,
        },
    ),
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["msg_1", "msg_2"]) | VALUES,
        "role": VALUES,
        "model": st.sampled_from(["claude-opus-5-5", "<synthetic>"]) | VALUES,
        "content": BLOCKS | WORDS | VALUES,
        "stop_reason": VALUES,
        "stop_details": VALUES,
        "usage": st.dictionaries(KEYS, VALUES, max_size=6) | VALUES,
    },
)
LINES = st.builds(
    lambda kind, message, fields: {**fields, "type": kind, "message": message},
    TYPES,
    MESSAGES | VALUES,
    st.dictionaries(KEYS.filter(lambda key: key not in ("type", "message")), VALUES, max_size=8),
)


def harmless(lines: Iterable[tuple[bytes, str | None]]) -> None:
    """Feed whatever decodes, end the session, and build every event at every level."""
    accumulator = SessionAccumulator("s1", whole_inputs=True)
    found: list[Span] = []
    position = 0
    for number, (line, agent) in enumerate(lines):
        try:
            record = records.decode(line, requests=True)
        except RecordError:
            continue
        place = LineRange(file=agent or "main", start=position, end=position + len(line) + 1)
        position = place.end
        found += accumulator.feed(record, place, agent=agent, now=float(number))
        found += accumulator.poll(float(number))
    found += accumulator.end(1e6)
    assert accumulator.needed_from() == {}
    for span in found:
        _is_built_clean(pickle.dumps(span))


@cache
def _is_built_clean(pickled: bytes) -> None:
    """Build every event of a span, once for all examples: most of what they come to has no damage."""
    attributions = (
        Attribution(distinct_id="ada", grouping=grouping, policy=Policy(level=level), input_mode=mode)
        for level in LEVELS
        for grouping in GROUPINGS
        for mode in MODES
    )
    span = pickle.loads(pickled)
    for body in {event.body for attribution in attributions for event in built([span], attribution)}:
        is_clean(body)


def is_clean(data: bytes) -> None:
    """Check that *data* is JSON in which every string is valid UTF-8."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    # Python limits the digits of a number, JSON does not.
    value = json.loads(data.decode(), parse_constant=refuse, parse_int=float)
    written = json.dumps(value, ensure_ascii=False)
    assert "\\u0000" not in written.replace("\\\\", "")
    written.encode()


AGENTS = st.sampled_from([None, None, "a1", "a2"])


def log_lines() -> list[tuple[bytes, str | None]]:
    log = busy_session()
    found = []
    for name, data in log.files().items():
        if not name.endswith(".json"):
            agent = name.rpartition("agent-")[2].removesuffix(".jsonl") if "subagents" in name else None
            found += [(line, agent) for line in data.splitlines()]
    return found


GOOD_LINES = log_lines()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a JSON value where another value can be put: a container with a key or index."""
    inside = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, key) for key, _ in inside] + [place for _, item in inside for place in places(item)]


@st.composite
def reshaped_logs(draw: st.DrawFn) -> list[tuple[bytes, str | None]]:
    """Return the lines of a good log with some values replaced by others of any shape."""
    lines = [(json.loads(line), agent) for line, agent in GOOD_LINES]
    for _ in range(draw(st.integers(min_value=1, max_value=6))):
        line, _ = draw(st.sampled_from(lines))
        container, key = draw(st.sampled_from(places(line)))
        container[key] = draw(VALUES)
    return [(json.dumps(line).encode(), agent) for line, agent in lines]


@given(reshaped_logs())
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
def test_values_of_any_shape_in_good_lines_do_no_harm(lines: list[tuple[bytes, str | None]]) -> None:
    harmless(lines)


@given(st.lists(st.tuples(LINES.map(lambda line: json.dumps(line).encode()), AGENTS), max_size=4))
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@example([(b'{"type":"assistant","message":{"content":[],"usage":{"x":1e999}},"uuid":"\\ud800"}', None)])
@example(
    [(b'{"type":"system","subtype":"compact_boundary","compactMetadata":{"durationMs":1%s}}' % (b"0" * 400), None)]
)
def test_lines_of_any_shape_do_no_harm(lines: list[tuple[bytes, str | None]]) -> None:
    harmless(lines)


SPOILERS = st.sampled_from(
    [
        b"\x00",
        b"\xff",
        b"\\ud800",
        b"\\u0000",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-",
        b"{",
        b"}",
        b"[",
        b'"',
        b"\\",
        b",",
        b"null",
        b'"type":{},',
        b"1" * 400,
        b"1" * 5000,
        b"[" * 700,
        b"]" * 700,
        b"[" * 400 + b"]" * 400,
        b"[" * 50_000,
    ]
)


@st.composite
def spoiled_logs(draw: st.DrawFn) -> list[tuple[bytes, str | None]]:
    """Return the lines of a good log with some bytes inserted, removed and overwritten."""
    lines = list(GOOD_LINES)
    for _ in range(draw(st.integers(min_value=1, max_value=4))):
        number = draw(st.integers(min_value=0, max_value=len(lines) - 1))
        line, agent = lines[number]
        # After a colon, a spoiler usually replaces a whole value.
        colons = [place + 1 for place, byte in enumerate(line) if byte == ord(":")]
        start = draw(st.sampled_from(colons) if colons else st.just(0))
        ends = [place for place in range(start, len(line)) if line[place : place + 1] in (b",", b"}")]
        end = draw(st.sampled_from(ends[:2] or [start]) | st.integers(min_value=start, max_value=len(line)))
        lines[number] = (line[:start] + draw(SPOILERS) + line[end:], agent)
    return lines


@given(spoiled_logs())
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
def test_spoiled_lines_do_no_harm(lines: list[tuple[bytes, str | None]]) -> None:
    harmless(lines)


@given(st.permutations(GOOD_LINES), st.integers(min_value=0, max_value=len(GOOD_LINES)))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_lines_in_any_order_or_missing_do_no_harm(lines: list[tuple[bytes, str | None]], count: int) -> None:
    harmless(lines[:count])


@pytest.mark.parametrize("depth", [50, 300, 450, 490, 600, 900, 990, 5000])
@pytest.mark.parametrize("place", ["input", "content", "text", "usage", "thinking", "toolUseResult"])
def test_nesting_of_any_depth_does_no_harm(depth: int, place: str) -> None:
    log = LogBuilder()
    log.api_request(thinking={"here": "@thinking@"})
    log.prompt([text("Count"), {"type": "text", "text": "@text@"}])
    log.answer(tool_use("Bash", {"x": "@input@"}, id="toolu_1"), counts=usage(x="@usage@"))
    log.tool_result("toolu_1", {"x": "@content@"}, noted={"x": "@toolUseResult@"})
    deep = b"[" * depth + b"]" * depth
    data = log.files()[log.path].replace(f'"@{place}@"'.encode(), deep)
    assert deep in data

    harmless((line, None) for line in data.splitlines())


def test_a_version_of_many_digits_is_no_harm(log: LogBuilder) -> None:
    log.prompt("Count")
    log.answer(text("Two."), cut=True, version="9" * 5000)

    harmless((line, None) for line in log.files()[log.path].splitlines())


def test_a_long_prompt_full_of_opened_wrappers_takes_no_time(log: LogBuilder) -> None:
    # A search of the whole text for each tag would take minutes.
    log.prompt("<command-name><bash-input>" * 20_000)
    log.answer(text("Two."))
    before = time.process_time()

    found = spans(log.files())

    assert len(of(Generation, found)) == 1
    assert time.process_time() - before < 5


def test_a_compaction_that_the_user_asks_for_belongs_to_no_closed_turn(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    log.turn_duration()
    found = live.read(now=0.0)
    for now in (SETTLE_SECONDS, SETTLE_SECONDS * 2):
        found += live.accumulator.poll(now)
    assert [turn.name for turn in turns(found)] == ["Count"]

    log.compaction(trigger="manual")
    log.command("/compact")
    found += live.read(now=10.0) + live.accumulator.poll(20.0)
    log.prompt("Go on")
    log.answer(text("Two."))
    found += live.read(now=30.0) + live.accumulator.end(40.0)

    assert [(turn.name, turn.generations, turn.compactions) for turn in turns(found)] == [
        ("Count", 1, 0),
        ("/compact", 0, 1),
        ("Go on", 1, 0),
    ]
    assert bodies(turns(found), ("delta",)) == bodies(turns(spans(log.files())), ("delta",))


# ---------------------------------------------------------------------- what starts a subagent


def _in_run(log: LogBuilder, agent: AgentLog, run: str) -> None:
    """Put a subagent's log where the client puts those of a workflow's run."""
    log.place(agent, log.agent_path(agent.id).replace("/subagents/", f"/subagents/workflows/{run}/"))


@pytest.mark.parametrize("folder", ["wf_1", "wf_1/round-2", "wf_1/workflows/nested", "2026/wf_1/a/b"])
def test_a_subagent_of_a_workflow_belongs_to_the_call_that_a_folder_of_it_is_named_by(
    log: LogBuilder, folder: str
) -> None:
    log.prompt("Audit the orchard")
    log.answer(tool_use("Workflow", {"name": "audit"}, id="toolu_0"), stop_reason="tool_use")
    log.tool_result("toolu_0", "launched", noted={"status": "async_launched", "runId": "wf_0"})
    log.answer(tool_use("Workflow", {"script": "x"}, id="toolu_1"), stop_reason="tool_use")
    log.tool_result("toolu_1", "launched", noted={"status": "async_launched", "runId": "wf_1"})
    agent = log.agent("toolu_none", "Look at the first tree", meta=False)
    _in_run(log, agent, folder)
    agent.answer(text("Healthy."))

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_1"


def test_a_subagent_in_a_deeper_folder_that_no_workflow_started_belongs_to_the_call_with_its_prompt(
    log: LogBuilder,
) -> None:
    log.prompt("Audit the orchard")
    log.answer(tool_use("Agent", {"prompt": "Look at the first tree"}, id="toolu_1"), stop_reason="tool_use")
    agent = log.agent("", "Look at the first tree", meta=False)
    _in_run(log, agent, "first")
    agent.answer(text("Healthy."))

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_1"


@pytest.mark.parametrize("meta", [{"agentType": "scout"}, {"agentType": "general-purpose", "name": "scout"}])
def test_a_teammate_belongs_to_the_call_that_gave_it_its_name(log: LogBuilder, meta: dict[str, str]) -> None:
    log.prompt("Make a team")
    for number, name in enumerate(("guard", "scout")):
        call = f"toolu_{number}"
        log.answer(tool_use("Agent", {"name": name, "prompt": "Count"}, id=call), stop_reason="tool_use")
        log.tool_result(call, "Spawned", noted={"status": "teammate_spawned", "teammate_id": f"{name}@orchard"})
    agent = log.agent("toolu_1", '<teammate-message teammate_id="lead">\nOther words\n</teammate-message>')
    log.metas[agent.id] = meta
    agent.answer(text("Three."))

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_1"


def test_a_teammate_without_a_name_belongs_to_the_call_with_the_prompt_in_its_message(log: LogBuilder) -> None:
    log.prompt("Make a team")
    log.answer(tool_use("Agent", {"prompt": "Water"}, id="toolu_0"), stop_reason="tool_use")
    log.answer(tool_use("Agent", {"prompt": "Count"}, id="toolu_1"), stop_reason="tool_use")
    agent = log.agent("", '<teammate-message teammate_id="lead" summary="x">\nCount\n</teammate-message>', meta=False)
    agent.answer(text("Three."))

    [sub] = [g for g in of(Generation, spans(log.files())) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_1"


def test_a_skill_with_a_context_of_its_own_starts_a_subagent(log: LogBuilder, live: Live) -> None:
    log.prompt("Greet")
    log.answer(tool_use("Skill", {"skill": "garden:greet", "args": "x"}, id="toolu_1"), stop_reason="tool_use")
    agent = log.agent("", "Base directory for this skill: /home/ada/skills/greet\n\nGreet x", meta=False)
    agent.line(0)["isMeta"] = True
    agent.answer(text("Hello."))
    agent.answer(text("Again."))

    [sub] = [g for g in of(Generation, live.read()) if g.context.is_subagent]

    assert sub.context.parent_call == "toolu_1"
    assert [message.origin for message in sub.input] == ["agent_prompt"]


def test_a_skill_waits_for_the_result_that_names_it_while_its_call_is_open(log: LogBuilder, live: Live) -> None:
    log.prompt("Greet")
    log.answer(tool_use("Skill", {"skill": "greet"}, id="toolu_1"), stop_reason="tool_use")
    agent = log.agent("", "Be friendly", meta=False)
    agent.answer(text("Hello."))
    live.read(now=0.0)
    assert of(Generation, live.accumulator.poll(SETTLE_SECONDS * 2))[1:] == []
    assert live.accumulator.due() == QUIET_SECONDS

    log.tool_result("toolu_1", "Hello.", noted={"status": "forked", "agentId": agent.id})
    found = live.read(now=SETTLE_SECONDS * 3)

    assert [g.context.parent_call for g in of(Generation, found)] == ["toolu_1"]


def test_a_subagent_that_no_call_can_have_started_goes_at_once(log: LogBuilder, live: Live) -> None:
    log.prompt("Count")
    log.answer(text("One."))
    agent = log.agent("", "Suggest what to ask next", meta=False)
    agent.answer(text("Count pears?"))
    live.read(now=0.0)
    live.accumulator.poll(SETTLE_SECONDS)

    [sub] = of(Generation, live.accumulator.poll(SETTLE_SECONDS * 2))

    assert (sub.context.is_subagent, sub.context.parent_call) == (True, None)


@pytest.mark.parametrize("order", ["agent first", "main first"])
def test_a_fork_begins_with_its_own_first_text(log: LogBuilder, order: str) -> None:
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use", counts=usage(9, 57))
    answer.add(text("I fork myself."))
    answer.add(tool_use("Agent", {"prompt": "as a fork", "subagent_type": "fork"}, id="toolu_1"), last=True)
    agent = log.agent("toolu_1", "", type="fork", meta=False)
    inherited = {**log.line(-1), "parentUuid": None, "isSidechain": True, "agentId": agent.id}
    inherited["message"] = {**inherited["message"], "stop_reason": None, "usage": usage(9, 3)}
    directive = agent.line(0)
    directive["message"]["content"] = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Fork started"},
        text("<fork-boilerplate>\nRules\n</fork-boilerplate>\n\nYour directive: as a fork"),
    ]
    reference = {"type": "fork-context-ref", "agentId": agent.id, "contextLength": 14}
    agent.lines[:] = [reference, inherited, directive]
    agent.answer(text("One."))
    log.tool_result("toolu_1", "One.", noted={"status": "completed", "agentId": agent.id})

    names = [log.agent_path(agent.id)] * 4 if order == "agent first" else []
    found = spans(log.files(), order=names)

    main, sub = sorted(of(Generation, found), key=lambda g: g.context.is_subagent)
    assert main.usage is not None
    assert (main.usage.output, len(main.output), main.tools_called) == (57, 2, ("Agent",))
    assert (sub.context.parent_call, sub.context.agent) == ("toolu_1", "fork")
    [call] = of(ToolCall, found)
    assert (call.generation, call.status) == (main.identity, "ok")


def test_a_turn_waits_for_the_last_line_of_a_subagent_whose_meta_file_says_that_it_has_finished(
    log: LogBuilder, live: Live
) -> None:
    log.prompt("Count")
    log.answer(tool_use("Agent", {"prompt": "Look"}, id="toolu_1"), stop_reason="tool_use")
    agent = log.agent("toolu_1", "Look")
    log.tool_result("toolu_1", "started", noted={"isAsync": True, "agentId": agent.id})
    log.answer(text("It runs."))
    log.turn_duration()
    agent.answer(tool_use("Bash", id="toolu_2"), stop_reason="tool_use")
    agent.tool_result("toolu_2", "1")
    agent.finish()
    live.read(now=0.0)
    assert turns(live.accumulator.poll(2.0)) == []

    agent.answer(text("One."))
    live.read(now=2.5)

    [turn] = turns(live.accumulator.poll(4.0))
    assert turn.generations == 4


# ---------------------------------------------------------------------- ids that come again


def test_one_message_id_for_answers_to_several_requests_is_several_generations(log: LogBuilder) -> None:
    for number in range(3):
        log.prompt(f"Question {number}")
        log.answer(text(f"Answer {number}"), id="1", counts=usage(10, number + 1))
        log.line()["requestId"] = f"req_{number}"

    found = of(Generation, spans(log.files()))

    assert [g.identity for g in found] == ["1", "1|req_1", "1|req_2"]
    assert [g.usage.output for g in found if g.usage is not None] == [1, 2, 3]


@pytest.mark.parametrize("between", ["prompt", "result"])
def test_one_message_id_without_request_ids_is_several_generations_if_something_is_between_them(
    log: LogBuilder, between: str
) -> None:
    log.prompt("Question")
    log.answer(tool_use("Bash", id="toolu_0"), id="1", stop_reason="tool_use", counts=usage(10, 1))
    del log.line()["requestId"]
    log.tool_result("toolu_0")
    if between == "prompt":
        log.prompt("Go on")
    log.answer(text("Done."), id="1", counts=usage(20, 2))
    del log.line()["requestId"]

    found = of(Generation, spans(log.files()))

    assert [g.identity for g in found] == ["1", f"1|{log.line()['uuid']}"]


def test_a_result_between_the_lines_of_a_message_without_a_request_id_ends_it_not(log: LogBuilder) -> None:
    log.prompt("Question")
    answer = log.message(stop_reason="tool_use", counts=usage(10, 4))
    answer.add(tool_use("Bash", id="toolu_0"))
    log.tool_result("toolu_0")
    answer.add(tool_use("Bash", {"command": "ls"}, id="toolu_1"), last=True)
    log.tool_result("toolu_1")
    for line in log.lines:
        if isinstance(line, dict):
            line.pop("requestId", None)

    [found] = of(Generation, spans(log.files()))

    assert found.tools_called == ("Bash", "Bash")


def test_a_tool_id_that_comes_again_in_a_later_message_is_another_call(log: LogBuilder) -> None:
    messages = []
    for number in range(3):
        log.prompt(f"Question {number}")
        messages.append(log.answer(tool_use("Bash", {"n": number}, id="call_0"), stop_reason="tool_use"))
        log.tool_result("call_0", f"result {number}")
        log.answer(text("Done."))

    found = of(ToolCall, spans(log.files()))

    assert [call.call_id for call in found] == ["call_0", f"call_0|{messages[1]}", f"call_0|{messages[2]}"]
    assert [call.generation for call in found] == messages
    assert [call.output for call in found] == [b'"result 0"', b'"result 1"', b'"result 2"']


def test_a_call_that_ran_when_the_client_was_killed_was_interrupted_and_took_no_known_time(log: LogBuilder) -> None:
    log.prompt("Sleep")
    log.answer(tool_use("Bash", id="toolu_1"), stop_reason="tool_use")
    log.tool_result("toolu_1", "[Tool call interrupted]", error=True, toolDenialKind="interrupted")
    log.prompt("Again")

    [call] = of(ToolCall, spans(log.files()))

    assert (call.status, call.ended_at) == ("interrupted", None)
    assert call.output == b'"[Tool call interrupted]"'


def test_a_scheduled_prompt_is_a_turn_of_its_own(log: LogBuilder) -> None:
    log.prompt("Check every hour")
    log.answer(text("It is set."))
    scheduled = log.prompt("The check")
    log.line().update({"isMeta": True, "promptSource": "system", "turnOrigin": "scheduled"})
    log.answer(text("All is well."))

    found = spans(log.files())

    assert [g.context.turn.id for g in of(Generation, found)][1] == scheduled
    assert [(turn.generations, turn.name) for turn in turns(found)] == [(1, "Check every hour"), (1, "The check")]


def test_two_terminals_on_one_session_give_each_answer_whole(log: LogBuilder) -> None:
    log.prompt("From one")
    above = log.line()["uuid"]
    first = log.message(stop_reason="tool_use", counts=usage(10, 40))
    first.add(text("X begins."))
    x = log.line()["uuid"]
    log.prompt("From two")
    log.line()["parentUuid"] = above
    second = log.message(stop_reason="end_turn", counts=usage(20, 50))
    second.add(text("Y begins."))
    first.add(tool_use("Bash", id="toolu_x"), last=True)
    log.line()["parentUuid"] = x
    second.add(text("Y ends."), last=True)

    found = spans(log.files())

    assert sorted(len(g.output) for g in of(Generation, found)) == [2, 2]
    assert sorted((g.usage.output, g.output_partial) for g in of(Generation, found) if g.usage is not None) == [
        (40, False),
        (50, False),
    ]
    assert [call.call_id for call in of(ToolCall, found)] == ["toolu_x"]
