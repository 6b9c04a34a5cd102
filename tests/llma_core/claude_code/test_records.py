from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from llma_core.agent import UnknownRecord
from llma_core.claude_code import records
from llma_core.claude_code.records import (
    AgentMeta,
    ApiRequestRecord,
    AssistantRecord,
    AttachmentRecord,
    CostStateRecord,
    IgnoredRecord,
    RequestBlobRecord,
    RequestShapeRecord,
    SystemRecord,
    TitleRecord,
    UserRecord,
    api_error,
    blocks,
    decode,
    decode_meta,
    glance,
    not_null,
    text_of,
    tool_use_result,
    usage,
)
from llma_core.errors import RecordError
from llma_core.spans import TokenUsage
from tests.support.logs import LogBuilder, text
from tests.support.processes import tree


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


def assistant(**message: Any) -> AssistantRecord:
    record = decode(line({"type": "assistant", "message": message}))
    assert isinstance(record, AssistantRecord)
    return record


# ---------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"type": "user", "message": {"role": "user", "content": "hi"}}, UserRecord),
        ({"type": "assistant", "message": {"id": "msg_1", "content": []}}, AssistantRecord),
        ({"type": "system", "subtype": "turn_duration"}, SystemRecord),
        ({"type": "attachment", "attachment": {"type": "date"}}, AttachmentRecord),
        ({"type": "api-request", "id": "r1"}, ApiRequestRecord),
        ({"type": "cost-state", "totalCostUSD": 0.5}, CostStateRecord),
        ({"type": "ai-title", "aiTitle": "Apples"}, TitleRecord),
        ({"type": "custom-title", "customTitle": "Apples"}, TitleRecord),
        ({"type": "summary", "summary": "Apples", "leafUuid": "x"}, TitleRecord),
        ({"type": "ai-title"}, IgnoredRecord),
        ({"type": "progress", "data": {"message": {"type": "assistant"}}}, IgnoredRecord),
        ({"type": "queue-operation", "operation": "enqueue", "content": "hi"}, IgnoredRecord),
        ({"type": "api-request-blob", "hash": "x", "message": {"role": "user"}}, IgnoredRecord),
        ({"type": "api-request-shape", "shapeHash": "x", "shape": {"system": [], "tools": []}}, IgnoredRecord),
        ({"type": "api-request-resumed", "messageId": "msg_1"}, IgnoredRecord),
        ({"type": "weather", "temperature": 20}, UnknownRecord),
        ({"no": "type"}, UnknownRecord),
        ({"type": 5}, UnknownRecord),
        ({"type": None}, UnknownRecord),
        ({}, UnknownRecord),
    ],
)
def test_a_line_becomes_the_record_of_its_type(value: Any, kind: type) -> None:
    assert type(decode(line(value))) is kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"type": "api-request-blob", "hash": "x", "message": {"role": "user"}}, RequestBlobRecord),
        ({"type": "api-request-blob", "hash": "\ud800", "message": 5}, RequestBlobRecord),
        ({"type": "api-request-shape", "shapeHash": "x", "shape": {"system": []}}, RequestShapeRecord),
        ({"type": "api-request-shape", "shapeHash": 5, "shape": None}, RequestShapeRecord),
        ({"type": "api-request-resumed", "messageId": "msg_1"}, IgnoredRecord),
        ({"type": "user", "message": {"role": "user", "content": "hi"}}, UserRecord),
        ({"type": "weather"}, UnknownRecord),
    ],
)
def test_the_parts_of_requests_are_decoded_where_they_are_wanted(value: Any, kind: type) -> None:
    assert type(decode(line(value), requests=True)) is kind


def test_parts_of_requests_are_not_looked_into_unless_they_are_wanted() -> None:
    """Most bytes of a log are in these lines, so an error deep inside of one is not even noticed."""
    broken = b'{"type":"api-request-blob","hash":"x","message":{"role":5,"content":{}}}'

    assert isinstance(decode(broken), IgnoredRecord)


@pytest.mark.parametrize("value", [{"type": "weather"}, {"type": "progress"}])
def test_what_tells_nothing_keeps_its_types_name(value: dict[str, str]) -> None:
    record = decode(line(value))

    assert isinstance(record, IgnoredRecord | UnknownRecord)
    assert record.type == value["type"]


