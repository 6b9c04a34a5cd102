"""Damaged logs: whatever bytes they have, nothing is raised but RecordErrors, and the events are well-formed.

If `LLMA_FUZZ_SECONDS` is set, each of these tests runs for that long.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llma_core.claude_code.records import Record, decode, decode_meta, glance
from llma_core.errors import RecordError
from llma_core.events import CaptureEvent
from llma_core.timestamps import milliseconds
from tests.support.histories import History, histories
from tests.support.processes import tree
from tests.support.sessions import body, built, spans

SECONDS = float(os.environ.get("LLMA_FUZZ_SECONDS", "0"))

PIECES = (
    *(b"", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\\ud83d\\ude00", b"\\u0000"),
    *(b"null", b"true", b"[]", b"{}", b'""', b"[[[[", b"}" * 50, b'{"a":' * 200, b'"type":"assistant",'),
    *(b"-1", b"1e999", b"-0.0", b"NaN", b"Infinity", b"9" * 40, b"18446744073709551616", b"0x10"),
    *(b'"id":null,', b'"uuid":7,', b'"timestamp":"2026-13-45T99:99:99Z",', b'"timestamp":"0001-01-01T00:00:00Z",'),
    *(b'"timestamp":"9999-12-31T23:59:59.999999999Z",', b'"content":[{"type":"tool_use"}],', b'"usage":[],'),
    *(b'"message":null,', b'"isSidechain":"yes",', b"\xe2\x80\xa8", b"\xf4\x90\x80\x80", b"x" * 5000),
)
LINES = tuple(sorted({line for data in tree().values() for line in data.splitlines()}))


@st.composite
def damaged(draw: st.DrawFn, data: bytes, most: int = 6) -> bytes:
    """Return *data* after parts of it were cut out, repeated, swapped and inserted."""
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 8, 64, 1000])))
        kind = draw(st.sampled_from(["put", "put", "cut", "flip", "repeat", "borrow", "number"]))
        if kind == "put":
            data = data[:start] + draw(st.sampled_from(PIECES)) + data[end:]
        elif kind == "cut":
            data = data[:start] + data[end:]
        elif kind == "flip" and start < len(data):
            data = data[:start] + bytes([data[start] ^ (1 << draw(st.integers(0, 7)))]) + data[start + 1 :]
        elif kind == "repeat":
            data = data[:end] + data[start:end] + data[end:]
        elif kind == "borrow":
            other = draw(st.sampled_from(LINES))
            at = draw(st.integers(0, len(other)))
            data = data[:start] + other[at : at + 200] + data[end:]
        elif kind == "number":
            data = data[:start] + str(draw(st.integers() | st.floats())).encode() + data[end:]
    return data


def for_as_long_as_asked(test: Callable[[], None]) -> None:
    """Run a property once, or repeatedly for LLMA_FUZZ_SECONDS."""
    until = time.monotonic() + SECONDS
    test()
    while time.monotonic() < until:
        test()


fuzz = settings(
    max_examples=200 if not SECONDS else 1000,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def test_a_damaged_line_is_a_record_or_none() -> None:
    @fuzz
    @given(data=st.data(), requests=st.booleans())
    def any_line(data: st.DataObject, *, requests: bool) -> None:
        line = data.draw(damaged(data.draw(st.sampled_from(LINES))))
        try:
            record: Record | None = decode(line, requests=requests)
        except RecordError:
            record = None
        said = glance(line)
        at = milliseconds(said.timestamp)
        assert at is None or isinstance(at, int)
        decode_meta(line)
        if record is not None:
            # Reading the same bytes again gives the same result.
            assert decode(line, requests=requests) == record

    for_as_long_as_asked(any_line)


def well_formed(found: list[CaptureEvent]) -> None:
    """Check that every event is a JSON object in valid UTF-8, with a name and a unique id."""
    uuids = [event.uuid for event in found]
    assert len(set(uuids)) == len(uuids), "two events have one id"
    for event in found:
        text = event.body.decode("utf-8", "strict")
        assert "\\u0000" not in text.replace("\\\\", "")
        said = body(event)
        assert said["uuid"] == event.uuid
        assert said["event"] == event.name
        json.dumps(said, allow_nan=False).encode("utf-8", "strict")


def test_damaged_logs_give_well_formed_events_however_they_are_cut() -> None:
    @fuzz
    @given(history=histories(), data=st.data(), sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=4))
    def any_logs(history: History, data: st.DataObject, sizes: list[int]) -> None:
        files = {
            name: data.draw(damaged(content), label=name) if data.draw(st.booleans()) else content
            for name, content in {**history.logs, **history.metas}.items()
        }
        whole = built(spans(files))
        well_formed(whole)
        assert [(event.uuid, event.body) for event in built(spans(files, chunks=sizes))] == [
            (event.uuid, event.body) for event in whole
        ]

    for_as_long_as_asked(any_logs)
