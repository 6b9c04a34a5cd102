from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.system.messages import escaped, escaped_json, excerpt, one_line, system_reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, os.strerror(13), "/secret/place"), "permission denied"),
        (OSError("The disk is odd"), "the disk is odd"),
        (OSError(), ""),
    ],
)
def test_a_system_reason_has_no_path(error: OSError, reason: str) -> None:
    assert system_reason(error) == reason


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("as it is", "as it is"),
        ("two\nlines\r\nand a third", "two lines and a third"),
        ("a \x1b[31mred\x07 name", "a \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER} name"),
    ],
)
def test_a_message_becomes_one_printable_line(message: str, line: str) -> None:
    assert one_line(message) == line


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("  a \n\t long   story ", 100, "a long story"),
        ("a long story", 6, "a long"),
        ("bell\x07 and \x1bescape", 100, "bell and escape"),
        ("\x1b\x07", 100, ""),
    ],
)
def test_an_excerpt_is_the_printable_beginning(text: str, limit: int, shown: str) -> None:
    assert excerpt(text, limit) == shown


# A C1 control that begins a sequence, one that ends a line, overrides of direction, what ends lines elsewhere, a
# character without width, half of a pair, a tag in which words can hide, and DEL.
ACTING = ["\x9b", "\x85", "\u202e", "\u2066", "\u061c", "\u200f", "\u2028", "\u2029", "\u200b", "\ufeff", "\ud83d"]
ACTING += ["\U000e0041", "\x7f", "\x1b", "\x07", "\x00", "\r", "\xad", "\u2060"]


@pytest.mark.parametrize("acting", ACTING, ids=ascii)
def test_what_a_terminal_acts_on_is_shown_as_an_escape(acting: str) -> None:
    shown = escaped(f"é 漢字 \U0001f600 {acting}\n")

    assert acting not in shown
    assert shown.isascii() is False
    assert shown == f"é 漢字 \U0001f600 {ascii(acting)[1:-1]}\n"


@given(st.recursive(st.text() | st.sampled_from(ACTING), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5))
def test_escaped_json_is_equal_when_parsed(value: object) -> None:
    document = escaped_json(json.dumps(value, indent=1, ensure_ascii=False))

    assert json.loads(document) == value
    assert escaped(document) == document
