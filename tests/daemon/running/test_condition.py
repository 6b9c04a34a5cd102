"""The daemon's condition: what is unsent, which logs are in danger, and what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from daemon.config.claude_settings import CLEANUP_DAYS
from daemon.following.tailer import mark_at_end
from daemon.running.condition import SILENT_SECONDS, Condition, condition_of, rebuilding
from daemon.running.health import HealthReport, RouteReport
from daemon.running.problem import Problem
from daemon.state import layout
from daemon.state.lock import StateLock
from daemon.state.rows import Commit, HeldSession, RejectedEvent
from daemon.state.store import Store
from daemon.system.space import Room
from llma_core import __version__

NOW = 1_800_000_000.0
DAY = 86_400.0
ROUTE = RouteReport(host="https://eu.i.posthog.com", key="abcd1234", state="sending")


class Machine:
    """A config folder and a state directory."""

    def __init__(self, root: Path) -> None:
        self.config = root / "config"
        self.state = root / "state"
        self.state.mkdir()
        self.store = Store(self.state)
        self.store.begin(5, [])

    def log(self, name: str, data: bytes, *, settled: int = 0, days: float = 0.0) -> Path:
        """Write a log whose first *settled* bytes are settled, last modified *days* ago."""
        path = self.config / "projects" / "orchard" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[:settled])
        mark = mark_at_end(str(path), f"orchard/{name}")
        assert mark is not None
        self.store.commit(Commit(files=[mark]))
        path.write_bytes(data)
        os.utime(path, (NOW - days * DAY,) * 2)
        return path

    def says(self, report: HealthReport, *, ago: float = 0.0) -> None:
        """Write the report of a daemon that last showed *ago* seconds ago that it is alive."""
        path = self.state / layout.HEALTH
        path.write_bytes(msgspec.json.encode(report))
        os.utime(path, (NOW - ago,) * 2)

    @contextmanager
    def running(self, seconds: float = DAY) -> Iterator[None]:
        """Be the daemon, which started *seconds* ago."""
        with StateLock(self.state):
            os.utime(self.state / layout.LOCK, (NOW - seconds,) * 2)
            yield

    def condition(self) -> Condition:
        return condition_of(self.store, self.state, [self.config], NOW)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.store.close()


def report(**said: object) -> HealthReport:
    known = {"pid": os.getpid(), "version": __version__, "sessions": 3, "followed": 1}
    return HealthReport(**(known | said))  # type: ignore[arg-type]


def problems(condition: Condition) -> list[Problem]:
    return list(condition.problems(NOW))


def test_unsent_whole_lines_are_counted_while_no_daemon_runs(machine: Machine) -> None:
    machine.log("settled", b"one\ntwo\n", settled=8)
    machine.log("half", b"one\ntwo\nthr", settled=4, days=2)
    machine.log("unfinished", b"one\ntw", settled=4, days=9)
    condition = machine.condition()
    assert (condition.running, condition.pid, condition.since) == (False, None, None)
    assert (condition.unread_bytes, condition.unread_logs) == (4, 1)
    assert condition.unread_seconds == 2 * DAY
    assert [problem.message for problem in problems(condition)] == ["the daemon is not running"]


@pytest.mark.parametrize(
    ("document", "days", "left"),
    [
        (None, CLEANUP_DAYS - 4, None),
        (None, CLEANUP_DAYS - 2.5, 2),
        (None, CLEANUP_DAYS + 9, 0),
        ({"cleanupPeriodDays": 100}, CLEANUP_DAYS + 9, None),
        ({"cleanupPeriodDays": 10}, 9, 1),
        ({"cleanupPeriodDays": 7}, 3, None),
        ({"cleanupPeriodDays": 7}, 6, 1),
        ({"cleanupPeriodDays": 0}, 0, 0),
        ({"cleanupPeriodDays": True}, 9, None),
        ({"cleanupPeriodDays": "10"}, 9, None),
        ({"cleanupPeriodDays": -1}, 9, None),
        ([], 9, None),
    ],
)
def test_unsent_lines_that_the_client_will_remove_soon_are_reported(
    machine: Machine, document: object, days: float, left: int | None
) -> None:
    path = machine.log("old", b"one\ntwo\n", settled=4, days=days)
    machine.log("old-and-settled", b"one\n", settled=4, days=days)
    if document is not None:
        (machine.config / "settings.json").write_text(json.dumps(document))
    condition = machine.condition()
    expected = [] if left is None else [(str(path), 4, left)]
    assert [(log.path, log.bytes, log.days_left) for log in condition.endangered] == expected
    told = [problem for problem in problems(condition) if "removes" in problem.message]
    assert [problem.level for problem in told] == ["fail"] * len(expected)


def test_each_config_folder_has_its_own_time_until_logs_are_removed(machine: Machine, tmp_path: Path) -> None:
    values = {"unset": None, "zero": 0, "week": 7, "text": "7"}
    for name, days in values.items():
        machine.config = tmp_path / name
        machine.log(name, b"one\n", days=6)
        if days is not None:
            (machine.config / "settings.json").write_text(json.dumps({"cleanupPeriodDays": days}))
    condition = condition_of(machine.store, machine.state, [tmp_path / name for name in values], NOW)
    assert {Path(log.path).stem: log.days_left for log in condition.endangered} == {"zero": 0, "week": 1}


def test_the_report_of_the_running_daemon_is_used(machine: Machine) -> None:
    machine.log("growing", b"one\n")
    since = "2027-01-15T07:59:50+00:00"
    machine.says(report(unread_bytes=7, unread_logs=1, unread_since=since, routes=(ROUTE,)))
    with machine.running():
        condition = machine.condition()
    assert (condition.running, condition.pid, condition.version) == (True, os.getpid(), __version__)
    assert (condition.sessions, condition.followed, condition.routes) == (3, 1, (ROUTE,))
    assert (condition.unread_bytes, condition.unread_logs, condition.unread_seconds) == (7, 1, 10)
    assert condition.since is not None
    assert problems(condition) == []


def test_the_report_of_an_earlier_process_is_not_used_for_the_running_one(machine: Machine) -> None:
    machine.says(report(pid=os.getpid() + 1, routes=(ROUTE,)))
    with machine.running():
        condition = machine.condition()
    assert (condition.version, condition.sessions, condition.routes) == (None, None, ())
    assert machine.condition().routes == (ROUTE,), "of one that has ended it is the last word"


@pytest.mark.parametrize(
    ("route", "level", "words"),
    [
        (replace(ROUTE, state="stopped", reason="401", hint="correct the key"), "fail", "401"),
        (
            replace(ROUTE, state="backing_off", reason="503", oldest_waiting_at="2027-01-15T07:00:00+00:00"),
            "fail",
            "events have waited for 3,600 s: 503",
        ),
        (replace(ROUTE, quota_limited=1), "warning", "1 event: the project is over its quota"),
    ],
)
def test_a_route_in_trouble_is_a_problem(machine: Machine, route: RouteReport, level: str, words: str) -> None:
    machine.says(report(routes=(route, ROUTE)))
    with machine.running():
        [problem] = problems(machine.condition())
    assert (problem.level, words in problem.message) == (level, True)
    assert problem.hint


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2027-01-15T08:01:30+00:00", "the daemon asks again in 2 minutes"),
        ("2027-01-15T08:00:10+00:00", "the daemon asks again in 1 minute,"),
        ("2027-01-15T07:59:00+00:00", "the daemon asks again now"),
    ],
)
def test_a_stopped_route_says_when_it_asks_again(machine: Machine, at: str, words: str) -> None:
    stopped = replace(ROUTE, state="stopped", reason="401", hint="correct the key", asks_again_at=at)
    machine.says(report(routes=(stopped,)))
    with machine.running():
        [problem] = problems(machine.condition())
    assert problem.hint.startswith(f"correct the key; {words}")


@pytest.mark.parametrize(("failures", "level"), [(1, "warning"), (2, "warning"), (3, "fail"), (1000, "fail")])
def test_a_failing_receiver_is_a_problem_with_its_number_of_failures(
    machine: Machine, failures: int, level: str
) -> None:
    waits = replace(
        ROUTE,
        state="backing_off",
        reason="503",
        attempt=failures,
        resent=7,
        oldest_waiting_at="2027-01-15T07:59:00+00:00",
    )
    machine.says(report(routes=(waits,)))
    with machine.running():
        [problem] = problems(machine.condition())
    times = "1 time" if failures == 1 else f"{failures:,} times"
    assert (problem.level, problem.message) == (level, f"{ROUTE.host} has failed {times} in a row: 503")


def test_a_daemon_that_reports_nothing_any_more_is_a_problem(machine: Machine) -> None:
    waits = replace(ROUTE, state="backing_off", reason="503", attempt=9)
    machine.says(report(routes=(waits,)), ago=SILENT_SECONDS + 1)
    with machine.running():
        [problem] = problems(machine.condition())
        assert problem.level == "fail"
        assert "has reported nothing for 121 s" in problem.message
        assert "restart" in problem.hint
        machine.says(report(), ago=SILENT_SECONDS - 1)
        assert problems(machine.condition()) == []


def test_a_daemon_that_has_just_started_need_not_have_reported(machine: Machine) -> None:
    machine.says(report(pid=os.getpid() + 1), ago=9 * DAY)
    with machine.running(SILENT_SECONDS - 1):
        condition = machine.condition()
        assert (condition.reported, problems(condition)) == (False, [])
    machine.says(report(), ago=9 * DAY)
    with machine.running(5):
        assert problems(machine.condition()) == [], "a report of an earlier process with the same id"


def test_a_process_that_never_reports_is_a_warning(machine: Machine) -> None:
    with machine.running(SILENT_SECONDS + 1):
        [problem] = problems(machine.condition())
    assert (problem.level, "has reported nothing" in problem.message) == ("warning", True)


@pytest.mark.parametrize("verb", ["exec", "usage", "view"])
def test_another_command_that_holds_the_lock_is_not_the_daemon(machine: Machine, verb: str) -> None:
    with StateLock(machine.state, stage="ends", verb=verb):
        condition = machine.condition()
    assert (condition.running, condition.pid, condition.since) == (False, None, None)
    assert [problem.message for problem in problems(condition)] == ["the daemon is not running"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_suspended_daemon_is_a_problem_at_once(machine: Machine) -> None:
    script = "import signal, sys; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        os.kill(other.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, other.pid, os.WSTOPPED)
        try:
            with machine.running():
                (machine.state / layout.LOCK).write_text(f"{other.pid}\n")
                condition = machine.condition()
        finally:
            other.kill()
    assert condition.suspended
    [problem] = [each for each in problems(condition) if each.level == "fail"]
    assert "is suspended" in problem.message
    assert f"kill -CONT {other.pid}" in problem.hint


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (Room(free=0), "0 MB"),
        (Room(free=99_000_000, files=5), "99 MB"),
        (Room(free=9_000_000_000, files=0), "no more files"),
        (Room(free=500_000_000), None),
        (Room(free=9_000_000_000, files=None), None),
        (None, None),
    ],
)
def test_a_full_disk_is_a_problem(machine: Machine, room: Room | None, words: str | None) -> None:
    machine.says(report())
    with machine.running():
        condition = machine.condition()
    assert condition.room is not None
    assert condition.room.free > 0
    told = [(each.level, each.message) for each in problems(replace(condition, room=room))]
    assert told == ([] if words is None else [("fail", f"the disk is full: {words} free for {machine.state}")])


def test_before_the_first_start_nothing_is_known(tmp_path: Path) -> None:
    condition = condition_of(None, tmp_path / "state", [tmp_path], NOW)
    assert (condition.started, condition.running, condition.sent, condition.room is not None) == (False, False, 0, True)
    [problem] = problems(condition)
    assert (problem.level, "install" in problem.hint) == ("fail", True)
    [problem] = condition.problems(NOW, expected=False)
    assert (problem.level, "run --local" in problem.hint) == ("fail", True)


def test_logs_written_before_the_start_are_not_unread_for_longer_than_the_daemon_runs(machine: Machine) -> None:
    """A daemon that has just started cannot have read what was written half an hour ago."""
    machine.says(report(unread_bytes=7, unread_logs=1, unread_since="2027-01-15T07:33:35+00:00", routes=(ROUTE,)))
    with machine.running(4):
        condition = machine.condition()
        assert (condition.unread_bytes, condition.unread_seconds) == (7, 4)
        assert problems(condition) == []


def test_a_daemon_that_reads_a_long_backlog_is_no_failure(machine: Machine) -> None:
    since, now = "2027-01-15T07:00:00+00:00", "2027-01-15T07:59:58+00:00"
    machine.says(report(unread_bytes=7, unread_logs=1, unread_since=since, read_at=now))
    with machine.running():
        [problem] = problems(machine.condition())
        assert (problem.level, "is reading" in problem.hint) == ("warning", True)
        machine.says(report(unread_bytes=7, unread_logs=1, unread_since=since, read_at=since))
        [problem] = problems(machine.condition())
        assert problem.level == "fail"


def test_unread_logs_are_a_problem_unless_a_route_makes_them_wait(machine: Machine) -> None:
    behind = report(unread_bytes=7, unread_logs=1, unread_since="2027-01-15T07:00:00+00:00", routes=(ROUTE,))
    stopped = replace(ROUTE, state="stopped", reason="401", hint="correct the key")
    with machine.running():
        machine.says(behind)
        [problem] = problems(machine.condition())
        assert "waiting to be read for 3,600 s" in problem.message
        machine.says(replace(behind, routes=(stopped,)))
        [problem] = problems(machine.condition())
        assert "401" in problem.message


def test_a_running_version_other_than_the_installed_one_is_reported(machine: Machine) -> None:
    machine.says(report(version="0.0.1"))
    with machine.running():
        [problem] = problems(machine.condition())
    assert (problem.level, "restart" in problem.hint) == ("warning", True)


def test_waiting_sessions_are_reported_once_for_each_reason(machine: Machine) -> None:
    rows = [
        HeldSession(unit=f"orchard/{number}", session=str(number), folder="/x", reason=reason, since="2027")
        for number, reason in enumerate(["allow it", "allow it", "set a key"])
    ]
    machine.store.hold(rows)
    machine.says(report())
    with machine.running():
        found = problems(machine.condition())
    assert [(problem.level, problem.message, problem.hint) for problem in found] == [
        ("warning", "2 sessions waiting for you", "allow it"),
        ("warning", "1 session waiting for you", "set a key"),
    ]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/p/orchard/a.jsonl", "/p/orchard/a.jsonl"),
        ("/p/an orchard/a.jsonl", "'/p/an orchard/a.jsonl'"),
        ("/p/orchard/a/subagents/agent-1.jsonl", "/p/orchard/a.jsonl"),
        ("/p/orchard/agent-1.jsonl", "/p/orchard"),
    ],
)
def test_the_command_that_rebuilds_an_event_names_its_sessions_log(path: str, named: str) -> None:
    row = RejectedEvent(uuid="u", name="event", bytes=1, reason="no", path=path, start=0, end=1)
    assert rebuilding(row) == f"posthog-llma-daemon preview --event u {named}"
    assert rebuilding(replace(row, path=None)) is None


def test_what_looks_like_a_log_where_none_is_followed_is_reported(machine: Machine) -> None:
    line = b'{"type":"user","sessionId":"s"}\n'
    machine.log("known", line, settled=len(line))
    projects = machine.config / "projects"
    unknown = [projects / "orchard/s/elsewhere/agent-a.jsonl", projects / "top.jsonl"]
    other = [projects / "orchard/s/notes.jsonl", projects / "orchard/s/subagents/workflows/run/journal.jsonl"]
    for path in (*unknown, *other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(line if path in unknown or path.name == "journal.jsonl" else b"{}\n")
    condition = machine.condition()
    assert sorted(condition.unknown_logs) == sorted(map(str, unknown))
    assert any("not followed" in problem.message and "1 more" in problem.message for problem in problems(condition))
