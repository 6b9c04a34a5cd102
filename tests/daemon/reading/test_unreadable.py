"""What cannot be read is said once, however many sessions and attempts it takes."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest
from structlog.testing import capture_logs

from daemon.following.session_files import SessionFiles
from daemon.reading.unreadable import Unreadable
from llma_core.claude_code.agent import CLAUDE_CODE


def unit(name: str) -> SessionFiles:
    return SessionFiles(
        name=f"orchard/{name}", folder="/logs/orchard", agent=CLAUDE_CODE, main=f"/logs/orchard/{name}.jsonl"
    )


def refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def test_a_log_is_told_once_and_once_more_when_it_can_be_read() -> None:
    unreadable, one = Unreadable(), unit("a")
    with capture_logs() as lines:
        for _ in range(3):
            unreadable.note(one, str(one.main), refused(errno.EACCES))
        assert one.name in unreadable
        unreadable.note_read(one)
        unreadable.note_read(one)
    assert [line["event"] for line in lines] == ["log_unreadable", "log_readable_again"]
    assert (lines[0]["path"], lines[0]["reason"]) == (one.main, "permission denied")
    assert lines[1]["session"] == one.session
    assert not unreadable


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_where_the_daemon_has_no_descriptor_left_one_line_tells_it_of_all(code: int) -> None:
    unreadable, units = Unreadable(), [unit(name) for name in "abc"]
    with capture_logs() as lines:
        for each in units:
            unreadable.note(each, str(each.main), refused(code))
        assert len(unreadable) == 3
        for each in units:
            unreadable.note_read(each)
    assert [line["event"] for line in lines] == ["log_unreadable", "log_readable_again"]


def test_a_daemon_without_descriptors_says_so_although_it_tells_of_another_trouble_first() -> None:
    unreadable, (one, two) = Unreadable(), (unit("a"), unit("b"))
    with capture_logs() as lines:
        unreadable.note(one, str(one.main), refused(errno.EACCES))
        unreadable.note(one, str(one.main), refused(errno.EMFILE))
        unreadable.note(two, str(two.main), refused(errno.EMFILE))
    assert [line["reason"] for line in lines] == ["permission denied", "too many open files"]


def test_each_log_with_a_trouble_of_its_own_is_told() -> None:
    unreadable, units = Unreadable(), [unit(name) for name in "ab"]
    with capture_logs() as lines:
        for each in units:
            unreadable.note(each, str(each.main), refused(errno.EACCES))
        for each in units:
            unreadable.note_read(each)
    assert [line["event"] for line in lines] == ["log_unreadable"] * 2 + ["log_readable_again"] * 2


def test_what_is_told_of_all_does_not_depend_on_a_log_with_a_trouble_of_its_own() -> None:
    unreadable, one, two, three = Unreadable(), *(unit(name) for name in "abc")
    with capture_logs() as lines:
        unreadable.note(one, str(one.main), refused(errno.EACCES))
        unreadable.note(two, str(two.main), refused(errno.EMFILE))
        unreadable.note_store(three, sqlite3.OperationalError("unable to open database file"))
        unreadable.note_read(two)
        unreadable.note_read(three)
    assert [line["event"] for line in lines] == [
        *("log_unreadable", "log_unreadable", "store_unreadable", "log_readable_again", "store_readable_again")
    ]
    assert unreadable.names == [one.name]


def test_what_was_wrong_last_is_what_counts() -> None:
    unreadable, one, two = Unreadable(), unit("a"), unit("b")
    unreadable.note(one, str(one.main), refused(errno.EMFILE))
    unreadable.note(one, str(one.main), refused(errno.EACCES))
    with capture_logs() as lines:
        unreadable.note(two, str(two.main), refused(errno.EMFILE))
    assert [line["event"] for line in lines] == ["log_unreadable"], "no other wants a descriptor any more"


def test_an_error_without_a_number_says_its_own_words() -> None:
    unreadable, one = Unreadable(), unit("a")
    with capture_logs() as lines:
        unreadable.note(one, str(one.main), OSError("no regular file"))
    assert lines[0]["reason"] == "no regular file"


def test_that_the_store_cannot_be_read_is_told_of_all_sessions_at_once() -> None:
    unreadable, units = Unreadable(), [unit(name) for name in "ab"]
    with capture_logs() as lines:
        for each in units:
            unreadable.note_store(each, sqlite3.OperationalError("unable to open database file"))
        unreadable.note_read(units[0])
        assert unreadable.names == [units[1].name]
        unreadable.note_read(units[1])
    assert [line["event"] for line in lines] == ["store_unreadable", "store_readable_again"]


def test_one_that_is_gone_is_forgotten_without_a_word() -> None:
    unreadable, one = Unreadable(), unit("a")
    unreadable.note(one, str(one.main), refused(errno.EIO))
    with capture_logs() as lines:
        unreadable.forget(one.name)
        unreadable.forget(one.name)
    assert not unreadable.names
    assert not lines
