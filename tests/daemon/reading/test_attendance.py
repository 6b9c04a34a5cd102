"""When the sessions of an ended command end, and when its record may be removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.config.loading import load
from daemon.following.log_roots import roots_at
from daemon.following.logs import Logs
from daemon.following.session_files import SessionFiles
from daemon.reading.attendance import Attendance
from daemon.reading.claims import Claims
from daemon.reading.executions import Executions, Notice
from daemon.reading.reader import Reader
from daemon.routing.repository import Repositories, Repository
from daemon.routing.routing import Routing
from daemon.state.rows import Commit, FileMark
from daemon.state.store import Store
from daemon.system.workers import Workers
from llma_core.events import CaptureEvent
from tests.support.logs import LogBuilder, text, tool_use, write_files
from tests.support.processes import session_id


class Site:
    """A command that has ended, and its one session, of which nothing is in memory."""

    def __init__(self, root: Path) -> None:
        projects = root / "projects"
        log = LogBuilder(session_id("one"))
        log.prompt("Count the trees")
        write_files(projects, log.files())
        self.path = projects / log.path
        self.logs = Logs(roots_at(projects))
        self.logs.include(self.logs.sweep("full").changed)
        self.store = Store(root)
        self.notice = Notice(root, {})
        with self.notice:
            self.notice.name([log.session])
            self.notice.end({})
        self.executions = Executions(root)
        self.executions.refresh()
        self.executions.close(self.executions.ended)

    def settles(self) -> None:
        """Settle the session's log to its end."""
        status = self.path.stat()
        [files] = self.logs.sessions.values()
        mark = FileMark(
            device=status.st_dev,
            inode=status.st_ino,
            path=str(self.path),
            unit=files.name,
            offset=status.st_size,
            head=b"",
            head_length=0,
            tail=b"",
        )
        self.store.commit(Commit(files=[mark]))

    async def look(self, is_done: Callable[[SessionFiles], bool | None]) -> bool:
        """Remove the record if the session is delivered; return whether it was removed."""
        workers, lookup = Workers(asyncio.Event()), self.store.reader()
        attendance = Attendance(
            self.executions, logs=self.logs, lookup=lookup, workers=workers, only_named=False, young=3.0
        )
        try:
            await attendance.remove_delivered(is_done)
        finally:
            workers.end_store()
            await workers.end_reader()
            lookup.close()
        return not self.notice.is_there


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.logs.close()
    site.store.close()


async def test_the_record_stays_until_the_session_is_delivered(site: Site) -> None:
    assert not await site.look(lambda _: False)


async def test_a_session_at_rest_is_delivered_when_its_log_is_settled_to_its_end(site: Site) -> None:
    assert not await site.look(lambda _: None)
    site.settles()
    assert await site.look(lambda _: None)


async def test_the_record_stays_if_the_session_grows_while_the_store_is_asked(site: Site) -> None:
    site.settles()
    answers = iter([None, False])
    assert not await site.look(lambda _: next(answers))


class Meanwhile(Repositories):
    """Is asked while a session is read. Something else happens then."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self._happens: Callable[[], None] | None = happens

    def of(self, cwd: str) -> Repository:
        del cwd
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return Repository(user_email=None, origin=None)


def test_a_session_ends_only_when_the_logs_are_read_that_were_found_meanwhile(tmp_path: Path) -> None:
    log = LogBuilder(session_id("one"))
    log.prompt("Count the trees")
    log.answer(tool_use("Agent", {"prompt": "Count the pines"}, id="toolu_1"))
    agent = log.agent("toolu_1", "Count the pines")
    agent.answer(text("Nine."))
    log.agent_result("toolu_1", agent, "Nine.")
    log.answer(text("Nine pines."))
    projects, late = tmp_path / "projects", log.agent_path(agent.id)
    write_files(projects, {path: data for path, data in log.files().items() if path != late})
    logs, executions = Logs(roots_at(projects)), Executions(tmp_path)
    logs.include(logs.sweep("full").changed)
    with Notice(tmp_path, {}) as notice:
        notice.name([log.session])
        notice.end({"verdict": "approve"})
    executions.refresh()
    write_files(projects, {late: log.files()[late]})

    async def look() -> None:
        workers = Workers(asyncio.Event())
        attendance = Attendance(
            executions, logs=logs, lookup=store.reader(), workers=workers, only_named=True, young=3.0
        )
        changes, claimed = await attendance.look()
        to_read.update(each.name for each in (*changes.grown, *claimed))
        workers.end_store()
        await workers.end_reader()

    store = Store(tmp_path)
    environ = {"CLAUDE_CONFIG_DIR": str(tmp_path), "POSTHOG_LLMA_DISTINCT_ID": "ada@example.com"}
    settings = load({}, environ, config_file=tmp_path / "none.toml", home=tmp_path)
    routing = Routing(settings, Meanwhile(lambda: asyncio.run(look())), purpose="preview")
    reader = Reader(logs=logs, routing=routing, claims=Claims(), executions=executions)
    [files] = logs.sessions.values()
    to_read, sent = {files.name}, list[CaptureEvent]()
    while to_read:
        to_read.clear()
        outcome = reader.read(reader.session(files, 0.0), 0.0)
        reader.note(outcome)
        sent += [each.event for step in outcome.steps for each in step.emissions if each.event is not None]
    logs.close()
    store.close()
    assert [event.name for event in sent] == [
        "$ai_trace",
        "$ai_generation",
        "$ai_span",
        "$ai_generation",
        "$ai_generation",
        "$ai_trace",
        "$ai_metric",
    ]
