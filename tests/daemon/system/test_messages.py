from __future__ import annotations

import os

import pytest

from daemon.system.messages import excerpt, one_line, system_reason


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