def test_the_lines_own_type_decides_and_not_one_nested_before_it() -> None:
    data = b'{"data":{"type":"progress"},"message":{"role":"user","content":"hi"},"type":"user"}'

    assert isinstance(decode(data), UserRecord)
    assert isinstance(decode(b'{"message":{"type":"assistant"},"type":"progress"}'), IgnoredRecord)


def test_blanks_around_keys_make_no_difference() -> None:
    assert isinstance(decode(b' { "type" : "progress" , "data" : { } } '), IgnoredRecord)


def test_a_title_says_whether_the_user_chose_it() -> None:
    chosen = decode(line({"type": "custom-title", "customTitle": "Mine", "sessionId": "s1"}))
    made = decode(line({"type": "summary", "summary": "Made"}))

    assert chosen == TitleRecord(session_id="s1", title="Mine", chosen=True)
    assert made == TitleRecord(session_id=None, title="Made", chosen=False)


def test_the_envelope() -> None:
    record = decode(
        line(
            {
                "type": "user",
                "uuid": "u2",
                "parentUuid": "u1",
                "timestamp": "2026-03-02T09:00:00.100Z",
                "sessionId": "s1",
                "cwd": "/home/ada",
                "version": "2.1.329",
                "gitBranch": "main",
                "entrypoint": "cli",
                "isSidechain": True,
                "agentId": "a1",
                "promptId": "p1",
                "isMeta": True,
                "permissionMode": "plan",
                "message": {"role": "user", "content": "hi"},
                "neverHeardOf": {"a": [1]},
            }
        )
    )

    assert isinstance(record, UserRecord)
    assert (record.uuid, record.parent_uuid, record.session_id, record.agent_id) == ("u2", "u1", "s1", "a1")
    assert (record.cwd, record.version, record.git_branch, record.entrypoint) == ("/home/ada", "2.1.329", "main", "cli")
    assert (record.prompt_id, record.permission_mode) == ("p1", "plan")
    assert record.is_sidechain
    assert record.is_meta


# ---------------------------------------------------------------------- tolerance


def test_a_field_of_another_type_is_dropped_and_the_rest_of_the_line_kept() -> None:
    record = decode(
        line(
            {
                "type": "assistant",
                "uuid": 5,
                "timestamp": ["2026"],
                "sessionId": "s1",
                "isSidechain": "yes",
                "message": {"id": "msg_1", "model": {"name": "x"}, "stop_reason": 3, "content": "hi", "usage": {}},
                "apiErrorStatus": "400",
                "effort": "low",
            }
        )
    )

    assert isinstance(record, AssistantRecord)
    assert (record.uuid, record.timestamp, record.session_id, record.is_sidechain) == (None, None, "s1", False)
    assert (record.api_error_status, record.effort) == (None, "low")
    assert record.message is not None
    assert (record.message.id, record.message.model, record.message.stop_reason) == ("msg_1", None, None)
    assert text_of(record.message.content) == "hi"


