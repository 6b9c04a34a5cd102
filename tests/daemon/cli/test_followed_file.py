"""The file behind the page: another program may keep it current, and the page does so after that one has ended."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.cli import followed_file
from daemon.cli.followed_file import FollowedFile
from daemon.config import loading
from daemon.config.settings import Settings
from daemon.delivering.local.events import LocalEvents
from daemon.delivering.local.sink import LocalSink
from daemon.following.cadence import Cadence
from daemon.state.layout import events_path, local_folder
from daemon.state.lock import Stage, StateLock, look, prepare_state_dir
from daemon.usage.report import Index, Range
from tests.support.logs import LogBuilder, text
from tests.support.page import browsing
from tests.support.processes import until as until_true
from tests.support.sample_events import generation
from tests.support.waiting import PATIENCE

SESSION = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"


def ask(log: LogBuilder, projects: Path) -> None:
    log.prompt("Count the trees")
    log.answer(text("Seven."))
    log.write(projects)


def settings_at(folder: Path) -> Settings:
    flags = {"state_dir": folder / "state", "claude_config_dirs": str(folder / "claude")}
    return loading.load(flags, {}, config_file=folder / "none.toml", home=folder)


async def test_a_page_waits_for_the_file_that_another_program_is_about_to_make(tmp_path: Path) -> None:
    state = tmp_path / "state"
    prepare_state_dir(state)
    prepare_state_dir(local_folder(state))
    other = StateLock(local_folder(state), stage="ends", verb="usage")
    other.acquire()
    with FollowedFile(settings_at(tmp_path)) as followed:
        async with browsing(events_path(state), is_made=followed.is_made, reading=followed.reading) as browser:
            beginning = asyncio.create_task(followed.begin())
            for path in ("/", "/sessions", "/parts/running", "/data/days"):
                early = await browser.get(path)
                assert (early.status_code, "is making the local file" in early.text) == (503, True), path
            assert not beginning.done()
            # Half made, as it is before its tables are.
            sqlite3.connect(events_path(state)).execute("PRAGMA journal_mode = wal").connection.close()
            assert "is making the local file" in (await browser.get("/")).text
            assert not beginning.done()
            LocalSink(events_path(state)).prepare()
            await asyncio.wait_for(beginning, PATIENCE)
            assert "<h1>Overview</h1>" in (await browser.get("/")).text
    other.release()


@pytest.mark.parametrize("stage", ["ends", "follows"])
async def test_the_page_follows_the_logs_once_nobody_else_does(tmp_path: Path, stage: Stage) -> None:
    config, folder = tmp_path / "claude", local_folder(tmp_path / "state")
    log = LogBuilder(session=SESSION)
    ask(log, config / "projects")
    prepare_state_dir(folder.parent)
    prepare_state_dir(folder)
    path = events_path(tmp_path / "state")
    LocalSink(path).prepare()
    settings = settings_at(tmp_path)

    def calls() -> int:
        with Index(path) as index:
            return index.total(Range()).tokens.calls

    def words_are_indexed() -> bool:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT count(*) FROM text_index WHERE text_index MATCH 'seven'").fetchall()
            behind = connection.execute("SELECT (SELECT max(received) FROM events) - indexed FROM kept").fetchall()
        return (found, behind) == ([(1,)], [(0,)])

    other = StateLock(folder, stage=stage, verb="usage")
    other.acquire()
    # The texts of whatever is read before the file is current are left for later.
    with FollowedFile(settings, Cadence(look=0.01, few_texts=0)) as followed:
        changes = followed.changes.stream()

        async def until(holds: Callable[[], bool]) -> None:
            while not holds():
                await anext(changes)

        await followed.begin()
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
                await until_true(words_are_indexed, "the words that nobody has searched for")
                ask(log, config / "projects")
                await until(lambda: calls() == 2)
        finally:
            followed.stop()
            await following
    assert look(folder) is None


async def test_words_that_others_left_are_indexed_beside_a_program_that_follows(tmp_path: Path) -> None:
    state = tmp_path / "state"
    prepare_state_dir(state)
    prepare_state_dir(local_folder(state))
    path = events_path(state)
    sink = LocalSink(path, defers=lambda: True)
    await sink.send([generation(f"g{number}", text=f"pear{number}") for number in range(600)])
    await sink.aclose()
    with StateLock(local_folder(state), stage="follows"), FollowedFile(settings_at(tmp_path)) as followed:
        await followed.begin()
        following = asyncio.create_task(followed.run())
        await until_true(lambda: LocalEvents(path).search("pear599") == ["trace-1"], "the words that were left")
        followed.stop()
        await following


def test_a_file_that_another_one_replaces_counts_as_written(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with followed_file._Writes(path) as writes:
        assert not writes.are_new()
        LocalSink(path).prepare()
        assert [writes.are_new(), writes.are_new()] == [False, False]
        for each in tmp_path.iterdir():
            each.rename(tmp_path / f"moved-{each.name}")
        assert not writes.are_new()
        LocalSink(path).prepare()
        assert [writes.are_new(), writes.are_new()] == [True, False]
