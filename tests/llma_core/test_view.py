from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from llma_core import events
from llma_core.privacy import ContentLevel, Policy
from llma_core.properties import Attribution
from llma_core.spans import OpeningTrace, Prompt, SessionFacts, Trace
from llma_core.view import EventView, PromptView, prompt, read, words
from tests.support.logs import LogBuilder, text, tool_use, usage
from tests.support.sessions import built, spans

ADA = Attribution(distinct_id="ada@example.com")


@pytest.fixture
def log() -> LogBuilder:
    log = LogBuilder()
    log.prompt("Count the apple trees")
    return log


def test_an_event_reads_back(log: LogBuilder) -> None:
    message = log.answer(tool_use("Bash", id="toolu_1"), counts=usage(9, 777, cache_read=5, cache_5m=2, cache_1h=1))
    log.tool_result("toolu_1", "no", error=True)

    views = {each.kind: each for each in (read(event.body) for event in built(spans(log.files())))}

    generation, span, whole = views["generation"], views["span"], views["trace"]
    assert (generation.span_id, generation.parent_id, generation.label) == (message, log.session, "claude-opus-5-5")
    assert (generation.input_tokens, generation.output_tokens) == (9, 777)
    assert (generation.cache_read_tokens, generation.cache_write_tokens) == (5, 3)
    assert (generation.stop_reason, generation.is_error, generation.error) == ("tool_use", False, None)
    assert (generation.project, generation.agent, generation.session_id) == ("orchard", "claude-code", log.session)
    assert (span.label, span.span_type, span.status, span.is_error, span.error) == ("Bash", "tool", "error", True, "no")
    assert span.latency == pytest.approx(0.1)
    assert (whole.label, whole.trace_id, whole.parent_id) == ("Count the apple trees", log.session, None)
    assert whole.timestamp == generation.timestamp


def test_an_event_of_another_kind_reads_back_as_far_as_it_goes() -> None:
    view = read(b'{"event":"$pageview","properties":{"$ai_model":"m"}}')

    assert (view.kind, view.name, view.label, view.timestamp, view.trace_id) == ("other", "$pageview", "", "", "")
    assert isinstance(view, EventView)


def test_what_a_caller_may_set_to_any_value_is_shown_as_text() -> None:
    body = b'{"event":"$ai_span","properties":{"$ai_project_name":7,"$ai_agent_name":["a"],"$ai_git_branch":"main"}}'
    found = read(body)
    assert (found.project, found.agent, found.branch) == ("7", '["a"]', "main")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"properties":5}'])
def test_what_is_no_event_does_not_read_back(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read(data)


# ---------------------------------------------------------------------- prompts and words


def shown_of(log: LogBuilder, level: ContentLevel) -> tuple[list[PromptView], list[str]]:
    attribution = replace(ADA, policy=Policy(level=level))
    found = spans(log.files())
    asked = [prompt(span, attribution) for span in found if isinstance(span, Prompt)]
    said = [
        words(events.build(each, attribution, name="it").body)
        for each in found
        if not isinstance(each, Prompt | OpeningTrace | Trace | SessionFacts)
    ]
    return asked, said


def test_calls_that_are_not_logged_are_told_by_their_name() -> None:
    log = LogBuilder()
    log.prompt("Count")
    log.cost_state(added=0, removed=0, models={"claude-haiku-4-5": [3, 7, 5, 0]})

    assert shown_of(log, "full")[1] == ["side calls"]
    assert shown_of(log, "metadata")[1] == ["side calls"]


def test_a_prompt_is_told_as_the_events_of_its_turn_tell_it() -> None:
    log = LogBuilder(cwd="/home/ada/orchard")
    log.prompt("Count the trees, password=hunter2hunter2")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls trees", "description": "Look"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "oak")
    log.answer(tool_use("Nothing", {"deep": {"er": "words"}, "number": 1}, id="toolu_nothing"))

    [asked], said = shown_of(log, "full")
    assert asked.session_id == log.session
    assert asked.project == "orchard"
    assert asked.timestamp.endswith("Z")
    assert asked.words is not None
    assert asked.words.startswith("Count the trees, password=[REDACTED:")
    assert sorted(filter(None, said)) == ["I look.", "ls trees"]

    [asked], said = shown_of(log, "no_tool_content")
    assert asked.words is not None
    assert list(filter(None, said)) == ["I look."]

    [asked], said = shown_of(log, "metadata")
    assert (asked.words, asked.project) == (None, "orchard")
    assert list(filter(None, said)) == []