@pytest.mark.parametrize("message", [None, "text", 5, [], True])
def test_a_message_that_is_none_is_dropped(message: Any) -> None:
    record = decode(line({"type": "user", "uuid": "u1", "message": message}))

    assert isinstance(record, UserRecord)
    assert (record.uuid, record.message) == ("u1", None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON at byte 0"),
        (b"{", "not JSON at byte 1"),
        (b'{"type":"user"', "not JSON at byte 14"),
        (b"not json", "not JSON at byte 0"),
        (b"\x00\x00", "not JSON at byte 0"),
        (b'{"type":"user"}{"type":"user"}', "not JSON at byte 15"),
        (b"[]", "not a JSON object"),
        (b'"user"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"17", "not a JSON object"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"type":"user","message":{"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deep"),
    ],
)
def test_a_line_that_holds_no_object_is_an_error_that_quotes_nothing(data: bytes, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        decode(data)

    assert caught.value.reason == reason
    assert caught.value.__cause__ is None


def test_a_number_too_long_to_read_is_an_error_that_quotes_nothing() -> None:
    with pytest.raises(RecordError, match=r"^not JSON$"):
        decode(b'{"type":"user","uuid":8,"x":' + b"7" * 5000 + b"}")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'"a\\ud800b"', "a\ufffdb"),
        (b'"a\\uDFFFb"', "a\ufffdb"),
        (b'"a\\u0000b"', "a\ufffdb"),
        (b'"a\xffb"', "a\ufffdb"),
        (b'"a\xed\xa0\x80b"', "a\ufffd\ufffd\ufffdb"),
        (b'"\\ud83c\\udf4e"', "\U0001f34e"),
        (b'"\xf0\x9f\x8d\x8e"', "\U0001f34e"),
        (b'"a\\\\ud800b"', "a\\ud800b"),
        (b'"\\\\\\ud800"', "\\\ufffd"),
        (b'"\\ud800\\ud83c\\udf4e\\udf4e\\u0000"', "\ufffd\U0001f34e\ufffd\ufffd"),
        (
            b'"' + b"a" * 70_000 + b"\xf0\x9f\x8d\x8e" * 20_000 + b'\xff"',
            "a" * 70_000 + "\U0001f34e" * 20_000 + "\ufffd",
        ),
    ],
)
def test_what_no_consumer_of_utf8_takes_is_replaced_and_nothing_else(data: bytes, text: str) -> None:
    record = decode(b'{"type":"user","message":{"role":"user","content":' + data + b"}}")

    assert isinstance(record, UserRecord)
    assert record.message is not None
    assert text_of(record.message.content) == text
    assert bytes(record.message.content).decode()


def test_a_long_run_of_backslashes_takes_no_more_memory_than_other_text() -> None:
    line = b'{"type":"user","cwd":"' + b"\\\\" * 500_000 + b'\\ud800"}'
    tracemalloc.start()
    try:
        record = decode(line)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(record, UserRecord)
    assert record.cwd == "\\" * 500_000 + "\ufffd"
    assert peak < 8 * len(line)


def test_odd_text_in_any_field_is_replaced() -> None:
    record = decode(
        b'{"type":"assistant","uuid":"\\ud800","cwd":"/a\\u0000b","message":{"id":"m\\udfff","usage":{"x":"\\ud800"}}}'
    )

    assert isinstance(record, AssistantRecord)
    assert (record.uuid, record.cwd) == ("\ufffd", "/a\ufffdb")
    assert record.message is not None
    assert record.message.id == "m\ufffd"
    assert bytes(record.message.usage) == '{"x":"\ufffd"}'.encode()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_does_not_know_never_gets_into_raw_content(number: str) -> None:
    # A field of an unexpected type makes the typed decoder reject the line.
    usage_object = f'{{"input_tokens":1,"x":{number}}}'

    record = decode(f'{{"type":"assistant","uuid":8,"message":{{"usage":{usage_object}}}}}'.encode())

    assert isinstance(record, AssistantRecord)
    assert record.message is not None
    json.loads(bytes(record.message.usage), parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


# ---------------------------------------------------------------------- blocks


def test_a_plain_string_is_one_text_block() -> None:
    [block] = blocks(Raw(line('say "hi"')))

    assert (block.type, block.words) == ("text", 'say "hi"')
    assert json.loads(block.raw) == {"type": "text", "text": 'say "hi"'}


def test_blocks_keep_what_was_logged_and_name_what_is_looked_into() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}, "caller": {"type": "x"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "x"}]}

    first, second = blocks(Raw(line([call, result | {"is_error": True}])))

    assert (first.type, first.id, first.name) == ("tool_use", "toolu_1", "Bash")
    assert first.input == Raw(line(call["input"]))
    assert first.content is UNSET
    assert json.loads(first.raw) == call
    assert (second.tool_use_id, second.is_error) == ("toolu_1", True)
    assert second.content == Raw(line(result["content"]))
    assert json.loads(second.raw) == result | {"is_error": True}


def test_a_block_with_a_field_of_another_type_is_kept() -> None:
    [block] = blocks(Raw(b'[{"type":"text","text":5,"id":"b1"}]'))

    assert (block.type, block.words, block.id) == ("text", "", "b1")
    assert block.raw == b'{"type":"text","text":5,"id":"b1"}'


