"""Nothing that a caller gives makes the recorder raise, or write a line that is not in the format."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llma_recorder import TraceRecorder, encoding

from tests.support.each import for_each
from tests.support.recorded import Recorded


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Dumped:
    def model_dump(self, **given: Any) -> dict[str, Any]:
        if given:
            raise TypeError("no such arguments")
        return {"a": Color.RED}


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError


class HostileStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError


def cyclic() -> list[Any]:
    found: list[Any] = []
    found.append({"again": found})
    return found


def deep() -> Any:
    found: Any = "bottom"
    for _ in range(5000):
        found = [found]
    return found


ODD: dict[str, Callable[[], Any]] = {
    "cyclic": cyclic,
    "deep": deep,
    "hostile": Hostile,
    "hostile dict": lambda: HostileDict(a=1),
    "hostile text": lambda: HostileStr("a"),
    "class": lambda: Hostile,
    "huge": lambda: 10**5000,
    "large": lambda: 2**70,
    "not a number": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "negative": lambda: -1,
    "surrogate": lambda: "a\ud800b",
    "lines": lambda: "a\u2028b\r\nc\x00",
    "bytes": lambda: b"\xff\x00",
    "set": lambda: {1, "a"},
    "keys": lambda: {(1, 2): 1, None: 2, 1.5: 3, 10**5000: 4, b"k": 5, float("nan"): 6, "\ud800": 7},
    "dataclass": lambda: Point(1, cyclic()),
    "mock": Mock,
    "magic": MagicMock,
    "iterator": lambda: iter([1]),
    "lambda": lambda: lambda: None,
    "dict": dict,
    "empty": str,
    "none": lambda: None,
    "true": lambda: True,
    "error": lambda: ValueError("\ud800"),
    "dumped": Dumped,
}


@for_each(
    "value, text",
    [
        ("\ud83d\ude00 \ud800", '"\U0001f600 \ufffd"'),
        ({"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        ({2: "a", None: "b", True: "c"}, '{"2":"a","null":"b","true":"c"}'),
        ({(1, 2): 1}, '{"(1, 2)":1}'),
        (float("nan"), '"nan"'),
        ({"big": 2**70}, f'{{"big":{2**70}}}'),
        (b"text", '"text"'),
        (b"\xff", "\"b'\\\\xff'\""),
        (b"\xff\xd8" * 300, '"[600 bytes]"'),
        ((1, {2}), "[1,[2]]"),
        (Color.RED, '"red"'),
        (Level.HIGH, "3"),
        (Point(1, Color.RED), '{"x":1,"y":"red"}'),
        (collections.OrderedDict(a=1), '{"a":1}'),
        (collections.deque([1]), "[1]"),
        (collections.ChainMap({"a": 1}), '{"a":1}'),
        ({"a": 1}.values(), "[1]"),
        (dt.datetime(2026, 11, 30, tzinfo=dt.UTC), '"2026-11-30T00:00:00+00:00"'),
        (decimal.Decimal("1.5"), "1.5"),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (pathlib.PurePosixPath("/a"), '"/a"'),
        (Dumped(), '{"a":"red"}'),
        (Hostile(), '"<Hostile>"'),
        (HostileDict(a=1), '{"a":1}'),
        (cyclic(), '[{"again":"[{\'again\': [...]}]"}]'),
        (range(3), "[0,1,2]"),
    ],
)
def test_values_become_json(value: Any, text: str) -> None:
    assert encoding.encode(value) == text


def test_an_object_without_a_json_form_is_shown_and_cut() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 1_000_000

    shown = json.loads(encoding.encode({"a": Long()}))["a"]
    assert shown == "x" * 1000 + "… [999000 more characters]"
    assert len(encoding.encode(b"\xff" * 1_000_000)) < 10_000


def methods(recorder: TraceRecorder) -> Iterator[tuple[Callable[..., Any], list[str], dict[str, Any]]]:
    """Yield every method with the names of its arguments, and those that it must have."""
    for name in ("generation", "embedding", "span", "metric", "feedback", "trace"):
        for method in (getattr(recorder, f"record_{name}"), getattr(recorder, name, None)):
            if method is not None:
                needed = {"name": "n"} if name in {"metric", "feedback"} else {}
                yield method, [*method.__annotations__.keys() - {"return", "more"}, "other"], needed


def use(opened: Any, odd: Any) -> None:
    """Go through a context manager, if a method gave one."""
    if opened is not None:
        with opened as inside:
            inside.fail(odd, http_status=odd)
            inside.finish(odd, more=odd)


class Target:
    """An outbox that only encodes."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, fields: dict[str, Any]) -> bool:
        self.lines.append(json.loads(encoding.line(fields)))
        return True

    def drop(self, why: str) -> None:
        pytest.fail(f"a line is lost: {why}")

    def flush(self) -> bool:
        return True


