"""A problem is logged once, however many sessions it affects and however often reading is tried."""

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
        name=f"orchard/{name}", folder="/logs/orchard", agent=CLAUDE_CODE, mains=[f"/logs/orchard/{name}.jsonl"]
    )


def refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def test_a_problem_is_logged_once_and_its_end_once() -> None:
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
def test_a_shortage_of_descriptors_is_logged_once_for_all_sessions(code: int) -> None:
    unreadable, units = Unreadable(), [unit(name) for name in "abc"]
    with capture_logs() as lines:
        for each in units:
            unreadable.note(each, str(each.main), refused(code))
        assert len(unreadable) == 3
        for each in units:
            unreadable.note_read(each)
    assert [line["event"] for line in lines] == ["log_unreadable", "log_readable_again"]


def test_a_shortage_of_descriptors_is_logged_even_after_another_problem_of_the_session() -> None:
    unreadable, (one, two) = Unreadable(), (unit("a"), unit("b"))
    with capture_logs() as lines:
        unreadable.note(one, str(one.main), refused(errno.EACCES))
        unreadable.note(one, str(one.main), refused(errno.EMFILE))
        unreadable.note(two, str(two.main), refused(errno.EMFILE))
    assert [line["reason"] for line in lines] == ["permission denied", "too many open files"]


def test_each_log_with_its_own_problem_is_logged() -> None:
    unreadable, units = Unreadable(), [unit(name) for name in "ab"]
    with capture_logs() as lines:
        for each in units:
            unreadable.note(each, str(each.main), refused(errno.EACCES))
        for each in units:
            unreadable.note_read(each)
    assert [line["event"] for line in lines] == ["log_unreadable"] * 2 + ["log_readable_again"] * 2


def test_shared_problems_end_independently_of_a_log_with_its_own_problem() -> None:
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


def test_the_latest_problem_counts() -> None:
    unreadable, one, two = Unreadable(), unit("a"), unit("b")
    unreadable.note(one, str(one.main), refused(errno.EMFILE))
    unreadable.note(one, str(one.main), refused(errno.EACCES))
    with capture_logs() as lines:
        unreadable.note(two, str(two.main), refused(errno.EMFILE))
    assert [line["event"] for line in lines] == ["log_unreadable"], "no other wants a descriptor any more"


def test_an_error_without_a_number_is_logged_with_its_own_text() -> None:
    unreadable, one = Unreadable(), unit("a")
    with capture_logs() as lines:
        unreadable.note(one, str(one.main), OSError("no regular file"))
    assert lines[0]["reason"] == "no regular file"


def test_an_unreadable_store_is_logged_once_for_all_sessions() -> None:
    unreadable, units = Unreadable(), [unit(name) for name in "ab"]
    with capture_logs() as lines:
        for each in units:
            unreadable.note_store(each, sqlite3.OperationalError("unable to open database file"))
        unreadable.note_read(units[0])
        assert unreadable.names == [units[1].name]
        unreadable.note_read(units[1])
    assert [line["event"] for line in lines] == ["store_unreadable", "store_readable_again"]


def test_a_session_that_is_gone_is_forgotten_without_a_log_line() -> None:
    unreadable, one = Unreadable(), unit("a")
    unreadable.note(one, str(one.main), refused(errno.EIO))
    with capture_logs() as lines:
        unreadable.forget(one.name)
        unreadable.forget(one.name)
    assert not unreadable.names
    assert not lines
