from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llma_core.lines import MAX_LINE_BYTES, Line, LineSplitter

# Bytes with many short and odd lines: line ends of other readers, halves of characters, NULs.
CONTENT = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b"a", b"{}", b"\x00", b"\xe2\x80\xa8", b"\xc2\x85", b"\xff", b"\xe2", b"longer text"]
    ),
    max_size=40,
).map(b"".join) | st.binary(max_size=200)
LIMITS = st.integers(min_value=1, max_value=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut *data* at *places*, which may come in any order and more than once."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def split(chunks: list[bytes], **settings: int) -> tuple[list[Line], LineSplitter]:
    splitter = LineSplitter(**settings)
    return [line for chunk in chunks for line in splitter.push(chunk)], splitter


@given(data=CONTENT, places=st.lists(st.integers(min_value=0), max_size=20))
@example(data=b"\n\n", places=[1])
def test_where_a_file_was_cut_into_chunks_makes_no_difference(data: bytes, places: list[int]) -> None:
    lines, splitter = split(cut(data, places))
    whole, reference = split([data])

    assert lines == whole
    assert (splitter.offset, splitter.pending) == (reference.offset, reference.pending)


@given(data=CONTENT, places=st.lists(st.integers(min_value=0), max_size=20), limit=LIMITS)
def test_chunks_make_no_difference_to_lines_over_the_limit_either(data: bytes, places: list[int], limit: int) -> None:
    lines, splitter = split(cut(data, places), limit=limit)
    whole, reference = split([data], limit=limit)

    assert lines == whole
    assert (splitter.offset, splitter.pending) == (reference.offset, reference.pending)


@given(data=CONTENT)
def test_lines_and_what_is_pending_are_the_file(data: bytes) -> None:
    lines, splitter = split([data])

    joined = b"".join((line.data or b"") + b"\n" for line in lines)
    assert joined + data[splitter.offset :] == data
    assert splitter.pending == len(data) - splitter.offset
    assert b"\n" not in data[splitter.offset :]


@given(data=CONTENT, limit=LIMITS, offset=st.integers(min_value=0, max_value=2**60))
def test_every_line_knows_its_place(data: bytes, limit: int, offset: int) -> None:
    lines, splitter = split([data], limit=limit, offset=offset)

    position = offset
    for line in lines:
        assert line.start == position
        said = data[line.start - offset : line.end - offset]
        assert said.endswith(b"\n")
        assert said.count(b"\n") == 1
        assert line.data == (said[:-1] if len(said) - 1 <= limit else None)
        position = line.end
    assert splitter.offset == position


@given(data=CONTENT, place=st.integers(min_value=0))
def test_a_reader_that_starts_again_at_the_offset_misses_nothing_and_repeats_nothing(data: bytes, place: int) -> None:
    head, tail = cut(data, [place])
    first, splitter = split([head])
    again, _ = split([data[splitter.offset :]], offset=splitter.offset)

    assert [*first, *again] == split([head + tail])[0]


@pytest.mark.parametrize("other", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_a_line_feed_ends_a_line(other: str) -> None:
    data = f'{{"text":"one{other}two"}}'.encode()

    lines, _ = split([data + b"\n"])

    assert [line.data for line in lines] == [data]


def test_an_incomplete_line_waits() -> None:
    splitter = LineSplitter()

    assert splitter.push(b'{"a":') == []
    assert splitter.pending == 5
    assert splitter.offset == 0
    assert splitter.push(b"1}\n") == [Line(start=0, end=8, data=b'{"a":1}')]
    assert splitter.pending == 0


def test_a_line_at_the_limit_is_kept_and_one_over_it_is_skipped() -> None:
    lines, _ = split([b"12345\n123456\n1\n"], limit=5)

    assert [line.data for line in lines] == [b"12345", None, b"1"]


def test_a_line_over_the_limit_does_not_fill_the_memory() -> None:
    splitter = LineSplitter(limit=1000)
    chunk = b"x" * 1000
    for _ in range(1000):
        assert splitter.push(chunk) == []

    assert splitter.pending == 1_000_000
    assert sum(map(len, splitter._parts)) == 0
    assert splitter.push(b"\n{}\n") == [
        Line(start=0, end=1_000_001, data=None),
        Line(start=1_000_001, end=1_000_004, data=b"{}"),
    ]


def test_the_limit_leaves_room_for_the_longest_lines_clients_write() -> None:
    assert MAX_LINE_BYTES >= 16 * 1024 * 1024
