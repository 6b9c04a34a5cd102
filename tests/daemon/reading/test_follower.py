"""A follower shows the events that would be delivered, whatever happens to the logs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.following.cadence import Cadence
from daemon.following.opening import Opening
from daemon.reading.follower import Follower, Seen
from daemon.reading.preview import find_logs, preview
from llma_core.view import EventView, PromptView, read
from tests.support.logs import LogBuilder, text, tool_use, write_files
from tests.support.processes import now, session_id
from tests.support.rig import routing_for
from tests.support.waiting import PATIENCE

START = datetime(2020, 1, 1, tzinfo=UTC).timestamp()


@contextmanager
def following(
    root: Path, *, since: float = START, timeout: float = 3600.0, name: str = "", cadence: Cadence | None = None
) -> Iterator[Follower]:
    def wanted(began: Opening) -> bool:
        return began.session.startswith(name)

    config, routing = [root / "config"], routing_for(root)
    with Follower(config, routing, since=since, session_timeout=timeout, wanted=wanted, cadence=cadence) as follower:
        yield follower


def seen(follower: Follower, number: int) -> list[Seen]:
    """Advance until *number* things were seen, and once more."""
    deadline = time.monotonic() + PATIENCE
    found: list[Seen] = list(follower.advance())
    while len(found) < number:
        assert time.monotonic() < deadline, [each.what for each in found]
        follower.wait()
        found += follower.advance()
    return found + list(follower.advance())


def uuids(found: list[Seen]) -> set[str]:
    return {each.what.uuid for each in found if isinstance(each.what, EventView)}


def two_turns(name: str = "one", *, start: str | None = None) -> LogBuilder:
    log = LogBuilder(session_id(name), start=start or now())
    log.prompt("Count the trees")
    log.answer(tool_use("Bash", {"command": "ls"}, id=f"toolu_{name}"), id=f"msg_01{name}a")
    log.tool_result(f"toolu_{name}", "oak")
    log.answer(text("One."), id=f"msg_01{name}b")
    log.prompt("Thanks")
    log.answer(text("Gladly."), id=f"msg_01{name}c")
    return log


def written(root: Path, log: LogBuilder, *, age: float = 60.0) -> Path:
    projects = root / "config" / "projects"
    write_files(projects, log.files())
    at = time.time() - age
    for name in log.files():
        os.utime(projects / name, (at, at))
    return projects


def test_the_events_seen_are_those_that_would_be_sent(tmp_path: Path) -> None:
    projects = written(tmp_path, two_turns(), age=7200)
    sent = preview(find_logs([projects]), routing_for(tmp_path))
    # The prompt tells that the session has begun.
    expected = {event.uuid for event in sent if not read(event.body).is_open}
    with following(tmp_path) as follower:
        found = seen(follower, 7)
    assert uuids(found) == expected
    assert [each.words for each in found if isinstance(each.what, PromptView)] == ["Count the trees", "Thanks"]
    assert len(found) == len(expected) + 2


def test_a_copy_is_seen_once(tmp_path: Path) -> None:
    log = two_turns()
    written(tmp_path, log)
    fork = log.fork(session_id("fork"))
    fork.prompt("And now?")
    written(tmp_path, fork)
    with following(tmp_path) as follower:
        found = seen(follower, 7)
    assert len(found) == 7
    assert [each.words for each in found].count("And now?") == 1


def test_old_lines_are_final_at_once_and_new_ones_are_not(tmp_path: Path) -> None:
    written(tmp_path, two_turns("old"), age=600)
    with following(tmp_path, name=session_id("old")) as follower:
        assert len(list(follower.advance())) == 7
    # However long this process is kept from reading them, these lines are new.
    written(tmp_path, two_turns("new"), age=-PATIENCE)
    with following(tmp_path, name=session_id("new")) as follower:
        assert len(list(follower.advance())) < 6
        assert len(seen(follower, 1)) == 1


def test_new_lines_are_seen_and_older_ones_are_not(tmp_path: Path) -> None:
    log = two_turns(start="2026-01-01T00:00:00.000Z")
    projects = written(tmp_path, log)
    with following(tmp_path, since=time.time()) as follower:
        assert list(follower.advance()) == []
        before = log.files()[log.path]
        log.wait((datetime.now(UTC) - datetime.fromisoformat("2026-01-01T00:00:00.000Z")).total_seconds())
        log.prompt("What now?")
        with (projects / log.path).open("ab") as file:
            file.write(log.files()[log.path][len(before) :])
        assert [each.words for each in seen(follower, 1)] == ["What now?"]


def test_a_session_ends_and_can_continue(tmp_path: Path) -> None:
    log = two_turns()
    projects = written(tmp_path, log)
    with following(tmp_path, timeout=30.0) as follower:
        found = seen(follower, 7)
        assert [each.what.kind for each in found if isinstance(each.what, EventView)][-1] == "trace"
        log.prompt("One more")
        write_files(projects, log.files())
        assert [each.words for each in seen(follower, 1)] == ["One more"]


def test_the_age_of_a_session_counts_once(tmp_path: Path) -> None:
    written(tmp_path, two_turns(), age=2400.0)
    with following(tmp_path, timeout=3600.0, cadence=Cadence(rest=3600.0)) as follower:
        kinds = [each.what.kind for each in follower.advance() if isinstance(each.what, EventView)]
    assert "generation" in kinds
    assert "trace" not in kinds


def test_a_deleted_log_is_forgotten(tmp_path: Path) -> None:
    log = two_turns()
    projects = written(tmp_path, log)
    with following(tmp_path) as follower:
        assert follower.sessions == 1
        list(follower.advance())
        (projects / log.path).unlink()
        deadline = time.monotonic() + PATIENCE
        while follower.sessions:
            assert time.monotonic() < deadline
            follower.wait()
            list(follower.advance())


def test_a_log_that_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = two_turns()
    projects = written(tmp_path, log)
    refused, real_open = str(projects / log.path), os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        """Refuse the log: root is never denied permission."""
        if os.fspath(path) == refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real_open(path, *arguments, **options)

    with following(tmp_path, cadence=Cadence(hot_sweep=0.2)) as follower:
        with monkeypatch.context() as patch, capture_logs() as lines:
            patch.setattr(os, "open", refuse)
            assert list(follower.advance()) == []
            assert [line["event"] for line in lines] == ["log_unreadable"]
        assert len(seen(follower, 6)) == 6


def test_without_a_hint_the_sweep_finds_new_logs(tmp_path: Path) -> None:
    with following(tmp_path, cadence=Cadence(hot_sweep=0.2)) as follower:
        follower._watcher.stop()
        follower._watcher.ensure()
        written(tmp_path, two_turns())
        assert len(seen(follower, 6)) == 6


def test_an_idle_follower_sleeps(tmp_path: Path) -> None:
    written(tmp_path, two_turns())
    with following(tmp_path, cadence=Cadence(hot_sweep=2.0)) as follower:
        seen(follower, 6)
        before = time.process_time(), time.monotonic()
        follower.wait()
        assert time.monotonic() - before[1] > 1
        assert time.process_time() - before[0] < 0.1