@pytest.mark.parametrize("content", [b"null", b"5", b"{}", b"true", b"[]", b'[1, null, [], "x"]'])
def test_content_without_blocks(content: bytes) -> None:
    assert blocks(Raw(content)) == []


def test_the_words_of_content() -> None:
    content = Raw(
        b'[{"type":"text","text":"one"},{"type":"image"},{"type":"text","text":""},{"type":"text","text":"two"}]'
    )

    assert text_of(content) == "one\ntwo"
    assert text_of(Raw(b'"plain"')) == "plain"
    assert text_of(Raw(b"null")) == ""


@pytest.mark.parametrize("depth", [100, 400, 600, 900])
def test_blocks_of_any_depth_that_was_read_can_be_looked_into(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    try:
        record = decode(f'{{"type":"user","message":{{"content":[{{"type":"text","text":{deep}}}]}}}}'.encode())
    except RecordError:
        return

    assert isinstance(record, UserRecord)
    assert record.message is not None
    assert text_of(record.message.content) == ""


# ---------------------------------------------------------------------- tool runs, usage, meta files, times


def noted(value: Any) -> records.ToolUseResult:
    record = decode(line({"type": "user", "message": {"content": []}, "toolUseResult": value}))
    assert isinstance(record, UserRecord)
    return tool_use_result(record)


def test_what_is_noted_of_a_tools_run() -> None:
    agent = noted({"agentId": "a1", "isAsync": True, "status": "async_launched", "content": [1, 2]})

    assert (agent.agent_id, agent.is_async, agent.status) == ("a1", True, "async_launched")
    assert noted({"stdout": "x", "interrupted": True}).interrupted


@pytest.mark.parametrize("value", ["Error: Exit code 3", None, 5, [], {"agentId": 5, "interrupted": "no"}])
def test_a_note_of_another_form_says_nothing(value: Any) -> None:
    assert noted(value) == records.ToolUseResult()


def test_all_counts_of_a_usage() -> None:
    logged = {
        "input_tokens": 9,
        "output_tokens": 777,
        "cache_read_input_tokens": 9881,
        "cache_creation_input_tokens": 1852,
        "cache_creation": {"ephemeral_1h_input_tokens": 1235, "ephemeral_5m_input_tokens": 617},
        "output_tokens_details": {"thinking_tokens": 40},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
        "speed": "fast",
        "inference_geo": "not_available",
    }

    message = assistant(usage=logged).message
    assert message is not None
    assert usage(message) == TokenUsage(
        input=9,
        output=777,
        cache_read=9881,
        cache_creation=1852,
        cache_creation_5m=617,
        cache_creation_1h=1235,
        reasoning=40,
        web_searches=1,
        service_tier="standard",
        speed="fast",
        raw=json.dumps(logged).encode(),
    )


@pytest.mark.parametrize("logged", [None, "none", 5, []])
def test_a_usage_that_is_none(logged: Any) -> None:
    message = assistant(usage=logged).message

    assert message is not None
    assert usage(message) is None


def test_a_message_without_usage_shows_none() -> None:
    message = assistant(id="msg_1").message

    assert message is not None
    assert usage(message) is None


@pytest.mark.parametrize("count", [-1, 2**63, 10**30, 1.5, "-7", "seven", None, True, [], {}])
def test_a_nonsense_count_is_unknown_and_the_others_stay(count: Any) -> None:
    message = assistant(usage={"input_tokens": count, "output_tokens": 5, "cache_creation": count}).message

    assert message is not None
    counts = usage(message)
    assert counts is not None
    assert (counts.input, counts.output) == (None, 5)


@pytest.mark.parametrize("count", [10, 10.0, "10", "10.0"])
def test_a_count_may_be_spelled_as_a_gateway_likes(count: Any) -> None:
    message = assistant(usage={"input_tokens": count, "cache_creation": {"ephemeral_5m_input_tokens": count}}).message

    assert message is not None
    counts = usage(message)
    assert counts is not None
    assert (counts.input, counts.cache_creation_5m) == (10, 10)


_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title><style>h1 {color: red}</style></head>\r\n"
    "<body><center><h1>502 Bad Gateway</h1></center><hr>nginx</body>\r\n</html>\r\n"
)


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        (
            {"status": 529, "error": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}},
            None,
            (529, "overloaded_error", "Overloaded"),
        ),
        ({"code": "1302", "message": "rate limit reached"}, None, (None, "1302", "rate limit reached")),
        ({"cause": {"code": "ECONNRESET"}}, {"code": "ECONNRESET"}, (None, "ECONNRESET", "ECONNRESET")),
        ({"status": "429", "message": "Too many"}, None, (429, None, "Too many")),
        ("Connection error.", None, (None, None, "Connection error.")),
        (
            {"status": 400, "message": '400 {"type":"error","error":{"type":"invalid_request_error","message":"x"}}'},
            None,
            (400, "invalid_request_error", "x"),
        ),
        ('500 {"error": "fell over"}', None, (500, None, "fell over")),
        ({"detail": "Not found"}, None, (None, None, "Not found")),
        (
            {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]},
            None,
            (None, "missing", "field required"),
        ),
        (
            {"status": 403, "error": {"Message": "denied", "__type": "AccessDenied"}},
            None,
            (403, "AccessDenied", "denied"),
        ),
        ({"errors": [None, {"message": "first"}, {"message": "second"}]}, None, (None, None, "first")),
        (
            [{"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}}],
            None,
            (400, "INVALID_ARGUMENT", "too long"),
        ),
        ({"type": "about:blank", "title": "Slow down", "status": 429}, None, (429, None, "Slow down")),
        ({"error": {"code": "503", "message": "busy"}}, None, (503, None, "busy")),
        ({"name": "AbortError"}, None, (None, "AbortError", "AbortError")),
        ({"name": "Error", "message": "fetch failed"}, None, (None, None, "fetch failed")),
        ({"status": 502, "error": _PAGE}, None, (502, None, "Bad Gateway")),
        (_PAGE, None, (502, None, "502 Bad Gateway")),
        (f"502 {_PAGE}", None, (502, None, "502 Bad Gateway")),
        (None, None, (None, None, None)),
        (None, {"code": "ETIMEDOUT"}, (None, "ETIMEDOUT", "ETIMEDOUT")),
    ],
)
def test_a_failed_attempt_is_told_in_words_whatever_shape_it_was_logged_in(error: Any, cause: Any, said: Any) -> None:
    found = api_error(Raw(json.dumps(error).encode()), Raw(json.dumps(cause).encode()))

    assert (found.status, found.type, found.message) == said


