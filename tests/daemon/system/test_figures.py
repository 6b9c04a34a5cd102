from __future__ import annotations

import pytest

from daemon.system.figures import (
    count,
    duration,
    printable,
    rough_duration,
    short_duration,
    short_tokens,
    size,
    tokens,
)


@pytest.mark.parametrize(("number", "words"), [(0, "0 events"), (1, "1 event"), (1_234, "1,234 events")])
def test_count(number: int, words: str) -> None:
    assert count(number, "event") == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (1_540_000, "1.5 MB"), (1_234e9, "1,234.0 GB")],
)
def test_size(number: float, words: str) -> None:
    assert size(number) == words


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((1_234, 56, 9_000, 7), "1,234 in 56 out (cache 9,000 read, 7 written)"),
        ((100, 10, 0, 0), "100 in 10 out"),
        ((None, 10, None, 7), "10 out (cache 7 written)"),
        ((None, None, None, None), ""),
    ],
)
def test_tokens_leave_out_unknown_counts_and_unused_caches(
    counts: tuple[int | None, int | None, int | None, int | None], words: str
) -> None:
    assert tokens(*counts) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (999, "999"), (1_000, "1.0k"), (999_949, "999.9k"), (999_950, "1.0M"), (1_540_000, "1.5M")],
)
def test_short_tokens(number: int, words: str) -> None:
    assert short_tokens(number) == words


@pytest.mark.parametrize(
    ("seconds", "words", "short"),
    [
        (None, "", ""),
        (0.25, "0.25 s", "0.25s"),
        (1.25, "1.25 s", "1.2s"),
        (60.0, "1 min 00 s", "1m00s"),
        (89.4, "1 min 29 s", "1m29s"),
    ],
)
def test_duration(seconds: float | None, words: str, short: str) -> None:
    assert (duration(seconds), short_duration(seconds)) == (words, short)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_rough_duration(seconds: float, words: str) -> None:
    assert rough_duration(seconds) == words


def test_printable_text_is_one_line_without_control_sequences() -> None:
    assert printable("\x1b[2Jone\r\n two\tthree\x07") == "[2Jone two three"


def test_printable_text_is_cut_to_the_limit() -> None:
    assert printable("abcde", 5) == "abcde"
    assert printable("abcdef", 5) == "abcd…"
    assert printable("a" + " " * 25 + "b", 5) == "a", "no more than four times the limit is read"
