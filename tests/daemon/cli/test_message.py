from __future__ import annotations

import io
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import TextIO

import pytest

from daemon.cli.message import fitted, say, wants_color

LINE = (
    "error: sending is not set up: `posthog-llma-daemon login --enable` does it, or set POSTHOG_LLMA_CC_ENABLED=true "
    "in /home/ada/.config/posthog-llma-daemon/config.toml"
)


@contextmanager
def terminal(columns: int) -> Iterator[TextIO]:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(slave, "w") as stream:
        yield stream
    os.close(master)


def test_without_a_terminal_lines_are_not_wrapped(tmp_path: Path) -> None:
    assert fitted(LINE, io.StringIO()) == LINE
    with (tmp_path / "file").open("w") as file:
        assert fitted(LINE, file) == LINE


def test_each_stream_has_its_own_width(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    say(LINE, err=True)
    say("out")
    assert capsys.readouterr() == ("out\n", f"{LINE}\n")
    with terminal(60) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        say(LINE)
    assert capsys.readouterr().out == f"{LINE}\n", "the width of stderr does not matter to stdout"


@pytest.mark.parametrize("columns", [80, 81])
def test_on_a_terminal_lines_fill_all_columns_but_the_last(columns: int) -> None:
    with terminal(columns) as stream:
        assert {len(line) for line in fitted("a " * 100, stream).splitlines()[:-1]} == {79}
        assert fitted("a" * 50 + " " + "b" * (columns - 52), stream).count("\n") == 0
        assert fitted("a" * 50 + " " + "b" * (columns - 51), stream).count("\n") == 1


def test_the_indent_of_later_lines_can_be_chosen() -> None:
    with terminal(60) as stream:
        assert all(line.startswith("- ") for line in fitted(LINE, stream, then="- ").splitlines()[1:])


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_on_a_terminal_no_word_and_no_command_is_broken(columns: int) -> None:
    with terminal(columns) as stream:
        lines = fitted(LINE, stream).splitlines()
    assert len(lines) > 1
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == LINE
    assert any("`posthog-llma-daemon login --enable`" in line for line in lines)
    assert all(len(line) < columns for line in lines if " " in line.strip() and "`" not in line)


def test_lines_that_fit_and_narrow_terminals_are_left_alone() -> None:
    with terminal(200) as stream:
        assert fitted(LINE, stream) == LINE
    with terminal(39) as stream:
        assert fitted(LINE, stream) == LINE
    with terminal(0) as stream:
        assert fitted(LINE, stream) == LINE


def test_colors_are_for_terminals_without_no_color() -> None:
    with terminal(80) as stream:
        assert wants_color(stream, {"TERM": "xterm"})
        assert not wants_color(stream, {"TERM": "xterm", "NO_COLOR": "1"})
        assert not wants_color(stream, {"TERM": "dumb"})
        assert wants_color(stream, {"TERM": "xterm", "NO_COLOR": ""})
    assert not wants_color(io.StringIO(), {"TERM": "xterm"})


def test_a_message_holds_nothing_that_a_terminal_acts_on(capsys: pytest.CaptureFixture[str]) -> None:
    say("a \x9b31m path \u202e of \x1b[2J a\u2028 repository \x07")

    assert capsys.readouterr().out == "a \\x9b31m path \\u202e of \\x1b[2J a\\u2028 repository \\x07\n"
