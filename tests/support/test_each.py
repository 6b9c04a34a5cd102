"""`for_each`: every case is run, and every one that fails is named."""

from __future__ import annotations

import inspect

import pytest

from tests.support.each import for_each


def test_every_case_that_fails_is_named() -> None:
    seen: list[tuple[int, int]] = []

    @for_each("outer", [1, 2])
    @for_each("inner, words", [(3, "odd"), (4, "even")])
    def is_odd(fixture: str, outer: int, inner: int, words: str) -> None:
        seen.append((outer, inner))
        assert inner % 2 == outer % 2, (fixture, words)

    with pytest.raises(ExceptionGroup) as failed:
        is_odd(fixture="words")

    assert seen == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert [failure.__notes__ for failure in failed.value.exceptions] == [
        ["case: inner=4, words='even'", "case: outer=1"],
        ["case: inner=3, words='odd'", "case: outer=2"],
    ]


def test_what_is_no_case_is_left_to_fixtures() -> None:
    @for_each("number", [1])
    def named(tmp_path: str, number: int) -> None:
        assert tmp_path
        assert number

    assert list(inspect.signature(named).parameters) == ["tmp_path"]
    named(tmp_path="here")


def test_there_must_be_a_case() -> None:
    with pytest.raises(AssertionError, match="no cases"):
        for_each("number", [])
