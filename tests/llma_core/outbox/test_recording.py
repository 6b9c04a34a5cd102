"""What comes of recorded lines: which properties their events have, and what of them leaves at which level."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.agent import UnknownRecord
from llma_core.errors import RecordError
from llma_core.outbox import lines as formats
from llma_core.outbox.agent import OUTBOX
from llma_core.privacy import ContentLevel, Policy
from llma_core.properties import Attribution
from llma_core.spans import Recorded
from tests.support.each import for_each
from tests.support.outbox import EVERYTHING, Json, line, process, spans, uuid
from tests.support.sessions import body, built

ADA = Attribution(distinct_id="ada@example.com")
PICTURE = base64.b64encode(bytes(range(256)) + bytes(range(255, -1, -1)) + bytes(range(88))).decode()
SCHEMA = Path(__file__).parents[3] / "recorder" / "llma_recorder" / "line.schema.json"


def events(data: bytes, attribution: Attribution = ADA, level: ContentLevel = "full") -> list[Json]:
    attribution = replace(attribution, policy=Policy(level=level))
    return [body(event) for event in built(spans(data), attribution)]


def event(kind: str, level: ContentLevel = "full", attribution: Attribution = ADA, **fields: Any) -> Json:
    [found] = events(line(kind, 1, **fields), attribution, level)
    return found


def properties(kind: str, level: ContentLevel = "full", **fields: Any) -> Json:
    return dict(event(kind, level, **fields)["properties"])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(0, len(EVERYTHING)))
def test_lines_cut_anywhere_give_the_same_events_in_any_chunks(chunks: list[int], end: int) -> None:
    whole = EVERYTHING[:end]

    found = [each.identity for each in spans(whole, chunks=chunks) if isinstance(each, Recorded)]

    assert spans(whole, chunks=chunks) == spans(whole)
    # The first line is the process; of what was cut, nothing counts.
    assert found == [uuid(number) for number in range(1, whole.count(b"\n"))]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_or_a_record_error(data: bytes) -> None:
    for each in (data, line("generation", 1)[:-20] + data):
        with suppress(RecordError):
            OUTBOX.decoder()(each)
        OUTBOX.glance(each)
        OUTBOX.origin(each)


def test_the_daemon_knows_every_field_of_the_schema() -> None:
    parts = json.loads(SCHEMA.read_text("utf-8"))["$defs"]
    common = {"v", "type", "uuid", "at", *parts["common"]["properties"]}
    for kind in ("process", "session", *formats.RECORDED):
        fields = {*parts[kind]["properties"], *(() if kind == "process" else common)}
        struct = {"process": formats.ProcessLine, "session": formats.SessionLine}.get(kind, formats.EventLine)
        assert fields <= {*struct.__struct_fields__}, kind
    for part, known in (("cost", formats.CostLine), ("error", formats.ErrorLine), ("usage", formats.UsageLine)):
        assert parts[part]["properties"].keys() == {*known.__struct_fields__}
    assert parts["trace"]["properties"]["totals"]["properties"].keys() == {*formats.TotalsLine.__struct_fields__}


def test_a_line_without_a_trace_is_one_of_its_own_and_nobody_is_made_up() -> None:
    nobody = replace(ADA, distinct_id="recorder:4711-1-1", identified=False)

    alone = event("generation", attribution=nobody)
    named = event("generation", attribution=nobody, distinct_id="bea")

    assert (alone["distinct_id"], alone["properties"]["$ai_trace_id"]) == (uuid(1), uuid(1))
    assert alone["properties"]["$process_person_profile"] is False
    assert "$ai_session_id" not in alone["properties"]
    assert named["distinct_id"] == "bea"
    assert "$process_person_profile" not in named["properties"]


def test_what_failed_has_no_token_counts() -> None:
    found = properties("generation", error={"type": "Timeout"}, usage={"input_tokens": 9, "output_tokens": 0})

    assert (found["$ai_is_error"], found["$ai_error_type"]) == (True, "Timeout")
    assert not [name for name in found if "tokens" in name]
    assert properties("embedding", error={})["$ai_is_error"] is True


@for_each(
    "block, shown",
    [
        ({"audio": {"id": "a", "data": PICTURE, "transcript": "hello"}}, "[600 bytes]"),
        ({"content": [{"type": "image_generation_call", "result": PICTURE}]}, "[600 bytes]"),
        ({"content": [{"type": "reasoning", "encrypted_content": PICTURE}]}, "[600 bytes]"),
        ({"content": [{"inline_data": {"mime_type": "image/png", "data": PICTURE}}]}, "[image/png 600 bytes]"),
        ({"parts": [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]}, "[image/png 600 bytes]"),
        ({"content": [{"image": {"format": "png", "source": {"bytes": PICTURE}}}]}, "[600 bytes]"),
        ({"content": [{"type": "image", "source": {"type": "base64", "data": PICTURE}}]}, "[image 600 bytes]"),
        ({"data": [{"b64_json": PICTURE}]}, "[600 bytes]"),
        ({"content": [{"file": {"file_data": f"data:text/csv;base64,{PICTURE}"}}]}, "[text/csv 600 bytes]"),
        ({"content": [{"input_audio": {"data": PICTURE, "format": "wav"}}]}, "[600 bytes]"),
        ({"images": [PICTURE]}, "[600 bytes]"),
        ({"content": [{"type": "media", "mediaType": "image/png", "data": PICTURE}]}, "image/png 600 bytes]"),
        ({"content": [{"type": "blob", "blob": PICTURE}]}, "[600 bytes]"),
        ({"content": [{"type": "media", "mime_type": "video/mp4", "data": PICTURE}]}, "video/mp4 600 bytes]"),
        ({"content": [{"type": "video", "source": {"type": "base64", "data": PICTURE}}]}, "600 bytes]"),
        ({"content": [{"type": "document", "data": PICTURE}]}, "600 bytes]"),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": PICTURE}]}, "[600 bytes]"),
        ({"content": [{"type": "resource", "resource": {"blob": PICTURE}}]}, "[600 bytes]"),
        ({"content": [{"type": "resource", "resource": {"uri": "a", "blob": PICTURE}}]}, "[blob 600 bytes]"),
    ],
)
def test_media_leave_as_their_size_whoever_the_provider_is(block: Json, shown: str) -> None:
    found = properties("generation", input=[{"role": "user", **block}], output=[{"role": "assistant", **block}])
    tool = properties("span", input=block, output=[block])

    for name, holder in (("$ai_input", found), ("$ai_output_choices", found), ("$ai_input_state", tool)):
        text = json.dumps(holder[name])
        assert PICTURE not in text
        assert shown in text, text


def test_text_is_no_media_whatever_it_looks_like() -> None:
    found = properties("generation", input=PICTURE, output=[{"role": "assistant", "content": PICTURE}])

    assert found["$ai_input"] == [{"role": "user", "content": PICTURE}]
    assert found["$ai_output_choices"] == [{"role": "assistant", "content": PICTURE}]
    assert properties("span", input={"genome": "ACGT" * 200})["$ai_input_state"] == {"genome": "ACGT" * 200}
    rows = {"format": "csv", "data": ["a", "b"]}
    assert properties("span", input=rows)["$ai_input_state"] == rows
    call = {"id": PICTURE, "type": "function", "function": {"name": "count", "arguments": "{}"}}
    assert properties("generation", output=[{"tool_calls": [call]}])["$ai_output_choices"][0]["tool_calls"] == [call]
    # Looking at it takes no longer for each line end that follows another.
    log = {"log": f"Step1{chr(10) * 300_000}."}
    assert "Step1" in properties("span", input=log)["$ai_input_state"]["log"]


def test_the_callers_cost_is_kept_also_when_it_is_nothing() -> None:
    given: list[tuple[Json, float]] = [({"total_usd": 0}, 0), ({"input_usd": 1, "output_usd": 0.5}, 1.5)]
    for cost, total in given:
        found = properties("generation", cost=cost, usage={"input_tokens": 9})
        assert (found["$ai_total_cost_usd"], found["$ai_cost_passthrough"]) == (total, True)
    useless: list[Json] = [{}, {"total_usd": -1}, {"total_usd": "2"}, {"input_usd": 1}]
    for cost in useless:
        assert "$ai_cost_passthrough" not in properties("generation", cost=cost), cost


def test_a_callers_property_may_not_take_the_place_of_one_of_ours() -> None:
    own = {"$ai_model": "x", "recorder_trace": 1, "claude_code_skill": 1, "$lib": "x", "team": "a", "$ai_purpose": "b"}
    settings = replace(ADA, properties={"team": "z", "floor": 1})

    found = event("span", attribution=settings, properties=own, groups={"company": "orchard"})["properties"]

    assert (found["team"], found["$ai_purpose"], found["floor"]) == ("a", "b", 1)
    assert found["$groups"] == {"company": "orchard"}
    assert found["$lib"] == "posthog-llma-daemon"
    assert not {"$ai_model", "recorder_trace", "claude_code_skill"} & found.keys()


TALK = "TALKWORD"
TOOL = "TOOLWORD"
MEDIA = "QUJD" * 30
CONTENT: dict[str, tuple[str, Json]] = {
    "text": ("generation", {"input": f"{TALK}1", "output": f"{TALK}2"}),
    "openai": ("generation", {
        "input": [
            {"role": "system", "content": f"{TALK}1"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "count", "arguments": f'{{"of": "{TOOL}1"}}'}}]},
            {"role": "tool", "tool_call_id": "c", "content": f"{TOOL}2"},
            {"role": "user", "content": [
                {"type": "text", "text": f"{TALK}2"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{MEDIA}"}},
                {"type": "input_audio", "input_audio": {"data": MEDIA, "format": "wav"}},
                {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{MEDIA}"}}]}],
        "output": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": f"{TALK}3", "reasoning_content": f"{TALK}4",
            "function_call": {"name": "old", "arguments": f"{TOOL}3"}}}]}),
    "responses": ("generation", {
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"{TALK}1"}]},
                  {"type": "function_call_output", "call_id": "c", "output": f"{TOOL}1"}],
        "output": [
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": f"{TALK}2"}]},
            {"type": "function_call", "name": "count", "call_id": "d", "arguments": f"{TOOL}2"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"{TALK}3"}]}]}),
    "anthropic": ("generation", {
        "input": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": f"{TOOL}1"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": MEDIA}}]}],
        "output": [{"type": "thinking", "thinking": f"{TALK}1", "signature": "SIGNATURE"},
                   {"type": "tool_use", "id": "t", "name": "count", "input": {"of": f"{TOOL}2"}}]}),
    "embedding": ("embedding", {"input": [f"{TALK}1"]}),
    "span": ("span", {"input": {"of": f"{TOOL}1"}, "output": f"{TOOL}2", "error": {"message": f"{TOOL}3"}}),
    "trace": ("trace", {"name": f"{TALK}1 of it", "input": [{"role": "user", "content": f"{TALK}2"}],
                        "output": f"{TALK}3", "error": {"message": f"{TALK}4"}}),
    "feedback": ("feedback", {"feedback": "helpful", "value": f"{TALK}1 x", "text": f"{TALK}2"}),
    "metric": ("metric", {"metric": f"{TALK}1 x", "value": f"{TALK}2 x"}),
    "parameters": ("generation", {"model_parameters": {"metadata": {"of": f"{TOOL}1"}, "stop": [f"{TOOL}2"], "n": 1}}),
}  # fmt: skip


@for_each("name", list(CONTENT))
def test_content_leaves_as_far_as_the_level_allows(name: str) -> None:
    kind, fields = CONTENT[name]
    said = json.dumps(fields)
    talk = {f"{TALK}{number}" for number in range(1, 5) if f"{TALK}{number}" in said}
    tool = {f"{TOOL}{number}" for number in range(1, 4) if f"{TOOL}{number}" in said}

    def leaving(level: ContentLevel, **more: Any) -> set[str]:
        text = json.dumps(event(kind, level, **fields, **more))
        assert MEDIA not in text
        assert "SIGNATURE" not in text
        return {word for word in talk | tool if word in text}

    assert leaving("full") == talk | tool
    assert leaving("no_tool_content") == talk
    assert leaving("metadata") == set()
    assert leaving("full", privacy_mode=True) == set()


def test_the_tools_that_an_answer_calls_are_named_at_every_level() -> None:
    for name, called in (("openai", "old"), ("responses", "count"), ("anthropic", "count")):
        found = properties("generation", "metadata", **CONTENT[name][1])
        assert (found["$ai_tools_called"], found["$ai_tool_call_count"]) == (called, 1), name
    offered = [{"type": "function", "function": {"name": "count", "description": TALK}}, {"name": "weigh"}]
    assert properties("generation", "metadata", tools=offered)["$ai_tools"] == [{"name": "count"}, {"name": "weigh"}]


def test_secrets_are_scrubbed_and_long_tool_content_is_cut() -> None:
    key = "sk-ant-api03-" + "aB3" * 31 + "AA"
    found = json.dumps(event("generation", input=f"use {key}", properties={"note": key}, name=f"with {key}"))
    assert key not in found

    long = properties("span", input={"text": "x" * 30_000}, output=key)
    assert len(long["$ai_input_state"]["text"]) < 13_000
    assert key not in json.dumps(long)


def test_a_whole_number_may_have_a_fraction_of_nothing_as_the_schema_says() -> None:
    found = properties(
        "generation", usage={"input_tokens": 9.0, "output_tokens": 1.5}, http_status=503.0, num_turns=2.0
    )

    assert (found["$ai_input_tokens"], found["$ai_http_status"], found["recorder_turns"]) == (9, 503, 2)
    assert "$ai_output_tokens" not in found


def test_a_value_of_another_type_costs_only_itself() -> None:
    odd = line("generation", 1, model=7, latency_ms="soon", usage={"input_tokens": "9", "output_tokens": 3},
               http_status=-1, properties=[1], colour="red", stop_reason=None)  # fmt: skip
    accumulator = OUTBOX.accumulator("x", copied=lambda *_: False, opened=lambda *_: None, passed=lambda *_: None)
    [span] = spans(odd)
    accumulator.feed(OUTBOX.decoder()(odd), span.lines, now=0.0)  # type: ignore[union-attr] # it rests on a line

    [found] = events(odd)
    assert found["properties"]["$ai_output_tokens"] == 3
    assert not {"$ai_model", "$ai_latency", "$ai_input_tokens", "$ai_http_status"} & found["properties"].keys()
    assert (accumulator.ignored_fields(), accumulator.ignored_fields()) == (5, 0)


def test_ids_may_be_numbers_and_privacy_and_routes_are_never_overlooked() -> None:
    found = event("generation", trace_id=7, session_id=8, distinct_id=42, privacy_mode="yes", input="secret words")
    assert (found["distinct_id"], found["properties"]["$ai_trace_id"]) == ("42", "7")
    assert found["properties"]["$ai_session_id"] == "8"
    assert "secret words" not in json.dumps(found)
    restraints: list[Any] = [-1, 2**60, "", [], {}, "no"]
    for odd_value in restraints:
        assert "secret words" not in json.dumps(event("span", privacy_mode=odd_value, input="secret words")), odd_value
        [odd] = spans(line("span", 1, local=odd_value))
        assert isinstance(odd, Recorded)
        assert odd.is_local, odd_value
    for place in (5, -5, 2**60, {"a": 1}):
        [odd] = spans(line("span", 1, host=place, api_key=place))
        assert isinstance(odd, Recorded)
        assert (odd.host, odd.key) == ("no text", "no text"), place


def test_what_is_no_line_of_this_version() -> None:
    decode = OUTBOX.decoder()
    for kind, version, name in (("dream", 1, "dream"), ("span", 2, "span-v2"), (7, 1, "")):
        said = json.dumps({"v": version, "type": kind, "uuid": uuid(1), "at": "2026-03-02T09:00:00.000Z"}).encode()
        assert decode(said) == UnknownRecord(name)
    for broken in (b"[]", b"{", b'{"v":1,"type":"span","at":"2026-03-02T09:00:00.000Z"}',
                   b'{"v":1,"type":"span","uuid":"x","at":"2026-03-02T09:00:00.000Z"}'):  # fmt: skip
        with pytest.raises(RecordError):
            decode(broken)


def test_a_time_that_cannot_be_read_is_that_of_the_uuid() -> None:
    said = line("span", 1).replace(b"2026-03-02T09:00:01.000Z", b"2026-06-30T23:59:60.000Z")

    assert events(said)[0]["timestamp"] == "2024-07-11T12:09:25.716Z"


def test_a_file_without_a_process_line_has_no_working_directory() -> None:
    assert "$ai_project_name" not in properties("span")
    [found] = events(process("/home/ada/orchard") + line("span", 1))
    assert found["properties"]["$ai_project_name"] == "orchard"
    assert found["properties"]["$ai_lib_version"] == "0.1.0"