def test_a_call_inside_a_call_has_its_own_counts() -> None:
    parts = [
        {"type": "message", "input_tokens": 1},
        {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 159000, "output_tokens": 7800},
        {"type": "compaction", "input_tokens": "180000"},
        {"type": 5},
        "nonsense",
    ]
    message = assistant(usage={"input_tokens": 2, "iterations": parts}).message

    assert message is not None
    counts = usage(message)
    assert counts is not None
    assert [(call.index, call.kind, call.model, call.usage.input) for call in counts.inner] == [
        (1, "advisor_message", "claude-opus-5-5", 159000),
        (2, "compaction", None, 180000),
    ]


def test_the_greatest_count_that_fits_is_kept() -> None:
    message = assistant(usage={"input_tokens": 2**63 - 1}).message

    assert message is not None
    counts = usage(message)
    assert counts is not None
    assert counts.input == 2**63 - 1


def test_a_stream_that_broke_off_lacks_a_key_that_null_does_not_stand_for() -> None:
    complete = assistant(stop_reason="end_turn", stop_details=None).message
    cut = assistant(stop_reason="end_turn").message

    assert complete is not None
    assert cut is not None
    assert complete.stop_details is not UNSET
    assert cut.stop_details is UNSET


def test_odd_text_in_a_meta_file_is_replaced() -> None:
    said = decode_meta(b'{"agentType":"a\\u0000b\\ud800","toolUseId":"\\ud83c\\udf4e"}')

    assert said == AgentMeta(agent_type="a\ufffdb\ufffd", tool_use_id="\U0001f34e")


