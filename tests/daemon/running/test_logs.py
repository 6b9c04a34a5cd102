from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from daemon.config.settings import Secret
from daemon.running import logs


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo what configure() did to the whole process."""
    root, own = logging.getLogger(), logging.getLogger("daemon")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, environ={})

    structlog.get_logger("daemon.following.tailer").info("file_found", path="/a/b", size=3)

    (line,) = lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "file_found",
        "level": "info",
        "logger": "daemon.following.tailer",
        "path": "/a/b",
        "size": 3,
    }


def test_a_terminal_gets_words() -> None:
    stream = Terminal()
    logs.configure(stream=stream, environ={"NO_COLOR": "1"})

    structlog.get_logger("daemon.following.tailer").info("file_found", size=3)

    assert re.fullmatch(r"\d\d:\d\d:\d\d \[info     \] file_found +size=3\n", stream.getvalue())


def test_a_terminal_gets_nothing_from_a_name_that_it_would_act_on() -> None:
    stream = Terminal()
    logs.configure(stream=stream, environ={"NO_COLOR": "1"})

    structlog.get_logger("daemon.following.tailer").info("file_found", path="/a\x9b31m\u202e\x1b[2J")

    assert not [char for char in stream.getvalue() if char != "\n" and not char.isprintable()]


def test_a_terminal_gets_colours_unless_they_are_unwanted() -> None:
    stream = Terminal()
    logs.configure(stream=stream, environ={})

    structlog.get_logger("daemon").info("started")

    assert "\x1b[" in stream.getvalue()


def test_a_requested_format_overrides_the_one_for_the_stream() -> None:
    terminal, pipe = Terminal(), io.StringIO()

    logs.configure("json", stream=terminal, environ={})
    structlog.get_logger("daemon").info("started")
    logs.configure("console", stream=pipe, environ={})
    structlog.get_logger("daemon").info("started")

    assert lines(terminal)[0]["event"] == "started"
    assert not pipe.getvalue().startswith("{")
    assert "[daemon]" in pipe.getvalue(), "in a file nobody knows the day"
    assert re.match(r"\d{4}-\d\d-\d\dT", pipe.getvalue())


def test_the_journal_has_its_own_clock(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        logs.configure("json", stream=stream, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        structlog.get_logger("daemon").info("started")
        logs.configure("json", stream=stream, environ={"JOURNAL_STREAM": "1:1"})
        structlog.get_logger("daemon").info("started")

        stream.seek(0)
        in_journal, inherited = [json.loads(line) for line in stream]
    assert "timestamp" not in in_journal
    assert "timestamp" in inherited


def test_the_level_holds_for_our_own_lines() -> None:
    stream = io.StringIO()
    log = structlog.get_logger("daemon")

    logs.configure("json", "warning", stream, environ={})
    log.info("started")
    log.warning("file_replaced")
    logs.configure("json", logging.DEBUG, stream, environ={})
    log.debug("swept")

    assert [line["event"] for line in lines(stream)] == ["file_replaced", "swept"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        logs.configure(level="loud", stream=io.StringIO())


def test_configuring_again_does_not_double_lines() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("json", stream=first, environ={})
    logs.configure("json", stream=second, environ={})

    structlog.get_logger("daemon").info("started")

    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_libraries_log_from_warning_on_in_the_same_format() -> None:
    stream = io.StringIO()
    logs.configure("json", "debug", stream, environ={})

    logging.getLogger("httpx").info("HTTP Request: POST https://host/batch/?token=secret")
    logging.getLogger("watchdog").warning("queue of %d is full", 16)

    (line,) = lines(stream)
    assert (line["logger"], line["level"], line["event"]) == ("watchdog", "warning", "queue of 16 is full")


def test_a_secret_is_masked_wherever_it_appears_in_a_line() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream, secrets=[Secret("phc_abcdef123456"), Secret("")], environ={})

    structlog.get_logger("daemon").error("stopped", reason="401 for phc_abcdef123456", keys=["phc_abcdef123456"])
    logging.getLogger("other").error("phc_abcdef123456")

    assert "phc_abcdef123456" not in stream.getvalue()
    assert stream.getvalue().count("**********") == 3


def raised(error: BaseException) -> str:
    with pytest.raises(type(error)) as caught:
        raise error
    return logs.format_exception((caught.type, caught.value, caught.tb))


def test_a_traceback_has_locations_and_types_but_no_values() -> None:
    text = raised(KeyError("a prompt"))

    assert text.splitlines()[-1] == "KeyError"
    assert "in raised" in text
    assert "raise error" in text
    assert "a prompt" not in text


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (FileNotFoundError(2, "No such file", "/x"), "FileNotFoundError: [Errno 2] No such file: '/x'"),
        (ValueError("content"), "ValueError"),
        (json.JSONDecodeError("content", "content", 0), "json.decoder.JSONDecodeError"),
    ],
)
def test_a_message_is_kept_if_it_holds_no_content(error: Exception, last: str) -> None:
    assert raised(error).splitlines()[-1] == last


def test_causes_and_members_of_groups_are_shown() -> None:
    group = ExceptionGroup("content", [OSError(28, "No space left"), KeyError("content")])
    group.__cause__ = ValueError("content")

    text = raised(group)

    shown = [line.strip() for line in text.splitlines() if not line.startswith("  File")]
    assert shown.index("ValueError") < shown.index("which led to:") < shown.index("ExceptionGroup")
    assert "OSError: [Errno 28] No space left" in shown
    assert shown[-1] == "KeyError"
    assert "content" not in text


def test_exceptions_that_cause_each_other_do_not_loop() -> None:
    first, second = OSError(1, "one"), OSError(2, "two")
    first.__cause__, second.__cause__ = second, first

    assert raised(first).count("which led to:") == 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_exception_keeps_its_locations_and_loses_its_message(form: str) -> None:
    stream = io.StringIO()
    logs.configure("json" if form == "json" else "console", stream=stream, environ={})
    content = "what the user wrote"
    try:
        int(content)
    except ValueError:
        structlog.get_logger("daemon").exception("pipeline_failed")
        logging.getLogger("asyncio").exception("task failed")

    assert stream.getvalue().count("test_logs.py") == 2
    assert stream.getvalue().count("ValueError") >= 2
    assert content not in stream.getvalue()
