from __future__ import annotations

import json
from typing import Any

import pytest

from llma_core.agent import Glance, Origin
from llma_core.claude_code.agent import CLAUDE_CODE
from llma_core.claude_code.records import RequestShapeRecord
from llma_core.claude_code.session import SETTLE_SECONDS
from llma_core.errors import RecordError
from llma_core.lines import LineSplitter
from llma_core.spans import Generation, LineRange, Span
from tests.support.logs import LogBuilder, text


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("version", "keeps"),
    [
        ("2.1.100", True),
        ("2.1.329", True),
        ("3.0.0", True),
        ("2.1.99", False),
        ("2.0.76", False),
        ("2.1.beta", False),
        ("", False),
        (None, False),
    ],
)
def test_clients_keep_a_registry_since_2_1_100(version: str | None, keeps: bool) -> None:
    assert CLAUDE_CODE.keeps_registry(version) is keeps


@pytest.mark.parametrize(
    ("value", "glance"),
    [
        ({"timestamp": "1970-01-01T00:00:01.500Z", "sessionId": "s"}, Glance(at=1500, session="s")),
        ({"timestamp": "yesterday", "forkedFrom": {"sessionId": "o"}}, Glance(is_copy=True, original="o")),
        ({"requestSessionId": "o"}, Glance(is_copy=True, original="o")),
        ({"forkedFrom": "o"}, Glance(is_copy=True)),
        ([], Glance()),
    ],
)
def test_a_glance_tells_whose_line_it_is_and_when_it_was_written(value: Any, glance: Glance) -> None:
    assert CLAUDE_CODE.glance(line(value)) == glance


@pytest.mark.parametrize("kind", ["user", "assistant", "system", "attachment"])
def test_a_line_of_the_conversation_says_where_it_was_written(kind: str) -> None:
    said = {"type": kind, "cwd": "/home/ada/orchard", "version": "2.1.329"}

    assert CLAUDE_CODE.origin(line(said)) == Origin(cwd="/home/ada/orchard", version="2.1.329")
    assert CLAUDE_CODE.origin(line({"type": kind, "cwd": ""})) is None


@pytest.mark.parametrize("data", [b"", b"[]", line({"type": "summary", "cwd": "/home/ada"}), line({"cwd": "/home"})])
def test_no_other_line_says_where_it_was_written(data: bytes) -> None:
    assert CLAUDE_CODE.origin(data) is None


def test_the_lines_that_whole_inputs_are_in_are_decoded_only_for_those() -> None:
    shape = line({"type": "api-request-shape", "shapeHash": "h", "shape": {}})

    assert isinstance(CLAUDE_CODE.decoder(whole_inputs=True)(shape), RequestShapeRecord)
    assert not isinstance(CLAUDE_CODE.decoder()(shape), RequestShapeRecord)
    with pytest.raises(RecordError):
        CLAUDE_CODE.decoder()(b"[]")


def test_half_a_meta_file_says_nothing() -> None:
    assert CLAUDE_CODE.decode_meta(b'{"agentType":') is None
    assert CLAUDE_CODE.decode_meta(b'{"agentType":"Explore"}') is not None


@pytest.mark.parametrize(("settle", "due"), [(None, SETTLE_SECONDS), (7.0, 7.0)])
def test_an_accumulator_settles_when_the_client_does_unless_it_is_told_otherwise(
    settle: float | None, due: float
) -> None:
    log = LogBuilder(version="2.1.329", cwd="/home/ada/orchard")
    log.prompt("Count the trees")
    log.answer(text("Three."), id="msg_1")
    met: list[str] = []
    accumulator = CLAUDE_CODE.accumulator(
        log.session,
        copied=lambda _name, _mark, _at: False,
        opened=lambda name, _mark, _rest: met.append(name),
        passed=lambda _name, _lines: None,
        settle=settle,
    )
    decode = CLAUDE_CODE.decoder()
    found: list[Span] = []
    for each in LineSplitter().push(log.files()[log.path]):
        assert each.data is not None
        rest = LineRange(file=log.path, start=each.start, end=each.end)
        found += accumulator.feed(decode(each.data), rest, now=0.0)

    assert not [span for span in found if isinstance(span, Generation)]
    assert accumulator.due() == due
    assert [span.identity for span in accumulator.poll(due) if isinstance(span, Generation)] == ["msg_1"]
    assert met == ["gen|msg_1"]
    assert accumulator.first_cwd == "/home/ada/orchard"