def test_a_meta_file() -> None:
    data = line(
        {"agentType": "Explore", "toolUseId": "toolu_1", "parentAgentId": "a0", "finished": True, "spawnDepth": 2}
    )

    assert decode_meta(data) == AgentMeta(
        agent_type="Explore", tool_use_id="toolu_1", parent_agent_id="a0", finished=True
    )


@pytest.mark.parametrize("data", [b"", b"{", b'{"agentType":"Exp', b"[]", b"null", b"\xff\xfe"])
def test_a_half_written_meta_file_says_nothing_yet(data: bytes) -> None:
    assert decode_meta(data) is None


def test_a_glance_tells_whose_file_it_is() -> None:
    seen = glance(line({"type": "user", "sessionId": "s1", "timestamp": "2026-03-02T09:00:00Z", "message": {}}))

    assert (seen.session_id, seen.timestamp, seen.is_copy) == ("s1", "2026-03-02T09:00:00Z", False)


@pytest.mark.parametrize("mark", [{"requestSessionId": "s0"}, {"forkedFrom": {"sessionId": "s0"}}])
def test_a_glance_tells_a_copy(mark: dict[str, Any]) -> None:
    assert glance(line({"sessionId": "s1", **mark})).is_copy


@pytest.mark.parametrize("data", [b"", b"nothing", b"[]", b"\xff", b'{"sessionId":5}'])
def test_a_glance_at_nothing_is_empty(data: bytes) -> None:
    seen = glance(data)

    assert (seen.session_id, seen.timestamp, seen.is_copy) == (None, None, False)


# ---------------------------------------------------------------------- speed


def test_no_line_that_a_client_writes_is_decoded_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow way takes ten times as long but gives the same records, so only this test would notice it."""
    monkeypatch.setattr(records, "_decode_slowly", lambda line, **_: pytest.fail(line[:200].decode()))
    lines = [line for name, data in tree().items() if name.endswith(".jsonl") for line in data.splitlines()]
    whole = LogBuilder(requests=True)
    whole.prompt("go")
    whole.answer(text("yes"))
    lines += whole.files()[whole.path].splitlines()

    kinds = {type(decode(line, requests=True)) for line in lines}

    assert {AssistantRecord, UserRecord, ApiRequestRecord, RequestShapeRecord, SystemRecord} <= kinds


@pytest.mark.parametrize(("said", "expected"), [({"a": 1}, b'{"a": 1}'), (None, None), ("", b'""')])
def test_a_value_that_stays_raw_is_known_or_none(said: object, expected: bytes | None) -> None:
    record = decode(line({"type": "api-request", "cut": said, "params": {"thinking": said}}))

    assert isinstance(record, ApiRequestRecord)
    assert record.params is not None
    assert (not_null(record.cut), not_null(record.params.thinking)) == (expected, expected)
    assert not_null(ApiRequestRecord().cut) is None


# ---------------------------------------------------------------------- no bytes do harm


@given(st.binary())
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_give_a_record_or_a_record_error(data: bytes) -> None:
    try:
        record = decode(data)
    except RecordError as error:
        reason = error.reason
    else:
        reason = type(record).__name__
    assert 0 < len(reason) < 60


def test_a_line_in_bad_utf_8_can_be_glanced_at() -> None:
    said = glance(b'{"sessionId":"a\xff","timestamp":"2026-03-02T09:00:00Z"}')
    assert (said.session_id, said.timestamp) == ("a\N{REPLACEMENT CHARACTER}", "2026-03-02T09:00:00Z")


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_meta_file_or_none_and_can_be_glanced_at(data: bytes) -> None:
    assert decode_meta(data) is None or isinstance(decode_meta(data), AgentMeta)
    assert glance(data) is not None


@pytest.mark.parametrize("kind", ["fork-context-ref", "relocated", "continued-in", "session-owner", "host-row"])
def test_a_type_that_the_client_writes_and_that_tells_of_no_call_is_known(kind: str) -> None:
    assert decode(f'{{"type":"{kind}","sessionId":"s"}}'.encode()) == IgnoredRecord(kind)
