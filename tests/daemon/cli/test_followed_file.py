"""The file behind the page: another program may keep it current, and the page does so after that one has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.cli.followed_file import FollowedFile
from daemon.config import loading
from daemon.delivering.local.sink import LocalSink
from daemon.state.layout import events_path, local_folder
from daemon.state.lock import Stage, StateLock, look, prepare_state_dir
from daemon.usage.report import Index, Range
from tests.support.logs import LogBuilder, text
from tests.support.waiting import PATIENCE

SESSION = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"


def ask(log: LogBuilder, projects: Path) -> None:
    log.prompt("Count the trees")
    log.answer(text("Seven."))
    log.write(projects)


@pytest.mark.parametrize("stage", ["ends", "follows"])
async def test_the_page_follows_the_logs_once_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    monkeypatch.setattr("daemon.cli.followed_file._LOOK_SECONDS", 0.01)
    config, folder = tmp_path / "claude", local_folder(tmp_path / "state")
    log = LogBuilder(session=SESSION)
    ask(log, config / "projects")
    prepare_state_dir(folder.parent)
    prepare_state_dir(folder)
    path = events_path(tmp_path / "state")
    LocalSink(path).prepare()
    flags = {"state_dir": tmp_path / "state", "claude_config_dirs": str(config)}
    settings = loading.load(flags, {}, config_file=tmp_path / "none.toml", home=tmp_path)

    def calls() -> int:
        with Index(path) as index:
            return index.total(Range()).tokens.calls

    other = StateLock(folder, stage=stage, verb="usage")
    other.acquire()
    with FollowedFile(settings) as followed:
        changes = followed.changes.stream()

        async def until(holds: Callable[[], bool]) -> None:
            while not holds():
                await anext(changes)

        followed.begin()
        assert followed.reading() == (None if stage == "follows" else 0)
        following = asyncio.create_task(followed.run())
        try:
            async with asyncio.timeout(PATIENCE):
                waiting = asyncio.create_task(until(lambda: followed.reading() is None and calls() == 1))
                await asyncio.sleep(0)
                other.release()
                await waiting
                found = look(folder)
                assert found is not None
                assert (found.stage, found.verb) == ("follows", "view")
                ask(log, config / "projects")
                await until(lambda: calls() == 2)
        finally:
            followed.stop()
            await following
    assert look(folder) is None
