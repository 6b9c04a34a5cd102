"""Choosing the sessions of a backfill, without a process or a receiver."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.config import loading
from daemon.config.claude_settings import CLEANUP_DAYS
from daemon.config.settings import Settings
from daemon.following.session_files import SessionFiles
from daemon.history.backfill_job import EXPIRING_DAYS, BackfillError, BackfillJob
from daemon.history.backfill_request import BackfillDesk
from daemon.history.backlog import Backlog
from daemon.history.history import Selection
from tests.support.logs import LogBuilder, text, write_files
from tests.support.processes import session_id

DAY = 86_400.0


def settings_for(tmp_path: Path, *folders: Path) -> Settings:
    flags = {"claude_config_dirs": os.pathsep.join(map(str, folders)), "state_dir": tmp_path / "state"}
    return loading.load(flags, {}, config_file=tmp_path / "none.toml", home=tmp_path)


def put(folder: Path, name: str, *, age_days: float) -> Path:
    """Write a session into a config folder of Claude Code; return its log."""
    log = LogBuilder(session_id(name), start="2026-01-10T12:00:00Z")
    log.prompt("hello")
    log.answer(text("hello"), id=f"msg_{name}")
    write_files(folder / "projects", log.files())
    path = folder / "projects" / log.path
    written = time.time() - age_days * DAY
    os.utime(path, (written, written))
    return path


def days_left(job: BackfillJob) -> dict[str, int]:
    return {each.files.session: round(job.seconds_left(each) / DAY) for each in job.sessions}


def test_each_folder_has_its_own_cleanup_period(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    put(one, "a", age_days=10)
    put(other, "b", age_days=10)
    (other / "settings.json").write_text('{"cleanupPeriodDays": 90}')
    job = BackfillJob.choose(settings_for(tmp_path, one, other), Selection(), (), expiring=False)
    assert days_left(job) == {session_id("a"): CLEANUP_DAYS - 10, session_id("b"): 80}


def test_a_folder_configured_twice_does_not_shift_the_cleanup_periods_of_others(tmp_path: Path) -> None:
    one, link, other = tmp_path / "one", tmp_path / "link", tmp_path / "other"
    put(one, "a", age_days=10)
    put(other, "b", age_days=10)
    link.symlink_to(one)
    (other / "settings.json").write_text('{"cleanupPeriodDays": 90}')
    job = BackfillJob.choose(settings_for(tmp_path, one, link, other), Selection(), (), expiring=False)
    assert days_left(job) == {session_id("a"): CLEANUP_DAYS - 10, session_id("b"): 80}


def test_expiring_sessions_are_ordered_by_when_they_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "claude"
    put(folder, "fresh", age_days=CLEANUP_DAYS - EXPIRING_DAYS - 1)
    put(folder, "soon", age_days=CLEANUP_DAYS - EXPIRING_DAYS + 1)
    put(folder, "overdue", age_days=CLEANUP_DAYS + 1)
    job = BackfillJob.choose(settings_for(tmp_path, folder), Selection(), (), expiring=True)
    assert [each.files.session for each in job.sessions] == [session_id("overdue"), session_id("soon")]
    assert [(each.days_left, each.unsent_events) for each in job.expiring(job.count(lambda _done: None))] == [
        (0.0, 3),
        (6.0, 3),
    ]


def test_settings_that_became_unreadable_count_as_unset(tmp_path: Path) -> None:
    folder = tmp_path / "claude"
    put(folder, "a", age_days=10)
    settings = settings_for(tmp_path, folder)
    (folder / "settings.json").write_text("{")
    assert BackfillJob.choose(settings, Selection(), (), expiring=True).sessions == []
    assert len(BackfillJob.choose(settings, Selection(), (), expiring=False).sessions) == 1


def test_paths_select_sessions(tmp_path: Path) -> None:
    folder = tmp_path / "claude"
    put(folder, "a", age_days=1)
    log = put(folder, "b", age_days=1)
    settings = settings_for(tmp_path, folder)
    job = BackfillJob.choose(settings, Selection(), (log,), expiring=False)
    assert [each.files.session for each in job.sessions] == [session_id("b")]
    assert job.size == log.stat().st_size
    elsewhere = put(tmp_path / "elsewhere", "c", age_days=1)
    with pytest.raises(BackfillError, match=r"its logs are not below .*; set CLAUDE_CONFIG_DIR"):
        BackfillJob.choose(settings, Selection(), (elsewhere,), expiring=False)


def test_the_number_of_processes_is_told_to_whoever_sends(tmp_path: Path) -> None:
    folder = tmp_path / "claude"
    put(folder, "a", age_days=1)
    settings = settings_for(tmp_path, folder)
    settings.state_dir.mkdir(mode=0o700)
    for jobs in (None, 3):
        job = BackfillJob.choose(settings, Selection(), (), jobs=jobs)
        told: list[int | None] = []

        async def deliver(
            backlog: Backlog, _wanted: Callable[[SessionFiles], bool], told: list[int | None] = told
        ) -> bool:
            told.append(backlog.jobs)
            return True

        def accepted(_daemon: str, told: list[int | None] = told) -> None:
            request = BackfillDesk(settings.state_dir).pending()
            assert request is not None
            told.append(request.jobs)

        job.send_here(deliver, show=lambda _headway: None, stopping=lambda: None)
        with pytest.raises(BackfillError, match="has ended before it was done"):
            job.send_by_daemon(accepted=accepted, show=lambda _report: None)

        assert told == [jobs, jobs]
