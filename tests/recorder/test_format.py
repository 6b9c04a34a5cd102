"""The schema of the lines: what it allows, and what not."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from llma_recorder import TraceRecorder, __version__

import llma_core
from tests.support.each import for_each
from tests.support.recorded import SCHEMA, VALIDATOR, Recorded

LINE = {"v": 1, "uuid": "01a22cfa-8e43-79cb-918d-2a50c51b7600", "at": "2026-11-30T15:02:27.651Z"}


def test_the_schema_is_one_and_allows_what_is_written(recorded: Recorded) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    recorder = TraceRecorder("review")
    recorder.record_generation(model="m", input_messages="hi", output_text="ho", usage={"input_tokens": 1})
    recorder.record_embedding(model="m", input="a")
    recorder.record_span("s")
    recorder.record_metric("m", 1)
    recorder.record_feedback("f")
    recorder.record_trace()
    for line in [*recorded.lines("process"), *recorded.lines()]:
        VALIDATOR.validate(line)


@for_each(
    "fields, is_allowed",
    [
        ({"type": "generation"}, True),
        ({"type": "something new", "value": None}, True),
        ({"type": "span", "something": "new"}, True),
        ({"type": "metric", "metric": "m", "value": -1}, True),
        ({"type": "session", "agent": "claude-code", "session_id": "s", "phase": "end", "num_turns": 3}, True),
        ({"type": "metric", "metric": "m"}, False),
        ({"type": "session", "agent": "claude-code", "phase": "end"}, False),
        ({"type": "generation", "model": None}, False),
        ({"type": "generation", "usage": {"input_tokens": -1}}, False),
        ({"type": "generation", "usage": {"input_tokens": 1.5}}, False),
        ({"type": "generation", "input": {"role": "user"}}, False),
        ({"type": "generation", "trace_id": 7}, False),
        ({"type": "generation", "at": "2026-11-30T15:02:27Z"}, False),
        ({"type": "generation", "uuid": "01A22CFA-8E43-79CB-918D-2A50C51B7600"}, False),
        ({"type": "generation", "uuid": "01a22cfa-8e43-49cb-918d-2a50c51b7600"}, False),
        ({"type": "generation", "v": 2}, False),
        ({}, False),
    ],
)
def test_a_line_is_in_the_format_or_not(fields: dict[str, Any], is_allowed: bool) -> None:
    assert VALIDATOR.is_valid({**LINE, **fields}) is is_allowed


def test_both_distributions_have_one_version() -> None:
    assert __version__ == llma_core.__version__
