"""The request for a backfill: written once, read strictly, reported on, and removed when it is done."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog

from daemon.history.backfill_request import BackfillDesk, BackfillReport, BackfillRequest, RequestExistsError
from daemon.history.backlog import Headway

REQUEST = BackfillRequest(id="a" * 32, units={"-work/second": 20, "-work/first": 10})


def raw(**changes: Any) -> str:
    return json.dumps({"version": 1, "id": "a" * 32, "units": {"-work/first": 10}} | changes)


@pytest.fixture
def desk(tmp_path: Path) -> BackfillDesk:
    return BackfillDesk(tmp_path)


def test_a_request_is_read_as_it_was_written_in_its_order(desk: BackfillDesk, tmp_path: Path) -> None:
    assert desk.pending() is None
    BackfillDesk(tmp_path).ask(REQUEST)
    assert desk.pending() == REQUEST
    assert list(REQUEST.units) == ["-work/second", "-work/first"]
    assert stat.S_IMODE(desk.request_path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [desk.request_path.name]


def test_the_name_of_a_session_need_not_be_utf_8(desk: BackfillDesk, tmp_path: Path) -> None:
    request = BackfillRequest(id="a" * 32, units={os.fsdecode(b"claude-code/gr\xfcn"): 20, "claude-code/grün": 10})
    BackfillDesk(tmp_path).ask(request)
    pending = desk.pending()
    assert pending == request


def test_a_request_says_what_older_daemons_do_not_know_only_if_it_has_to(
    desk: BackfillDesk,
) -> None:
    for resends, jobs in ((None, None), ([str(uuid4())], None), (None, 3)):
        request = BackfillRequest(id="a" * 32, units={"s": 1}, resends=resends, jobs=jobs)
        desk.ask(request)
        assert ("resends" in desk.request_path.read_text()) == (resends is not None)
        assert ("jobs" in desk.request_path.read_text()) == (jobs is not None)
        assert desk.pending() == request
        desk.withdraw(request)


def test_a_second_request_waits_for_the_first(desk: BackfillDesk, tmp_path: Path) -> None:
    desk.ask(REQUEST)
    other = BackfillRequest(id="b" * 32, units={"-work/other": 1})
    with pytest.raises(RequestExistsError, match="already"):
        desk.ask(other)
    assert desk.pending() == REQUEST
    desk.withdraw(other)
    assert desk.pending() == REQUEST
    desk.withdraw(REQUEST)
    assert desk.pending() is None
    desk.ask(other)
    assert desk.pending() == other
    assert len(list(tmp_path.iterdir())) == 1


def test_the_last_report_removes_the_request(desk: BackfillDesk, tmp_path: Path) -> None:
    command = BackfillDesk(tmp_path)
    command.ask(REQUEST)
    assert command.report(REQUEST) is None
    desk.tell(BackfillReport(id=REQUEST.id, headway=Headway(sessions=2, sent=3), waiting="503"))
    report = command.report(REQUEST)
    assert report is not None
    assert (report.headway.sent, report.waiting, report.done) == (3, "503", False)
    assert command.is_pending(REQUEST)
    desk.tell(BackfillReport(id=REQUEST.id, headway=Headway(sessions=2, sessions_done=2, sent=5), done=True))
    assert not command.is_pending(REQUEST)
    assert desk.pending() is None
    report = command.report(REQUEST)
    assert report is not None
    assert report.done
    command.withdraw(REQUEST)
    assert list(tmp_path.iterdir()) == []


def test_a_report_on_another_request_is_ignored(desk: BackfillDesk, tmp_path: Path) -> None:
    desk.tell(BackfillReport(id="b" * 32, headway=Headway()))
    assert desk.report(REQUEST) is None
    (tmp_path / "backfill-report.json").write_text("{")
    assert desk.report(REQUEST) is None


def test_a_request_of_an_earlier_version_asks_for_the_same_sessions(desk: BackfillDesk) -> None:
    desk.ask(REQUEST)
    desk.request_path.write_text(raw(version=1))
    asked = desk.pending()
    assert asked is not None
    assert asked.units == {"claude-code/first": 10}
    assert desk.is_pending(asked)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        raw(version=3),
        raw(id="../../etc"),
        raw(id="A" * 32),
        raw(id="a" * 32 + "\n"),
        raw(units={}),
        raw(units={"": 1}),
        raw(units={"x" * 1025: 1}),
        raw(units={"a": -1}),
        raw(units={"a": "1"}),
        raw(units=["a"]),
        raw(path="/etc/passwd"),
        "[" * 100_000,
    ],
    ids=lambda content: content[:50],
)
def test_a_malformed_request_is_removed_and_logged_once(desk: BackfillDesk, content: str) -> None:
    desk.request_path.write_text(content)
    desk.request_path.chmod(0o600)
    with structlog.testing.capture_logs() as lines:
        assert desk.pending() is None
        assert desk.pending() is None
    assert [line["event"] for line in lines] == ["backfill_refused"]
    assert not desk.request_path.exists()


def test_a_request_that_another_user_could_have_written_is_refused(desk: BackfillDesk, tmp_path: Path) -> None:
    desk.request_path.write_text(raw())
    desk.request_path.chmod(0o620)
    with structlog.testing.capture_logs() as lines:
        assert desk.pending() is None
    assert "another user" in lines[0]["reason"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(raw())
    elsewhere.chmod(0o600)
    desk.request_path.symlink_to(elsewhere)
    with structlog.testing.capture_logs() as lines:
        assert desk.pending() is None
    assert "link" in lines[0]["reason"]
    assert elsewhere.exists()