@for_each("name", list(ODD))
def test_no_value_makes_it_raise_or_lose_a_line_or_leave_the_format(recorded: Recorded, name: str) -> None:
    for path in recorded.files:
        path.unlink()
    odd = ODD[name]()
    recorder = TraceRecorder(odd, properties=odd, distinct_id=odd, trace_id=odd, session_id=odd, groups=odd, host=odd)
    for method, names, _ in methods(recorder):
        use(method(**dict.fromkeys(names, odd)), odd)
    with recorder.generation() as call:
        call.finish(odd, usage=odd, output=odd, output_text=odd, model=odd, structured_output=odd, stop_reason=odd)
    assert recorder.flush()
    assert len(recorded.lines()) == 10

    recorder, target = TraceRecorder(), Target()
    vars(recorder)["_outbox"] = target
    count = 0
    for method, names, needed in methods(recorder):
        for argument in names:
            vars(recorder)["_is_ended"] = False
            use(method(**{**needed, argument: odd}), odd)
            count += 1
    # Each model that has a usage is a generation.
    assert len(target.lines) >= count


def test_no_value_is_lost_over_another_that_cannot_be_read(recorded: Recorded) -> None:
    properties = {"good": 1, "bad": Hostile(), "cycle": cyclic()}
    TraceRecorder().record_generation(input_messages=[{"role": "user", "content": Hostile()}], properties=properties)
    line = recorded.line("generation")
    assert line["input"] == [{"role": "user", "content": "<Hostile>"}]
    assert line["properties"]["good"] == 1
    assert line["properties"]["bad"] == "<Hostile>"


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(JSON_LIKE)
def test_any_value_is_one_line_of_utf8(value: Any) -> None:
    data = encoding.line({"v": value})
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    found = json.loads(data.decode())["v"]
    assert isinstance(found, type(value)) or not isinstance(value, (str, list, dict, bool, int))


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["input_tokens", "prompt_tokens", "cache_creation", "type", "content"]), JSON_LIKE)
)
def test_any_response_is_read(value: Any) -> None:
    recorder = TraceRecorder()
    with pytest.MonkeyPatch.context() as patch:
        target = Target()
        patch.setattr(recorder, "_outbox", target)
        recorder.record_generation(response=value, usage=value, model_usage={"m": value}, error=value)
    assert len(target.lines) == 1


@for_each(
    "content, longest",
    [
        ({"input": "a" * 5000, "output": "b" * 90}, ["input"]),
        ({"input": [{"role": "user", "content": "é" * 5000}], "output": "b" * 4000}, ["input", "output"]),
        ({"input": ["\x00" * 5000, "short"]}, ["input"]),
        ({"input": {"k" * 10: "\\" * 5000}, "properties": {"p": "x" * 3000}}, ["input", "properties"]),
    ],
)
def test_the_longest_strings_of_a_long_line_are_cut(content: dict[str, Any], longest: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "LONGEST_LINE", 2000)
        fields = {"v": 1, "uuid": "u" * 36, **content}
        for given_fields in (fields, {key: encoding.encode(value) for key, value in fields.items()}):
            data = encoding.line(given_fields)
            found = json.loads(data)
            assert 1500 < len(data) <= 2000
            assert found["uuid"] == "u" * 36
            for key, whole in content.items():
                assert (" more characters]" in str(found[key])) is (key in longest)
                assert found[key] == whole or key in longest


def test_a_long_line_without_long_strings_loses_its_largest_field() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "LONGEST_LINE", 2000)
        found = json.loads(encoding.line({"v": 1, "uuid": "u", "input": list(range(5000)), "output": "o"}))
    assert found == {"v": 1, "uuid": "u", "input": "… [23891 more bytes]", "output": "o"}
