from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.cut import Beginning, beginnings, cut, cut_strings

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\\"\n\x1b\U0001f34e\u00e9'))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def test_a_text_within_the_limit_stays() -> None:
    assert cut("apple", 5) == "apple"


def test_a_cut_keeps_the_head_and_says_how_much_is_gone() -> None:
    assert cut("apple tree", 5) == "apple… [5 more characters]"


def test_cutting_counts_characters_and_not_bytes() -> None:
    assert cut("\U0001f34e" * 6, 5) == "\U0001f34e" * 5 + "… [1 more characters]"


def test_every_string_of_a_value_is_cut_and_nothing_else_is_touched() -> None:
    value = {"long key is kept": "abcdef", "list": ["abcdef", 12345678, None, True, {"x": "abc"}]}

    assert cut_strings(value, 3) == {
        "long key is kept": "abc… [3 more characters]",
        "list": ["abc… [3 more characters]", 12345678, None, True, {"x": "abc"}],
    }


@given(value=JSON)
def test_a_generous_limit_changes_nothing(value: Any) -> None:
    assert cut_strings(value, 10_000) == value


@given(value=JSON, limit=st.integers(1, 40), length=st.integers(0, 60), plain=st.booleans())
def test_cutting_from_beginnings_is_cutting_or_still_too_long(
    value: Any, limit: int, length: int, *, plain: bool
) -> None:
    written = json.dumps(value, ensure_ascii=plain).encode()

    cut_short = cut_strings(beginnings(msgspec.Raw(written), limit), length)

    if cut_short != cut_strings(value, length):
        assert len(msgspec.json.encode(cut_short)) > limit


@pytest.mark.parametrize("letter", ["a", "\U0001f34e", "\n", '"', "\\", "\x1b"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_long_string_is_kept_up_to_what_could_be_of_use(letter: str, *, plain: bool) -> None:
    text = letter * 200_000
    limit = 50_000

    kept = beginnings(msgspec.Raw(json.dumps([text], ensure_ascii=plain).encode()), limit)[0]

    assert isinstance(kept, Beginning)
    assert kept.length == len(text)
    assert text.startswith(kept.text)
    assert limit < len(msgspec.json.encode(kept.text)) < 10 * limit


def test_a_string_that_is_shorter_than_it_is_written_is_kept_whole() -> None:
    written = b'"' + rb"\u0061" * 10 + b'"'

    assert beginnings(msgspec.Raw(written), 30) == Beginning("a" * 10, 10)


def test_a_long_list_of_short_strings_is_read_as_it_is() -> None:
    value = {"a": ["b"] * 100, "c": 5, "d": None}

    assert beginnings(msgspec.Raw(msgspec.json.encode(value)), 20) == value
