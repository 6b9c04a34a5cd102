from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from daemon.executing.descendants import Descendants
from daemon.executing.ownership import Ownership
from tests.support.logs import LogBuilder, text, write_files

OWN = Descendants(os.getpid())


def put(config: Path, session: str, *, cwd: Path, version: str = "2.0.76") -> None:
    log = LogBuilder(session, cwd=str(cwd), version=version)
    log.prompt("hello")
    log.answer(text("hello"), id=f"msg_{session}")
    write_files(config / "projects", log.files())


def record(config: Path, session: str, pid: int) -> None:
    path = config / "sessions" / f"{pid}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "sessionId": session, "startedAt": time.time() * 1000}))


def test_a_process_of_the_command_may_run_several_sessions_in_turn(tmp_path: Path) -> None:
    ownership = Ownership([tmp_path], tmp_path)
    for session in ("first", "second"):
        record(tmp_path, session, os.getpid())
        ownership.look_at_processes(OWN)
    assert ownership.sessions == {"first", "second"}


def test_sessions_of_other_processes_are_not_the_commands(tmp_path: Path) -> None:
    ownership = Ownership([tmp_path], tmp_path)
    record(tmp_path, "theirs", os.getppid())
    ownership.look_at_processes(OWN)
    assert ownership.sessions == frozenset()


@pytest.mark.parametrize(
    ("place", "owned"), [("work", True), ("work/deep/er", True), ("workshop", False), (".", False), ("link", True)]
)
def test_a_log_that_appears_is_judged_by_its_folder(tmp_path: Path, place: str, owned: bool) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "work")
    put(tmp_path / "config", "before", cwd=tmp_path / "work")
    ownership = Ownership([tmp_path / "config"], tmp_path / "work")
    put(tmp_path / "config", "new", cwd=tmp_path / place)
    ownership.look_at_logs()
    assert ownership.sessions == (frozenset({"new"}) if owned else frozenset())


def test_the_folder_does_not_count_for_clients_that_keep_a_registry(tmp_path: Path) -> None:
    config = tmp_path / "config"
    ownership = Ownership([config], tmp_path)
    (config / "sessions").mkdir(parents=True)
    put(config, "new", cwd=tmp_path, version="2.1.329")
    put(config, "old", cwd=tmp_path, version="2.1.72")
    ownership.look_at_logs()
    assert ownership.sessions == {"old"}


def test_a_log_that_does_not_tell_its_folder_yet_is_examined_again(tmp_path: Path) -> None:
    ownership = Ownership([tmp_path], tmp_path)
    log = LogBuilder("late", cwd=str(tmp_path), version="2.0.76")
    log.prompt("hello")
    path = tmp_path / "projects" / log.path
    path.parent.mkdir(parents=True)
    path.touch()
    ownership.look_at_logs()
    assert ownership.sessions == frozenset()
    path.write_bytes(log.files()[log.path])
    ownership.look_at_logs()
    assert ownership.sessions == {"late"}
