from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from daemon.reading.added import NOTHING, Added
from daemon.reading.executions import Executions, Notice
from daemon.state import layout


def files(state: Path) -> list[Path]:
    return sorted((state / layout.EXECUTIONS).glob("*.json"))


def test_without_commands_nothing_is_added(tmp_path: Path) -> None:
    for state in (tmp_path, tmp_path / "absent", None):
        executions = Executions(state)
        assert not executions.refresh()
        assert executions.of("s") is NOTHING
        assert not executions.any_runs


def test_traces_wait_for_the_command_and_then_have_its_properties(tmp_path: Path) -> None:
    executions = Executions(tmp_path)
    with Notice(tmp_path, {"pr": "1"}) as notice:
        notice.name(["one"])
        assert executions.refresh()
        assert not executions.refresh()
        assert executions.of("one") == Added(properties={"pr": "1"}, waits=True)
        assert not executions.names("other")
        assert executions.any_runs
        assert executions.ended == {}
        notice.end({"verdict": "no"})
        assert executions.refresh()
        assert executions.of("one") == Added(properties={"pr": "1"}, trace={"verdict": "no"})
        assert not executions.is_over("one")
        executions.close(executions.ended)
        assert executions.is_over("one")
        [(name, sessions)] = executions.ended.items()
        assert sessions == {"one"}
        executions.remove(name)
        assert not notice.is_there
    assert list((tmp_path / layout.EXECUTIONS).iterdir()) == []


def test_the_name_of_a_commands_session_need_not_be_utf_8(tmp_path: Path) -> None:
    executions, name = Executions(tmp_path), os.fsdecode(b"gr\xfcn")
    with Notice(tmp_path, {"pr": "ü"}) as notice:
        notice.name([name, "grün"])
        executions.refresh()
        assert executions.of(name) == executions.of("grün") == Added(properties={"pr": "ü"}, waits=True)


def test_a_refresh_is_needed_while_a_command_runs_and_when_a_record_may_have_come_or_gone(tmp_path: Path) -> None:
    executions, folder = Executions(tmp_path), tmp_path / layout.EXECUTIONS

    def long_ago(seconds: int) -> None:
        os.utime(folder, (seconds, seconds))

    assert not Executions(None).may_be_new
    assert not executions.may_be_new
    with Notice(tmp_path, {}) as notice:
        assert executions.may_be_new
        executions.refresh()
        long_ago(1)
        assert [executions.may_be_new for _ in range(3)] == [True] * 3, "it may end at any time"
        notice.withdraw()
    executions.refresh()
    assert [executions.may_be_new for _ in range(3)] == [True] * 3, "it may change again this moment without a sign"
    long_ago(int(time.time()) - 1)
    assert [executions.may_be_new for _ in range(3)] == [True] * 3, "some clocks count every other second"
    long_ago(2)
    assert [executions.may_be_new for _ in range(3)] == [True, False, False]
    long_ago(1)
    assert [executions.may_be_new for _ in range(2)] == [True, False], "a clock that was set back counts, too"
    long_ago(int(time.time()) + 3600)
    assert [executions.may_be_new for _ in range(2)] == [True, False]
    folder.rmdir()
    assert [executions.may_be_new for _ in range(2)] == [True, False]


def test_a_record_that_others_can_read_is_ignored(tmp_path: Path) -> None:
    with Notice(tmp_path, {"pr": "1"}) as notice:
        notice.name(["one"])
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / layout.EXECUTIONS).iterdir()} == {0o600}
        assert (tmp_path / layout.EXECUTIONS).stat().st_mode & 0o777 == 0o700
        files(tmp_path)[0].chmod(0o644)
        executions = Executions(tmp_path)
        executions.refresh()
        assert not executions.names("one")


def test_a_command_whose_lock_is_free_has_ended(tmp_path: Path) -> None:
    executions = Executions(tmp_path)
    with Notice(tmp_path, {}) as notice:
        notice.name(["one"])
        executions.refresh()
        assert executions.of("one").waits
    assert executions.refresh()
    assert not executions.of("one").waits
    assert notice.is_there


def test_of_nested_commands_the_inner_properties_win_and_both_have_to_end(tmp_path: Path) -> None:
    executions = Executions(tmp_path)
    with Notice(tmp_path, {"a": "outer", "b": "outer"}) as outer, Notice(tmp_path, {"b": "inner"}) as inner:
        for notice in (outer, inner):
            notice.name(["one"])
        inner.end({})
        executions.refresh()
        assert executions.of("one") == Added(properties={"a": "outer", "b": "inner"}, waits=True)
        outer.end({})
        executions.refresh()
        assert not executions.of("one").waits


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"sessions": 1}', '{"properties": []}', '{"properties": {"a": "\\ud800"}}', "{}" + " " * 2**20],
)
def test_a_file_that_exec_did_not_write_is_ignored(tmp_path: Path, text: str) -> None:
    with Notice(tmp_path, {}):
        files(tmp_path)[0].write_text(text)
        executions = Executions(tmp_path)
        executions.refresh()
        assert not executions.any_runs


def test_a_record_cannot_set_reserved_properties(tmp_path: Path) -> None:
    with Notice(tmp_path, {"$ai_model": "x", "pr": "1"}) as notice:
        notice.name(["one"])
        notice.end({"distinct_id": "eve", "ok": True})
        executions = Executions(tmp_path)
        executions.refresh()
        assert executions.of("one") == Added(properties={"pr": "1"}, trace={"ok": True})


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    with Notice(tmp_path, {}) as notice:
        notice.name(["one"])
        [path] = files(tmp_path)
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
        executions = Executions(tmp_path)
        executions.refresh()
        assert not executions.names("one")


def test_a_record_that_is_a_month_old_is_removed(tmp_path: Path) -> None:
    with Notice(tmp_path, {}) as notice:
        notice.name(["one"])
    [path] = files(tmp_path)
    long_ago = time.time() - 31 * 86_400
    os.utime(path, (long_ago, long_ago))
    executions = Executions(tmp_path)
    executions.refresh()
    assert not executions.names("one")
    assert list((tmp_path / layout.EXECUTIONS).iterdir()) == []
