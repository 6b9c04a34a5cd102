"""Whole records in damaged lines."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.claude_code import records
from llma_core.claude_code.records import AssistantRecord, UserRecord
from llma_core.recovery import Damage, is_whole, read_records
from llma_core.spans import Generation, ToolCall
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.sessions import spans

BOM = b"\xef\xbb\xbf"
NULS = bytes(300)


def line(kind: str = "user", **more: Any) -> bytes:
    return json.dumps({"type": kind, "uuid": "u1", "sessionId": "s", **more}, ensure_ascii=False).encode()


WHOLE = line(message={"role": "user", "content": "Zähl die Bäume"})
OTHER = line("assistant", message={"id": "m", "content": [{"type": "text", "text": "Two"}]})
STUB = WHOLE[:-20]
IN_STRING = b'{"type":"pr-link","sessionId":"s","prNu'
NESTED = b'{"type":"assistant","message":{"usage":{"input_tokens":1},"content":[{"type":"text","text":"x"}'


@pytest.mark.parametrize(
    ("data", "kinds", "at", "size"),
    [
        (NULS + WHOLE, [UserRecord], 0, 300),
        (WHOLE + NULS, [UserRecord], len(WHOLE), 300),
        (NULS + WHOLE + NULS, [UserRecord], 0, 600),
        (IN_STRING + WHOLE, [UserRecord], 0, len(IN_STRING)),
        (STUB + WHOLE, [UserRecord], 0, len(STUB)),
        (NESTED + WHOLE, [UserRecord], 0, len(NESTED)),
        (STUB + IN_STRING + WHOLE, [UserRecord], 0, len(STUB + IN_STRING)),
        (STUB + NULS + WHOLE, [UserRecord], 0, len(STUB) + 300),
        (WHOLE + STUB, [UserRecord], len(WHOLE), len(STUB)),
        (WHOLE + NULS + STUB, [UserRecord], len(WHOLE) + 300, len(STUB) + 300),
        (WHOLE + STUB + OTHER, [UserRecord, AssistantRecord], len(WHOLE), len(STUB)),
        (b"garbage" + WHOLE + b"more", [UserRecord], 0, 11),
        (WHOLE + b"}}", [UserRecord], len(WHOLE), 2),
        (WHOLE[:20] + NULS + WHOLE[20:], [UserRecord], 20, 300),
        (b'{"type":"progress","data":' + WHOLE + b',"more":', [], 0, len(WHOLE) + 34),
        (b"[" + WHOLE + b"]", [], 0, len(WHOLE) + 2),
        (NULS, [], 0, 300),
        (b"", [], 0, 0),
    ],
)
def test_every_whole_record_of_a_damaged_line_counts(data: bytes, kinds: list[type], at: int, size: int) -> None:
    found = read_records(data, records.decode)

    assert [type(record) for record in found.records] == kinds
    assert found.damage is not None
    assert (found.damage.at, found.damage.size) == (at, size)
    assert found.damage.reason


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (WHOLE, [UserRecord]),
        (BOM + WHOLE, [UserRecord]),
        (WHOLE + OTHER, [UserRecord, AssistantRecord]),
        (WHOLE + b" \t" + OTHER + b"\r", [UserRecord, AssistantRecord]),
        (BOM + WHOLE + BOM + OTHER, [UserRecord, AssistantRecord]),
    ],
)
def test_whole_records_without_anything_else_are_no_damage(data: bytes, kinds: list[type]) -> None:
    found = read_records(data, records.decode)

    assert ([type(record) for record in found.records], found.damage) == (kinds, None)


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        (b'{"a": 1}', True),
        (b'{"a": 1} \r', True),
        (b'{"a": 1}' + bytes(9), True),
        (bytes(9) + b'{"a": 1}', True),
        (b'{"a": 1}{"b": {"c": 2}}', True),
        (b'{"a": "\xff"}{}', True),
        (b'{"a": {"b": 1}', False),
        (b'{"a": {"b": 1}' + bytes(9), False),
        (b'{"a": 1}{"b', False),
        (b'{"a": 1}, "b": {}', False),
        (b"[{}", False),
        (b'{"a":' * 100_000 + b"}", False),
        (bytes(9), False),
        (b"", False),
    ],
)
def test_a_line_without_its_end_is_whole_if_nothing_can_be_added_to_what_it_holds(line: bytes, *, whole: bool) -> None:
    assert is_whole(line) is whole


def test_records_keep_what_they_say() -> None:
    [record] = read_records(IN_STRING + WHOLE, records.decode).records

    assert record == records.decode(WHOLE)


def test_the_damage_quotes_nothing() -> None:
    assert read_records(b'{"secret', records.decode).damage == Damage(at=0, size=8, reason="not JSON at byte 1")


@pytest.mark.parametrize("piece", [b'{"a":', b'{"', b'{"a":{"b":1},', b'{"type":"user"', WHOLE[:-1], b'[{"a":"'])
def test_the_time_grows_linearly_with_the_line(piece: bytes) -> None:
    def seconds(size: int) -> float:
        data = piece * (size // len(piece))
        best = 1e9
        for _ in range(3):
            began = time.process_time()
            read_records(data, records.decode)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(400_000) < 40 * seconds(40_000) + 0.2


@given(
    st.lists(st.sampled_from([WHOLE, OTHER, STUB, NULS, IN_STRING, NESTED, b"x", b"{", b'"', b"\\", BOM]), max_size=8)
)
def test_no_damage_raises_or_doubles_anything(pieces: list[bytes]) -> None:
    found = read_records(b"".join(pieces), records.decode)

    assert len(found.records) <= sum(piece in (WHOLE, OTHER) for piece in pieces)


@pytest.mark.parametrize("chunks", [None, [1], [7, 300]])
def test_a_damaged_log_gives_the_events_of_its_whole_records(chunks: list[int] | None) -> None:
    log = LogBuilder()
    log.prompt("Count")
    log.answer(tool_use("Bash", id="toolu_1"), stop_reason="tool_use")
    log.tool_result("toolu_1", "2")
    log.answer(text("Two."))
    data = log.files()[log.path].split(b"\n")
    whole = spans({log.path: b"\n".join(data)})
    for number, glued in enumerate((BOM, IN_STRING, NULS, b"x")):
        data[number] = glued + data[number]

    found = spans({log.path: b"\n".join(data)}, chunks=chunks)

    assert len([span for span in found if isinstance(span, Generation)]) == 2
    assert [span.output for span in found if isinstance(span, ToolCall)] == [b'"2"']
    assert len(found) == len(whole)
